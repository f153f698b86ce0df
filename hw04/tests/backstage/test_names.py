"""backstage/names.py: names found in raw text, kept in a model, and written again."""

import json
import re
from pathlib import Path

import lstlm
import make_page
import make_sample
import pytest
from backstage.checkpoint import check_checkpoint
from backstage.names import Spellings, check_names, names_beside, names_file, write_names
from backstage.sealed import seal
from backstage.words import detokenize, tokenize_text
from hypothesis import given
from hypothesis import strategies as st
from small import SAMPLE, SMALL, content_of

# What the rules speak of, in odd company.
PARTS = ["Tom", "tom", "TV", "İx", "ẞ", "N'T", "'s", "O'", "x", "I"]
PARTS += "-.,!\"' \u200b\u0301\u00b2\u01c5"
TINY = ["-H", 1, "-N", 4, "-EDim", 3, "-E", 1]


def names_of(*texts: str) -> list[str]:
    """The names of raw texts."""
    spellings = Spellings()
    for text in texts:
        spellings.add(text)
    return spellings.names()


@pytest.mark.parametrize(("text", "names"), [
    ("Then Lily saw Tom. She saw a dog, Tom said.", ["Tom", "Lily"]),
    ("Suddenly it rained. \"Yes,\" he said. Well? \"No!\" Now (So) it is.", []),
    ("Her mom and Mom and a mom ran. So did my friend Mom.", []),  # as often without
    ("The TV is a TV, but no Tv. My iPad and Dr. Who", ["TV", "Dr", "iPad"]),
    ("I know I am, and I'M NOT", ["NOT"]),
    ("Der Hund und die Katze sahen Ärger, große Übel.", ["Hund", "Katze", "Ärger", "Übel"]),
    ("a T-shirt of Anne-Marie from O'Neill, the O'Neills' and Lily's", ["Anne-Marie", "Lily",
     "O'Neill", "O'Neills", "T-shirt"]),
    ("the 3D and the 2nd, and the DON'T", ["DO"]),
    ("", []),
])
def test_what_a_raw_text_says_of_its_names(text, names):
    assert names_of(text) == names


def test_most_count_and_texts_add_up():
    assert names_of("a Rose", "a rose", "a Rose, Rose") == ["Rose"]
    assert names_of("a Rose", "a rose") == []
    assert names_of("by Ann and Bob", "by Bob") == ["Bob", "Ann"]  # the frequent ones first


@pytest.mark.parametrize(("tokens", "text"), [
    ("then lily 's mom saw tom .", "Then Lily's mom saw Tom."),
    ("lily ! tom , lily", "Lily! Tom, Lily"),
    ('he said , " tom is here . " lily ran', 'He said, "Tom is here." Lily ran'),
    ("a tv . tv ? ipad and ipad", "A TV. TV? IPad and iPad"),
])
def test_names_are_written_with_their_capitals(tokens, text):
    names = {name.lower(): name for name in ("Lily", "Tom", "TV", "iPad")}
    assert detokenize(tokens.split(), names=names) == text
    assert tokenize_text(text) == tokens.split()


@given(st.lists(st.sampled_from(PARTS)).map("".join), st.lists(st.sampled_from(PARTS)))
def test_text_with_names_is_read_back_as_its_tokens(text, more):
    tokens = tokenize_text(text)
    spellings = Spellings()
    for one in (text, f"a {text}", " ".join(["so", *more])):
        spellings.add(one)
    names = {tokenize_text(name)[0]: name for name in spellings.names()}
    assert tokenize_text(detokenize(tokens, names=names)) == tokens
    check_names([*names.values()], ["", "", "", *names])


