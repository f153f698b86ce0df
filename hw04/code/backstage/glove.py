"""The lines of GloVe's text files: how many numbers they have, and where a line's word ends."""

import re
from collections import Counter
from itertools import islice, takewhile
from typing import BinaryIO

import numpy as np

from backstage.errors import UserError

LOOKED_AT = 100  # lines from which the number of numbers is known
LARGEST = 5000  # numbers of a line
BOM = b"\xef\xbb\xbf"  # the mark with which some editors begin a UTF-8 file
# The numbers of words and of dimensions, as word2vec writes them, and glove -write-header 1.
HEADER = re.compile(rb"\s*[0-9]{1,9}\s+([0-9]{1,9})\s*")


def glove_beginning(file: BinaryIO) -> tuple[int, int, list[bytes]]:
    """EDim, the line number of the first word, and the lines that were read to know this.

    A header is none of these lines, and a byte order mark no part of them. Raises UserError if the
    file is empty, ValueError if it is not of this kind.
    """
    lines = list(islice(file, LOOKED_AT))
    if not lines:
        raise UserError(f"{file.name}: an empty file, not GloVe vectors; get it again")
    lines[0] = lines[0].removeprefix(BOM)
    EDim = glove_size(lines)
    header = HEADER.fullmatch(lines[0])
    if header and int(header[1]) == EDim:
        return EDim, 2, lines[1:]
    return EDim, 1, lines


def glove_size(lines: list[bytes]) -> int:
    """EDim: how many numbers most of these lines end with. Raises ValueError if that is not valid.

    No line tells it by itself, as a word may be, or end with, a number.
    """
    counted = lines[1:] if HEADER.fullmatch(lines[0]) else lines
    counts = Counter(map(count_numbers, counted))
    EDim = counts.most_common(1)[0][0] if counts else 0
    if not 0 < EDim <= LARGEST:
        raise ValueError("not 'word number ... number' as in GloVe files")
    return EDim


def count_numbers(line: bytes) -> int:
    """How many numbers a line ends with, behind its first field."""
    fields = line.rsplit(None, LARGEST + 1)[1:]
    return sum(1 for _ in takewhile(is_number, reversed(fields)))


def is_number(field: bytes) -> bool:
    """Whether a field is a number, be it finite or not."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def split_glove_line(line: bytes, EDim: int) -> tuple[bytes, bytes]:
    """The word of a line and the text of its numbers, which are its last EDim fields.

    Raises ValueError if there are fewer.
    """
    line = line.replace(b"\t", b" ").rstrip()
    if line.count(b" ") == EDim:  # as in nearly all lines, which are not split into their fields
        word, _, numbers = line.partition(b" ")
        return word, numbers
    word, *numbers = line.rsplit(None, EDim) or [b""]
    check_count(len(numbers), EDim)
    if b"\r" in word:
        raise ValueError("a carriage return in a word; convert the file's line ends")
    return word, b" ".join(numbers)


def glove_numbers(text: bytes, EDim: int) -> np.ndarray:
    """The vector (EDim,) of numbers as text. Raises ValueError if one is missing or not valid."""
    numbers = [float(field) for field in text.split()]
    check_count(len(numbers), EDim)
    with np.errstate(over="ignore"):
        vector = np.array(numbers).astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("a number that is not finite")
    return vector


def check_count(count: int, EDim: int) -> None:
    """Raise ValueError if a line has fewer numbers than others."""
    if count < EDim:
        raise ValueError(f"only {count} of the {EDim} numbers that other lines have")
