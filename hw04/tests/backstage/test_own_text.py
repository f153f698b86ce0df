"""backstage/own_text.py: -text_file, from a raw text to a model, and what is not trained on."""

import pytest
from backstage.own_text import FEW_STORIES, SHORT, STRETCH, stretches

TINY = ["-H", 1, "-N", 4, "-EDim", 3, "-E", 1]
START = "*** START OF THIS PROJECT GUTENBERG EBOOK THE LONG AND WINDING TALE OF\nCATS AND DOGS ***"
FRAMED = f"""The Project Gutenberg EBook of Cats

{START}

Produced by Some Person and the
Online Team

[Transcriber's Note: none]

The cat sat on the mat and looked.

The dog came by.


End of the Project Gutenberg EBook of Cats, by A. Person

*** END OF THIS PROJECT GUTENBERG EBOOK CATS ***
licence
"""


@pytest.fixture
def learn(call, write, tmp_path):
    """A function that trains on a text and gives its output and the lines of both token files."""

    def run(text: str | bytes, *flags):
        path = write("my.txt", text)
        done = call("-train", "-text_file", path, "-model", tmp_path / "m.pt", *TINY, *flags)
        assert done.returncode == 0, done.stderr
        files = [tmp_path / f"m.{part}.tokens" for part in ("train", "valid")]
        return done.stdout, *(path.read_text("utf-8").splitlines() for path in files)

    return run


@pytest.mark.parametrize(
    ("text", "kind", "train", "valid"),
    [
        (
            b"\xef\xbb\xbfFirst story here.\r\n\r\nSecond one.\r\n \r\nThird\r\nhere.\r\n",
            "3 paragraphs, the last", ["first story here .", "second one ."], ["third here ."],
        ),
        ("One line.\rAnother!\rMore", "3 lines, the last", ["one line .", "another !"], ["more"]),
        (
            "A story.\n\nIts end.<|endoftext|>Two.<|endoftext|>\n", "2 stories, the last",
            ["a story . its end ."], ["two ."],
        ),
        (
            "Der schöne Jäger küßte Zoë.\n\nМосква — столица.\n\nC’est l´été\n",
            "3 paragraphs, the last",
            ["der schöne jäger küßte zoë .", "москва - столица ."], ["c'est l'été"],
        ),
        (
            'One "two. Three." Four five.', "2 stretches of sentences, the last",
            ['one " two . three . "'], ["four five ."],
        ),
        (
            FRAMED, "2 paragraphs, the last", ["the cat sat on the mat and looked ."],
            ["the dog came by ."],
        ),
    ],
)
def test_what_the_stories_of_a_text_are(learn, text, kind, train, valid):
    printed, train_lines, valid_lines = learn(text)
    assert f"my.txt: {kind} to validate on:\n" in printed
    assert (train_lines, valid_lines) == (train, valid)
    assert ("left out what Project Gutenberg" in printed) == (text == FRAMED)


def test_each_tenth_story_is_to_validate_on(learn, tmp_path):
    text = "\n\n".join(f"Story {n}." for n in range(1, 31))
    printed, train, valid = learn(text)
    assert valid == [f"story {n} ." for n in (10, 20, 30)]
    assert train == [f"story {n} ." for n in range(1, 31) if n % 10]
    assert (
        f"{tmp_path / 'my.txt'}: 30 paragraphs, each tenth to validate on:\n"
        f"  to train on 27 (81 tokens in {tmp_path / 'm.train.tokens'}), "
        f"to validate on 3 (9 tokens in {tmp_path / 'm.valid.tokens'})\n"
    ) in printed
    assert "27 stories, 108 target tokens; valid 12;" in printed


def test_a_book_in_one_line_is_cut_where_sentences_end():
    story = ("a few words . " * 5000).split()
    found = stretches([story])
    assert [token for stretch in found for token in stretch] == story
    assert {len(stretch) for stretch in found} == {STRETCH}
    endless = ["word"] * 10_000  # no sentence ends
    found = stretches([endless])
    assert sum(map(len, found)) == 10_000 and max(map(len, found)) == 2 * STRETCH + SHORT
    assert len(stretches([story[: FEW_STORIES * 100]])) == FEW_STORIES
    assert stretches([["a", "."], ["b"]]) == [["a", "."], ["b"]]  # short stories stay as they are


def test_what_stories_are_can_be_said(learn):
    text = "A b.\n\nC d.\ne f\n"
    assert learn(text, "-stories", "line")[1:] == (["a b .", "c d ."], ["e f"])
    printed, train, valid = learn(text, "-stories", "stream")
    assert (train, valid) == (["a b ."], ["c d . e f"])
    assert "1 stretches, 4 target tokens; valid 6;" in printed


