// Words: what a person types -> tokens, and tokens -> readable text. This is backstage/words.py in
// JavaScript; a test compares the two. Its tables of characters come with the model, made by
// page_tables.py, so that they do not depend on how much of Unicode a browser knows.

export const UNK = 0;
export const BOS = 1;
export const EOS = 2;

// What Python's \s matches, which is not quite what JavaScript's does.
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f"
  + "\\u205f\\u3000";

export class Tokenizer {
  /** `names` are the words that are written with a capital anywhere, and how. */
  constructor(tables, cased, names = {}) {
    Object.assign(this, { tables, cased, names });
    const W = tables.wordCharacters;
    const clitics = tables.clitics.map(anyCase).join("|");
    this.clitic = new RegExp(
      `(?<=[${W}])(${clitics})(?=(?:${clitics}){0,9}(?![${W}]))`, "gu",
    );
    this.token = new RegExp(
      `(?:${clitics})(?![${W}])` // a clitic, parted from its word before
      + `|[${W}]+(?:['·-][${W}]+)*` // a word: merry-go-round, o'clock, col·lecció
      + `|\\.\\.\\.|[^${SPACE}]`, // any other mark stands alone
      "gu",
    );
    this.piled = new RegExp(`([${tables.marks}]{${tables.mostMarks}})[${tables.marks}]+`, "gu");
  }

  /** Raw text -> tokens, as the corpora have them. */
  tokenize(text) {
    let plain = this.plain(text);
    if (!this.cased) plain = plain.toLowerCase().normalize("NFC");
    return plain.replace(this.clitic, " $1").match(this.token) ?? [];
  }

  /** A text in one spelling: see backstage/characters.py. */
  plain(text) {
    const once = this.respelled(text.toWellFormed());
    if (/^[\x00-\x7f]*$/.test(once)) return once;
    const apart = this.respelled(once.replace(this.piled, "$1").normalize("NFD"));
    return apart.replace(this.piled, "$1").normalize("NFC");
  }

  respelled(text) {
    const { spellings } = this.tables;
    return Array.from(text, (letter) => (
      Object.hasOwn(spellings, letter) ? spellings[letter] : letter
    )).join("");
  }

  /** Whether two texts are parted again when no space stands between them. */
  partsAgain(run, text) {
    const apart = [...this.tokenize(run), ...this.tokenize(text)];
    const joined = this.tokenize(run + text);
    return joined.length === apart.length && joined.every((token, i) => token === apart[i]);
  }

  /** A word as a sentence begins with it, if that becomes the same word in lower case. */
  capitalised(word) {
    const [first = ""] = word;
    const { titles } = this.tables;
    const capital = Object.hasOwn(titles, first) ? titles[first] : first.toUpperCase();
    return capital.toLowerCase() === first ? capital + word.slice(first.length) : word;
  }
}

/** A regular expression for a clitic in letters of either case. */
function anyCase(clitic) {
  return clitic.replace(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`);
}

/** The inverse of `tokenize`: `next(token)` gives the text to append, with its space before it. */
export class Detokenizer {
  constructor(tokenizer) {
    this.tokenizer = tokenizer;
    this.parts = []; // the last 16 texts since the last space
    this.openQuotes = new Set();
    this.glueNext = true;
    this.begins = true; // whether a sentence begins here
  }

  /** What `next` would give, without going on. */
  peek(token) {
    const openQuotes = new Set(this.openQuotes);
    return Object.assign(new Detokenizer(this.tokenizer), this, { openQuotes }).next(token);
  }

  next(token) {
    const { tables, cased, names } = this.tokenizer;
    const run = this.parts.join("");
    const isQuote = tables.quotes.includes(token);
    // Quotes open and close in turn, but an apostrophe after an s is a possessive: birds' songs.
    const possessive = token === "'" && !this.openQuotes.has(token) && run.endsWith("s");
    if (isQuote && !possessive && !this.openQuotes.delete(token)) this.openQuotes.add(token);
    const opens = this.openQuotes.has(token);
    const last = Array.from(run).at(-1) ?? ""; // a pattern that ends with $ errs beyond U+FFFF
    if (opens && !/\p{L}|\p{N}/u.test(last)) this.begins = true;
    const goesOn = tables.goOn.includes(token) && /[!?]"$/.test(run);
    const wanted = token === "i" || (this.begins && !goesOn);
    const name = Object.hasOwn(names, token) ? names[token] : token;
    const text = wanted && !cased ? this.tokenizer.capitalised(name) : name;
    const gluesLeft = tables.gluedLeft.includes(token.toLowerCase());
    let glue = this.glueNext || gluesLeft || (isQuote && !opens);
    glue = glue && this.tokenizer.partsAgain(run, text);
    this.parts = glue ? [...this.parts.slice(-15), text] : [text];
    this.glueNext = opens || tables.gluedRight.includes(token);
    // Quotes and brackets leave it as it is.
    if (!isQuote && !"([{)]}¿¡".includes(token)) this.begins = tables.ends.includes(token);
    return glue ? text : ` ${text}`;
  }
}
