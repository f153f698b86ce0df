// How long cells remember, from their forget gates along a text.
//
// A layer is `{ N, gates, held }`, each array (T, N): T positions of N cells; position 0 is <bos>.

const LEAST = 1e-30; // of a gate, as a logarithm is taken

/**
 * For each cell the mean number of tokens until half of what it held is forgotten, from whatever
 * token on. Where the text ends first, the tokens up to there count, but no end: Infinity for a
 * cell that never forgets half.
 */
export function halfLives(gate, N) {
  const T = gate.length / N;
  return Float64Array.from({ length: N }, (_, k) => {
    const loss = (t) => -Math.log(Math.max(LEAST, gate[t * N + k]));
    let counted = 0;
    let ends = 0;
    let left = 0; // what was lost from token j up to `to`, as a logarithm
    let to = 0;
    for (let j = 0; j < T - 1; j++) {
      while (left < Math.LN2 && to < T - 1) left += loss(++to);
      counted += to - j;
      ends += left >= Math.LN2;
      left -= loss(j + 1);
    }
    return ends ? counted / ends : Infinity;
  });
}

/** The cells by falling half-life; in their own order where they have none. */
export function byMemory(lives, N) {
  const cells = Array.from({ length: N }, (_, k) => k);
  return lives ? cells.sort((a, b) => lives[b] - lives[a]) : cells;
}

/** For each j the share of a layer's cells that at `t` still keep half of what they held at j. */
export function stillKept(gate, N, t) {
  const shares = new Float64Array(t + 1);
  for (let k = 0; k < N; k++) {
    let left = 1;
    for (let j = t; j >= 0 && left >= 0.5; j--) {
      shares[j] += 1 / N;
      left *= gate[j * N + k]; // of what was there at j - 1
    }
  }
  return shares;
}

/** The value below which a share of the numbers lies. */
export function quantile(numbers, share) {
  const sorted = Float64Array.from(numbers).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
