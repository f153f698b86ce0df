"""Characters: one spelling for each, so that a word is the same wherever a text comes from.

hw04/code/backstage and hw4p1/hw4lib/data have this file alike, so that both systems read alike.
"""

import functools
import re
import unicodedata
from itertools import groupby

# Typographic marks, and the ASCII ones that corpora and GloVe have instead. Some apostrophes are
# letters to Unicode, others accents that stand alone; the last ones are of Greek, Armenian, Hebrew.
PLAIN_MARKS = {
    **dict.fromkeys("‘’‚‛′‵`´ʹʻʼʽˈˊˋ❛❜\u0374\u0384\u1fbd\u1fbf\u1fef\u1ffd\u1ffe\u055a\u05f3", "'"),
    **dict.fromkeys("“”„‟«»″‶ʺ❝❞〝〞〟", '"'),
    **dict.fromkeys("\u2212\u2043\u02d7", "-"),  # minus, bullet; and all that Unicode calls dashes
}
# Compatibility forms of these kinds are other shapes of a character: ﬁ, full width, Arabic letters
# as they join. Superscripts, fractions and signs (², ½, ™, №) are characters of their own, as 10²
# is not 102; so are accents that stand alone, to Unicode a space with an accent.
SHAPE = re.compile(
    "<(circle|compat|final|font|initial|isolated|medial|narrow|noBreak|small|vertical|wide)> "
    "(?!0020 )"
)
# Of the wider kinds only these categories: Thai and Korean are spelled with <compat> letters (Lo).
SHAPED = {"compat": {"Ll", "Lm", "Lt", "Lu", "Mn", "Nl", "Pc", "Po", "Zs"}, "isolated": {"Lo"}}
# Format characters that one sees: signs around Arabic, Syriac and Kaithi numbers.
VISIBLE = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2") | set(
    "\U000110bd\U000110cd"
)
# Letters and marks that one does not see: fillers, variation selectors.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
MOST_MARKS = 30  # combining marks on a letter, as in Unicode's stream-safe format (UAX 15)
WORD_KINDS = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl"}


def plain(text: str) -> str:
    """`text` in one spelling: quotes, dashes and ellipses as in ASCII, letters composed (NFC).

    Invisible characters are removed without parting a word; half of a surrogate pair becomes
    U+FFFD. The time is in proportion to the text, however many marks are piled on a letter.
    """
    text = respelled(text)
    if text.isascii():
        return text
    # Once more when letters are taken apart, as a part may have another spelling: ẛ is ſ and a dot.
    text = respelled(unicodedata.normalize("NFD", thinned(text)))
    return unicodedata.normalize("NFC", thinned(text))


def respelled(text: str) -> str:
    """`text` with each character in its `spelling`."""
    return text.translate({ord(character): spelling(character) for character in set(text)})


@functools.cache
def spelling(character: str) -> str:
    """What is written for a character: itself, a plainer one or more, or nothing."""
    kind = unicodedata.category(character)
    if character in PLAIN_MARKS:
        return PLAIN_MARKS[character]
    if kind == "Pd":
        return "-"
    if kind == "Cs":
        return "\ufffd"
    format_sign = kind == "Cf" and character not in VISIBLE
    if format_sign or INVISIBLE.match(character) or (kind == "Cc" and not character.isspace()):
        return ""
    form = unicodedata.decomposition(character)
    shape = SHAPE.match(form)
    if not shape or kind not in SHAPED.get(shape[1], {kind}):
        return character
    parts = "".join(spelling(chr(int(code, 16))) for code in form[shape.end() :].split())
    return f" {parts} " if shape[1] == "circle" else parts  # else 1① would be 11


def thinned(text: str) -> str:
    """`text` with at most MOST_MARKS combining marks in a row.

    Normalisation puts them in order, in time that grows with the square of their number.
    """
    marks = "".join(sorted(filter(unicodedata.combining, set(text))))
    return re.sub(f"([{marks}]{{{MOST_MARKS}}})[{marks}]+", r"\1", text) if marks else text


@functools.cache
def word_characters() -> str:
    """Letters of any script, combining marks and digits, as a regular expression has them in []."""
    planes = range(0x40000)  # there are none beyond
    runs = groupby(planes, lambda code: unicodedata.category(chr(code)) in WORD_KINDS)
    ranges = [list(run) for is_word, run in runs if is_word]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in ranges)
