"""Byte-pair encoding: what it cuts comes back, its figures compare with those of words, and the four modes work."""

import json
import math
import sys
from collections import Counter
from pathlib import Path

import lstlm
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lstlm import Pieces, UserError, build_vocab_and_embeddings, read_stories, tokenize_corpus

pytest.importorskip("tokenizers")
SAMPLE = Path(lstlm.__file__).parent.parent / "data" / "sample"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A small corpus: the first stories of the sample."""
    path = tmp_path_factory.mktemp("pieces") / "corpus"
    path.write_text("".join((SAMPLE / "valid.tokens").read_text().splitlines(keepends=True)[:60]))
    return path


@pytest.fixture(scope="module")
def pieces(corpus):
    """An encoding of 400 pieces learned from it."""
    return Pieces.learned(read_stories(corpus), 400)


def reference_merge(words: Counter, start: str = Pieces.START) -> str:
    """The pair of symbols that is the most frequent, as the first merge of byte-pair encoding takes it."""
    pairs = Counter()
    for word, count in words.items():
        symbols = [start, *word]
        for pair in zip(symbols, symbols[1:], strict=False):
            pairs[pair] += count
    return "".join(pairs.most_common(1)[0][0])


def test_the_first_merge_is_the_most_frequent_pair(corpus):
    stories = read_stories(corpus)
    words = Counter(token for story in stories for token in story)
    more, fewer = ({*Pieces.learned(stories, size).tokenizer.get_vocab()} for size in (257, 256))
    assert more - fewer == {reference_merge(words)}


def test_pieces_come_back_as_the_tokens_they_were_cut_from(corpus, pieces):
    for path in (corpus, SAMPLE / "test.tokens"):
        stories = read_stories(path)
        cut = pieces.cut(stories)
        assert [list(pieces.join(story)) for story in cut] == stories
    assert sum(map(len, cut)) > sum(map(len, stories))
    assert len(pieces.tokenizer.get_vocab()) == 400


@given(st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1), max_size=5))
def test_any_token_can_be_cut(story):
    encoding = Pieces.learned([["a", "ab"]], 256)
    assert list(encoding.join(encoding.cut([story])[0])) == story


def test_a_token_is_told_as_soon_as_the_next_begins(pieces):
    cut = iter(pieces.cut([["zyx", "the", "end"]])[0])
    joined = pieces.join(cut)
    assert next(joined) == "zyx"
    assert len(list(cut)) <= 3  # it has taken no more than the first piece of `the`


def test_learning_is_deterministic_and_has_every_piece_in_the_vocabulary(corpus, pieces):
    assert Pieces.learned(read_stories(corpus), 400).text == pieces.text
    token2idx, embeddings, _ = build_vocab_and_embeddings(None, corpus, 400, edim=5, pieces=pieces)
    assert {*token2idx} == {"<unk>", "<bos>", "<eos>", *pieces.tokenizer.get_vocab()}
    assert len(embeddings) == 403
    ids = tokenize_corpus(corpus, token2idx, pieces=pieces)
    assert not any(0 in story for story in ids)
    counts = Counter(i for story in ids for i in story[1:-1])
    assert [counts[i] for i in range(3, 403)] == sorted((counts[i] for i in range(3, 403)), reverse=True)


def test_the_ends_of_a_streams_lines_are_no_text(corpus, pieces):
    stream = read_stories(corpus, "stream")
    parts = [pieces.cut([line.split()])[0] for line in corpus.read_text().splitlines()]
    assert pieces.cut(stream) == [[piece for part in parts for piece in [*part, "<eos>"]][:-1]]  # encode adds the last
    assert Pieces.learned(stream, 400).text == pieces.text
    token2idx, _, _ = build_vocab_and_embeddings(None, corpus, 400, edim=5, pieces=pieces, how="stream")
    (ids,) = tokenize_corpus(corpus, token2idx, how="stream", pieces=pieces)
    assert ids.count(lstlm.EOS) == len(parts)


def test_too_few_pieces_and_no_library(corpus, monkeypatch):
    with pytest.raises(UserError, match="-VSize 255"):
        Pieces.learned(read_stories(corpus), 255)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match="pip install tokenizers"):
        Pieces.learned(read_stories(corpus), 300)


def test_the_modes_of_a_model_of_pieces(corpus, tmp_path, capsys):
    def run(*flags):
        capsys.readouterr()
        status = lstlm.main([*map(str, [*flags, "-model", tmp_path / "m.pt"])])
        return status, *capsys.readouterr()

    corpora = ["-train_corpus", corpus, "-valid_corpus", corpus]
    status, out, _ = run("-train", "-tokenizer", "bpe", "-VSize", 300, "-H", 1, "-N", 32, "-EDim", 16, "-B", 4,
                         "-lr", 0.02, "-E", 2, *corpora)
    assert status == 0
    assert "vocabulary: 300 pieces and 3 special tokens" in out
    saved = torch.load(tmp_path / "m.pt", weights_only=True)
    encoding = Pieces(saved["pieces"])
    assert saved["config"]["tokenizer"] == "bpe"

    row = json.loads(run("-evaluate", "-json", "-test_corpus", corpus)[1])
    stories = read_stories(corpus)
    targets = sum(len(story) + 1 for story in encoding.cut(stories))
    assert (row["n_tokens"], row["unk_share"]) == (targets, 0)
    characters = sum(len(" ".join(story)) + 1 for story in stories)
    assert row["bpc"] == pytest.approx(row["nats"] * targets / math.log(2) / characters)
    assert row["nats"] == pytest.approx(saved["facts"]["valid_nats"], abs=1e-5)

    status, out, _ = run("-use", "-greedy", "-text", "Zyzzy sat")
    assert status == 0
    assert "tokens: ▁ z y z z y ▁s" in out
    assert "unknown" not in out

    record = json.loads(run("-prompt", "-json", "-seed", 3, "-max_tokens", 30, "-text", "Once upon a ti")[1])
    prompt = encoding.cut([["once", "upon", "a", "ti"]])[0]
    new = [piece for piece in record["tokens"] if piece != "<eos>"]
    assert record["text"] == lstlm.detokenize(list(encoding.join([*prompt, *new])))
    assert record["text"].startswith("Once upon a ti")

    assert run("-use", "-tokenizer", "words", "-text", "a")[0] == 2
    assert run("-train", "-tokenizer", "bpe", "-embeddings_file", "x", *corpora)[0] == 2
    saved["pieces"] = "{}"
    torch.save(saved, tmp_path / "m.pt")
    status, _, error = run("-use", "-text", "a")
    assert status == 2
    assert "damaged" in error
