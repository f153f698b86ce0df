// The third part: a text of the person's, each word coloured by its surprise.

import { find, grouped, later } from "./dom.js";
import { WordCard } from "./word_card.js";
import { WordList, tintBySurprise } from "./words.js";

export class Surprise {
  /** `seen(inside, words)` gets what was recorded of the text, or null. */
  constructor(ask, seen) {
    Object.assign(this, { ask, seen });
    this.text = find("surprise-text");
    this.status = find("surprise-status");
    this.card = new WordCard(find("surprise-card"), "Point at a word of the text.");
    this.list = new WordList(find("surprise-words"), {
      label: "Words of the text",
      describe: (word) => `${word.end ? "the end" : word.text.trim()}, ${nats(word)} nats`,
      tint: tintBySurprise,
      select: (word) => this.card.show(word, "Expected"),
    });
    this.text.addEventListener("input", later(250, () => this.look()));
  }

  open(text) {
    this.text.value = text;
    this.look();
  }

  look() {
    let isNew = true; // the old words stay until the first new ones are there
    this.status.textContent = "reading";
    const text = this.text.value;
    this.ask("surprise", { text }, ({ words, done, measures, inside }) => {
      if (isNew) this.list.clear();
      isNew = false;
      this.list.add(words);
      if (!done) return;
      this.list.flush();
      find("surprise-page").scrollTop = 0;
      find("surprise-empty").hidden = this.list.words.length > 0;
      this.status.textContent = "";
      this.sum(measures);
      this.seen(inside, this.list.words);
      find("surprise-sums").dataset.text = text; // so that one can wait for it
    });
  }

  sum(measures) {
    const shown = measures && {
      perplexity: grouped(measures.perplexity, 2), nats: measures.nats.toFixed(4),
      bpc: measures.bpc.toFixed(4),
      tokens: `${grouped(measures.targets)}, ${grouped(measures.unknown)}`,
    };
    for (const name of ["perplexity", "nats", "bpc", "tokens"]) {
      find(`sum-${name}`).textContent = shown ? shown[name] : "–";
    }
  }
}

function nats(word) {
  return word.steps.reduce((sum, step) => sum + step.nats, 0).toFixed(2);
}
