"""backstage/bpe.py: what is split comes back, and the four modes of a model of word bpe."""

import json
import math
import sys
from collections import Counter

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


def test_too_few_word_pieces_and_no_library(bpe_corpus, monkeypatch):
    with pytest.raises(UserError, match="-VSize 255"):
        WordPieces.learned(read_stories(bpe_corpus), 255)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match="pip install tokenizers"):
        WordPieces.learned(read_stories(bpe_corpus), 300)


def test_what_is_no_encoding_of_ours_is_refused(bpe):
    """Such as one with a regular expression, which may take for ever."""
    given = json.loads(bpe.text)
    given["pre_tokenizer"]["use_regex"] = True
    for text in ("{}", json.dumps(given)):
        with pytest.raises((ValueError, KeyError)):
            WordPieces(text)


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
