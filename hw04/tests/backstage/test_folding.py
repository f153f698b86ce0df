"""backstage/folding.py: lines on a terminal are broken between words only."""

import io

import pytest
from backstage.folding import Folded, columns_of, on_terminal
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def written(monkeypatch):
    """A function that gives what comes of writing texts one after the other."""

    def write(columns: int, *texts: str) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        paper = io.StringIO()
        stream = Folded(paper)
        assert [stream.write(text) for text in texts] == [*map(len, texts)]
        return paper.getvalue()

    return write


@pytest.mark.parametrize(("texts", "expected"), [
    (["Once", " upon", " a", " time", ",", " there"], "Once\nupon a\ntime,\nthere"),
    (["one two three four\n", "five\n"], "one two\nthree four\nfive\n"),
    (["  a bb ccc dddd\nx"], "  a bb ccc\n  dddd\nx"),  # as far in as its line
    (["averylongwordindeed is\n"], "averylongwordindeed\nis\n"),
    (["a   b\n\n  c \n"], "a   b\n\n  c \n"),  # what fits is left alone
    (["   a 123456789\n"], "   a\n123456789\n"),  # rather than break it
    (["12345 7890", "\n"], "12345\n7890\n"),  # a mark might have followed
    (["a\r123456789 12 45\rb", " c d e f g\n"], "a\r123456789 12 45\rb c d e f\ng\n"),
    (["words> ", "abc def\n"], "words> abc\ndef\n"),
    (["日本 日本 日本\n"], "日本 日本\n日本\n"),
    (["\x1b[31mred\x1b[0m \x1b[1mbold\x1b[0m two\n"],
     "\x1b[31mred\x1b[0m \x1b[1mbold\x1b[0m\ntwo\n"),
])
def test_lines_of_ten_columns(written, texts, expected):
    assert written(10, *texts) == expected


WORD = st.text(st.sampled_from("abc.,é"), min_size=1, max_size=7)
SPACE = st.sampled_from([" ", "  ", "\n", "\n  "])


@given(st.lists(st.tuples(WORD, SPACE).map("".join)), st.integers(12, 30))
def test_no_word_is_lost_or_broken(texts, columns):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        paper = io.StringIO()
        stream = Folded(paper)
        for text in texts:
            stream.write(text)
    assert paper.getvalue().split() == "".join(texts).split()
    assert all(columns_of(line.rstrip()) <= columns for line in paper.getvalue().split("\n"))


def test_what_is_no_terminal_is_left_alone():
    paper = io.StringIO()
    assert on_terminal(paper) is paper
