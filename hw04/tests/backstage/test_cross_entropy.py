"""backstage/cross_entropy.py: output layer and loss fused, against plain cross-entropy."""

import math

import pytest
import torch
from backstage import cross_entropy
from backstage.cross_entropy import (
    LinearCrossEntropy,
    linear_cross_entropy,
    nats_without_gradient,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F


@pytest.mark.parametrize("summed", [LinearCrossEntropy.apply, nats_without_gradient])
def test_a_case_computed_by_hand(summed):
    # Two words, weights such that the logits are 0 and ln 3: probabilities 1/4 and 3/4 everywhere.
    hidden = torch.ones(3, 1, dtype=torch.float64)
    weight = torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64)
    targets = torch.tensor([0, 1, 1])
    nats = summed(hidden, weight, torch.zeros(2, dtype=torch.float64), targets)
    assert math.isclose(nats.item(), math.log(4) + 2 * math.log(4 / 3), rel_tol=1e-12)


@settings(max_examples=40)
@given(
    rows=st.integers(1, 20), V=st.integers(1, 30), chunk=st.integers(1, 60),
    scale=st.sampled_from([0.1, 1.0, 100.0]), seed=st.integers(0, 99),
)
def test_equals_plain_cross_entropy(rows, V, chunk, scale, seed):
    """Sum and mean, with and without gradient, and the gradients, in chunks of any size."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        x = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
        return x.requires_grad_()

    hidden, weight, bias = random(rows, 4), random(V, 4), random(V)
    targets = torch.randint(V, (rows,), generator=generator)
    plain = F.cross_entropy(hidden @ weight.t() + bias, targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CHUNK", chunk)
        patch.setattr(cross_entropy, "EVALUATION_CHUNK", chunk)
        summed = LinearCrossEntropy.apply(hidden, weight, bias, targets)
        mean = linear_cross_entropy(hidden, weight, bias, targets)
        with torch.no_grad():
            without_gradient = linear_cross_entropy(hidden, weight, bias, targets)
    assert mean.requires_grad
    assert not without_gradient.requires_grad
    for ours in (summed / rows, mean, without_gradient):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10, check_stride=False)
    grads = torch.autograd.grad(3 * mean, (hidden, weight, bias))
    expected = torch.autograd.grad(3 * plain, (hidden, weight, bias))
    for a, b in zip(grads, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * scale)


def test_bfloat16_is_near_and_its_gradients_are_float32():
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(50, 16), torch.randn(30, 16), torch.randn(30)
    targets = torch.randint(30, (50,))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        loss = linear_cross_entropy(inputs[0].to(dtype), *inputs[1:], targets)
        found.append([loss.detach(), *torch.autograd.grad(loss, inputs)])
    for exact, near in zip(*found, strict=True):
        assert near.dtype == torch.float32
        assert float((near - exact).norm() / exact.norm()) < 0.02
