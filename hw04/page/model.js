// The model: what LSTMLM.forward and backstage/one_step.py compute, a token at a time.
//
// Sizes in comments: V words, N the size of a layer's states, D that of the last layer's.

import { BOS, EOS, Tokenizer, UNK } from "./text.js";
import { WordPieces } from "./pieces.js";
import { Products } from "./products.js";

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** The gates of each cell that are shown, in the order of the sums; `keep` is what remembers. */
export const GATES = {
  lstm: { names: ["i", "f", "o"], keep: "f" },
  gru: { names: ["r", "z", "n"], keep: "z" },
  rnn: { names: [], keep: null },
};

export const NOT_WRITTEN = "its model is not as it was written";

/** Throws an Error with a line for the reader if the bytes are not those that were written. */
function checkPayload(bytes) {
  const end = bytes.length - 4;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (end < 4 || view.getUint32(end, true) !== crc32(bytes.subarray(0, end))) {
    throw new Error(NOT_WRITTEN);
  }
}

/** CRC-32 as zlib has it. */
function crc32(bytes) {
  const table = Int32Array.from({ length: 256 }, (_, byte) => {
    let sum = byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
    return sum;
  });
  let sum = -1;
  for (let i = 0; i < bytes.length; i++) sum = table[(sum ^ bytes[i]) & 255] ^ (sum >>> 8);
  return (sum ^ -1) >>> 0;
}

export class Model {
  /** From the bytes that `payload` of make_page.py gives. */
  constructor(bytes) {
    checkPayload(bytes);
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
    Object.assign(this, {
      words: head.words, card: head.card, cell: head.cell, attention: head.attention,
      positions: head.positions, tokenizer: new Tokenizer(head.tables, head.cased, head.names),
    });
    this.ids = new Map(this.words.map((word, id) => [word, id]));
    this.pieces = head.merges ? new WordPieces(head.merges) : null;
    this.load(bytes.slice(4 + length, -4), head);
  }

  load(numbers, head) {
    const tensors = Object.entries(head.tensors);
    const vector = (at, size) => new Float32Array(numbers.buffer.slice(at, at + 4 * size));
    this.tensors = {};
    for (const [name, { rows, columns, at, scales, size }] of tensors) {
      const stride = Math.ceil(columns / 16) * 16;
      this.tensors[name] = size === undefined
        ? { rows, columns, at, stride, scales: vector(scales, rows) } : vector(at, size);
    }
    const matrices = Object.values(this.tensors).filter((tensor) => tensor.stride);
    const largest = (name) => Math.max(...matrices.map((matrix) => matrix[name]));
    this.products = new Products(numbers, largest("rows"), largest("stride"));
    this.layers = Array.from({ length: head.layers }, (_, l) => Object.fromEntries(
      ["w_ih", "w_hh", "b_ih", "b_hh"].map((name) => [name, this.tensors[name + l]]),
    ));
    this.output = this.tensors.output ?? this.tensors.embedding;
  }

  // ---- Tokens ----

  /** The tokens of the corpora, split into word pieces where the model has those. */
  split(tokens) {
    return this.pieces ? this.pieces.split(tokens) : tokens;
  }

  id(piece) {
    return this.ids.get(piece) ?? UNK;
  }

  /** How a token is shown to a person; a word piece with a bar for the space before it. */
  shown(id) {
    const word = this.words[id];
    if (!this.pieces || id <= EOS) return word;
    return this.pieces.spell([word]).replaceAll(" ", "▁");
  }

  // ---- A step ----

  /** The state before the first token. */
  empty() {
    const layers = this.layers.map(({ w_hh }) => {
      const h = new Float32Array(w_hh.columns);
      return { h, c: h, gates: {} };
    });
    return { layers, past: [], position: 0 };
  }

  /** The state after one more token; the one before stays as it is. */
  step(state, id) {
    let x = this.vector(id, state.position);
    const layers = this.layers.map((layer, l) => {
      const after = CELLS[this.cell](this.products, layer, x, state.layers[l]);
      x = after.h;
      return after;
    });
    const past = this.attention ? [...state.past, this.remembered(x)] : state.past;
    return { layers, past, position: state.position + 1 };
  }

  /** The state after `<bos>`. */
  begin() {
    return this.step(this.empty(), BOS);
  }

  /** The logits (V,) of the token after a state. */
  logits(state) {
    let features = state.layers.at(-1).h; // (D,)
    if (this.attention) {
      const { context } = this.attend(state);
      features = Float32Array.from([...features, ...context]); // (2D,): [h ; c]
    }
    return sums(this.products, this.output, this.tensors.bias, features);
  }

