// A layer as strips: a column for each cell, a row for each gate, and the cells' memory as a curve.

import { draw, grouped, make } from "./dom.js";
import { quantile } from "./memory.js";

const NAMES = {
  i: ["i", "input gate"], f: ["f", "forget gate"], o: ["o", "output gate"],
  r: ["r", "reset gate"], z: ["z", "keeps the old"], n: ["n", "the new"],
  held: ["c", "what it holds"],
};
const SIGNED = new Set(["n", "held"]);
const LONGEST = 1000; // tokens at the top of the curve; half a token is its bottom
const SHORTEST = 0.5;
const MARKS_OF_CURVE = [1, 10, 100];

export function tokens(life) {
  return life > LONGEST ? `over ${grouped(LONGEST)}` : grouped(life, life < 10 ? 1 : 0);
}

export class Strips {
  /** `pick(rank)` gets the place of the cell that was clicked, in the order of memory. */
  constructor({ layer, number, count, order, lives, cell, pick }) {
    Object.assign(this, { layer, order, lives });
    this.element = make("figure", "layer");
    const title = make("figcaption", "", `Layer ${number + 1}`);
    if (count > 1) title.append(make("span", "", ` of ${count}`));
    this.element.append(title);
    const rows = make("div", "strip-rows");
    this.rows = [...Object.entries(layer.gates), ["held", layer.held]].map(([name, series]) => {
      const canvas = make("canvas", "strip", "", { role: "img", width: layer.N, height: 1 });
      const row = make("div", "strip-row");
      const [letter, what] = NAMES[name];
      const isState = name === "held" && cell !== "lstm";
      row.append(make("var", "", isState ? "h" : letter), make("span", "strip-name", what), canvas);
      rows.append(row);
      canvas.addEventListener("click", (event) => pick(this.rankAt(event, canvas)));
      return { name, what, series, canvas };
    });
    this.pointer = make("i", "strip-pointer");
    rows.append(this.pointer);
    this.element.append(rows);
    if (lives) {
      rows.append(this.curve());
      this.element.append(make("p", "status", this.said()));
    }
  }

  rankAt(event, canvas) {
    const { left, width } = canvas.getBoundingClientRect();
    const rank = Math.floor(((event.clientX - left) / width) * this.layer.N);
    return Math.max(0, Math.min(this.layer.N - 1, rank));
  }

  /** Half-lives by falling length, on a logarithmic scale. */
  curve() {
    const { N } = this.layer;
    const height = (life) => {
      const share = Math.log(Math.max(life, SHORTEST) / SHORTEST) / Math.log(LONGEST / SHORTEST);
      return 100 * (1 - Math.min(1, share));
    };
    const points = this.order.map((k, x) => `${x + 0.5},${height(this.lives[k]).toFixed(2)}`);
    const all = points.join(" ");
    const grid = MARKS_OF_CURVE.map((life) => (
      draw("line", { x1: 0, x2: N, y1: height(life), y2: height(life), class: "grid" })
    ));
    const svg = draw("svg", {
      viewBox: `0 0 ${N} 100`, preserveAspectRatio: "none", "aria-hidden": "true", class: "curve",
    });
    const area = draw("polygon", { points: `0,100 ${all} ${N},100`, class: "area" });
    svg.append(...grid, area, draw("polyline", { points: all, class: "line" }));
    const scale = make("span", "scale", "", { "aria-hidden": "true" });
    for (const life of MARKS_OF_CURVE) {
      const mark = make("i", "", String(life));
      mark.style.top = `${height(life)}%`;
      scale.append(mark);
    }
    const row = make("div", "strip-row curve-row");
    row.append(make("var", "", "½"), make("span", "strip-name", "half-life, tokens"), svg, scale);
    return row;
  }

  said() {
    return `Half of its ${this.layer.N} cells have forgotten half of what they hold after `
      + `${tokens(quantile(this.lives, 0.5))} tokens; the most patient tenth keep it for `
      + `${tokens(quantile(this.lives, 0.9))} or more.`;
  }

  /** Draw the strips of position `t`, of the word `name`. */
  draw(t, name) {
    const style = getComputedStyle(this.element);
    const colour = (key) => style.getPropertyValue(key).split(" ").map(Number);
    const [none, full, plus, minus] = ["--none", "--full", "--plus", "--minus"].map(colour);
    const { N } = this.layer;
    for (const { name: of, what, series, canvas } of this.rows) {
      const here = series.subarray(t * N, (t + 1) * N);
      const largest = of === "held" ? quantile(here.map(Math.abs), 0.99) || 1 : 1;
      const image = new ImageData(N, 1);
      this.order.forEach((k, x) => {
        const value = Math.max(-1, Math.min(1, here[k] / largest));
        const to = SIGNED.has(of) ? (value < 0 ? minus : plus) : full;
        const share = Math.abs(value);
        for (let c = 0; c < 3; c++) image.data[4 * x + c] = none[c] + share * (to[c] - none[c]);
        image.data[4 * x + 3] = 255;
      });
      canvas.getContext("2d").putImageData(image, 0, 0);
      const mean = here.reduce((sum, value) => sum + value, 0) / N;
      canvas.setAttribute("aria-label", `${what} after ${name}: mean ${mean.toFixed(2)}`);
    }
  }

  /** Point at the cell of this place, or at none. */
  point(rank) {
    this.pointer.hidden = rank === null;
    this.pointer.style.setProperty("--at", rank === null ? 0 : (rank + 0.5) / this.layer.N);
  }
}
