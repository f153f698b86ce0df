// What the worker does for the page: the next word, a story, the surprise of a text. Each job lets
// others in between two tokens, and ends early when a newer one of its kind has come.

import { BOS, EOS, UNK, Detokenizer } from "./text.js";
import { nearest } from "./nearest.js";
import { GATES } from "./model.js";
import { PLAIN, choose, distribution, looping, most, randomNumbers, rank, softmax }
  from "./sampling.js";
import { Telling } from "./telling.js";

const EVERY = 8; // milliseconds after which others are let in
const POST_EVERY = 40; // milliseconds between two messages of a story
const INSIDE = 600; // so many tokens of a text can be looked into
const SHOWN = 60; // so many tokens of a typed text are shown back, as -use does
const KEPT = 300; // so many states of it are kept, so that an edit there costs only what follows

export class Jobs {
  /** `post(kind, number, content, buffers)` sends an answer to the page. */
  constructor(model, post) {
    this.model = model;
    this.post = post;
    this.latest = {}; // the number of the newest job of each kind
    this.breath = 0;
    this.read = { ids: [], states: [model.begin()] }; // what was read for the next word
    this.near = new Map();
  }

  start(kind, number, data) {
    this.latest[kind] = number;
    return this[kind](number, data);
  }

  /** Lets others in from time to time; returns whether the job is still wanted. */
  async goesOn(kind, number) {
    if (performance.now() - this.breath > EVERY) {
      await new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel(); // a timeout would wait for 4 ms
        port1.onmessage = resolve;
        port2.postMessage(null);
      });
      this.breath = performance.now();
    }
    return this.latest[kind] === number;
  }

  /** A text as the model sees it: its pieces, and what is known of each. */
  understand(text) {
    const tokens = this.model.tokenizer.tokenize(text);
    const pieces = this.model.split(tokens);
    return { tokens, pieces, ids: pieces.map((piece) => this.model.id(piece)) };
  }

  nearestTo(word) {
    if (!this.near.has(word)) this.near.set(word, nearest(word, this.model.words.slice(EOS + 1)));
    return this.near.get(word);
  }

  // ---- The next word ----

  async next(number, { text }) {
    const { tokens, pieces, ids } = this.understand(text);
    const { ids: known, states } = this.read;
    let same = 0;
    while (same < ids.length && ids[same] === known[same]) same++;
    while (!states[same]) same--; // the first one is always there
    known.length = same;
    states.length = same + 1;
    for (const id of ids.slice(same)) {
      if (!(await this.goesOn("next", number))) return;
      states.push(this.model.step(states.at(-1), id));
      known.push(id);
      if (states.length - KEPT > 1) states[states.length - KEPT] = null;
    }
    const probs = distribution(this.model.logits(states.at(-1)), [], PLAIN);
    const best = most(probs, 10);
    const begun = { text: text.trimEnd(), detokenizer: new Detokenizer(this.model.tokenizer) };
    for (const token of tokens) begun.detokenizer.next(token);
    this.post("next", number, {
      tokens: pieces.map((piece, i) => [piece, ids[i]]).slice(-SHOWN)
        .map((pair) => this.describe(...pair)),
      cut: pieces.length > SHOWN,
      best: best.map((id) => ({
        id, p: probs[id], shown: this.model.shown(id), end: id === EOS,
        text: this.continued(begun, id),
      })),
      others: probs.length - 2 - best.length,
      rest: 1 - best.reduce((sum, id) => sum + probs[id], 0),
      unsure: Math.exp(-probs.reduce((sum, p) => sum + (p ? p * Math.log(p) : 0), 0)),
    });
  }

  /** How a token of a typed text is shown back; an unknown one with the nearest known word. */
  describe(piece, id) {
    if (id !== UNK) return { shown: this.model.shown(id), known: true };
    return { shown: piece, known: false, near: this.nearestTo(piece) };
  }

  /** A typed text with one more token; the detokenizer has seen all others. */
  continued({ text, detokenizer }, id) {
    const { pieces, words } = this.model;
    if (pieces && !pieces.begins(words[id])) return text + pieces.spell([words[id]]);
    return text + detokenizer.peek(pieces ? pieces.spell([words[id]]).trim() : words[id]);
  }

  // ---- A story ----

  async write(number, { text, sampling, seed, maximum }) {
    const started = performance.now();
    const { pieces, ids } = this.understand(text);
    const telling = new Telling(this.model);
    let words = pieces.flatMap((piece, i) => (
      telling.add({ piece, id: ids[i], given: true, unknown: ids[i] === UNK })
    ));
    let state = this.model.begin();
    for (const id of ids) {
      if (!(await this.goesOn("write", number))) return;
      state = this.model.step(state, id);
    }
    const random = randomNumbers(seed);
    const story = [BOS, ...ids];
    const fresh = [];
    let posted = 0;
    let ended = null;
    while (!ended) {
      if (!(await this.goesOn("write", number))) return;
      const probs = distribution(this.model.logits(state), story, sampling);
      const id = choose(probs, sampling, random);
      story.push(id);
      fresh.push(id);
      words.push(...telling.add(this.judged(this.model.words[id], id, probs)));
      ended = whyEnded(fresh, maximum);
      if (ended) words.push(...telling.end());
      else state = this.model.step(state, id);
      if (ended || performance.now() - posted > POST_EVERY) {
        posted = performance.now();
        const rate = (1000 * fresh.length) / (posted - started);
        this.post("write", number, { words, count: fresh.length, rate, ended });
        words = [];
      }
    }
  }

  /** What the page shows of a token, given the probabilities (V,) of all. */
  judged(piece, id, probs) {
    const best = most(probs, 5).map((one) => ({ shown: this.model.shown(one), p: probs[one] }));
    return {
      piece, id, shown: this.model.shown(id), p: probs[id], nats: -Math.log(probs[id]),
      rank: rank(probs, id), best,
    };
  }

  // ---- The surprise of a text ----

  async surprise(number, { text }) {
    const { tokens, pieces, ids } = this.understand(text);
    if (ids.length === 0) {
      this.post("surprise", number, { words: [], done: true, measures: null, inside: null });
      return;
    }
    const telling = new Telling(this.model);
    const states = [this.model.begin()];
    let state = states[0];
    let words = [];
    let total = 0;
    let posted = performance.now();
    const targets = [...ids, EOS];
    for (const [position, id] of targets.entries()) {
      if (!(await this.goesOn("surprise", number))) return;
      const piece = pieces[position] ?? this.model.words[EOS];
      const step = this.judged(piece, id, softmax(this.model.logits(state)));
      if (id === UNK) Object.assign(step, { shown: piece, unknown: true });
      words.push(...telling.add({ ...step, position: position + 1 }));
      total += step.nats;
      if (id === EOS) break;
      state = this.model.step(state, id);
      if (states.length < INSIDE) states.push(state);
      if (performance.now() - posted > POST_EVERY) {
        posted = performance.now();
        this.post("surprise", number, { words, done: false });
        words = [];
      }
    }
    const unknown = pieces.filter((_, i) => ids[i] === UNK);
    const measures = measured(total, targets.length, tokens, unknown);
    const { inside, buffers } = looked(this.model, states);
    this.post("surprise", number, { words, done: true, measures, inside }, buffers);
  }
}

