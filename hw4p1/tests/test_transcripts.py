"""Plain text -> transcripts -> .npy files and back, and what bad input is answered with."""

import hashlib
import json
import os
import re
from pathlib import Path

import hypothesis.strategies as st
import lstlm
import make_data
import numpy as np
import pytest
from hw4lib.data import npy_files
from hw4lib.data.npy_files import load_transcript, made_of, make_dataset, split_units
from hw4lib.data.text import LONGEST, SHORTEST, pieces, read_units, runs, stretches
from hw4lib.errors import UserError
from hypothesis import given

TRANSCRIPT = re.compile(r"[A-Z]+('[A-Z]+)*( [A-Z]+('[A-Z]+)*)*")
# 82 characters.
LONG = "THERE WAS ONCE A TEXT OF WHICH NO SENTENCE WAS LONG BUT ALL OF THEM TOGETHER WERE "


def words(text: str) -> str:
    """The words of a text without a number or the like, as one line."""
    return " ".join(word for run in runs(text) for word, _ in run)


@pytest.fixture
def write(tmp_path):
    """A function that writes a file of that name and returns its path."""

    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


# ---- Text -> pieces
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's Tom, isn't it?", "IT'S TOM ISN'T IT"),
        ("It’s ‘Tom’ — isn’t it?", "IT'S TOM ISN'T IT"),
        ("'Tis the boys' _own_ merry-go-round--see!", "TIS THE BOYS OWN MERRY GO ROUND SEE"),
        (
            "Æsop, naïve façade, Brontë, œuvre, straße, ﬁn",
            "AESOP NAIVE FACADE BRONTE OEUVRE STRASSE FIN",
        ),
        ("Mr. Fox met M. Renard at St. Ives.", "MR FOX MET M RENARD AT ST IVES"),
        ("e\u0301te\u0301", "ETE"),  # accents as characters of their own
        ("", ""),
        ("... -- ' !", ""),
        ("won\u00adder\u200bful na\u200cme\ufeff", "WONDERFUL NAME"),
        ("don´t donʼt don′t don＇t donˈt", " ".join(["DON'T"] * 5)),
        ("Superman™ ©Ｆｕｌｌ", "SUPERMAN FULL"),
        ("Der schöne Jäger küßte Zoë", "DER SCHONE JAGER KUSSTE ZOE"),
        (f"a{chr(0x316) * 100_000}{chr(0x300) * 100_000}b", "AB"),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    "odd",
    [
        "in 1812", "42nd", "is λόγος", "A&B", "for £5", "a" * 61, "x=y", "{x}", "русский", "x²",
        "½ of it", "№ six", "a few €", "①", "10²", "at No. 5 in a street", "on Jan. 1 last",
        "at 3.50 sharp", "5 dols. and more", '"At 5?" he said', '"At 5," he said. "oh," she',
        "in vol. ii. p. 7 of", "at no. \n7", "at No. (5)", "6--7",
    ],
)
def test_a_sentence_that_letters_cannot_write_is_left_out(odd):
    assert [
        [word for word, _ in run] for run in runs(f"One. Two {odd} three. Four.")
    ] == [["ONE"], ["FOUR"]]


def test_what_ends_a_sentence_beside_a_number():
    """A small letter after a mark goes on with it, but not in a text without capitals."""
    assert words("One. At 5! Two. Six: 6? Three.") == "ONE TWO THREE"
    assert words("i was 5! he said so. yes.") == "HE SAID SO YES"
    assert words("I DO N'T KNOW NO . 5 . YES .") == "YES"


def test_letters_without_a_place_to_cut_are_left_out():
    assert [*pieces("HA'" * 100 + "HA. " + "A GOOD SENTENCE OF SOME WORDS. " * 3)] == [
        " ".join(["A GOOD SENTENCE OF SOME WORDS"] * 3)]
    assert [*pieces("ROCK'N'ROLL IS " * 6)] == [" ".join(["ROCK'N'ROLL IS"] * 6)]


def test_the_places_to_cut():
    (run,) = runs("Yes, he said: go. And\n\nthen (so) Mr. Fox left")
    expected = "YES1 HE0 SAID1 GO2 AND2 THEN1 SO1 MR0 FOX0 LEFT2"
    assert " ".join(f"{word}{rank}" for word, rank in run) == expected


