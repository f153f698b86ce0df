"""backstage/optimizer.py: the learning rate, weight decay, steps that are refused."""

import math
from argparse import Namespace

import pytest
import torch
from backstage.optimizer import FiniteAdamW, highest_rate, learning_rate, make_optimizer
from lstlm import parse_args
from small import make_model


def test_the_learning_rate_rises_then_falls_to_a_tenth():
    rates = [learning_rate(step, 1000, 2.0) for step in range(1, 1001)]
    peak = rates.index(max(rates))
    assert 40 < peak < 50
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert math.isclose(rates[0], 2 / 50)
    assert math.isclose(rates[-1], 0.2)


def test_the_cosine_falls_from_the_same_rate_to_the_same_rate():
    rates = [learning_rate(step, 1000, 2.0, "cosine") for step in range(1, 1001)]
    assert rates[:40] == [2.0 * step / 50 for step in range(1, 41)]
    assert math.isclose(rates[499], 2.0 * (0.1 + 0.9 / 2))
    assert math.isclose(rates[-1], 0.2)
    assert rates[50:] == sorted(rates[50:], reverse=True)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 30, 50, 51, 94, 100, 1000, 2715])
def test_the_highest_rate_is_that_of_all_steps(steps, schedule):
    rates = [learning_rate(step, steps, 2.0, schedule) for step in range(1, steps + 1)]
    assert highest_rate(steps, 2.0, schedule) == max(rates) < 2.0


@pytest.mark.parametrize("steps", [94, 100, 1000, 2715])
def test_the_highest_rate_of_a_line_is_as_the_help_says(steps):
    assert highest_rate(steps, 2.0) == pytest.approx(2.0 / (1 + 45 / steps), rel=0.02)
    assert highest_rate(94, 1.0) == pytest.approx(0.67, abs=0.01)
    assert highest_rate(1000, 1.0) == pytest.approx(0.96, abs=0.01)


@pytest.mark.parametrize("attention", [None, "dot", "bilinear", "additive"])
def test_weight_decay_shrinks_matrices_alone_and_the_vectors_have_their_rate(attention):
    model = make_model(attention, dtype=torch.float32)
    flags = ["-train", "-lr", "0.5", "-emb_lr", "0.1", "-weight_decay", "0.2"]
    optimizer = make_optimizer(model, parse_args(flags))
    assert [group["peak"] for group in optimizer.param_groups] == [0.1, 0.5, 0.5]
    vectors = optimizer.param_groups[0]["params"]
    assert [p is model.embedding.weight for p in vectors] == [True]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"]
    optimizer.step()
    for name, parameter in model.named_parameters():
        decays = ("weight" in name or name in ("W", "U")) and name != "embedding.weight"
        expected = before[name] * (0.9 if decays else 1.0)
        torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_whose_gradient_is_not_finite_is_refused(bad):
    """Nothing changes, neither weights nor moments; the next finite one is done."""
    pair = [torch.nn.Parameter(torch.ones(3)) for _ in "ab"]
    twins = [torch.nn.Parameter(torch.ones(3)) for _ in "ab"]
    ours, theirs = FiniteAdamW(pair, lr=0.1), torch.optim.AdamW(twins, lr=0.1)
    for number, grad in enumerate([1.0, bad, 0.5]):
        for p in (*pair, *twins):
            p.grad = torch.full((3,), 0.25)
        for p in (pair[1], twins[1]):
            p.grad[1] = grad
        ours.step()
        if number != 1:
            theirs.step()
        assert ours.refused == (number > 0)  # until it is set to False
        torch.testing.assert_close(pair, twins)
    assert int(ours.state[pair[0]]["step"]) == 2


def test_parameters_without_a_gradient_are_left_as_they_are():
    model = make_model(dtype=torch.float32)
    optimizer = make_optimizer(model, Namespace(lr=0.1, emb_lr=0.1, weight_decay=0.0))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"]
    model.output.bias.grad = torch.ones(40)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    changed = [not torch.equal(*both) for both in zip(before, model.parameters(), strict=True)]
    assert not optimizer.refused
    assert changed == [name == "output.bias" for name, _ in model.named_parameters()]
