"""backstage/bpe.py: what is split comes back, and the four modes of a model of word bpe."""

import json
import math
import sys
import time
from collections import Counter
from pathlib import Path

import lstlm
import pytest
from backstage.bpe import WordPieces
from backstage.corpora import EOS, read_stories
from backstage.sealed import seal
from hypothesis import given
from hypothesis import strategies as st
from lstlm import UserError, build_vocab_and_embeddings, tokenize_corpus
from small import SAMPLE, content_of

pytest.importorskip("tokenizers")

OLD_VERSION = Path(__file__).parents[1] / "old" / "pieces_tokenizers_0.15.2.json"


@pytest.fixture(scope="module")
def bpe(bpe_corpus):
    """An encoding of 400 word pieces learned from a small corpus."""
    return WordPieces.learned(read_stories(bpe_corpus), 400)


def reference_merge(words: Counter, start: str = WordPieces.START) -> str:
    """The pair of symbols that is the most frequent, which the first merge takes."""
    pairs = Counter()
    for word, count in words.items():
        symbols = [start, *word]
        for pair in zip(symbols, symbols[1:], strict=False):
            pairs[pair] += count
    return "".join(pairs.most_common(1)[0][0])


def test_the_first_merge_is_the_most_frequent_pair(bpe_corpus):
    stories = read_stories(bpe_corpus)
    words = Counter(token for story in stories for token in story)
    more, fewer = ({*WordPieces.learned(stories, size).vocabulary()} for size in (257, 256))
    assert more - fewer == {reference_merge(words)}


def test_word_pieces_come_back_as_the_tokens_that_were_split(bpe_corpus, bpe):
    for path in (bpe_corpus, SAMPLE / "test.tokens"):
        stories = read_stories(path)
        cut = bpe.split(stories)
        assert [list(bpe.join(story)) for story in cut] == stories
    assert sum(map(len, cut)) > sum(map(len, stories))
    assert len(bpe.tokenizer.get_vocab()) == 400


@given(st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1), max_size=5))
def test_any_token_can_be_split(story):
    encoding = WordPieces.learned([["a", "ab"]], 256)
    assert list(encoding.join(encoding.split([story])[0])) == story


def test_a_token_is_told_as_soon_as_the_next_begins(bpe):
    cut = iter(bpe.split([["zyx", "the", "end"]])[0])
    joined = bpe.join(cut)
    assert next(joined) == "zyx"
    assert len(list(cut)) <= 3  # it has taken no more than the first piece of `the`


def test_learning_is_deterministic_and_has_every_piece_in_the_vocabulary(bpe_corpus, bpe):
    assert WordPieces.learned(read_stories(bpe_corpus), 400).text == bpe.text
    token2idx, embeddings, _ = build_vocab_and_embeddings(None, bpe_corpus, 400, edim=5, bpe=bpe)
    assert {*token2idx} == {"<unk>", "<bos>", "<eos>", *bpe.tokenizer.get_vocab()}
    assert len(embeddings) == 403
    ids = tokenize_corpus(bpe_corpus, token2idx, bpe=bpe)
    assert not any(0 in story for story in ids)
    counts = Counter(i for story in ids for i in story[1:-1])
    frequencies = [counts[i] for i in range(3, 403)]
    assert frequencies == sorted(frequencies, reverse=True)


def test_the_ends_of_a_streams_lines_are_no_text(bpe_corpus, bpe):
    stream = read_stories(bpe_corpus, "stream")
    parts = [bpe.split([line.split()])[0] for line in bpe_corpus.read_text().splitlines()]
    whole = [piece for part in parts for piece in [*part, "<eos>"]]
    assert bpe.split(stream) == [whole[:-1]]  # encode adds the last
    assert WordPieces.learned(stream, 400).text == bpe.text
    token2idx, _, _ = build_vocab_and_embeddings(
        None, bpe_corpus, 400, edim=5, bpe=bpe, how="stream"
    )
    (ids,) = tokenize_corpus(bpe_corpus, token2idx, how="stream", bpe=bpe)
    assert ids.count(EOS) == len(parts)


