// The card beside a text: of one of its words, what it was and what was likely there.

import { Bars } from "./bars.js";
import { grouped, make, percent } from "./dom.js";

export class WordCard {
  constructor(element, hint) {
    this.hint = hint;
    this.title = make("h3", "card-word");
    this.about = make("p", "status");
    const list = make("ol", "bars small-bars");
    element.append(this.title, this.about, list);
    this.bars = new Bars(list, 6);
    this.clear();
  }

  /** Show no word. */
  clear() {
    this.title.textContent = "\u00a0";
    this.about.textContent = this.hint;
    this.bars.show([]);
  }

  show(word, verb) {
    this.title.textContent = word.end ? "∎ the end" : word.text.trim();
    const step = word.steps.at(-1);
    if (step.given) {
      this.about.textContent = "given";
      this.bars.show([]);
      return;
    }
    const pieces = word.steps.length > 1 ? ` Pieces: ${pieceList(word.steps)}.` : "";
    const unknown = step.unknown ? " Unknown to the model: this is the chance of <unk>." : "";
    this.about.textContent = `${verb} with ${percent(step.p)}, number ${grouped(step.rank)} by `
      + `probability: ${step.nats.toFixed(2)} nats.${pieces}${unknown}`;
    const drawn = step.best.map((item) => ({ ...item, mark: item.shown === step.shown }));
    if (!drawn.some((item) => item.mark)) {
      drawn.push({ shown: step.shown, p: step.p, mark: true });
    }
    this.bars.show(drawn);
  }
}

function pieceList(steps) {
  return steps.map((step) => `${step.shown} ${step.nats.toFixed(2)}`).join(", ");
}
