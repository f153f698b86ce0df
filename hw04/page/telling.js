// A story as words that can be shown, each with the tokens that it is made of.

import { Detokenizer, EOS } from "./text.js";

/**
 * Tokens -> readable words, as soon as each is whole. A word is `{ text, steps }`: the text to
 * append, with its space before it, and what is known of each of its tokens: one, or the pieces.
 */
export class Telling {
  constructor(model) {
    this.model = model;
    this.detokenizer = new Detokenizer(model.tokenizer);
    this.waiting = []; // steps of a word that further pieces may join
  }

  /** One more token; returns the words that are whole now. */
  add(step) {
    if (step.id === EOS) return [...this.end(), { text: "", steps: [step], end: true }];
    if (!this.model.pieces) return [{ text: this.detokenizer.next(step.piece), steps: [step] }];
    const words = this.model.pieces.begins(step.piece) ? this.end() : [];
    this.waiting.push(step);
    return words;
  }

  /** The word that was waiting, if any. */
  end() {
    const steps = this.waiting;
    this.waiting = [];
    if (steps.length === 0) return [];
    const token = this.model.pieces.spell(steps.map((step) => step.piece)).trim();
    return token ? [{ text: this.detokenizer.next(token), steps }] : [];
  }
}
