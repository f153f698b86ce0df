"""The n-gram model: the paper's equations over dictionaries, by hand, sums to 1, command line."""

import json
import math
from collections import Counter, defaultdict

import lstlm
import numpy as np
import pytest
from backstage.corpora import BOS, EOS, UNK, read_stories
from hypothesis import given
from hypothesis import strategies as st
from measures import ngram
from measures.ngram import KneserNey
from small import SAMPLE

V = 8


def stories_of(words: int = 14, least: int = 0, most: int = 9):
    """Random stories over few words, so that n-grams come again."""
    word = st.sampled_from([UNK, *range(3, V)])
    story = st.lists(word, max_size=words).map(lambda s: [BOS, *s, EOS])
    return st.lists(story, min_size=least, max_size=most)


def grams(story: list[int], n: int) -> list[tuple[int, ...]]:
    """The n-grams of a story."""
    return [tuple(story[i : i + n]) for i in range(len(story) - n + 1)]


class Reference:
    """Modified Kneser-Ney from the paper's equations, one probability at a time."""

    def __init__(self, stories: list[list[int]], V: int, order: int):
        self.V = V
        self.order = order
        raw = [Counter(gram for s in stories for gram in grams(s, n)) for n in range(order + 2)]
        self.counts = [None] * (order + 1)  # of the n-grams of each length, under their contexts
        self.D = [None] * (order + 1)
        for n in range(1, order + 1):
            self.counts[n] = defaultdict(dict)
            before = Counter(longer[1:] for longer in raw[n + 1])
            for gram, times in raw[n].items():
                if gram != (BOS,):
                    own = n == order or gram[0] == BOS
                    self.counts[n][gram[:-1]][gram[-1]] = times if own else before[gram]
            counts = [a for after in self.counts[n].values() for a in after.values()]
            self.D[n] = self.discounts(counts)

    @staticmethod
    def discounts(counts: list[int]) -> list[float]:
        """D1, D2, D3+."""
        n = [counts.count(k) for k in range(5)]
        D = []
        for k, fallback in ((1, 0.5), (2, 1.0), (3, 1.5)):
            Y = n[1] / (n[1] + 2 * n[2] or 1)
            value = k - (k + 1) * Y * n[k + 1] / n[k] if n[k] and n[k + 1] else 0
            D.append(value if value > 0 else fallback)
        return D

    def p(self, word: int, context: tuple[int, ...]) -> float:
        """p(word | context), of which the last order - 1 tokens count."""
        context = context[max(0, len(context) - self.order + 1) :]
        below = self.p(word, context[1:]) if context else 1 / (self.V - 1)
        after = self.counts[len(context) + 1].get(context)
        if not after:
            return below
        D1, D2, D3 = self.D[len(context) + 1]
        total = sum(after.values())
        a = after.get(word, 0)
        N1 = list(after.values()).count(1)
        N2 = list(after.values()).count(2)
        left = D1 * N1 + D2 * N2 + D3 * (len(after) - N1 - N2)
        return (a - [0, D1, D2, D3][min(a, 3)]) / total + left / total * below

    def nats(self, stories: list[list[int]]) -> list[float]:
        """-ln p of each target."""
        return [-math.log(self.p(s[i], tuple(s[:i]))) for s in stories for i in range(1, len(s))]


@given(stories_of(least=1), stories_of(least=1), st.integers(1, 5))
def test_equals_the_equations_over_dictionaries(train, test, order):
    expected = Reference(train, V, order).nats(test)
    np.testing.assert_allclose(KneserNey(train, V, order).nats(test), expected, rtol=1e-12)


@given(stories_of(least=1), stories_of(least=1, most=1), st.integers(1, 5))
def test_probabilities_after_each_context_sum_to_one(train, test, order):
    model = KneserNey(train, V, order)
    [story] = test
    for end in range(1, len(story)):
        nats = model.nats([[*story[:end], word] for word in range(V) if word != BOS])
        after = nats.reshape(V - 1, end)[:, -1]
        assert math.isclose(np.exp(-after).sum(), 1, rel_tol=1e-12)


