"""A forward and a backward model that score whole stories together."""

import random
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from backstage.checkpoint import Loaded
from measures import both_ways
from small import make_model

WORDS = ["<unk>", "<bos>", "<eos>", "a", "b", "c", "d"]


def loaded(size: float) -> Loaded:
    """An untrained model of the four words, its weights of that size."""
    model = make_model(V=len(WORDS)).eval()
    for parameter in model.parameters():
        parameter.data *= size
    token2idx = {word: i for i, word in enumerate(WORDS)}
    return Loaded(model, None, WORDS, token2idx, {}, None)


def test_the_mixture_is_a_distribution_over_stories():
    forward = loaded(1)
    stories = [list(story) for length in range(1, 4) for story in product(WORDS[3:], repeat=length)]
    f = both_ways.story_nats(forward, stories)
    b = both_ways.story_nats(loaded(3), both_ways.backwards(stories))
    both = both_ways.mixture_nats(f, b)
    assert np.exp(-both).sum() == pytest.approx((np.exp(-f).sum() + np.exp(-b).sum()) / 2)
    logits = forward.model(torch.tensor([[1, 3, 4]]), torch.tensor([3]))[0].detach()
    targets = torch.tensor([3, 4, 2])
    by_hand = -float(torch.log_softmax(logits, -1)[torch.arange(3), targets].sum())
    assert f[stories.index(["a", "b"])] == pytest.approx(by_hand)
    assert not np.allclose(f, b)


def test_the_mixture_of_very_improbable_stories():
    mixture = both_ways.mixture_nats(np.array([4e3]), np.array([4e3 + 10]))
    assert mixture[0] == pytest.approx(4e3 + np.log(2), abs=1e-4)


@pytest.mark.parametrize("neighbours", [True, False])
def test_a_spoilt_story_has_two_tokens_exchanged(neighbours):
    story = "a b a a c d".split()  # noqa: SIM905 - as a story stands in its file
    for seed in range(50):
        changed = both_ways.spoilt(story, neighbours, random.Random(seed))
        places = [i for i in range(6) if changed[i] != story[i]]
        assert len(places) == 2
        assert sorted(changed) == sorted(story)
        assert places[1] - places[0] == 1 or not neighbours
    assert both_ways.spoilt(["a", "a"], neighbours, random.Random(0)) is None


def test_a_model_that_knows_the_order_prefers_the_story(monkeypatch):
    def alphabetic(_, stories):
        """A model to which each step back in the alphabet costs a nat."""
        return np.array([1.0 + sum(x > y for x, y in pairwise(story)) for story in stories])

    monkeypatch.setattr(both_ways, "story_nats", alphabetic)
    monkeypatch.setattr(both_ways, "backwards", lambda stories: stories)
    result = both_ways.measure(None, None, [list("abcd"), list("aabd"), list("aaa")])
    always = {"forward": 1.0, "backward": 1.0, "both": 1.0}
    assert result["neighbours"] == result["any two"] == always
    assert result["tokens"] == 14
    assert result["ppl"]["both"] == pytest.approx(np.exp(3 / 14))


def test_what_is_missing_is_named(data, capsys):
    assert both_ways.main(["-data", str(data)]) == 2
    how = "first: experiments.py run 'full, base'"
    assert f"no trained model of the run full, base; {how}" in capsys.readouterr().err
