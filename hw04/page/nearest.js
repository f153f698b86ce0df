// The known word that is most like an unknown one, as difflib.get_close_matches of Python finds it.

const CUTOFF = 0.5;

/** The most similar of `words`, or null if none is half the same. */
export function nearest(word, words) {
  const b = [...word];
  let best = null;
  let bestRatio = CUTOFF;
  for (const other of words) {
    const a = [...other];
    const most = (2 * Math.min(a.length, b.length)) / (a.length + b.length);
    if (most < bestRatio || (2 * common(a, b)) / (a.length + b.length) < bestRatio) continue;
    const ratio = (2 * matching(a, 0, a.length, b, 0, b.length)) / (a.length + b.length);
    if (ratio > bestRatio || (ratio === bestRatio && (best === null || after(other, best)))) {
      best = other;
      bestRatio = ratio;
    }
  }
  return best;
}

/** How many letters two words have in common, in whatever order. */
function common(a, b) {
  const left = new Map();
  for (const letter of b) left.set(letter, (left.get(letter) ?? 0) + 1);
  let count = 0;
  for (const letter of a) {
    const n = left.get(letter) ?? 0;
    if (n > 0) count++;
    left.set(letter, n - 1);
  }
  return count;
}

/** The letters in matching blocks (Ratcliff & Obershelp): the longest, and those on its sides. */
function matching(a, aBegin, aEnd, b, bBegin, bEnd) {
  let size = 0;
  let aAt = aBegin;
  let bAt = bBegin;
  let before = new Map(); // lengths of the blocks that end at a[i - 1], by their end in b
  for (let i = aBegin; i < aEnd; i++) {
    const lengths = new Map();
    for (let j = bBegin; j < bEnd; j++) {
      if (a[i] !== b[j]) continue;
      const length = (before.get(j - 1) ?? 0) + 1;
      lengths.set(j, length);
      if (length > size) {
        size = length;
        aAt = i - length + 1;
        bAt = j - length + 1;
      }
    }
    before = lengths;
  }
  if (size === 0) return 0;
  return size + matching(a, aBegin, aAt, b, bBegin, bAt)
    + matching(a, aAt + size, aEnd, b, bAt + size, bEnd);
}

/** Whether a text comes after another by code points, as Python orders them. */
function after(one, other) {
  const a = [...one];
  const b = [...other];
  const at = a.findIndex((letter, i) => letter !== b[i]);
  if (at < 0) return false;
  return at >= b.length || a[at].codePointAt(0) > b[at].codePointAt(0);
}
