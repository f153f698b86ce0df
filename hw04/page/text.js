// Words: what a person types -> tokens, and tokens -> readable text. This is backstage/words.py in
// JavaScript; a test compares the two.

export const UNK = 0;
export const BOS = 1;
export const EOS = 2;

// Typographic marks and the ASCII ones that the corpora have instead.
const PLAIN_MARKS = new Map([
  ..."‘’‚‛′`".split("").map((mark) => [mark, "'"]),
  ..."“”„‟«»".split("").map((mark) => [mark, '"']),
  ..."‐‒–—―⸺⸻−".split("").map((mark) => [mark, "-"]),
]);
const MARKS = new RegExp(`[${[...PLAIN_MARKS.keys()].join("")}]`, "g");
const CLITICS = "[nN]'[tT]|'[sS]|'[mM]|'[dD]|'[rR][eE]|'[vV][eE]|'[lL][lL]";
const CLITIC_AFTER_WORD = new RegExp(
  `(?<=[A-Za-z0-9])(${CLITICS})(?=(?:${CLITICS}){0,9}(?![A-Za-z0-9]))`, "g",
);
// What Python's \s matches, which is not quite what JavaScript's does.
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f"
  + "\\u205f\\u3000";
const TOKEN = new RegExp(
  "[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*" // a word, with inner hyphens or apostrophes
  + `|(?:${CLITICS})(?![A-Za-z0-9])` // a clitic, parted from its word before
  + "|\\.\\.\\."
  + `|[^${SPACE}]`, // any other mark stands alone
  "gu",
);
const QUOTES = new Set(['"', "'"]);
const GLUED_LEFT = new Set(
  [...",.!?;:)]}%", "...", "n't", "'s", "'m", "'d", "'re", "'ve", "'ll"],
);
const GLUED_RIGHT = new Set("([{$#");
const NO_SENTENCE = new Set("\"'([{)]}"); // these leave the beginning of a sentence as it is
const GO_ON = new Set(["he", "she", "said", "asked"]); // small after `!"`

/** Raw text -> tokens, as the corpora have them. */
export function tokenize(text, cased) {
  let plain = text.normalize("NFKC").replace(MARKS, (mark) => PLAIN_MARKS.get(mark));
  if (!cased) plain = plain.toLowerCase();
  return plain.replace(CLITIC_AFTER_WORD, " $1").match(TOKEN) ?? [];
}

/** Whether `tokenize` parts two texts again when no space stands between them. */
function partsAgain(run, text, cased) {
  const apart = [...tokenize(run, cased), ...tokenize(text, cased)];
  const joined = tokenize(run + text, cased);
  return joined.length === apart.length && joined.every((token, i) => token === apart[i]);
}

/** The inverse of `tokenize`: `next(token)` gives the text to append, with its space before it. */
export class Detokenizer {
  constructor(cased) {
    this.cased = cased;
    this.parts = []; // the last 16 texts since the last space
    this.openQuotes = new Set();
    this.glueNext = true;
    this.begins = true; // whether a sentence begins here
  }

  /** What `next` would give, without going on. */
  peek(token) {
    const openQuotes = new Set(this.openQuotes);
    return Object.assign(new Detokenizer(this.cased), this, { openQuotes }).next(token);
  }

  next(token) {
    const run = this.parts.join("");
    const isQuote = QUOTES.has(token);
    // Quotes open and close in turn, but an apostrophe after an s is a possessive: birds' songs.
    const possessive = token === "'" && !this.openQuotes.has(token) && run.endsWith("s");
    if (isQuote && !possessive && !this.openQuotes.delete(token)) this.openQuotes.add(token);
    const opens = this.openQuotes.has(token);
    if (opens && !/[\p{L}\p{N}]$/u.test(run)) this.begins = true;
    const goesOn = GO_ON.has(token) && /[!?]"$/.test(run);
    const wanted = token === "i" || (this.begins && !goesOn);
    const capital = wanted && !this.cased && /^[a-z]/.test(token);
    const text = capital ? token[0].toUpperCase() + token.slice(1) : token;
    let glue = this.glueNext || GLUED_LEFT.has(token.toLowerCase()) || (isQuote && !opens);
    glue = glue && partsAgain(run, text, this.cased);
    this.parts = glue ? [...this.parts.slice(-15), text] : [text];
    this.glueNext = opens || GLUED_RIGHT.has(token);
    if (!NO_SENTENCE.has(token)) this.begins = token === "." || token === "!" || token === "?";
    return glue ? text : ` ${text}`;
  }
}
