"""backstage/measures.py: perplexity, bits per character, what a corpus counts."""

import math
from pathlib import Path

import pytest
from backstage.checkpoint import Config, Loaded
from backstage.measures import Corpus, draw_curve, measured, read_corpus, safe_exp, table_row

WORDS = ["<unk>", "<bos>", "<eos>", "the", "cat", "."]
LOADED = Loaded(None, Config(), WORDS, {word: i for i, word in enumerate(WORDS)}, {}, None)


def test_perplexity_of_what_is_too_large_for_a_float():
    assert safe_exp(2.0) == math.exp(2.0)
    assert safe_exp(699.0) == math.exp(699.0)
    assert safe_exp(701.0) == safe_exp(math.inf) == math.inf
    assert math.isnan(safe_exp(math.nan))


def test_a_corpus_as_the_model_sees_it(write):
    corpus = read_corpus(LOADED, write("corpus", "The zyx .\nthe <unk> cat\n"), "auto")
    assert corpus.stories == [[1, 3, 0, 5, 2], [1, 3, 0, 4, 2]]
    assert corpus.targets == 8
    assert corpus.characters == len("the zyx .") + 1 + len("the <unk> cat") + 1
    assert corpus.unknown == ["zyx", "<unk>"]


def test_the_characters_of_a_stream_are_those_of_its_lines(write):
    corpus = read_corpus(LOADED, write("corpus", "the cat\ncat .\n"), "stream")
    assert corpus.stories == [[1, 3, 4, 2, 4, 5, 2]]
    assert corpus.targets == 6
    assert corpus.characters == len("the cat\ncat .\n")
    assert corpus.unknown == []


def test_measures_by_hand():
    corpus = Corpus(Path("x.tokens"), [], targets=8, characters=25, unknown=["zyx"])
    row = measured(corpus, nats=1.5, perplexity=math.exp(1.5), seconds=2.0)
    bits = 1.5 * 8 / math.log(2) + 3 * math.log2(27)
    assert row == {
        "mode": "evaluate", "corpus": "x.tokens", "nats": 1.5, "ppl": math.exp(1.5),
        "bpc": pytest.approx(bits / 25), "n_tokens": 8, "unk_share": 1 / 8, "tokens_per_s": 4.0,
    }
    assert table_row(row).split() == [
        "1.5000", "4.48", f"{bits / 25:.4f}", "8", "12.50%", "4", "x.tokens"
    ]


def test_the_curve_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    records = [{"step": step, "train_nats": 3 / step, "valid_nats": 4 / step} for step in (1, 2)]
    draw_curve(tmp_path / "curve.png", records)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
