"""What the report measures of texts and losses: by hand, and against what the program computes."""

import math

import numpy as np
import pytest
import torch
from lstlm import collate_stories
from measures import analysis
from measures.scoring import score
from small import make_model, make_stories


def test_variety_by_hand():
    text = ["a", "b", "a", "b", "a", "b", "c", "d"]
    # 8 words of 4 kinds; 2-grams ab ba ab ba ab bc cd: 4 kinds of 7; 4-grams abab baba abab babc
    # abcd: 4 of 5
    assert analysis.variety([text, ["short"]], 8) == {
        "texts": 1, "distinct1": 4 / 8, "distinct2": 4 / 7, "again": pytest.approx(1 / 5)}
    assert analysis.variety([["short"]], 8)["distinct1"] is None


def test_averages_in_ranges_by_hand():
    nats = np.array([1.0, 3.0, 5.0, 7.0])
    rows = analysis.averaged(nats, np.array([1, 4, 5, 99]), (1, 5, 50, 200))
    assert rows == [
        {"from": 1, "tokens": 2, "nats": 2.0}, {"from": 5, "tokens": 1, "nats": 5.0},
        {"from": 50, "tokens": 1, "nats": 7.0},
    ]


def test_losses_of_rare_words_said_before_and_not():
    stories = [[1, 5, 6, 5, 2]]
    counts = np.array([0, 0, 9000, 0, 0, 10, 5000])
    found = analysis.where_losses_are([np.array([4.0, 1.0, 2.0, 0.5])], stories, counts)
    assert found["nats"] == 7.5 / 4
    assert found["said_before"] == {  # 5 is rare, 6 and <eos> are not
        "rare_new": {"tokens": 1, "nats": 4.0}, "rare_again": {"tokens": 1, "nats": 2.0},
        "common_new": {"tokens": 2, "nats": 0.75}}
    assert [row["nats"] for row in found["by_position"]] == [4.0, 1.0, 1.25]


def test_losses_by_position_of_long_stories_alone(monkeypatch):
    monkeypatch.setattr(analysis, "LONG", 4)
    nats = [np.array([9.0, 9.0, 9.0]), np.array([1.0, 2.0, 3.0, 4.0])]
    stories = [[1, 5, 6, 2], [1, 5, 6, 5, 2]]
    found = analysis.where_losses_are(nats, stories, np.full(7, 9))
    assert found["by_position_long"] == [
        {"from": 1, "tokens": 1, "nats": 1.0}, {"from": 2, "tokens": 1, "nats": 2.0},
        {"from": 3, "tokens": 2, "nats": 3.5},
    ]


def features_of(model, story: list[int]) -> torch.Tensor:
    """What the output layer sees (T, N) of a story: [h ; c]."""
    inputs, targets, lengths = collate_stories([story])
    return score(model, inputs, lengths, targets)[0][0].detach()


def test_attention_weights_are_those_of_the_equation():
    model = make_model("dot").eval()
    story = make_stories([6], 40)[0]
    weights = analysis.looks(model, story)
    assert not model.output._forward_pre_hooks  # what it watched is as it was
    plain = features_of(model, story)
    hidden = plain[:, :6]
    for i in range(len(story) - 1):
        scores = [float(hidden[i] @ hidden[j]) / math.sqrt(6) for j in range(i)]
        total = sum(map(math.exp, scores))
        assert weights[i, :i] == pytest.approx([math.exp(score) / total for score in scores])
        assert not weights[i, i:].any()
        context = torch.zeros(6, dtype=hidden.dtype)
        for j in range(i):
            context = context + weights[i, j] * hidden[j]
        torch.testing.assert_close(plain[i, 6:], context)


@pytest.mark.parametrize("attention", ["bilinear", "additive"])
def test_attention_weights_of_other_scores_give_the_contexts_of_the_model(attention):
    model = make_model(attention).eval()
    story = make_stories([9], 40)[0]
    weights = torch.tensor(analysis.looks(model, story))
    hidden, contexts = features_of(model, story).chunk(2, 1)
    torch.testing.assert_close(weights @ hidden, contexts)
    assert weights[1:].sum(1).tolist() == pytest.approx([1] * (len(story) - 2))
    assert not weights.triu().any()


def test_what_attention_looks_at_is_averaged_over_positions():
    model = make_model("dot").eval()
    stories = make_stories([30, 12], 40)
    found = analysis.attention(model, [str(i) for i in range(40)], stories)
    assert len(found["words"]) == len(found["map"]) == 31
    assert 0 < found["entropy"] <= found["uniform_entropy"]
    assert found["largest"] > found["uniform_first"]
