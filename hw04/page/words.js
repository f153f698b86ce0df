// A text of which each word can be pointed at, with pointer or keyboard.

import { make } from "./dom.js";

export class WordList {
  /**
   * `element` gets the words, and its parent scrolls. `label` is what a screen reader calls it,
   * `describe(word)` what it says of a word, `tint(span, word)` colours one, and `select(word)` is
   * called with the one that is pointed at.
   */
  constructor(element, { label, describe = (word) => word.text.trim(), tint, select }) {
    Object.assign(this, { element, describe, tint, select });
    this.scroller = element.parentElement;
    this.attributes = { role: "listbox", "aria-label": label, tabindex: "0" };
    this.clear();
    element.addEventListener("pointerover", (event) => this.choose(this.at(event)));
    element.addEventListener("click", (event) => this.choose(this.at(event)));
    element.addEventListener("keydown", (event) => this.move(event));
    element.addEventListener("focus", () => this.choose(this.selected < 0 ? 0 : this.selected));
  }

  clear() {
    this.words = [];
    this.spans = [];
    this.group = null; // words with no space between them, which stay on one line
    this.selected = -1;
    this.element.replaceChildren();
    for (const name of Object.keys(this.attributes)) this.element.removeAttribute(name);
    this.element.removeAttribute("aria-activedescendant");
  }

  /**
   * Append words. The last group waits for the next one, as a mark may still join it: a word that
   * is shown never moves.
   */
  add(words) {
    const atEnd = this.isAtEnd();
    for (const word of words) {
      if (!this.group || /^\s/.test(word.text)) this.flush();
      this.group ??= make("span", "group");
      this.group.append(this.span(word));
    }
    if (atEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** Show what still waits. */
  flush() {
    if (!this.group) return;
    if (this.words.length > this.group.childElementCount) this.element.append(" ");
    if (!this.element.role) {
      for (const [name, value] of Object.entries(this.attributes)) {
        this.element.setAttribute(name, value);
      }
    }
    this.element.append(this.group);
    this.group = null;
  }

  span(word) {
    const number = this.words.length;
    const text = word.end ? "∎" : word.text.trimStart();
    const span = make("span", "word", text, {
      role: "option", "aria-selected": "false", id: `${this.element.id}-${number}`,
      "data-number": number, "aria-label": this.describe(word),
    });
    span.classList.toggle("end", Boolean(word.end));
    span.classList.toggle("given", Boolean(word.steps[0].given));
    span.classList.toggle("unknown", word.steps.some((step) => step.unknown));
    this.words.push(word);
    this.spans.push(span);
    this.tint(span, word);
    return span;
  }

  /** Colour all words anew. */
  retint() {
    this.words.forEach((word, number) => this.tint(this.spans[number], word));
  }

  at(event) {
    const span = event.target.closest(".word");
    return span ? Number(span.dataset.number) : -1;
  }

  choose(number) {
    if (number < 0 || number >= this.words.length || number === this.selected) return;
    this.spans[this.selected]?.setAttribute("aria-selected", "false");
    this.selected = number;
    this.spans[number].setAttribute("aria-selected", "true");
    this.element.setAttribute("aria-activedescendant", this.spans[number].id);
    this.select(this.words[number], number);
  }

  move(event) {
    const last = this.words.length - 1;
    const to = {
      ArrowRight: this.selected + 1, ArrowDown: this.selected + 1, ArrowLeft: this.selected - 1,
      ArrowUp: this.selected - 1, Home: 0, End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose(Math.max(0, Math.min(last, to)));
    this.spans[this.selected].scrollIntoView({ block: "nearest" });
  }

  isAtEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollTop + clientHeight >= scrollHeight - 40;
  }
}

/** The background of a word by its surprise in nats: none at 0, full at 8. */
export function tintBySurprise(span, word) {
  if (word.steps[0].given) return;
  const nats = word.steps.reduce((sum, step) => sum + step.nats, 0);
  span.dataset.nats = nats.toFixed(5);
  span.style.setProperty("--heat", Math.min(1, nats / 8).toFixed(3));
  span.classList.add("heat");
}