def test_a_piece_ends_with_a_sentence_else_a_clause_else_a_word():
    first, second = pieces(f"{LONG}{LONG}end. {LONG}, {LONG}")
    assert (first, second) == (f"{LONG}{LONG}END", f"{LONG}{LONG}".strip())
    first, second = pieces(f"{LONG}{LONG}clause, {LONG}{LONG}")
    assert (first, second) == (f"{LONG}{LONG}CLAUSE", f"{LONG}{LONG}".strip())
    first, second = pieces(LONG * 4)
    assert LONGEST - 5 < len(first) <= LONGEST and f"{first} {second}" == (LONG * 4).strip()


def test_a_remainder_is_never_too_short():
    text = f"{LONG * 3}WOW. {'B' * 30}."  # 249 + 31 characters: the sentence's end would leave 30
    first, second = pieces(text)
    assert len(second) >= SHORTEST and f"{first} {second}" == words(text)


@pytest.mark.parametrize(
    ("length", "count"), [(SHORTEST - 1, 0), (SHORTEST, 1), (LONGEST, 1), (LONGEST + 1, 2)]
)
def test_how_long_a_piece_may_be(length, count):
    text = ("ABCD " * 60)[: length - 1].rstrip()
    text += "E" * (length - len(text))
    assert len(text) == length and len(list(pieces(text))) == count


@given(st.text(alphabet="aAéZ' \n.,;!?-\"0", max_size=2000))
def test_pieces_of_any_text(text):
    found = list(pieces(text))
    assert all(SHORTEST <= len(piece) <= LONGEST and TRANSCRIPT.fullmatch(piece) for piece in found)
    lines = (" ".join(word for word, _ in run) for run in runs(text))
    assert " ".join(found) == " ".join(line for line in lines if len(line) >= SHORTEST)


# ---- Files -> books and stories
# -------------------------------------------------------------------------------------


def test_a_book_and_what_gutenberg_puts_around_it(write):
    body = "\nIT\nwas so.\n"
    assert read_units(write("b.txt", body)) == [body]
    start = "Licence 1\n*** START OF THE PROJECT GUTENBERG EBOOK B ***"
    framed = f"{start}\n{body}\n*** END OF THE PROJECT ***\nLicence"
    assert read_units(write("b.txt", framed)) == [body]


GUTENBERG = """The Project Gutenberg EBook of Cats

*** START OF THIS PROJECT GUTENBERG EBOOK THE LONG AND WINDING TALE OF
CATS AND DOGS ***

Produced by Some Person and
the Online Team

[Transcriber's Note: italics are _so_.]

THE CAT

It sat.


End of the Project Gutenberg EBook of Cats, by A. Person

*** END OF THIS PROJECT GUTENBERG EBOOK CATS ***
licence
"""


def test_all_of_the_frame_goes(write):
    assert read_units(write("b.txt", GUTENBERG)) == ["THE CAT\n\nIt sat.\n\n"]
    two = read_units(write("b.txt", GUTENBERG + GUTENBERG.replace("It sat", "It ran")))
    assert [unit.split()[-1] for unit in two] == ["sat.", "ran."]
    old = "Header\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\nIt sat.\n"
    assert read_units(write("b.txt", old + "End of Project Gutenberg's Cats")) == ["It sat."]
    cats = "THE PROJECT GUTENBERG EBOOK CATS***\n"
    glued = f"Header\n***START OF {cats}It sat.\n***END OF {cats}licence"
    assert read_units(write("b.txt", glued)) == ["It sat."]
    endless = f"*** START OF THE PROJECT GUTENBERG EBOOK\n{'It sat. ' * 9}\n" + "It ran.\n" * 9
    assert read_units(write("b.txt", endless))[0].startswith("It sat.")
    book = "*** END OF PART ONE ***\nProduced by magic, it sat.\n"  # no frame
    assert read_units(write("b.txt", book)) == [book]


def test_stories_and_tokenised_stories(write):
    stories = write("s.txt", "One.\r\n<|endoftext|>\n\nTwo.\n<|endoftext|>\n")
    assert read_units(stories) == ["One.\n", "\n\nTwo.\n"]
    tokenised = write("s.tokens.4M", "i do n't .\n\nlily 's cat\n")
    assert read_units(tokenised) == ["I DON'T .", "LILY'S CAT"]
    glued = write("s.tokens", "a b .<|endoftext|>c d .<|endoftext|>\n")
    assert read_units(glued) == ["A B .", "C D ."]
    lines = write("s.tokens", "a b <eos>\nc d <eos>\n")
    assert read_units(lines) == ["A B ", "\nC D "]
    both = write("b.tokens", "i do n't .\n<|endoftext|>\nlily 's cat\n")
    assert read_units(both) == ["I DON'T .\n", "\nLILY'S CAT\n"]


