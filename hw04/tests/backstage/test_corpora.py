"""backstage/corpora.py: where stories end, and what a broken corpus is answered with."""

import json

import pytest
from backstage.corpora import cut_stream, encode, read_stories, stories_of_training
from backstage.raw_text import mojibake_note
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
        # Marks that touch a word end a story, too.
        ("a b .<|endoftext|>c d .<|endoftext|>\n", "auto", [["a", "b", "."], ["c", "d", "."]]),
        ("a.<eos> b\nc<EOS>d", "auto", [["a."], ["b", "c"], ["d"]]),
        ("<bos>a <eos><bos>b<eos>", "auto", [["a"], ["b"]]),
        # A line that ends with a mark gets no second one.
        ("a b <eos>\nc d <eos>\n", "stream", [["a", "b", "<eos>", "c", "d"]]),
        ("a b<|endoftext|> \nc d\n", "stream", [["a", "b", "<eos>", "c", "d"]]),
        ("a b <eos>\nc <eos> d<|endoftext|>\n", "line", [["a", "b"], ["c", "<eos>", "d"]]),
        # A blank line has an <eos>, too.
        (" \nA B\n\nc\n", "stream", [["<eos>", "a", "b", "<eos>", "<eos>", "c"]]),
        ("a <eos>\n<eos>\nc\n\n", "stream", [["a", "<eos>", "<eos>", "c", "<eos>"]]),
        ("\ufeffa b", "auto", [["a", "b"]]),
        ("a\n\ufeffb \ufeff c", "line", [["a"], ["b", "\ufeff", "c"]]),  # two files joined
        ("a b\rc d\r", "auto", [["a", "b"], ["c", "d"]]),
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
        (b"one\r\ntwo\rthree\r\n\0", ":4: a binary file"),
        ("a \u00e9".encode("utf-16")[:-1], ":1: not UTF-16 at byte 6"),
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


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_the_byte_order_mark_says_what_the_text_is(write, codec):
    assert read_stories(write("corpus", "é b\nc".encode(codec))) == [["é", "b"], ["c"]]


@pytest.mark.parametrize("how", ["eos", "article"])
def test_story_marks_that_the_file_lacks(write, how):
    with pytest.raises(UserError, match=f"-stories {how} needs"):
        read_stories(write("corpus", "a b\nc d"), how)


@pytest.mark.parametrize(
    ("train", "valid", "kind"),
    [
        ("a\nb", "c <eos>\nd <eos>", "line"),
        ("a\nb <eos> c", "d\ne", "eos"),
        (WIKI, "a\nb", "article"),
        ("a\nb", WIKI, "line"),
    ],
)
def test_auto_decides_for_a_training_and_its_validation_together(write, capsys, train, valid, kind):
    paths = write("train", train), write("valid", valid)
    assert stories_of_training(*paths, "auto") == f"auto-{kind}"
    assert capsys.readouterr().out.startswith(f"note: stories by {kind} in {paths[0]}, by ")
    assert stories_of_training(paths[0], paths[0], "auto") == f"auto-{kind}"
    assert stories_of_training(*paths, "line") == "line"
    assert capsys.readouterr().out == ""


def test_both_corpora_are_read_as_the_first_is(call, write):
    train = write("train", "a b\na <eos> b a")  # two stories by eos, two lines
    valid = write("valid", "a b\nb a\n")  # two lines, one story by eos
    flags = ["-train_corpus", train, "-valid_corpus", valid, "-model", train.with_name("m.pt")]
    done = call("-train", *flags, "-H", 1, "-N", 4, "-EDim", 3, "-E", 1)
    assert done.returncode == 0 and "2 stories, 7 target tokens; valid 5;" in done.stdout
    done = call("-evaluate", "-json", *flags)  # measures what was validated on
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["n_tokens"] for record in records] == [5, 7]


@pytest.mark.parametrize(
    "text",
    [
        WIKI.replace(" \n", "\n").replace("\n = ", "\n= "),  # its spaces are lost
        "= First =\nsome text\n= = Part = =\nmore\n= Second Title =\nother\n",  # and its lines
        " = First = \n some text\n = Second Title = \n other\n",
    ],
)
def test_wikitext_that_lost_its_spaces_or_blank_lines_is_noted(write, capsys, text):
    path = write("wiki", text)
    assert stories_of_training(path, path, "auto") == "auto-line"
    note = capsys.readouterr().out.splitlines()[0]
    line = 1 + text[: text.index("= F")].count("\n")
    assert note.startswith(f"note: {path}:{line}: like a heading of WikiText, but without")
    stories_of_training(path, path, "line")  # asked for
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "word",
    ["schÃ¶n", "donâ€™t", "Â©", "Å‚adny", "Superâ„¢", "ÐŸÑ€Ð¸Ð²", "æ—¥æœ¬", "ðŸ˜€", "Ã\u0089cole"],
)
def test_utf8_that_was_encoded_twice_is_noted_with_its_line(write, capsys, word):
    path = write("corpus", f"a fine line é\n\nan odd {word} here\n")
    assert stories_of_training(path, path, "auto") == "auto-line"
    note = capsys.readouterr().out.splitlines()[0]
    assert note.startswith(f"note: {path}:3: {word!r} looks like UTF-8 that was taken for Latin-1")


def test_letters_that_only_look_like_it_are_not_noted():
    fine = "«CAFÉ» Spaß” fatigué… «MAÇÃ» À\u00a0bientôt ÅÄÖ naïve „Öß“ Ñandú Ðað"
    assert mojibake_note(fine, "f") == ""


def test_ids_of_stories_and_stretches_of_a_stream():
    ids = encode([["a", "b"], ["b", "zyx"]], {"<unk>": 0, "<bos>": 1, "<eos>": 2, "a": 3, "b": 4})
    assert ids == [[1, 3, 4, 2], [1, 4, 0, 2]]
    assert cut_stream([1, 5, 6, 7, 8, 2], 2) == [[1, 5, 6], [6, 7, 8], [8, 2]]
