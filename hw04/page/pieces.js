// Word pieces (byte-pair encoding, Sennrich et al. 2016): backstage/bpe.py in JavaScript.

const START = "Ġ"; // how byte-level encodings write a space

// The letter of each byte: itself where it can be seen, else one from U+0100 on.
const LETTERS = byteLetters();
const BYTES = new Map(LETTERS.map((letter, byte) => [letter, byte]));

function byteLetters() {
  const letters = [];
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const seen = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    letters.push(String.fromCodePoint(seen ? byte : next++));
  }
  return letters;
}

export class WordPieces {
  constructor(merges) {
    this.ranks = new Map(merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
    this.known = new Map(); // the pieces of tokens that were split before
  }

  /** Tokens -> word pieces. */
  split(tokens) {
    return tokens.flatMap((token) => {
      if (!this.known.has(token)) this.known.set(token, this.splitToken(token));
      return this.known.get(token);
    });
  }

  splitToken(token) {
    let pieces = [...new TextEncoder().encode(` ${token}`)].map((byte) => LETTERS[byte]);
    for (;;) {
      const pairs = pieces.slice(1).map((piece, i) => `${pieces[i]} ${piece}`);
      const ranks = pairs.map((pair) => this.ranks.get(pair) ?? Infinity);
      const best = Math.min(...ranks); // of an empty list, too: Infinity
      if (best === Infinity) return pieces;
      const at = ranks.indexOf(best);
      const joined = pieces[at] + pieces[at + 1];
      pieces = [...pieces.slice(0, at), joined, ...pieces.slice(at + 2)];
    }
  }

  /** The characters of word pieces; U+FFFD for bytes that are none. */
  spell(pieces) {
    const bytes = [...pieces.join("")].map((letter) => BYTES.get(letter) ?? 0xff);
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
  }

  begins(piece) {
    return piece.startsWith(START);
  }
}