def test_tokens_give_the_transcripts_of_the_text_that_they_were_made_of():
    """The corpus of hw04 has tokens.

    Put together by hw04's own inverse, it must come out the same.
    """
    for story in read_units(npy_files.SAMPLE / "valid.tokens"):
        assert words(story) == words(lstlm.detokenize(lstlm.tokenize_text(story)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", " an empty"), (b" \n<|endoftext|>\n", " an empty"),
        (b"fine\r\nna\xefve", "2: not UTF-8 at byte 8"), (b"a\rb\0", "2: a binary file"),
    ],
)
def test_a_bad_text_is_named(write, content, message):
    path = write("bad.txt", content)
    with pytest.raises(UserError, match=f"{path}:{message}"):
        read_units(path)


def test_line_ends_and_byte_order_marks(write):
    for content in (b"\xef\xbb\xbfA.\r\n\r\nB\xc3\xa9\r", "A.\n\nBé\n".encode("utf-16")):
        assert read_units(write("a.txt", content)) == ["A.\n\nBé\n"]


def test_utf8_that_was_encoded_twice_is_noted_with_its_line(write, capsys):
    path = write("a.txt", "fine é\nschÃ¶n\n")
    read_units(path)
    assert capsys.readouterr().out.startswith(f"note: {path}:2: 'schÃ¶n' looks like UTF-8")


def test_a_missing_text_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        read_units(tmp_path / "none.txt")


# ---- Data sets
# --------------------------------------------------------------------------------------------------


def book(*marks: str) -> str:
    """A text of one piece for each mark, with sentences between them that are left out."""
    return "\n".join(f"{LONG}mark{mark}. 0." for mark in marks)


def read_all(folder: Path) -> list[str]:
    return [load_transcript(path) for path in sorted(folder.iterdir())]


def test_make_data_writes_each_partition_in_the_order_of_its_text(write, tmp_path, capsys):
    write("train/b.txt", book("C", "D"))
    write("train/a.txt", book("A", "B"))
    val, test = write("v.txt", book("V")), write("t.txt", book("T"))
    out = tmp_path / "new" / "out"
    arguments = [
        str(out), "--train", str(tmp_path / "train"), "--val", str(val), "--test", str(test),
    ]
    assert make_data.main(arguments) == 0
    assert read_all(out / "train") == [f"{LONG}MARK{mark}" for mark in "ABCD"]
    assert (read_all(out / "val"), read_all(out / "test")) == ([f"{LONG}MARKV"], [f"{LONG}MARKT"])
    assert sorted(path.name for path in out.iterdir()) == ["source.json", "test", "train", "val"]
    assert f"{out / 'train'}: 4 pieces, 348 characters" in capsys.readouterr().out
    array = np.load(out / "val" / "v-000000-000000.npy", allow_pickle=False)
    assert array.shape == () and array.dtype == "<U87"
    record = json.loads((out / "source.json").read_text())
    assert record["sources"]["val"] == [
        {
            "file": "v.txt", "sha256": hashlib.sha256(val.read_bytes()).hexdigest(),
            "books_or_stories": 1,
        }
    ]
    assert record["partitions"]["train"] == {"pieces": 4, "characters": 348}