/** Why a story ends after these new ids, or null if it goes on. */
function whyEnded(fresh, maximum) {
  if (fresh.at(-1) === EOS) return { by: "end" };
  const size = looping(fresh);
  if (size) return { by: "loop", size };
  return fresh.length >= maximum ? { by: "length" } : null;
}

/** What -evaluate prints of a text: see backstage/measures.py. */
function measured(total, targets, tokens, unknown) {
  const nats = total / targets;
  const letters = unknown.reduce((sum, word) => sum + [...word].length, 0);
  const characters = [...tokens.join(" ")].length + 1;
  const bits = total / Math.LN2 + Math.log2(27) * letters;
  return {
    nats, perplexity: Math.exp(nats), bpc: bits / characters, targets, unknown: unknown.length,
  };
}

/** Gates, cells and attention at each position of a text. */
function looked(model, states) {
  const T = states.length;
  const { names, keep } = GATES[model.cell];
  const buffers = [];
  const series = (l, N, of) => {
    const all = new Float32Array(T * N); // (T, N)
    states.forEach((state, t) => all.set(of(state.layers[l]), t * N));
    buffers.push(all.buffer);
    return all;
  };
  const layers = model.layers.map((layer, l) => {
    const N = layer.w_hh.columns;
    const gates = names.map((name) => [name, series(l, N, (one) => one.gates[name])]);
    return { N, gates: Object.fromEntries(gates), held: series(l, N, (one) => one.c) };
  });
  const attention = model.attention && states.map((state) => model.attend(state).weights);
  return { inside: { T, cell: model.cell, keep, layers, attention }, buffers };
}
