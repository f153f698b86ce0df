"""backstage/glove.py and lstlm.read_glove: files of word vectors as they are published."""

import random

import pytest
import torch
from backstage.glove import LARGEST
from lstlm import UserError, read_glove

LINES = "the 1 2\ncat 3 4\nsat 7 8\n"
WORDS = ["the", "cat", ".", "sat", "no"]
PLAIN = [[1, 2], [3, 4], [0, 0], [7, 8], [0, 0]]  # the rows of WORDS
ODD = {
    "spaces in a word": "the 1 2\ncat 3 4\n. . . 5 6\nsat 7 8\n",
    "spaces in the first word": ". . . 5 6\nthe 1 2\ncat 3 4\nsat 7 8\n",
    "a word that ends with a number": "no 5 1 2\nthe 1 2\ncat 3 4\nsat 7 8\n",
    "a word that ends with nan": f"{LINES}no nan 5 6\n",
    "words that are numbers": "5 9 9\n1e5 9 9\nnan 9 9\nthe 1 2\ncat 3 4\nsat 7 8\n",
    "a byte order mark": f"\ufeff{LINES}",
    "a header": f"3 2\n{LINES}",
    "a header behind a byte order mark": f"\ufeff 3  2 \r\n{LINES}",
    "no header, but a number with another": f"3 5 1\n{LINES}",
    "DOS line ends": LINES.replace("\n", "\r\n"),
    "spaces at the end": LINES.replace("\n", "  \n"),
    "spaces and DOS line ends": LINES.replace("\n", " \r\n"),
    "no last line end": LINES.rstrip(),
    "tabs": LINES.replace(" ", "\t"),
    "a tab behind the word": LINES.replace("e ", "e\t").replace("t ", "t\t"),
    "a tab behind a word with spaces": f"the cat\t9 9\n{LINES}",
    "several spaces": LINES.replace(" ", "   "),
    "a word twice": f"{LINES}the 9 9\nthe cat 9 9\ncat 9 9\n",
    "an empty word": f" 9 9\n{LINES}",
    "NaN where it is not asked for": f"{LINES}dog nan nan\n",
    "other letters": f"{LINES}naïve 9 9\nчай 9 9\n\x85 9 9\n\u2028 9 9\n",
    "no UTF-8": LINES.encode() + b"\xff\xfe 9 9\n",
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_a_file_as_published_or_edited(write, content):
    assert read_glove(write("glove", content), WORDS).tolist() == PLAIN


def test_one_line_tells_the_number_of_its_numbers(write):
    assert read_glove(write("glove", ". . . 5 6\n"), ["."]).tolist() == [[0, 0]]
    assert read_glove(write("glove", "no 5 6\n"), ["no"]).tolist() == [[5, 6]]


def test_sizes_as_published_among_words_with_spaces(write):
    """840B has them from size 300 on; each word keeps its own numbers, bit for bit."""
    dice = random.Random(0)
    for size in (25, 300):
        words = [f"w{i}" for i in range(150)]
        for place, odd in ((0, ". . ."), (70, "at name@domain.com"), (120, "no 5")):
            words.insert(place, odd)
        rows = [[round(dice.gauss(0, 0.4), 5) for _ in range(size)] for _ in words]
        pairs = zip(words, rows, strict=True)
        lines = [f"{word} {' '.join(map(str, row))}\n" for word, row in pairs]
        path = write("glove", "".join(lines))
        plain = [word for word in words if " " not in word]
        expected = torch.tensor(rows)[[words.index(word) for word in plain]]
        assert torch.equal(read_glove(path, plain), expected)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("the 1 2\ncat 3\nsat 7 8\n", ":2: only 1 of the 2 numbers"),  # not the first line's fault
        ("the 1\ncat 3 4\nsat 7 8\n", ":1: only 1 of the 2 numbers"),
        (f"3 50\n{LINES}", ":1: only 1 of the 2 numbers"),  # a header of another file
        ("3 2\n", ":1: not 'word number"),
        (f"{LINES}no  1\n", ":4: only 1 of the 2 numbers"),
        ("the 1 2\ncat 3 x\nsat 7 8\n", ":2: could not convert"),
        ("the 1 2\ncat 3 inf\nsat 7 8\n", ":2: a number that is not finite"),
        (LINES.replace("\n", "\r"), ":1: a carriage return"),
        (LINES.encode("utf-16"), ":1: not 'word number"),
        ("the" + " 1" * (LARGEST + 1), ":1: not 'word number"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(write, content, says):
    path = write("glove", content)
    with pytest.raises(UserError, match=says) as caught:
        read_glove(path, WORDS)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400