def test_one_text_is_split_by_story(write, tmp_path):
    stories = [book(chr(65 + i // 26) + chr(65 + i % 26)) for i in range(40)]
    path = write("s.txt", "\n<|endoftext|>\n".join(stories))
    make_dataset(tmp_path / "out", [path], [], [])
    parts = {
        part: {text.split()[-1] for text in read_all(tmp_path / "out" / part)}
        for part in npy_files.PARTITIONS
    }
    assert parts["val"] == {"MARKAJ", "MARKBD"} and parts["test"] == {"MARKAT", "MARKBN"}
    assert len(parts["train"]) == 36 and not parts["train"] & (parts["val"] | parts["test"])


def test_what_train_has_is_neither_validated_nor_tested_on(write, tmp_path):
    train, val, test = (write(f"{name}.txt", book(*name)) for name in ("ABC", "BV", "TCC"))
    make_dataset(tmp_path / "out", [train], [val], [test])
    assert [path.name for path in (tmp_path / "out" / "val").iterdir()] == ["BV-000000-000001.npy"]
    assert read_all(tmp_path / "out" / "test") == [f"{LONG}MARKT"]


def test_one_book_is_enough(write, tmp_path, capsys):
    text = "".join(f"{LONG}{chr(65 + i // 26)}{chr(65 + i % 26)}.\n\n" for i in range(200))
    assert make_data.main([str(tmp_path / "out"), "--train", str(write("b.txt", text))]) == 0
    assert "note: 1 books or stories, fewer than 20: cut into stretches" in capsys.readouterr().out
    parts = {part: read_all(tmp_path / "out" / part) for part in npy_files.PARTITIONS}
    together = [line for texts in parts.values() for line in texts]
    assert sorted(" ".join(together).split()) == sorted(words(text).split())
    sizes = [len(" ".join(parts[part])) for part in npy_files.PARTITIONS]
    assert [round(20 * size / sum(sizes)) for size in sizes] == [18, 1, 1]
    assert parts["val"][0].startswith(f"{LONG}DN") and parts["test"][-1].endswith("HR")


@pytest.mark.parametrize("count", [1, 3, 20, 40])
def test_stretches_of_a_book_end_with_a_paragraph_else_a_sentence_else_a_word(count):
    for book, end in (
        ("A b c.\n\n" * 100, "\n"), ("A b c! " * 100, "! "), ("abc " * 100, " "), ("a" * 99, "a"),
        ("ab", None),
    ):
        found = stretches(book, count)
        assert len(found) == count and "".join(found) == book
        assert end is None or all(stretch.endswith(end) for stretch in found)
        assert max(map(len, found)) - min(map(len, found)) < 20


def test_few_books_are_cut_each(capsys):
    units = [("a", "x y. " * 300), ("b", "z. " * 10)]
    parts = split_units(units)
    names = [name for part in parts.values() for name, _ in part]
    assert sorted(names) == [*(f"a-{i:02d}" for i in range(20)), "b-00"]
    assert [name for name, _ in parts["val"]] == ["a-09"]
    assert [name for name, _ in parts["test"]] == ["a-19"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "a.txt", "--val", "a.txt"], "give both --val and --test"),
        (["--train", "a.txt"], "train: no piece of text is left"),
        (["--train", "none.txt"], "none.txt: cannot be read"),
        (["--train", "."], "a: two texts of this name"),
        (["--train", "a.txt", "a.txt"], "a: two texts of this name"),
        (
            ["--train", "a.txt", "--val", "a.txt", "--test", "b.txt"],
            "val: no piece of text is left",
        ),
        (
            ["--train", "a.txt", "--val", "b.txt", "--test", "short.txt"],
            "test: no piece of text is left",
        ),
        (["--train", "empty_folder"], "empty_folder: a folder without any"),
    ],
)
def test_what_make_data_cannot_use_leaves_nothing(
    write, tmp_path, monkeypatch, capsys, arguments, message
):
    write("a.txt", book("A"))
    write("b.txt", book("B"))
    write("a.tokens", "a b c\n")
    write("short.txt", "Too short.")
    (tmp_path / "empty_folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert make_data.main(["out", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("make_data.py: error: ") and error.count("\n") == 1
    assert re.search(message, error)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_there_is_never_replaced(write, tmp_path, capsys):
    mine = write("new.tmp/thesis.txt", "x")
    texts = {part: LONG.replace("ONCE", part) * 9 for part in npy_files.PARTITIONS}
    make_dataset(tmp_path / "new", *([write(f"{part}.txt", texts[part])] for part in texts))
    assert mine.read_text() == "x" and not [*tmp_path.glob(".new*")]
    path = write("out/train/precious.npy", "x")
    assert make_data.main([str(tmp_path / "out"), "--sample"]) == 2
    assert "is there already" in capsys.readouterr().err and path.read_text() == "x"


def test_the_embedded_sample(sample):
    texts = {part: read_all(sample / part) for part in npy_files.PARTITIONS}
    assert len(texts["train"]) > 10 * len(texts["val"]) > 1000
    letters = {letter for part in texts.values() for text in part for letter in text}
    assert letters <= set(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert not set(texts["train"]) & set(texts["test"])
    assert not set(texts["train"]) & set(texts["val"])


# ---- One file
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array", [np.array("IT'S"), np.array(list("IT'S")), np.array("IT'S", dtype=">U9")], ids=repr
)
def test_a_transcript_has_either_layout(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    assert load_transcript(tmp_path / "a.npy") == "IT'S"


@pytest.mark.parametrize(("elements", "text"), [
    (["THE", "OLD", "CAT"], "THE OLD CAT"), (["I", "SAW", "A", "CAT"], "I SAW A CAT"),
    (["THE OLD CAT"], "THE OLD CAT"), (["A"], "A"), (["IT'S", "LATE"], "IT'S LATE"),
    (["THE", "", "CAT"], "THE CAT"), (["THE OLD", "CAT"], "THE OLD CAT"),
    (["A", " ", "C", "A", "T"], "A CAT"), ([], ""),
])  # fmt: skip
def test_words_have_a_space_between_them_and_characters_have_none(tmp_path, elements, text):
    np.save(tmp_path / "a.npy", np.array(elements, dtype=str))
    assert load_transcript(tmp_path / "a.npy") == text


class Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Trap(tmp_path / "sprung")], dtype=object))
    with pytest.raises(UserError, match=r"a\.npy: not a \.npy file of text .*make_data"):
        load_transcript(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "array", [np.array(3), np.zeros(4), np.array([["A"]]), np.array(b"bytes")], ids=repr
)
def test_an_array_of_something_else_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy: an array of .* is no transcript"):
        load_transcript(tmp_path / "a.npy")


