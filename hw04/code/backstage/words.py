"""Words: what a person types or a raw corpus holds -> tokens, and tokens -> readable text."""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from backstage.characters import plain, word_characters

CLITICS = "n't|'s|'m|'d|'re|'ve|'ll"
QUOTES = {'"', "'"}
GLUED_LEFT = {*",.!?;:)]}%°™®²³。、।۔،؟؛", "...", *CLITICS.split("|")}
GLUED_RIGHT = {*"([{$#¿¡"}
SENTENCE_ENDS = {*".!?。।۔؟"}
NOBODY = MappingProxyType({})  # no names
GO_ON = {"he", "she", "said", "asked"}  # small after `!"`, where most other words begin a sentence


def tokenize_text(text: str, cased: bool = False) -> list[str]:
    """Split raw text into tokens the way the tiny corpora and the GloVe vocabulary have them.

    Characters become `plain`, letters lower case (kept if `cased`). A token is a word, a run of
    letters of any script, their combining marks, and digits, with inner hyphens or apostrophes; a
    clitic (Penn Treebank convention: `do n't`, `lily 's`); `...`; or any other single mark. A typed
    `<unk>` is three marks: only corpus files have control tokens.
    """
    text = plain(text)
    if not cased:
        text = unicodedata.normalize("NFC", text.lower())
    clitic_after_word, token = token_patterns(text.isascii())
    return token.findall(clitic_after_word.sub(r" \1", text))


@functools.cache
def token_patterns(is_ascii: bool) -> tuple[re.Pattern, re.Pattern]:
    """What a clitic after its word is, and what a token is, in ASCII text or in any."""
    W = "A-Za-z0-9" if is_ascii else word_characters()
    clitic_after_word = rf"(?<=[{W}])((?i:{CLITICS}))(?=(?i:{CLITICS}){{0,9}}(?![{W}]))"
    token = rf"""(?i:{CLITICS})(?![{W}])  # a clitic, parted from its word before
        | [{W}]+(?:['·-][{W}]+)*  # a word: merry-go-round, o'clock, col·lecció
        | \.\.\.
        | \S                      # any other mark stands alone"""
    return re.compile(clitic_after_word), re.compile(token, re.VERBOSE)


def detokenized(
    tokens: Iterable[str], cased: bool = False, names: Mapping[str, str] = NOBODY
) -> Iterator[str]:
    """The inverse of `tokenize_text`, one token at a time: the text to append for each token.

    `tokenize_text(detokenize(t)) == t` for every `t` that `tokenize_text` gives, as a token is
    written without a space only where `tokenize_text` parts it again. Control tokens such as
    `<unk>` are written as they are, and do not come back. With `cased` tokens no capital is added;
    else `names` has those words that have one anywhere, and how they are written.
    """
    parts: list[str] = []  # the last 16 texts since the last space, which is enough of a long run
    open_quotes: set[str] = set()
    glue_next = True
    begins = True  # whether a sentence begins here
    for token in tokens:
        run = "".join(parts)
        # Quotes open and close in turn, but an apostrophe after an s is a possessive: birds' songs.
        possessive = token == "'" and token not in open_quotes and run.endswith("s")
        if token in QUOTES and not possessive:
            open_quotes ^= {token}
        opens = token in open_quotes
        # A quotation after a mark begins a sentence (said, "Come!"), after a word it may be a word.
        begins |= opens and not run[-1:].isalnum()
        goes_on = token in GO_ON and run.endswith(('!"', '?"'))
        wanted = token == "i" or (begins and not goes_on)
        text = names.get(token, token)
        if wanted and not cased:
            text = capitalised(text)
        glue = glue_next or token.lower() in GLUED_LEFT or (token in QUOTES and not opens)
        glue = glue and parts_again(run, text, cased)
        parts = [*parts[-15:], text] if glue else [text]
        yield text if glue else " " + text
        glue_next = opens or token in GLUED_RIGHT
        if token not in QUOTES | {*"([{)]}¿¡"}:  # quotes and brackets leave it as it is
            begins = token in SENTENCE_ENDS


def capitalised(word: str) -> str:
    """A word as a sentence begins with it, if that becomes the same word in lower case."""
    first = word[:1].title()  # not upper(): Georgian has capitals, but not here
    return first + word[1:] if first.lower() == word[:1] else word


def parts_again(run: str, text: str, cased: bool) -> bool:
    """Whether `tokenize_text` parts `run` and `text` again when no space stands between them."""
    apart = tokenize_text(run, cased) + tokenize_text(text, cased)
    return tokenize_text(run + text, cased) == apart


def detokenize(
    tokens: list[str], cased: bool = False, names: Mapping[str, str] = NOBODY
) -> str:
    """Readable text: spacing, quotes, `do n't` as `don't`, a capital where a sentence begins."""
    return "".join(detokenized(tokens, cased, names))


def printable(text: str) -> str:
    """`text` with its control characters made visible, so that none reaches the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
