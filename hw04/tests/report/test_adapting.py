"""Adapting models: nats by position, the cache and dynamic evaluation against slow references."""

import json
import math

import adapter
import lstlm
import numpy as np
import pytest
import torch
from backstage.corpora import BOS, EOS
from lstlm import collate_stories, compute_loss
from measures import adapting
from measures.adapting import (
    Dynamic,
    cache_grid,
    dynamic_evaluation,
    mean_squares,
    neural_cache,
)
from measures.scoring import nats_by_position, score
from small import KINDS, RAGGED, make_model, make_stories
from torch.nn import functional as F


@pytest.fixture(params=["plain", "attention", "tied"])
def model(request):
    """A small float64 model of some kinds."""
    return make_model(**KINDS[request.param]).eval()


def reference_nats(model, story: list[int]) -> torch.Tensor:
    """The nats (T,) of one story, from `forward`."""
    inputs, targets, lengths = collate_stories([story])
    return F.cross_entropy(model(inputs, lengths)[0], targets[0], reduction="none")


def close(ours: list[np.ndarray], theirs: list, atol: float = 1e-11) -> None:
    """Equal but for rounding, story by story; lists, arrays or tensors."""
    for one, other in zip(ours, theirs, strict=True):
        other = other.detach() if isinstance(other, torch.Tensor) else other
        np.testing.assert_allclose(one, np.asarray(other), rtol=0, atol=atol)


@pytest.mark.parametrize("batch_size", [1, 4, 300])  # 300: segments of one position
def test_nats_by_position_are_those_of_each_story_alone(model, stories, batch_size):
    nats = nats_by_position(model, stories, batch_size)
    close(nats, [reference_nats(model, story) for story in stories])
    mean = np.concatenate(nats).mean()
    assert math.isclose(mean, compute_loss(model, stories, batch_size), rel_tol=1e-12)


def test_a_long_story_is_read_in_segments(model):
    stories = make_stories([700, 3, 600], 40)
    nats = nats_by_position(model, stories, batch_size=2)
    close(nats, [reference_nats(model, story) for story in stories])


def test_dropout_is_off(stories):
    model = make_model(dropout=0.5).train()
    nats = np.concatenate(nats_by_position(model, stories))
    assert math.isclose(nats.mean(), compute_loss(model, stories, 4), rel_tol=1e-12)


# ---- The neural cache ---------------------------------------------------------------------------


def reference_cache(
    model, story: list[int], theta: float, share: float, window: int = 2000
) -> list[float]:
    """Nats of one story, by Grave et al. 2017 in two plain loops."""
    inputs, targets, lengths = collate_stories([story])
    h = score(model, inputs, lengths, targets)[0][0]  # (T, N)
    p = torch.softmax(model(inputs, lengths)[0], 1)
    nats = []
    for i, target in enumerate(story[1:]):
        weights = {}
        for j in range(max(0, i - window), i):
            weights[j] = math.exp(theta * float(h[i] @ h[j]))
        same = [weight for j, weight in weights.items() if story[j + 1] == target]
        part = share if i else 0
        found = sum(same) / (sum(weights.values()) or 1)
        nats.append(-math.log((1 - part) * float(p[i, target]) + part * found))
    return nats


# Stories of many words, and of few, which come again.
REPEATING = [*make_stories(RAGGED, 40), *make_stories([30, 25], 7, seed=1)]


@torch.no_grad()
@pytest.mark.parametrize("theta, share", [(0.0, 0.1), (0.7, 0.4), (3.0, 0.9)])
def test_cache_is_that_of_two_plain_loops(model, monkeypatch, theta, share):
    monkeypatch.setattr(adapting, "BLOCK", 4)
    expected = [reference_cache(model, story, theta, share) for story in REPEATING]
    close(neural_cache(model, REPEATING, theta, share), expected)