def test_names_beside_a_corpus_are_those_of_the_vocabulary(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.write_text("lily saw tom\n")
    words = ["<unk>", "<bos>", "<eos>", "lily", "saw", "i'm"]
    assert names_beside(corpus, words, False) == []
    names_file(corpus).write_text("Lily\nTom  LILY\nx-\nI'm\n")
    assert names_beside(corpus, words, False) == ["Lily"]
    assert names_beside(corpus, words, False, bpe="pieces") == ["Lily", "Tom"]
    assert names_beside(corpus, words, True) == []
    write_names(corpus, ["Saw"])
    assert names_beside(corpus, words, False) == ["Saw"]


# ---- In a model ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named(trained):
    """A small model that was trained beside a file of names, and is none with it."""
    folder = trained / "named"
    folder.mkdir()
    for part in ("train", "valid"):
        (folder / f"{part}.tokens").write_text((trained / f"{part}.tokens").read_text())
    names = (SAMPLE / "train.tokens.names").read_text() + "Zyxzy\n"
    (folder / "train.tokens.names").write_text(names)
    corpora = ["-train_corpus", folder / "train.tokens", "-valid_corpus", folder / "valid.tokens"]
    flags = ["-train", *SMALL, "-E", 1, *corpora, "-model", folder / "m.pt"]
    assert lstlm.main([*map(str, flags)]) == 0
    return folder / "m.pt"


def test_a_model_knows_the_names_of_its_corpus(named, call):
    names = content_of(named)["names"]
    assert "Tom" in names and "Zyxzy" not in names and len(names) > 50
    assert {name.lower() for name in names} < {*content_of(named)["words"]}
    text = "tom and the tired mia saw tom 's mother"
    shown = call("-prompt", "-greedy", "-max_tokens", 3, "-model", named, "-text", text).stdout
    assert "tokens: tom and the tired mia saw" in shown
    assert "\nTom and the tired Mia saw Tom's mother" in shown
    flags = ["-prompt", "-json", "-greedy", "-max_tokens", 3, "-model", named, "-text", text]
    record = json.loads(call(*flags).stdout)
    assert record["text"].startswith("Tom and the tired Mia saw Tom's mother")
    assert all(token == token.lower() for token in record["tokens"])


def test_from_python_and_in_the_page_names_are_the_same(named):
    model = lstlm.load(named)
    assert model.readable(["so", "tom", "saw", "mia"]) == "So Tom saw Mia"
    card = make_page.describe(model.loaded, named, None)
    data = make_page.payload(model.loaded, card)
    head = json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])
    assert head["names"] == {name.lower(): name for name in content_of(named)["names"]}


def test_an_older_model_without_names_loads(trained, tmp_path):
    content = content_of(trained / "m.pt")
    assert content.pop("names") == []
    (tmp_path / "m.pt").write_bytes(seal(content))
    model = lstlm.load(tmp_path / "m.pt")
    assert model.loaded.names == {}
    assert model.readable(["so", "oscar", "saw"]) == "So oscar saw"


@pytest.mark.parametrize("names", [
    "Tom", {"tom": "Tom"}, [1], [["Tom"]], ["Tom", "TOM"], ["Nobodyknows"], [""], ["a b"],
    ["Tom "], ["Tom\x1b[31m"], ["<unk>"], ["Tom", None], ["T\u200bom"], ["x" * 10**6],
    ["Tom"] * 100_001,
], ids=lambda names: repr(names)[:20])
def test_names_that_cannot_be_right_are_refused(named, names, tmp_path, call):
    content = content_of(named)
    with pytest.raises(ValueError, match="its names"):
        check_checkpoint({**content, "names": names}, lstlm.LSTMLM)
    (tmp_path / "bad.pt").write_bytes(seal({**content, "names": names}))
    done = call("-use", "-model", tmp_path / "bad.pt", "-text", "a")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "its names" in done.stderr


def test_a_text_of_ones_own_brings_its_names(call, write, tmp_path):
    text = "The cat of Ann ran.\n\nThen Ann and Bob ran.\n\nThe TV ran, Ann ran.\n\nRan.\n"
    train = ["-train", *TINY, "-text_file", write("my.txt", text), "-model", tmp_path / "m.pt"]
    assert call(*train).returncode == 0
    assert (tmp_path / "m.train.tokens.names").read_text() == "Ann\nBob\nTV\n"
    assert content_of(tmp_path / "m.pt")["names"] == ["Ann", "Bob", "TV"]
    assert call(*train, "-cased").returncode == 0
    assert content_of(tmp_path / "m.pt")["names"] == []


def test_the_names_of_the_sample_are_those_of_its_stories():
    names = (SAMPLE / "train.tokens.names").read_text().split()
    words = {*(SAMPLE / "train.tokens").read_text().split()}
    assert {name.lower() for name in names} <= words
    assert {"Lily", "Oscar", "Monday", "April", "Ruby", "French"} < {*names}
    assert not {"Rabbit", "The", "Rose", "Spring"} & {*names}
    assert make_sample.contents(make_sample.SEED)["train.tokens.names"].decode().split() == names


def test_the_shipped_model_writes_names(call):
    names = content_of(Path(lstlm.__file__).with_name("lm_model.pt"))["names"]
    assert 500 < len(names) < 700 and {"Lily", "Tom", "TV", "Mr"} < {*names}
    flags = ["-prompt", "-greedy", "-max_tokens", 90, "-text", "once upon a time"]
    text = " ".join(call(*flags).stdout.split())
    assert re.search(r"a little girl named Lily\. She .* Lily took the ball", text)
    assert "lily" not in text
