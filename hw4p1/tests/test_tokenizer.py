"""The four tokenizers that are committed, the class over them, and the script that trains them."""

import itertools
import json
import os
import re
from pathlib import Path

import hw4lib.data
import hypothesis.strategies as st
import pytest
import train_tokenizers
from hw4lib.data import npy_files
from hw4lib.data.text import pieces
from hw4lib.data.tokenizer import SPECIAL_TOKENS, H4Tokenizer
from hw4lib.errors import UserError
from hypothesis import given
from tokenizers import Tokenizer

SIZES = {"char": 35, "1k": 1000, "5k": 5000, "10k": 10000}
TYPES = list(SIZES)
TEXT = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ'\n ", max_size=200)


def load(path: str | Path) -> dict:
    """The content of a tokenizer's file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_the_class_is_exported():
    assert hw4lib.data.H4Tokenizer is H4Tokenizer and H4Tokenizer.VALID_TYPES == TYPES


@pytest.mark.parametrize("token_type", TYPES)
def test_sizes_and_special_ids(tokenizers, token_type):
    tokenizer = tokenizers[token_type]
    assert tokenizer.token_type == token_type and tokenizer.vocab_size == SIZES[token_type]
    ids = [
        getattr(tokenizer, f"{name}_id") for name in ("pad", "unk", "mask", "sos", "eos", "blank")
    ]
    assert ids == [0, 1, 2, 3, 4, 5]
    assert sorted(tokenizer.tokenizer.get_vocab().values()) == list(range(SIZES[token_type]))


@pytest.mark.parametrize("token_type", TYPES)
def test_the_files_are_laid_out_as_the_courses(token_map, token_type):
    content = load(token_map[token_type])
    assert content["version"] == "1.0"
    assert [
        content[key] for key in ("truncation", "padding", "normalizer", "post_processor", "decoder")
    ] == [None] * 5
    flags = {
        "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": True,
    }
    assert content["added_tokens"] == [
        {"id": i, "content": token, **flags} for i, token in enumerate(SPECIAL_TOKENS)
    ]
    alphabet = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)[6:35]
    if token_type == "char":
        assert content["model"]["type"] == "WordLevel"
        assert alphabet == list(" ETAONIHSRDLUMCWFGYPBVK\n'XJQZ")
    else:
        assert content["model"]["type"] == "BPE"
        assert len(content["model"]["merges"]) == SIZES[token_type] - 35
        assert alphabet == list("'ABCDEFGHIJKLMNOPQRSTUVWXYZĊĠ")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("HI THERE", "13 12 6 8 13 7 15 7"),
        ("[SOS]HI DEEP LEARNERS[EOS]", "3 13 12 6 16 7 7 25 6 17 7 9 15 11 7 15 14 4"),
        ("", ""),
    ],
)
def test_characters_by_hand(tokenizers, text, ids):
    assert tokenizers["char"].encode(text) == [int(i) for i in ids.split()]


@pytest.mark.parametrize("token_type", TYPES)
@given(text=TEXT)
def test_any_text_comes_back(tokenizers, token_type, text):
    tokenizer = tokenizers[token_type]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(tokenizer.tokenize(text)) == len(ids)
    assert all(isinstance(i, int) and 6 <= i < tokenizer.vocab_size for i in ids)


@pytest.mark.parametrize("token_type", TYPES)
def test_special_tokens_in_a_text(tokenizers, token_type):
    tokenizer = tokenizers[token_type]
    ids = tokenizer.encode("[SOS]AN OWL[EOS][PAD]")
    assert ids[0] == 3 and ids[-2:] == [4, 0] and ids[1:-2] == tokenizer.encode("AN OWL")
    assert tokenizer.tokenize("A[EOS]") == ["A", "[EOS]"]
    assert tokenizer.decode(ids) == "[SOS]AN OWL[EOS][PAD]"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "AN OWL"


def plain_bpe(word: str, rank: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding as a loop (Sennrich et al. 2016).

    Of all neighbours in a word, those that were merged first in training are joined.
    """
    symbols = list(word)
    while known := [
        (rank[pair], i) for i, pair in enumerate(itertools.pairwise(symbols)) if pair in rank
    ]:
        _, i = min(known)
        symbols[i : i + 2] = ["".join(symbols[i : i + 2])]
    return symbols


@pytest.mark.parametrize("token_type", TYPES[1:])
def test_merges_are_applied_in_their_order(tokenizers, token_map, token_type):
    merges = load(token_map[token_type])["model"]["merges"]
    rank = {tuple(merge): i for i, merge in enumerate(merges)}
    for word in [
        "ĠTHE", "THE", "ĠRHINOCEROS", "ĠXYLOPHONE", "QUEUE", "ĠUNDERSTANDINGLY", "ĠZZZ",
        "ĠMISSISSIPPI",
    ]:
        assert tokenizers[token_type].tokenize(word.replace("Ġ", " ")) == plain_bpe(word, rank)


