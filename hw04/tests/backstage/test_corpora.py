"""backstage/corpora.py: where stories end, and what a broken corpus is answered with."""

import pytest
from backstage.corpora import cut_stream, encode, read_stories
from lstlm import UserError

WIKI = """ \n = First = \n \n some text . \n \n = = Part = = \n \n more text
 = Goals ; A = \n still the table \n
 = Second Title = \n \n other text \n"""
FIRST = "= first = some text . = = part = = more text = goals ; a = still the table"
SECOND = "= second title = other text"


@pytest.mark.parametrize(
    ("text", "how", "stories"),
    [
        ("a B\n\n c d \n", "auto", [["a", "b"], ["c", "d"]]),
        ("a b\r\nc d\r\n", "auto", [["a", "b"], ["c", "d"]]),
        ("a\nb <eos> c <eos>\n", "auto", [["a", "b"], ["c"]]),
        ("a\nb\n<|endoftext|>\nc\n<|endoftext|>\n", "auto", [["a", "b"], ["c"]]),
        ("<bos> a <eos> <bos> b <eos>", "auto", [["a"], ["b"]]),
        ("a <eos> b\nc", "line", [["a", "<eos>", "b"], ["c"]]),
        ("a.<eos> b\nc", "auto", [["a.<eos>", "b"], ["c"]]),  # no token of its own
        # A blank line has an <eos>, too.
        (" \nA B\n\nc\n", "stream", [["<eos>", "a", "b", "<eos>", "<eos>", "c"]]),
        ("\ufeffa b", "auto", [["a", "b"]]),
        (WIKI, "line", None),
        (WIKI, "auto", [FIRST.split(), SECOND.split()]),
        (WIKI[2:], "auto", [FIRST.split(), SECOND.split()]),  # a heading on the very first line
    ],
)
def test_where_stories_end(write, text, how, stories):
    found = read_stories(write("corpus", text), how)
    assert found == stories if stories else len(found) == 8


def test_cased_keeps_case(write):
    assert read_stories(write("corpus", "A b"), cased=True) == [["A", "b"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"<eos> <eos>", "no token"),
        (b"fine line\na \0 b", ":2: a binary file"),
        (b"fine line\nfine\nna\xefve", ":3: not UTF-8 at byte 17"),
    ],
)
def test_a_bad_corpus_is_named_with_its_line(write, content, words):
    path = write("corpus", content)
    with pytest.raises(UserError, match=words) as caught:
        read_stories(path)
    assert str(path) in str(caught.value)


def test_a_missing_corpus_and_a_folder(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_stories(path)


@pytest.mark.parametrize("how", ["eos", "article"])
def test_story_marks_that_the_file_lacks(write, how):
    with pytest.raises(UserError, match=f"-stories {how} needs"):
        read_stories(write("corpus", "a b\nc d"), how)


def test_ids_of_stories_and_stretches_of_a_stream():
    ids = encode([["a", "b"], ["b", "zyx"]], {"<unk>": 0, "<bos>": 1, "<eos>": 2, "a": 3, "b": 4})
    assert ids == [[1, 3, 4, 2], [1, 4, 0, 2]]
    assert cut_stream([1, 5, 6, 7, 8, 2], 2) == [[1, 5, 6], [6, 7, 8], [8, 2]]
