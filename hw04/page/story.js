// The second part: a story, streamed, and what was drawn of what was likely at each word.

import { find, grouped, percent } from "./dom.js";
import { WordCard } from "./word_card.js";
import { WordList, tintBySurprise } from "./words.js";

const SETTINGS = { // how each is shown
  temperature: (x) => (x === 0 ? "0, greedy" : x.toFixed(2)), penalty: (x) => x.toFixed(1),
  topK: (x) => (x === 0 ? "all" : String(x)), topP: (x) => (x === 1 ? "all" : x.toFixed(2)),
  minP: (x) => (x === 0 ? "all" : x.toFixed(2)), maximum: (x) => `${x} tokens`,
};

export class Story {
  /** `lookInside(text)` opens a story in the parts below. */
  constructor(ask, stop, lookInside) {
    Object.assign(this, { ask, stop });
    const input = (name) => find(`story-${name}`);
    this.inputs = Object.fromEntries(Object.keys(SETTINGS).map((name) => [name, input(name)]));
    this.greedy = input("greedy");
    this.seed = input("seed");
    this.status = input("status");
    this.card = new WordCard(input("card"), "Point at a word of the story.");
    this.list = new WordList(input("words"), {
      label: "Words of the story",
      describe: (word) => {
        const { given, p } = word.steps.at(-1);
        const said = word.end ? "the end" : word.text.trim();
        return given ? `${said}, given` : `${said}, ${percent(p)}`;
      },
      tint: tintBySurprise,
      select: (word) => this.card.show(word, "Drawn"),
    });
    for (const name of Object.keys(SETTINGS)) {
      this.inputs[name].addEventListener("input", () => this.label());
    }
    input("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.write();
    });
    input("another").addEventListener("click", () => {
      this.seed.value = crypto.getRandomValues(new Uint16Array(1))[0];
      this.write();
    });
    input("stop").addEventListener("click", () => this.end("stopped"));
    input("inside").addEventListener("click", () => lookInside(this.plainText()));
    this.label();
  }

  label() {
    for (const [name, shown] of Object.entries(SETTINGS)) {
      const output = document.querySelector(`output[for="story-${name}"]`);
      output.textContent = shown(Number(this.inputs[name].value));
      this.inputs[name].setAttribute("aria-valuetext", output.textContent);
    }
  }

  write() {
    const values = Object.entries(this.inputs).map(([name, input]) => [name, Number(input.value)]);
    const { maximum, ...sampling } = Object.fromEntries(values);
    sampling.greedy = this.greedy.checked;
    const seed = Math.max(0, Math.floor(Number(this.seed.value) || 0)) % 2 ** 32;
    this.seed.value = seed;
    this.list.clear();
    this.count = 0;
    this.card.clear();
    find("story-empty").hidden = true;
    find("story-page").scrollTop = 0;
    find("story-said").textContent = "Writing.";
    this.busy(true);
    const data = { text: find("story-text").value, sampling, seed, maximum };
    this.ask("write", data, (answer) => this.grow(answer));
  }

  grow({ words, count, rate, ended }) {
    this.list.add(words);
    this.count = count;
    this.rate = rate;
    this.tell("writing");
    if (ended) this.end(ended.by, ended.size);
  }

  end(by, size) {
    this.stop("write");
    this.list.flush();
    this.busy(false);
    const how = {
      end: "ended by <eos>", length: "as long as it may be", stopped: "stopped",
      loop: `a loop: ${size} tokens said three times over`,
    }[by];
    this.tell(how);
    if (by === "loop") this.markLoop(size);
    find("story-said").textContent = `${this.plainText()} ${this.status.textContent}`;
  }

  tell(how) {
    this.status.textContent = `${this.count} tokens, ${how}. ${grouped(this.rate ?? 0)} tokens/s`;
  }

  /** Underline the three repetitions, counted in tokens from the end. */
  markLoop(size) {
    let left = 3 * size;
    for (let i = this.list.words.length - 1; i >= 0 && left > 0; i--) {
      left -= this.list.words[i].steps.length;
      this.list.spans[i].classList.add("looping");
    }
  }

  busy(is) {
    find("story-stop").disabled = !is;
    find("story-inside").disabled = is || this.list.words.length === 0;
    find("story-words").setAttribute("aria-busy", String(is));
  }

  plainText() {
    return this.list.words.map((word) => word.text).join("").trim();
  }
}
