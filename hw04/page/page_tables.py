"""The tables of characters that text.js needs, from those of the program and of Python's Unicode.

They are data of the page, as the program's own rules are: only how they are used is written twice.
"""

import sys

if __name__ == "__main__":
    print("page_tables.py: error: no program; make_page.py uses it", file=sys.stderr)
    sys.exit(2)

import functools
import unicodedata

from backstage import characters, words


@functools.cache
def tables() -> dict:
    """What backstage/words.py and characters.py know of characters, for JSON."""
    assigned = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000)]
    whole = [chr(code) for code in assigned]  # no halves of pairs, and none for private use
    spelled = {letter: characters.spelling(letter) for letter in whole}
    return {
        "spellings": {letter: text for letter, text in spelled.items() if text != letter},
        "titles": {x: x.title() for x in whole if x.title() != x.upper()},
        "marks": "".join(filter(unicodedata.combining, whole)),
        "mostMarks": characters.MOST_MARKS,
        "wordCharacters": characters.word_characters(),
        "clitics": words.CLITICS.split("|"),
        "quotes": sorted(words.QUOTES),
        "gluedLeft": sorted(words.GLUED_LEFT),
        "gluedRight": sorted(words.GLUED_RIGHT),
        "ends": sorted(words.SENTENCE_ENDS),
        "goOn": sorted(words.GO_ON),
    }