def test_a_case_by_hand():
    # Stories `a b`, `a b`, `c b` with a = 3, b = 4, c = 5. The counts of bigrams are <bos> a: 2,
    # <bos> c: 1, a b: 2, c b: 1, b <eos>: 3, so n1 = 2, n2 = 2, n3 = 1, n4 = 0, Y = 2 / (2 + 4) =
    # 1/3: D1 = 1 - 2/3 = 1/3, D2 = 2 - 3/6 = 3/2, and no D3 but 3/2. Different words are before a
    # 1, b 2, c 1, <eos> 1: n1 = 3, n2 = 1, n3 = 0, Y = 3/5: D1 = 1 - 2/5 = 3/5, no D2 but 1; of 5
    # in all 3 * 3/5 + 1 = 14/5 go to the uniform distribution over 5 tokens.
    model = KneserNey([[BOS, 3, 4, EOS], [BOS, 3, 4, EOS], [BOS, 5, 4, EOS]], 6, order=2)
    uniform = 14 / 25 / 5
    a = 2 / 25 + uniform
    b = 1 / 5 + uniform
    eos = 2 / 25 + uniform
    unk = uniform
    left = (3 / 2 + 1 / 3) / 3  # after <bos>: of a count of 3 in all
    expected = [
        (2 - 3 / 2) / 3 + left * a,  # a, first in its story
        (2 - 3 / 2) / 2 + 3 / 2 / 2 * b,  # b after a
        3 / 2 / 3 * unk,  # <unk> after b
        eos,  # after <unk>, which was never seen
    ]
    np.testing.assert_allclose(model.nats([[BOS, 3, 4, UNK, EOS]]), -np.log(expected), rtol=1e-12)


def test_one_story_of_one_word_leaves_some_probability_to_everything():
    nats = KneserNey([[BOS, 3, EOS]], 5, order=5).nats([[BOS, 3, EOS], [BOS, 4, UNK, 3, EOS]])
    assert nats.shape == (6,)
    assert np.isfinite(nats).all()
    assert nats[0] < nats[2]


TRAIN = ["-train_corpus", SAMPLE / "train.tokens"]


def run(capsys, *flags) -> tuple[int, str, str]:
    """Status and output of the command line."""
    status = ngram.main([str(flag) for flag in flags])
    return status, *capsys.readouterr()


def test_longer_contexts_predict_the_embedded_stories_better(capsys):
    rows = []
    for order in (1, 2, 3):
        corpora = [*TRAIN, "-test_corpus", SAMPLE / "valid.tokens"]
        status, out, _ = run(capsys, *corpora, "-VSize", 1000, "-order", order, "-json")
        assert status == 0
        rows.append(json.loads(out))
    assert rows[0]["ppl"] > 2 * rows[1]["ppl"] > 2 * rows[2]["ppl"]
    assert all(math.isclose(math.exp(row["nats"]), row["ppl"]) for row in rows)


def test_figures_are_those_that_lstlm_computes_from_the_same_nats(capsys):
    valid = SAMPLE / "valid.tokens"
    status, out, _ = run(capsys, *TRAIN, "-test_corpus", valid, "-VSize", 300, "-json")
    assert status == 0
    row = json.loads(out)
    stories = read_stories(valid)
    token2idx, *_ = lstlm.build_vocab_and_embeddings(None, SAMPLE / "train.tokens", 300, edim=1)
    unknown = [word for story in stories for word in story if word not in token2idx]
    assert row["n_tokens"] == sum(len(story) + 1 for story in stories)
    assert row["unk_share"] == len(unknown) / row["n_tokens"] > 0
    bits = row["nats"] * row["n_tokens"] / math.log(2) + math.log2(27) * sum(map(len, unknown))
    assert math.isclose(row["bpc"], bits / sum(len(" ".join(story)) + 1 for story in stories))


def test_half_of_the_words_seen_once_are_unknown_in_the_counts(tmp_path):
    corpus = tmp_path / "a.tokens"
    corpus.write_text("\n".join(f"often once{i}" for i in range(400)))
    stories, words = ngram.read_training(corpus, 10_000)
    assert words.words[3] == "often"
    assert all(story[1] == 3 for story in stories)
    assert 160 < sum(story[2] == UNK for story in stories) < 240


@pytest.mark.parametrize("flags, says", [
    ([], "give -train_corpus"), (["-train_corpus", "nowhere", "-test_corpus", "x"], "nowhere"),
    (["-order", "0"], "whole number"),
])
def test_errors_are_one_line(capsys, flags, says):
    status, _, err = run(capsys, *flags)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1


def test_all_results_in_one_file(capsys, monkeypatch, tmp_path):
    names = [f"sample/{name}.tokens" for name in ("train", "valid", "test")]
    monkeypatch.setattr(ngram, "CORPORA", {"sample": (*names, True)})
    monkeypatch.setattr(ngram, "ORDERS", (1, 2))
    status, *_ = run(capsys, "-results", tmp_path / "ngram.json", "-data", SAMPLE.parent)
    content = json.loads((tmp_path / "ngram.json").read_text())
    assert status == 0
    assert content["numpy"] == np.__version__
    assert content["sample"]["1"]["test"]["ppl"] > content["sample"]["2"]["test"]["ppl"]
    assert {*content["sample"]["2"]["valid"]} == {"nats", "ppl", "bpc", "n_tokens", "unk_share"}
