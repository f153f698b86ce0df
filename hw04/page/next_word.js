// The first part: what a person types, its tokens, and the ten most probable next ones.

import { Bars } from "./bars.js";
import { find, grouped, later, make, percent } from "./dom.js";

export class NextWord {
  /** `ask(kind, data, answer)` puts a question to the worker. */
  constructor(ask) {
    this.ask = ask;
    this.text = find("next-text");
    this.undoButton = find("next-undo");
    this.history = [];
    this.before = this.text.value;
    this.bars = new Bars(find("next-bars"), 10, (item) => this.goOn(item));
    this.say = later(900, (best) => {
      const words = best.slice(0, 3).map(({ shown, p }) => `${shown} ${percent(p)}`);
      find("next-said").textContent = `Most probable: ${words.join(", ")}`;
    });
    this.text.addEventListener("input", () => this.typed());
    this.undoButton.addEventListener("click", () => this.undo());
    find("next-clear").addEventListener("click", () => this.change(""));
  }

  /** Show what comes after the text as it is. */
  look(done = () => {}) {
    const text = this.text.value;
    this.ask("next", { text }, (answer) => {
      this.show(answer);
      find("next-bars").dataset.text = text; // so that one can wait for it
      done();
    });
  }

  /** Typing within a word is one thing to undo. */
  typed() {
    const isWordMore = /\S$/.test(this.before) && this.text.value.startsWith(this.before)
      && !/\s/.test(this.text.value.slice(this.before.length));
    if (!isWordMore || this.history.length === 0) this.remember();
    this.before = this.text.value;
    this.look();
  }

  remember() {
    this.history.push(this.before);
    this.undoButton.disabled = false;
  }

  change(text) {
    if (text === this.text.value) return;
    this.remember();
    this.set(text);
  }

  set(text) {
    this.text.value = text;
    this.text.scrollTop = this.text.scrollHeight;
    this.before = text;
    this.look();
  }

  undo() {
    this.set(this.history.pop());
    if (this.history.length > 0) return;
    this.text.focus(); // a button that is disabled loses the focus
    this.undoButton.disabled = true;
  }

  goOn(item) {
    this.change(item.text);
  }

  show({ tokens, cut, best, others, rest, unsure }) {
    const list = find("next-tokens");
    list.replaceChildren(...tokens.map((token) => {
      if (token.known) return make("li", "token", token.shown);
      const like = token.near ? `, like ${token.near}` : "";
      const chip = make("li", "token unknown", token.shown);
      chip.append(make("span", "like", ` is unknown${like}`));
      return chip;
    }));
    if (cut) list.prepend(make("li", "token quiet", "…"));
    if (tokens.length === 0) list.append(make("li", "token quiet", "the beginning of a story"));
    list.scrollTop = list.scrollHeight;
    this.bars.show(best.map((item) => (
      item.end ? { ...item, label: "∎ the end", disabled: true } : item
    )));
    const choices = grouped(unsure, unsure < 10 ? 1 : 0);
    find("next-rest").textContent = `${grouped(others)} other words share ${percent(rest)}. The `
      + `model is as unsure as between ${choices} equally probable words.`;
    this.say(best);
  }
}