def test_cased(learn):
    assert learn("One TWO.\n\nThree.", "-cased")[1:] == (["One TWO ."], ["Three ."])


def test_a_language_without_spaces_is_noted(learn):
    text = "日本語は難しい。\n\nでも、面白い。\n"
    printed, train, _ = learn(text)
    assert train == ["日本語は難しい 。"]
    assert "my.txt: where no spaces part words" in printed and "-tokenizer bpe" in printed


def test_mojibake_is_noted_once(learn):
    printed = learn("fine\n\nschÃ¶n\n")[0]
    assert printed.count("my.txt:3: 'schÃ¶n' looks like UTF-8") == 1


def test_evaluate_finds_what_was_trained_on(learn, call, tmp_path):
    learn("One two.\n\nThree.\n")
    done = call("-evaluate", "-model", tmp_path / "m.pt")
    assert done.returncode == 0 and "not comparable" not in done.stdout
    rows = [line.split()[-1] for line in done.stdout.splitlines()[-2:]]
    assert rows == [str(tmp_path / "m.valid.tokens"), str(tmp_path / "m.train.tokens")]


def test_a_resumed_run_has_the_text_that_it_began_with(learn, call, write, tmp_path):
    """The text may have changed since; without -resume it is an error, and nothing is replaced."""
    learn("One two.\n\nThree.\n")
    (tmp_path / "m.state.pt").write_bytes(b"not a state")
    path = write("my.txt", "Other words.\n\nAltogether.\n")
    flags = ["-train", "-text_file", path, "-model", tmp_path / "m.pt", *TINY]
    done = call(*flags)
    assert done.returncode == 2 and "an unfinished run" in done.stderr
    done = call(*flags, "-resume")
    assert done.returncode == 2 and "m.state.pt" in done.stderr  # it came so far
    assert f"{path}: not read again, its tokens are in" in done.stdout
    assert (tmp_path / "m.train.tokens").read_text() == "one two .\n"


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("one two three", [], "my.txt: too few words to train and to validate on"),
        ("", [], "my.txt: an empty corpus"),
        (b"na\xefve", [], "my.txt:1: not UTF-8 at byte 2"),
        ("a b", ["-stories", "eos"], "my.txt: it has no <eos>"),
        ("a b", ["-train_corpus", "x"], "-text_file with -train_corpus or -valid_corpus"),
        ("a b", ["-model", "my.txt"], "two flags name it"),
        ("a b", ["-trace", "m.valid.tokens"], "two flags name it"),
    ],
)
def test_what_cannot_be_trained_on(call, write, tmp_path, monkeypatch, text, flags, message):
    monkeypatch.chdir(tmp_path)
    write("my.txt", text)
    done = call("-train", "-model", "m.pt", *TINY, "-text_file", "my.txt", *flags)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not [*tmp_path.glob("*.tokens")] and (tmp_path / "my.txt").exists()


def test_a_text_is_to_train_on_alone(call):
    done = call("-evaluate", "-text_file", "my.txt")
    assert done.returncode == 2 and "-text_file is for -train" in done.stderr


@pytest.mark.parametrize("mode", ["-use", "-prompt"])
def test_a_line_end_or_mark_never_reaches_a_prompt(call, trained, mode):
    flags = [mode, "-greedy", "-max_tokens", 2, "-seed", 1, "-model", trained / "m.pt"]
    plain = call(*flags, "-json", "-text", "once upon")
    assert plain.returncode == 0
    for text in ("once upon\r", "\ufeffonce upon\r\n"):
        assert call(*flags, "-json", "-text", text).stdout == plain.stdout
    done = call(*flags, "-json", text="\ufeffonce upon\r\n")
    assert done.stdout == plain.stdout
    done = call(*flags, text="\ufeff:show\ronce\x00 upon\r\n")  # lone CR ends a line, too
    assert "tokens: once upon\n" in done.stdout and ":greedy True" in done.stdout
    assert "\r" not in done.stdout and "\\r" not in done.stdout


def test_bytes_that_are_no_text_are_an_error(call, trained):
    model = ["-use", "-model", trained / "m.pt"]
    done = call(*model, "-text", "once \udcff")
    assert (done.returncode, done.stderr) == (
        2, "lstlm.py: error: -text is not UTF-8; convert it\n"
    )
    done = call(*model, text=b"once \xff\n")
    assert done.returncode == 2 and "standard input is not UTF-8; convert it" in done.stderr