def test_no_library(bpe_corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match="pip install tokenizers"):
        WordPieces.learned(read_stories(bpe_corpus), 300)


def old_version() -> dict:
    """What version 0.15.2 of the library stored: pieces of `the cat`, `the dog`, `sat`."""
    return json.loads(OLD_VERSION.read_text())


def test_what_another_version_of_the_library_has_stored_is_the_same_encoding(bpe):
    """Merges as "a b", no key `ignore_merges`; and keys of later versions that are off."""
    encoding = WordPieces(OLD_VERSION.read_text())
    assert len(encoding.vocabulary()) == 267
    assert encoding.split([["the", "dogs", "sat"]]) == [["Ġthe", "Ġdog", "s", "Ġsat"]]
    assert list(encoding.join(["Ġthe", "Ġdog", "s"])) == ["the", "dogs"]
    later = json.loads(bpe.text)
    later["model"] |= {"unheard_of": None, "merges": [*map(" ".join, later["model"]["merges"])]}
    later |= {"another": [], "decoder": None, "version": "1.1"}
    assert WordPieces(json.dumps(later)).text == bpe.text  # a run may be resumed with it
    earlier = json.loads(bpe.text)
    for name in ("ignore_merges", "byte_fallback", "dropout"):
        del earlier["model"][name]
    earlier["model"]["vocab"] = dict(reversed(earlier["model"]["vocab"].items()))
    assert WordPieces(json.dumps(earlier, indent=1)).text == bpe.text


DANGEROUS = {  # the path to a setting, and what stands there
    "regex": ("pre_tokenizer use_regex", True),
    "split": ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+$"}}),
    "sequence": ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [], "use_regex": False}),
    "no pre-tokenizer": ("pre_tokenizer", None), "no space": ("pre_tokenizer add_prefix_space", 0),
    "more": ("pre_tokenizer pattern", "(a+)+$"),
    "normalizer": ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}}),
    "post-processor": ("post_processor", {"type": "ByteLevel", "trim_offsets": True}),
    "added token": ("added_tokens", [{"id": 0, "content": "the"}]),
    "truncation": ("truncation", {"max_length": 1}), "padding": ("padding", {"pad_id": 0}),
    "another model": ("model type", "Unigram"), "no type": ("model type", None),
    "dropout": ("model dropout", 0.5), "unknown": ("model unk_token", "!"),
    "fallback": ("model byte_fallback", True), "no merges": ("model ignore_merges", True),
    "suffix": ("model end_of_word_suffix", "</w>"), "unheard of": ("model unheard_of", 1),
    "empty": ("model vocab", {}), "a list": ("model vocab", ["a"]),
    "no number": ("model vocab !", "0"), "truth": ("model vocab !", False),
    "a huge number": ("model vocab !", 1 << 40), "twice": ("model vocab !", 1),
    "no byte": ("model vocab €", 267), "half a character": ("model vocab \ud800", 267),
    "merge of one": ("model merges", ["a"]), "of three": ("model merges", ["a t h"]),
    "of nothing": ("model merges", [[]]), "of numbers": ("model merges", [[1, 2]]),
    "of lists": ("model merges", [[["a"], ["t"]]]), "of no pieces": ("model merges", ["z z"]),
    "no list": ("model merges", 3), "null": ("model merges", None),
}


@pytest.mark.parametrize("case", DANGEROUS)
def test_what_does_more_than_merges_is_refused(case):
    """Such as a regular expression, which may take for ever."""
    path, value = DANGEROUS[case]
    *sections, name = path.split(" ")
    encoding = old_version()
    section = encoding
    for key in sections:
        section = section[key]
    section[name] = value
    with pytest.raises(ValueError, match="piece|merge"):
        WordPieces(json.dumps(encoding))


