// The fourth part: gates and cells after each word of the text, how long they remember, attention.

import { draw, find, make, percent } from "./dom.js";
import { byMemory, halfLives, stillKept } from "./memory.js";
import { Strips, tokens } from "./strips.js";
import { WordList } from "./words.js";

const KEEPS = { f: "forget gate", z: "gate z, which keeps the old" };

export class Inside {
  constructor() {
    this.inside = null;
    this.position = 0;
    this.layer = Infinity; // the last one
    this.rank = 0; // of the cell, in the order of memory
    this.list = new WordList(find("inside-words"), {
      label: "Words of the text",
      tint: (span, word) => this.tint(span, word),
      select: (word) => this.lookAt(word),
    });
    this.modes = [...document.querySelectorAll('input[name="inside-mode"]')];
    for (const mode of this.modes) mode.addEventListener("change", () => this.retint());
    find("cell-layer").addEventListener("change", ({ target }) => {
      this.pick(Number(target.value), 0);
    });
    find("cell-number").addEventListener("input", ({ target }) => {
      this.pick(this.layer, Number(target.value));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Leave only what this kind of model has. */
  suit({ cell, attention }) {
    const parts = { gated: cell !== "rnn", attending: attention };
    for (const name of ["lstm", "gru", "rnn"]) parts[`of-${name}`] = cell === name;
    for (const name of ["dot", "bilinear", "additive"]) parts[`of-${name}`] = attention === name;
    for (const [name, is] of Object.entries(parts)) {
      for (const element of document.querySelectorAll(`.${name}`)) {
        element.classList.toggle("absent", !is);
      }
    }
    document.querySelector(".key.keep").classList.toggle("absent", cell === "rnn");
    if (cell === "gru") document.querySelector(".key.keep").textContent = "its gate z, 0 to 1";
  }

  /** A text: what was recorded of it, or null, and its words. */
  show(inside, words) {
    this.inside = inside;
    find("inside-empty").hidden = Boolean(inside);
    this.list.clear();
    find("inside-layers").replaceChildren();
    if (!inside) return;
    this.prepare();
    const shown = words.filter((word) => !word.end && placeOf(word) < inside.T);
    this.list.add(shown);
    this.list.flush();
    this.cut = shown.length < words.length - 1;
    this.pick(Math.min(this.layer, inside.layers.length - 1), this.rank);
    this.list.choose(shown.length - 1);
    find("inside-page").scrollTop = 0;
  }

  prepare() {
    const { layers, keep, cell } = this.inside;
    this.lives = layers.map(({ N, gates }) => keep && halfLives(gates[keep], N));
    this.orders = layers.map(({ N }, l) => byMemory(this.lives[l], N));
    this.strips = layers.map((layer, l) => new Strips({
      layer, number: l, count: layers.length, order: this.orders[l], lives: this.lives[l], cell,
      pick: (rank) => this.pick(l, rank),
    }));
    find("inside-layers").replaceChildren(...this.strips.map((strips) => strips.element));
    find("cell-layer").replaceChildren(...layers.map((_, l) => (
      make("option", "", String(l + 1), { value: l })
    )));
  }

  /** Choose a cell by its layer and its place in the order of memory. */
  pick(layer, rank) {
    if (!this.inside) return;
    const { N } = this.inside.layers[layer];
    this.layer = layer;
    this.rank = Math.min(rank, N - 1);
    this.strips.forEach((strips, l) => strips.point(l === layer ? this.rank : null));
    find("cell-layer").value = layer;
    const slider = find("cell-number");
    slider.max = N - 1;
    slider.value = this.rank;
    slider.setAttribute("aria-valuetext", `cell ${this.cell() + 1}`);
    this.tellCell();
    this.drawCell();
    this.retint();
  }

  cell() {
    return this.orders[this.layer][this.rank];
  }

  tellCell() {
    find("cell-title").textContent = `Cell ${this.cell() + 1} of layer ${this.layer + 1}`;
    const lives = this.lives[this.layer];
    find("cell-said").textContent = lives
      ? `Its ${KEEPS[this.inside.keep]} makes it forget half of what it holds after `
        + `${tokens(lives[this.cell()])} tokens of this text.`
      : "It has no gate: what it holds is computed anew at each token.";
  }

  lookAt(word) {
    this.word = word;
    this.position = placeOf(word);
    this.draw();
    if (this.mode() !== "held") this.retint();
  }

  draw() {
    if (!this.inside || !this.word) return;
    for (const strips of this.strips) strips.draw(this.position, this.word.text.trim());
    this.drawCell();
  }

  // ---- The words' colours ----

  mode() {
    return this.modes.find((mode) => mode.checked).value;
  }

  retint() {
    if (!this.inside) return;
    const { N, gates, held } = this.inside.layers[this.layer];
    const mode = this.mode();
    this.shares = null;
    if (mode === "held") {
      const k = this.cell();
      const along = Float32Array.from({ length: this.inside.T }, (_, t) => held[t * N + k]);
      const largest = along.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
      this.shares = along.map((value) => value / largest);
    } else if (mode === "left") {
      this.shares = stillKept(gates[this.inside.keep], N, this.position);
    } else {
      const weights = this.inside.attention[this.position];
      const largest = weights.reduce((most, weight) => Math.max(most, weight), 1e-9);
      this.shares = weights.map((weight) => weight / largest);
    }
    this.list.retint();
    this.tellMode(mode);
  }

  tint(span, word) {
    const places = word.steps.map((step) => this.shares?.[step.position] ?? 0);
    const share = places.reduce((most, x) => (Math.abs(x) > Math.abs(most) ? x : most), 0);
    span.style.setProperty("--heat", Math.min(1, Math.abs(share)).toFixed(3));
    span.classList.toggle("plus", share >= 0);
    span.classList.toggle("minus", share < 0);
  }

  tellMode(mode) {
    const name = this.word ? `"${this.word.text.trim()}"` : "the word";
    const said = {
      held: `What cell ${this.cell() + 1} of layer ${this.layer + 1} holds after each word.`,
      left: `Seen from ${name}: the share of the cells of layer ${this.layer + 1} that still keep `
        + "half of what they held at each word.",
      attention: `From ${name} it looks ${this.lookedAt()}.`,
    }[mode];
    find("inside-status").textContent = this.cut ? `${said} Only the first words are here.` : said;
  }

  /** The three words that attention has most of. */
  lookedAt() {
    const weights = this.inside.attention?.[this.position] ?? [];
    const names = new Map([[0, "the beginning"]]);
    for (const word of this.list.words) {
      for (const step of word.steps) names.set(step.position, `"${step.shown}"`);
    }
    const best = [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, 3);
    const parts = best.map((j) => `at ${names.get(j)} with ${percent(weights[j])}`);
    return parts.join(", ") || "at nothing: there is nothing earlier";
  }

  // ---- One cell along the text ----

  drawCell() {
    const svg = find("cell-chart");
    const { N, gates, held } = this.inside.layers[this.layer];
    const { T, keep } = this.inside;
    const k = this.cell();
    svg.setAttribute("viewBox", `0 0 ${T} 100`);
    const along = (series) => Array.from({ length: T }, (_, t) => series[t * N + k]);
    const values = along(held);
    const largest = Math.max(1e-9, ...values.map(Math.abs));
    const bars = values.map((value, t) => {
      const height = (45 * Math.abs(value)) / largest;
      const y = value < 0 ? 50 : 50 - height;
      return draw("rect", {
        x: t + 0.1, width: 0.8, y, height, class: value < 0 ? "minus" : "plus",
      });
    });
    const parts = [
      draw("rect", { x: this.position, y: 0, width: 1, height: 100, class: "here" }),
      draw("line", { x1: 0, x2: T, y1: 50, y2: 50, class: "grid" }), ...bars,
    ];
    if (keep) {
      const points = along(gates[keep]).map((gate, t) => `${t + 0.5},${97 - 94 * gate}`);
      parts.push(draw("polyline", { points: points.join(" "), class: "keep" }));
    }
    svg.replaceChildren(...parts);
  }
}

/** The position after the last token of a word. */
function placeOf(word) {
  return word.steps.at(-1).position;
}