  /** A word's vector, with its position in the story added where the model has that. */
  vector(id, position) {
    const x = this.products.row(this.tensors.embedding, id);
    if (!this.positions) return x;
    return x.map((number, k) => {
      const angle = position / 10000 ** ((k - (k % 2)) / x.length);
      return number + Math.fround(k % 2 ? Math.cos(angle) : Math.sin(angle));
    });
  }

  // ---- Attention ----

  /** A state h (D,) of the last layer, with the key by which later ones find it. */
  remembered(h) {
    const weight = { dot: null, bilinear: "W", additive: "U" }[this.attention];
    return { h, key: weight ? this.products.product(this.tensors[weight], h) : h };
  }

  /** The weights of all strictly earlier positions, and the context (D,) that they give. */
  attend(state) {
    const { h } = state.past.at(-1);
    const earlier = state.past.slice(0, -1);
    const scores = this.scores(h, earlier);
    const most = Math.max(...scores);
    const shares = scores.map((score) => Math.exp(score - most));
    const sum = shares.reduce((a, b) => a + b, 0);
    const weights = Float32Array.from(shares, (share) => share / sum);
    const context = new Float32Array(h.length); // zeros where nothing is earlier
    earlier.forEach((one, j) => {
      for (let k = 0; k < context.length; k++) context[k] += weights[j] * one.h[k];
    });
    return { weights, context };
  }

  /** e(i, j) for the state h_i and all earlier ones. */
  scores(h, earlier) {
    if (this.attention === "additive") {
      const query = this.products.product(this.tensors.W, h);
      const { v } = this.tensors;
      return earlier.map(({ key }) => {
        let sum = 0;
        for (let k = 0; k < v.length; k++) sum += v[k] * Math.tanh(query[k] + key[k]);
        return sum;
      });
    }
    const scale = this.attention === "dot" ? 1 / Math.sqrt(h.length) : 1;
    return earlier.map(({ key }) => {
      let sum = 0;
      for (let k = 0; k < h.length; k++) sum += h[k] * key[k];
      return sum * scale;
    });
  }
}

// ---- Cells: one position of nn.LSTM, nn.GRU and nn.RNN ------------------------------------------

/** The sums of all gates that the input or the state gives. */
function sums(products, weight, bias, vector) {
  const z = products.product(weight, vector);
  for (let k = 0; k < z.length; k++) z[k] += bias[k];
  return z;
}

function lstmCell(products, { w_ih, w_hh, b_ih, b_hh }, x, state) {
  const z = sums(products, w_ih, b_ih, x); // (4N,): i, f, g, o
  const fromState = sums(products, w_hh, b_hh, state.h);
  for (let k = 0; k < z.length; k++) z[k] += fromState[k];
  const N = state.h.length;
  const [h, c, i, f, o] = Array.from({ length: 5 }, () => new Float32Array(N));
  for (let k = 0; k < N; k++) {
    i[k] = sigmoid(z[k]);
    f[k] = sigmoid(z[N + k]);
    o[k] = sigmoid(z[3 * N + k]);
    c[k] = f[k] * state.c[k] + i[k] * Math.tanh(z[2 * N + k]);
    h[k] = o[k] * Math.tanh(c[k]);
  }
  return { h, c, gates: { i, f, o } };
}

function gruCell(products, { w_ih, w_hh, b_ih, b_hh }, x, state) {
  const input = sums(products, w_ih, b_ih, x); // (3N,): r, z, n
  const recurrent = sums(products, w_hh, b_hh, state.h);
  const N = state.h.length;
  const [h, r, z, n] = Array.from({ length: 4 }, () => new Float32Array(N));
  for (let k = 0; k < N; k++) {
    r[k] = sigmoid(input[k] + recurrent[k]);
    z[k] = sigmoid(input[N + k] + recurrent[N + k]);
    n[k] = Math.tanh(input[2 * N + k] + r[k] * recurrent[2 * N + k]);
    h[k] = (1 - z[k]) * n[k] + z[k] * state.h[k];
  }
  return { h, c: h, gates: { r, z, n } };
}

function rnnCell(products, { w_ih, w_hh, b_ih, b_hh }, x, state) {
  const z = sums(products, w_ih, b_ih, x); // (N,)
  const fromState = sums(products, w_hh, b_hh, state.h);
  const h = z.map((sum, k) => Math.tanh(sum + fromState[k]));
  return { h, c: h, gates: {} };
}

const CELLS = { lstm: lstmCell, gru: gruCell, rnn: rnnCell };