@torch.no_grad()
@pytest.mark.parametrize("block", [3, 8, 100])
@pytest.mark.parametrize("window", [1, 5, 8])
def test_cache_looks_no_further_back_than_its_window(model, monkeypatch, block, window):
    monkeypatch.setattr(adapting, "BLOCK", block)
    monkeypatch.setattr(adapting, "WINDOW", window)
    expected = [reference_cache(model, story, 0.7, 0.4, window) for story in REPEATING]
    close(neural_cache(model, REPEATING, 0.7, 0.4), expected)


def test_no_share_for_the_cache_leaves_the_loss(model):
    nats = np.concatenate(neural_cache(model, REPEATING, 0.3, 0.0))
    assert math.isclose(nats.mean(), compute_loss(model, REPEATING, 32), rel_tol=1e-12)


def test_grid_of_the_cache_has_the_means_of_each_setting(model):
    thetas = (0.0, 0.5)
    shares = (0.1, 0.2, 0.5)
    grid = cache_grid(model, REPEATING, thetas, shares)
    expected = [
        [adapting.mean(neural_cache(model, REPEATING, theta, share)) for share in shares]
        for theta in thetas
    ]
    np.testing.assert_allclose(grid, expected, rtol=1e-12)


# ---- Dynamic evaluation -------------------------------------------------------------------------


@pytest.mark.parametrize("segment, within", [(1, True), (4, False), (100, True)])
def test_a_rate_of_zero_leaves_the_loss(model, stories, segment, within):
    nats = dynamic_evaluation(model, stories, Dynamic(0.0, 0.1, segment, within))
    close(nats, nats_by_position(model, stories))
    mean = np.concatenate(nats).mean()
    assert math.isclose(mean, compute_loss(model, stories, 4), rel_tol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_one_step_a_story_is_that_of_sgd(model, stories, decay):
    before = {name: x.clone() for name, x in model.state_dict().items()}
    ours = dynamic_evaluation(model, stories, Dynamic(0.3, decay, segment=100, within=False))
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name])  # the model itself stays
    theirs = []
    for story in stories:
        theirs.append(reference_nats(model, story))
        model.zero_grad()
        theirs[-1].mean().backward()
        for name, p in model.named_parameters():
            p.data += decay * (before[name] - p.data) - 0.3 * (0 if p.grad is None else p.grad)
    close(ours, theirs)


def test_rates_and_decay_of_each_weight_are_those_of_the_paper(model, stories):
    how = Dynamic(lr=0.02, decay=0.4, segment=100, within=False, rms=True, epsilon=0.01)
    weights = list(model.parameters())
    grads = []
    for story in stories:
        mean = reference_nats(model, story).mean()
        grads.append(torch.autograd.grad(mean, weights, materialize_grads=True))
    squares = [sum(g**2 for g in gs) / len(stories) for gs in zip(*grads, strict=True)]
    ours = mean_squares(model, stories, 100)
    torch.testing.assert_close(ours, squares, rtol=1e-9, atol=1e-15)

    nats = dynamic_evaluation(model, stories, how, ours)
    mean_root = torch.cat([square.sqrt().flatten() for square in squares]).mean()
    trained = [w.clone() for w in weights]
    theirs = []
    for story in stories:
        theirs.append(reference_nats(model, story))
        steps = torch.autograd.grad(theirs[-1].mean(), weights, materialize_grads=True)
        with torch.no_grad():
            for w, w0, g, square in zip(weights, trained, steps, squares, strict=True):
                norm = torch.minimum(square.sqrt() / mean_root, torch.tensor(1 / how.decay))
                w += how.decay * norm * (w0 - w) - how.lr * g / (square.sqrt() + how.epsilon)
    close(nats, theirs)


def test_within_stories_each_is_as_if_alone_and_begins_unadapted(model, stories):
    how = Dynamic(lr=0.5, decay=0.01, segment=3)
    nats = dynamic_evaluation(model, stories, how)
    plain = nats_by_position(model, stories)
    close(nats, [dynamic_evaluation(model, [story], how)[0] for story in stories], atol=0)
    close([x[:3] for x in nats], [x[:3] for x in plain])
    assert not np.allclose(nats[2], plain[2])