def test_characters_per_token(tokenizers):
    tokenizer = tokenizers["char"]
    assert tokenizer.get_avg_chars_per_token(tokenizer.encode("[SOS]OWL[EOS]")) == 1
    tokenizer = tokenizers["1k"]
    ids = tokenizer.encode("[SOS]SHE WAS THE RHINOCEROS[EOS]")
    average = len("SHE WAS THE RHINOCEROS") / (len(ids) - 2)
    assert tokenizer.get_avg_chars_per_token(ids) == average > 2
    with_special = len("[SOS]SHE WAS THE RHINOCEROS[EOS]") / len(ids)
    assert tokenizer.get_avg_chars_per_token(ids, skip_special_tokens=False) == with_special
    assert tokenizer.get_avg_chars_per_token([]) == 0
    assert tokenizer.get_avg_chars_per_token([0, 3, 4]) == 0


@pytest.mark.parametrize("token_type", TYPES)
@pytest.mark.parametrize(
    ("text", "place", "character"),
    [("Hi", 1, "i"), ("[EOS]CAFÉ", 8, "É"), ("A.", 1, "."), ("[A", 0, "[")]
)
def test_a_character_without_a_token_is_named(tokenizers, token_type, text, place, character):
    for method in (tokenizers[token_type].encode, tokenizers[token_type].tokenize):
        with pytest.raises(
            ValueError,
            match=f"character {place} of the text, {re.escape(repr(character))}, .*upper",
        ):
            method(text)


@pytest.mark.parametrize("token_type", TYPES)
def test_validation_prints_and_its_absence_does_not(token_map, token_type, capsys):
    H4Tokenizer(token_map, token_type, validate=False)
    assert not capsys.readouterr().out
    H4Tokenizer(token_map, token_type)
    report = capsys.readouterr().out
    assert token_type in report and f"{SIZES[token_type]:,}" in report and "[BLANK] 5" in report
    assert report.count("[SOS]SHE'LL READ THE QUIET BOOK TWICE[EOS]") == 2


def test_characters_are_the_default(token_map):
    assert H4Tokenizer(token_map).token_type == "char"


# ---- Bad input
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token_type", ["word", "1K", "", None])
def test_an_unknown_type(token_map, token_type):
    with pytest.raises(ValueError, match="choose one of char, 1k, 5k, 10k"):
        H4Tokenizer(token_map, token_type)


def test_a_type_without_a_file(token_map):
    with pytest.raises(UserError, match="names no file for token_type '5k'"):
        H4Tokenizer({"char": token_map["char"]}, "5k")


@pytest.mark.parametrize("content", [None, b"", b"{}", b"not JSON", b"\xff\xfe"])
def test_a_missing_or_broken_file(tmp_path, content):
    path = tmp_path / "t.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"t\.json: no (such file|tokenizer).*train_tokenizers"):
        H4Tokenizer({"char": str(path)}, "char")


def test_a_tokenizer_without_a_special_token(token_map, tmp_path):
    text = Path(token_map["1k"]).read_text(encoding="utf-8")
    (tmp_path / "t.json").write_text(text.replace("[MASK]", "[OTHER]"), encoding="utf-8")
    with pytest.raises(UserError, match=r"t\.json: it has no \[MASK\] token"):
        H4Tokenizer({"1k": str(tmp_path / "t.json")}, "1k")


@pytest.mark.parametrize("token_type", TYPES)
def test_a_tokenizer_is_that_which_the_library_reads_of_the_whole_file(
    tokenizers, token_map, token_type
):
    """Though only its vocabulary and merges are taken."""
    made = json.loads(tokenizers[token_type].tokenizer.to_str())
    read = json.loads(Tokenizer.from_file(token_map[token_type]).to_str())
    parts = ("added_tokens", "model", "normalizer", "pre_tokenizer", "padding", "truncation")
    assert {part: made[part] for part in parts} == {part: read[part] for part in parts}


STORED = Path(__file__).with_name("stored") / "tokenizer_0.15.2.json"


def test_a_file_of_another_version_of_the_library(tmp_path):
    """`tokenizers` 0.15.2 wrote merges as texts, and no `ignore_merges`."""
    old = H4Tokenizer({"1k": str(STORED)}, "1k", validate=False)
    assert old.vocab_size == 90
    assert old.tokenize("THE CAT SAT") == ["T", "HE", "ĠC", "AT", "ĠS", "AT"]
    assert old.decode(old.encode("THE CAT[EOS]")) == "THE CAT[EOS]"
    content = load(STORED)
    assert content["model"]["merges"][0] == "Ġ T" and "ignore_merges" not in content["model"]
    pairs = [merge.split() for merge in content["model"]["merges"]]
    content["model"] |= {"new_flag": False, "merges": pairs}
    content |= {"new_part": None, "post_processor": {"type": "New"}, "decoder": None}
    (tmp_path / "new.json").write_text(json.dumps(content))
    new = H4Tokenizer({"1k": str(tmp_path / "new.json")}, "1k", validate=False)
    assert new.encode("THE CAT SAT") == old.encode("THE CAT SAT")