def test_a_damaged_file_is_named(tmp_path):
    """Cut at every length, with any byte of the header replaced: a text or one clear error."""
    path = tmp_path / "a.npy"
    np.save(path, np.array("A TEXT"))
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    cut_off = [whole[:n] for n in range(len(whole))]
    changed = [
        whole[:i] + random.bytes(1) + whole[i + 1 :] for i in range(len(whole)) for _ in range(3)
    ]
    texts = 0
    for content in [*cut_off, *changed, b"PK\x03\x04 an archive", b"plain text"]:
        path.write_bytes(content)
        try:
            texts += isinstance(load_transcript(path), str)
        except UserError as error:
            assert str(path) in str(error)
    assert texts < len(changed)


def array(header: str, body: bytes = b"") -> bytes:
    """A file of any header."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + body


def of(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize(("content", "message"), [
    (array(of("'<U0'", "(300000000,)")), "of text"), (array(of("'<U0'", "()")), "of text"),
    (array(of("'<U3'", "()"), b"A\0\0\0" * 4), "of another size"),
    (array(of("'<U3'", "(2,)"), b"A\0\0\0" * 3), "of another size"),
    (array(of("'<U1'", "(-1,)"), b"A\0\0\0"), "of another size"),
    (array(of("'<U1'", "()"), b"\xff" * 4), "of text"),
    (array(of("[('a', '<U1')]", "()"), b"A\0\0\0"), "is no transcript"),
    (array("(" * 110), "of text"), (array("1 + 1"), "of text"),
    (array(of("'<U1'", "()"), b"A\0\0\0").replace(b"Y\1", b"Y\2"), "not of the format 1.0"),
    (b"A" * 5_000_000, "more than 4,000,200 bytes"),
])  # fmt: skip
def test_an_array_is_as_large_as_it_says(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.npy: .*{message}"):
        load_transcript(tmp_path / "a.npy")


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="a pipe has no name here")
def test_a_text_may_come_from_a_pipe_which_is_read_once(write, tmp_path):
    text, sources = book("A", "B"), []
    for part in ("train", "val", "test"):
        end, start = os.pipe()
        os.write(start, text.replace("mark", part).encode())
        os.close(start)
        sources.append([Path(f"/dev/fd/{end}")])
    record = make_dataset(tmp_path / "out", *sources)
    assert read_all(tmp_path / "out" / "val") == [f"{LONG}VALA", f"{LONG}VALB"]
    digest = hashlib.sha256(text.replace("mark", "val").encode()).hexdigest()
    assert record["sources"]["val"][0]["sha256"] == digest


@pytest.mark.parametrize(("sources", "expected"), [
    ({"train": [{"file": "a"}], "val": [{"file": "b"}, {"file": "c"}]}, ["b", "c"]),
    ({"train": [{"file": "a"}]}, ["a"]), ({}, []),
])  # fmt: skip
def test_what_a_partition_was_made_of(tmp_path, sources, expected):
    record = tmp_path / "source.json"
    assert made_of(record, "val") == []
    record.write_text(json.dumps({"sources": sources}))
    assert made_of(record, "val") == expected


@pytest.mark.parametrize("name", ["none.npy", "."])
def test_a_file_that_cannot_be_opened_is_named(tmp_path, name):
    with pytest.raises(UserError, match="cannot be read"):
        load_transcript(tmp_path / name)