@pytest.mark.parametrize("way", [
    lambda model, stories: neural_cache(model, stories, 0.1, 0.5),
    lambda model, stories: dynamic_evaluation(model, stories, Dynamic(lr=0.5, segment=2)),
], ids=["cache", "dynamic"])
def test_what_comes_again_is_learned(model, way):
    stories = [[BOS, *[30, 31] * 20, EOS]]
    plain = nats_by_position(model, stories)[0]
    adapted = way(model, stories)[0]
    assert adapted[20:40].mean() < 0.7 * plain[20:40].mean()


# ---- The command line ---------------------------------------------------------------------------


def test_settings_are_chosen_on_valid_and_measured_on_test(monkeypatch, tmp_path):
    names = ("train", "valid", "test")
    files = {name: tmp_path / name for name in (*names, "model.pt", "results.json")}
    for name in names:
        lines = [f"{name} was here and {name} was there" for _ in range(8)]
        files[name].write_text("\n".join(lines))
    corpora = ["-train_corpus", str(files["train"]), "-valid_corpus", str(files["valid"])]
    model = ["-model", str(files["model.pt"])]
    shape = ["-EDim", "8", "-H", "1", "-N", "8", "-E", "1", "-B", "4"]
    assert lstlm.main(["-train", *corpora, *model, *shape]) == 0
    tried = [Dynamic(0.0), Dynamic(0.5, segment=2), Dynamic(5.0, within=False)]
    monkeypatch.setattr(adapting, "DYNAMIC", tried)
    tested = ["-test_corpus", str(files["test"]), "-results", str(files["results.json"])]
    status = adapting.main([*model, *corpora[2:], *tested, "-first", "5"])
    content = json.loads(files["results.json"].read_text())
    assert (status, content["valid_stories"]) == (0, 5)
    loaded = adapter.load(files["model.pt"])
    test = lstlm.tokenize_corpus(files["test"], loaded.token2idx)
    plain = content["plain"]["test"]["nats"]
    assert math.isclose(plain, compute_loss(loaded.model, test, 32), rel_tol=1e-5)
    cache = neural_cache(loaded.model, test, **content["cache"]["setting"])
    setting = Dynamic(**content["dynamic"]["setting"])
    dynamic = dynamic_evaluation(loaded.model, test, setting)
    for name, nats in (("cache", cache), ("dynamic", dynamic)):
        figures = content[name]
        assert math.isclose(figures["test"]["nats"], np.concatenate(nats).mean(), rel_tol=1e-5)
        assert figures["valid_nats"] < content["plain"]["valid_nats"]


def test_of_a_stream_the_first_stretches_choose(monkeypatch, tmp_path):
    text, model, results = (tmp_path / name for name in ("text", "model.pt", "results.json"))
    text.write_text("The cat sat .\n\n" * 8)
    stream = ["-stories", "stream", "-valid_corpus", str(text), "-model", str(model)]
    shape = ["-cased", "-EDim", "8", "-H", "1", "-N", "8", "-E", "1"]
    assert lstlm.main(["-train", "-train_corpus", str(text), *stream, *shape]) == 0
    monkeypatch.setattr(adapting, "STREAM_STORY", 10)
    monkeypatch.setattr(adapting, "DYNAMIC", [Dynamic(0.0), Dynamic(9.0, within=False)])
    tested = ["-test_corpus", str(text), "-first", "2", "-results", str(results)]
    assert adapting.main([*stream, *tested]) == 0
    content = json.loads(results.read_text())
    assert (content["valid_stories"], content["valid_tokens"]) == (1, 20)
    assert content["plain"]["test"]["n_tokens"] == 8 * 6  # four words, two ends of lines each
    assert content["dynamic"]["setting"]["within"]


def test_a_missing_model_is_one_line(capsys, tmp_path):
    assert adapting.main(["-model", str(tmp_path / "x.pt")]) == 2
    assert "no such model" in capsys.readouterr().err
