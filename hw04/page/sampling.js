// How the next token is chosen: next_token_logits and generate_next_token of lstlm.py, and
// backstage/sampling.py, in their order.

import { BOS, UNK } from "./text.js";

/** The settings of a story as they are at first: those of -prompt. */
export const PLAIN = {
  greedy: false, temperature: 1, topK: 0, topP: 1, minP: 0, penalty: 0,
};

/** Probabilities (V,) in float64; of the scores -Infinity they are 0. */
export function softmax(logits) {
  const probs = new Float64Array(logits);
  const top = largest(probs);
  let sum = 0;
  for (let id = 0; id < probs.length; id++) {
    probs[id] = Math.exp(probs[id] - top);
    sum += probs[id];
  }
  for (let id = 0; id < probs.length; id++) probs[id] /= sum;
  return probs;
}

function largest(numbers) {
  let top = -Infinity;
  for (let i = 0; i < numbers.length; i++) if (numbers[i] > top) top = numbers[i];
  return top;
}

/** Probabilities (V,) of the token after the ids `tokens`, after all that the settings change. */
export function distribution(logits, tokens, sampling) {
  let z = new Float64Array(logits);
  for (const id of tokens) z[id] -= sampling.penalty; // handout, equation 2
  z[UNK] = -Infinity; // these two are never generated
  z[BOS] = -Infinity;
  const top = largest(z);
  const temperature = sampling.temperature || 1;
  for (let id = 0; id < z.length; id++) z[id] = (z[id] - top) / temperature;
  if (sampling.topK) z = keep(z, most(softmax(z), sampling.topK));
  if (sampling.topP < 1) z = keep(z, fewest(softmax(z), sampling.topP));
  if (sampling.minP) {
    const probs = softmax(z);
    const least = sampling.minP * largest(probs);
    for (let id = 0; id < z.length; id++) if (probs[id] < least) z[id] = -Infinity;
  }
  return softmax(z);
}

/** The fewest most probable ids that reach the share `topP`. */
function fewest(probs, topP) {
  const order = Array.from(probs.keys()).sort((a, b) => probs[b] - probs[a] || a - b);
  let before = 0;
  let count = 0;
  while (count < order.length && before < topP) before += probs[order[count++]];
  return order.slice(0, count);
}

/** The scores of the ids `chosen`, and -Infinity for all others. */
function keep(scores, chosen) {
  const kept = new Float64Array(scores.length).fill(-Infinity);
  for (const id of chosen) kept[id] = scores[id];
  return kept;
}

/** The id that comes next: the most probable one, or one drawn with `random` from [0, 1). */
export function choose(probs, sampling, random) {
  if (sampling.greedy || sampling.temperature === 0) return most(probs, 1)[0];
  let left = random();
  let last = 0;
  for (let id = 0; id < probs.length; id++) {
    if (probs[id] === 0) continue;
    last = id;
    left -= probs[id];
    if (left < 0) break;
  }
  return last;
}

/** The `k` most probable ids, of those above 0. */
export function most(probs, k) {
  const best = [];
  for (let id = 0; id < probs.length; id++) {
    if (probs[id] === 0 || (best.length === k && probs[id] <= probs[best[k - 1]])) continue;
    let at = best.length;
    while (at > 0 && probs[id] > probs[best[at - 1]]) at--;
    best.splice(at, 0, id);
    if (best.length > k) best.pop();
  }
  return best;
}

/** How many tokens are more probable than this one, and one. */
export function rank(probs, id) {
  let count = 1;
  for (let other = 0; other < probs.length; other++) if (probs[other] > probs[id]) count++;
  return count;
}

/** Numbers in [0, 1) that a seed determines, in every browser alike (mulberry32). */
export function randomNumbers(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** The size, up to `longest`, of the block that `ids` end with three times over, or 0. */
export function looping(ids, longest = 50) {
  for (let size = 1; size <= Math.min(longest, Math.floor(ids.length / 3)); size++) {
    const same = (k) => ids.at(-k) === ids.at(-k - size) && ids.at(-k) === ids.at(-k - 2 * size);
    let k = 1;
    while (k <= size && same(k)) k++;
    if (k > size) return size;
  }
  return 0;
}
