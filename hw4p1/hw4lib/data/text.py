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
from itertools import pairwise
from pathlib import Path

from ..errors import UserError
from .characters import plain
from .raw_text import BLANK_LINES, END_OF_STORY, decoded, mojibake_note, without_frames

SHORTEST, LONGEST = 60, 260  # characters of a piece
LONGEST_WORD = 60  # a longer run of letters is no word, and would leave no room to cut a piece

# Letters that Unicode's decomposition leaves as they are.
LETTERS = str.maketrans({"Æ": "AE", "Œ": "OE", "Ø": "O", "Đ": "D", "Ł": "L"})
SPLIT_CLITIC = re.compile(r"(?<=[A-Z]) (?=(?:N'T|'(?:S|M|D|RE|VE|LL))(?![A-Z]))")  # DO N'T, LILY 'S
# Its full stop ends no sentence.
TITLE = re.compile(r"(?i)\b(MR|MRS|MS|DR|ST|MME|MLLE|MESSRS|[A-HJ-Z])\.")
# Nor need that of an abbreviation before a number (No. 5, Jan. 1, vol. ii. 7), or any mark before a
# small letter ("At 5?" he said): HALT takes its place.
HALT = "\u2024"  # a dot that `plain` leaves in no text
ABBREVIATIONS = (
    "abt|apr|apt|approx|art|aug|bk|ca?|cap|cf|ch|chap|cir|cl|col|dec|ed|ex|ext|feb|figs?|fol|jan"
    "|jul|jun|lat|lib|lon|long|mar|ms|n|nos?|nov|nr|oct|par|pl|pp?|ps|pt|rm|sch|sect?|seq|sept?|ser"
    "|st|sts|tab|tel|tom|ver|vers|vols?|vv?|[ivxlc]+"
)
BEFORE_NUMBER = re.compile(
    rf"""(?i)(\b(?:{ABBREVIATIONS}) ?|\d)\.(?=[)\]]*[ \t]*\n?[ \t]*["'(\[$#-]*\d)"""
)
BEFORE_SMALL = re.compile(
    r"""(?<![.!?])[.!?]++(?=["')\]]*[ \t]*\n?[ \t]*["'(\[-]*[a-z])"""  # one try for a run
)
SENTENCE_END = re.compile(r"[.!?]+|\n\s*\n")
CLAUSE_END = re.compile(r"[,;:()\"]|--")
DASH = re.compile("[–—]")
UNSAYABLE = re.compile(
    rf"[^\W_A-Z]|[&£$%+=@<>|/\\^{{}}~#¢¥€№℃℉]|(?:[A-Z]'?){{{LONGEST_WORD + 1},}}"
)
BREAKS = (BLANK_LINES, re.compile(r"[.!?][\"')\]”’]*\s"), re.compile(r"\s"))
WORD = re.compile(r"[A-Z]+(?:'[A-Z]+)*")

# And how good a place for a cut comes after it: 2 end of sentence, 1 end of clause, 0 neither.
Word = tuple[str, int]


def read_bytes(path: str | Path) -> bytes:
    """All of a file or pipe, which is read once. UserError that names it if that fails."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give another path") from None


def read_units(path: str | Path) -> list[str]:
    """The books or stories of a file, as `units_of` finds them."""
    return units_of(read_bytes(path), path)


def units_of(content: bytes, path: str | Path) -> list[str]:
    """The books or stories in the content of a file, which a split keeps whole.

    With `<|endoftext|>` or `<eos>` in it each part is a story; in a tokenised corpus (`.tokens` in
    its name) without these each line is; else the file is a book, or several in Project
    Gutenberg's frames, which are removed.
    """
    try:
        text = decoded(content, path)
    except ValueError as error:
        raise UserError(str(error)) from None
    tokenised = ".tokens" in Path(path).name
    if note := mojibake_note(text, path):
        print(note)
    if END_OF_STORY.search(text):
        units = END_OF_STORY.split(text)
    else:
        units = text.split("\n") if tokenised else without_frames(text)
    if tokenised:
        units = [SPLIT_CLITIC.sub("", unit.upper()) for unit in units]
    units = [unit for unit in units if unit.strip()]
    if not units:
        raise UserError(f"{path}: an empty text; give a file that has some")
    return units


def stretches(book: str, count: int) -> list[str]:
    """A book in `count` stretches of about the same length.

    Each ends with a paragraph, if one ends soon enough, else with a sentence, else with a word.
    """
    ends = [0]
    for i in range(1, count):
        reach = slice(max(i * len(book) // count, ends[-1]), (i + 1) * len(book) // count)
        breaks = (pattern.search(book, reach.start, reach.stop) for pattern in BREAKS)
        found = next(filter(None, breaks), None)
        ends.append(found.end() if found else reach.start)
    return [book[begin:end] for begin, end in pairwise([*ends, len(book)])]


def without_accents(text: str) -> str:
    """`text` with plain characters, and of letters with marks the letters."""
    text = plain(text)
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def transcribed(text: str) -> str:
    """What is typed, such as a prompt, in the letters and spaces of a transcript."""
    return " ".join(without_accents(text).upper().translate(LETTERS).split())


def sentences(text: str) -> list[str]:
    """The sentences of a book or story in upper case, accents removed, apostrophes straight.

    Where it is not sure that one ends, HALT stands, and it goes on.
    """
    text = TITLE.sub(r"\1 ", without_accents(DASH.sub("--", text)))
    small = BEFORE_SMALL.sub(HALT, text)
    if 2 * small.count(HALT) < len(SENTENCE_END.findall(text)):  # else it has no capitals at all
        text = small
    text = BEFORE_NUMBER.sub(rf"\1{HALT}", text).upper().translate(LETTERS)
    found = SENTENCE_END.split(text)
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
            for part in sentence.split(HALT):
                run += words_of(part)
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