def in_model(**changes) -> dict:
    return {"model": {**load(STORED)["model"], **changes}}


@pytest.mark.parametrize(("changes", "message"), [
    (in_model(dropout=0.5), "it has dropout"),
    (in_model(ignore_merges=True), "it has ignore_merges"),
    (in_model(byte_fallback=True), "it has byte_fallback"),
    (in_model(end_of_word_suffix="x"), "it has end_of_word_suffix"),
    (in_model(type="WordPiece"), "it is of another type"),
    (in_model(merges=["Q Q"]), "a merge of what are no tokens"),
    (in_model(merges=["Q Q Q"]), "too many values"),
    (in_model(vocab={"A": 6, "B": 8}), "its ids are not 0, 1, 2"),
    (in_model(vocab={"A": 6.0}), "its ids are not 0, 1, 2"),
    (in_model(vocab={"A" * 501: 6}), "a token of 500 letters"),
    (in_model(vocab={"A": 2**32}), "its ids are not 0, 1, 2"),
    ({"normalizer": {"type": "Uppercase"}}, "it has a normalizer"),
    ({"padding": {"strategy": {"Fixed": 10**9}}}, "it has a padding"),
    ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "splits texts in another"),
    ({"pre_tokenizer": None}, "no tokenizer of this type"),
    ({"added_tokens": [{"id": 0, "content": "[PAD]", "lstrip": True}]}, "take in what is around"),
])  # fmt: skip
def test_a_file_that_says_more_is_refused(tmp_path, changes, message):
    (tmp_path / "t.json").write_text(json.dumps({**load(STORED), **changes}))
    with pytest.raises(UserError, match=rf"t\.json: .*{message}.*; make it again"):
        H4Tokenizer({"1k": str(tmp_path / "t.json")}, "1k")


# ---- Training
# --------------------------------------------------------------------------------------------------

NAMES = ["tokenizer_char.json", "tokenizer_50.json", "tokenizer_90.json", "trained_on.json"]


def test_training_is_reproducible_and_recorded(tmp_path, monkeypatch, token_map):
    monkeypatch.setattr(train_tokenizers, "BPE_SIZES", (50, 90))
    source = npy_files.SAMPLE / "valid.tokens"
    for folder in ("a", "b"):
        assert train_tokenizers.main(["--train", str(source), "-o", str(tmp_path / folder)]) == 0
    assert sorted(os.listdir(tmp_path / "a")) == sorted(NAMES)
    for name in NAMES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert load(tmp_path / "a" / NAMES[0]) == load(token_map["char"])
    record = json.loads((tmp_path / "a" / "trained_on.json").read_text())
    assert record["files"][0]["file"] == "valid.tokens"
    assert record["command"].endswith("--train valid.tokens")
    tokenizer = H4Tokenizer({"1k": str(tmp_path / "a" / NAMES[2])}, "1k", validate=False)
    text = next(
        pieces(
            "Once upon a time, there was a quick brown fox that jumped over any lazy dog it met."
        )
    )
    assert tokenizer.vocab_size == 90 and tokenizer.decode(tokenizer.encode(text)) == text


def test_the_first_merge_is_the_most_frequent_pair(tmp_path, monkeypatch):
    tokenizer = train_tokenizers.bpe_tokenizer(["ABAB ABC", "CAB"], 36)
    assert json.loads(tokenizer.to_str())["model"]["merges"] == [["A", "B"]]


def test_too_little_text_to_train_on(tmp_path, capsys):
    (tmp_path / "t.txt").write_text("A small text. " * 10)
    command = ["--train", str(tmp_path / "t.txt"), "-o", str(tmp_path / "out")]
    assert train_tokenizers.main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("train_tokenizers.py: error: ") and "give more of it" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_committed_files_are_those_of_the_recorded_text(token_map, real_data):
    """With the real texts at hand: the digest, and the same 1,000 tokens again.

    A few pieces are others than those that the tokenizers were made of, as the record says.
    """
    units, _ = npy_files.read_sources(
        [real_data("gutenberg/train"), real_data("tiny/raw") / "tinystories.train.txt"]
    )
    texts = [piece for _, text in units for piece in pieces(text)]
    record = json.loads((train_tokenizers.FOLDER / "trained_on.json").read_text())
    now = record["pieces of the same files since then"]
    assert train_tokenizers.digest(texts) in now.values() and now["pieces"] == len(texts)
    again = json.loads(train_tokenizers.bpe_tokenizer(texts, 1000).to_str())
    assert again["model"]["vocab"].keys() == load(token_map["1k"])["model"]["vocab"].keys()
