"""Plain text -> the transcripts that the model learns from.

Upper case, A to Z, space and apostrophe.

A file is a book, or a collection of stories; a book or story becomes pieces of one or more
sentences, 60 to 260 characters long, as transcripts of speech are. What cannot be written with 28
characters (a number, a word in Greek, a sign like &) is not silently cut out of its sentence: the
whole sentence is left out.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

SHORTEST, LONGEST = 60, 260  # characters of a piece
LONGEST_WORD = 60  # a longer run of letters is no word, and would leave no room to cut a piece

END_OF_STORY = "<|endoftext|>"
GUTENBERG_FRAME = re.compile(r"(?s)\A.*?\*\*\* ?START OF [^\n]*\n|\n\*\*\* ?END OF .*\Z")
# Marks and letters that Unicode's decomposition leaves as they are.
STRAIGHT = str.maketrans(
    {**dict.fromkeys("‘’ʼ‛′`", "'"), "Æ": "AE", "Œ": "OE", "Ø": "O", "Đ": "D", "Ł": "L"}
)
SPLIT_CLITIC = re.compile(r"(?<=[A-Z]) (?=(?:N'T|'(?:S|M|D|RE|VE|LL))(?![A-Z]))")  # DO N'T, LILY 'S
# Its full stop ends no sentence.
TITLE = re.compile(r"\b(MR|MRS|MS|DR|ST|MME|MLLE|MESSRS|[A-HJ-Z])\.")
SENTENCE_END = re.compile(r"[.!?]+|\n\s*\n")
CLAUSE_END = re.compile(r"[,;:()\"“”]|--|[–—]")
UNSAYABLE = re.compile(rf"[^\W_A-Z]|[&£$%+=@<>|/\\^{{}}~#]|(?:[A-Z]'?){{{LONGEST_WORD + 1},}}")
WORD = re.compile(r"[A-Z]+(?:'[A-Z]+)*")

# And how good a place for a cut comes after it: 2 end of sentence, 1 end of clause, 0 neither.
Word = tuple[str, int]


def read_bytes(path: str | Path) -> bytes:
    """All of a file or pipe, which is read once. UserError that names it if that fails."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give another path") from None


def decode(content: bytes, path: str | Path) -> str:
    """The text of a UTF-8 file. UserError that names the place if it is none."""
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        hint = "convert it, for example with iconv -f latin1 -t utf-8"
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; {hint}") from None


def read_units(path: str | Path) -> list[str]:
    """The books or stories of a file, as `units_of` finds them."""
    return units_of(read_bytes(path), path)


def units_of(content: bytes, path: str | Path) -> list[str]:
    """The books or stories in the content of a file, which a split keeps whole.

    With `<|endoftext|>` in it each part is a story; in a tokenised corpus (`.tokens` in its name)
    without that each line is; else the file is one book, and what Project Gutenberg has put around
    it is removed.
    """
    text, tokenised = decode(content, path), ".tokens" in Path(path).name
    if END_OF_STORY in text:
        units = text.split(END_OF_STORY)
    else:
        units = text.split("\n") if tokenised else [GUTENBERG_FRAME.sub("", text)]
    if tokenised:
        units = [SPLIT_CLITIC.sub("", unit.upper()) for unit in units]
    units = [unit for unit in units if unit.strip()]
    if not units:
        raise UserError(f"{path}: an empty text; give a file that has some")
    return units


def sentences(text: str) -> list[str]:
    """The sentences of a book or story in upper case, accents removed, apostrophes straight."""
    text = unicodedata.normalize("NFKD", text.upper()).translate(STRAIGHT)
    text = "".join(c for c in text if not unicodedata.combining(c)) if not text.isascii() else text
    found = SENTENCE_END.split(TITLE.sub(r"\1 ", text))
    return [sentence for sentence in found if not sentence.isspace() and sentence]


def words_of(sentence: str) -> list[Word]:
    """The words of a sentence.

    An apostrophe counts only between letters, as elsewhere it may be a quote.
    """
    words = []
    for clause in CLAUSE_END.split(sentence):
        in_clause = [(word, 0) for word in WORD.findall(clause)]
        words += [*in_clause[:-1], *((word, 1) for word, _ in in_clause[-1:])]
    return [*words[:-1], *((word, 2) for word, _ in words[-1:])]


def runs(text: str) -> Iterator[list[Word]]:
    """The words of a book or story.

    A new run begins after each sentence that has to be left out.
    """
    run: list[Word] = []
    for sentence in sentences(text):
        if UNSAYABLE.search(sentence):
            yield run
            run = []
        else:
            run += words_of(sentence)
    yield run


def cut(run: list[Word]) -> Iterator[str]:
    """Pieces of SHORTEST to LONGEST characters that make up a run.

    All of it, if it is not shorter than that.

    Each piece goes as far as it can to the end of a sentence, else of a clause, else of a word, and
    leaves none or at least SHORTEST characters to the next.
    """
    ends = [0]  # of each word, in a text where each has one space before it
    for word, _ in run:
        ends.append(ends[-1] + 1 + len(word))
    start = 0
    while (left := ends[-1] - ends[start] - 1) > LONGEST:
        first = bisect_left(ends, ends[start] + 1 + SHORTEST)
        beyond = bisect_right(ends, ends[start] + 1 + min(LONGEST, left - SHORTEST - 1))
        stop = max(range(first, beyond), key=lambda i: (run[i - 1][1], i))
        yield " ".join(word for word, _ in run[start:stop])
        start = stop
    if left >= SHORTEST:
        yield " ".join(word for word, _ in run[start:])


def pieces(text: str) -> Iterator[str]:
    """The transcripts of one book or story, in its order."""
    for run in runs(text):
        yield from cut(run)