def test_what_is_no_encoding_is_refused():
    no_key = old_version()
    del no_key["pre_tokenizer"]["use_regex"]  # then there is one
    lacking = old_version()
    del lacking["model"]["vocab"]["Ġdog"]
    wrong = no_key, lacking, {"model": []}, {}, [], 1, "", None
    for text in [*map(json.dumps, wrong), "{", "[" * 10**5, '{"a":' * 10**5]:
        with pytest.raises(ValueError):
            WordPieces(text)


def test_very_many_tokens_and_very_long_ones_are_learned_from_and_split(bpe):
    """In parts, as the library's time is quadratic in a token's length, its memory large."""
    story = ["the", "cat"] * 15_000
    assert bpe.split([story]) == [bpe.split([["the", "cat"]])[0] * 15_000]
    word = "abcdefghij" * 20_000
    started = time.process_time()
    encoding = WordPieces.learned([["ab", word]], 300)
    assert time.process_time() - started < 5  # in one piece some 30
    (cut,) = encoding.split([[word]])
    assert "".join(cut) == WordPieces.START + word
    assert len(cut) < len(word) / 20


@pytest.mark.parametrize("size", [255, 1_000_001, 10**9])
def test_the_library_is_asked_for_no_more_pieces_than_memory_has(bpe_corpus, size):
    """It makes room for all at once, and a failure to do so ends the process."""
    with pytest.raises(UserError, match=f"-VSize {size} .* at least 256, and at most 1,000,000"):
        WordPieces.learned(read_stories(bpe_corpus), size)


def test_the_modes_of_a_model_of_word_pieces(bpe_corpus, bpe_trained, tmp_path, call):
    def run(*flags):
        return call(*flags, "-model", bpe_trained)

    trained = bpe_trained.with_name("train.out").read_text()
    assert "vocabulary: 300 pieces and 3 special tokens" in trained
    saved = content_of(bpe_trained)
    encoding = WordPieces(saved["pieces"])
    assert saved["config"]["tokenizer"] == "bpe"

    row = json.loads(run("-evaluate", "-json", "-test_corpus", bpe_corpus).stdout)
    stories = read_stories(bpe_corpus)
    targets = sum(len(story) + 1 for story in encoding.split(stories))
    assert (row["n_tokens"], row["unk_share"]) == (targets, 0)
    characters = sum(len(" ".join(story)) + 1 for story in stories)
    assert row["bpc"] == pytest.approx(row["nats"] * targets / math.log(2) / characters)
    assert row["nats"] == pytest.approx(saved["facts"]["valid_nats"], abs=1e-5)

    done = run("-use", "-greedy", "-text", "Zyzzy sat")
    assert done.returncode == 0
    assert "tokens: ▁ z y z z y ▁s" in done.stdout
    assert "unknown" not in done.stdout

    flags = ["-prompt", "-json", "-seed", 3, "-max_tokens", 30]
    record = json.loads(run(*flags, "-text", "Once upon a ti").stdout)
    prompt = encoding.split([["once", "upon", "a", "ti"]])[0]
    new = [piece for piece in record["tokens"] if piece != "<eos>"]
    assert record["text"] == lstlm.detokenize(list(encoding.join([*prompt, *new])))
    assert record["text"].startswith("Once upon a ti")

    assert run("-use", "-tokenizer", "words", "-text", "a").returncode == 2
    corpora = ["-train_corpus", bpe_corpus, "-valid_corpus", bpe_corpus]
    done = call(
        "-train", "-tokenizer", "bpe", "-embeddings_file", "x", *corpora, "-model", tmp_path / "x"
    )
    assert done.returncode == 2
    (tmp_path / "m.pt").write_bytes(seal({**saved, "pieces": "{}"}))
    done = call("-use", "-text", "a", "-model", tmp_path / "m.pt")
    assert done.returncode == 2
    assert "damaged" in done.stderr


def test_half_a_surrogate_pair_is_a_character(bpe_trained):
    """Such as what Python makes of an argument's byte that is not UTF-8."""
    model = lstlm.load(bpe_trained)
    assert model.tokens("a \ud83d b") == model.tokens("a \ufffd b")
    assert model.next_words("a \udcff", 3) == model.next_words("a \ufffd", 3)
