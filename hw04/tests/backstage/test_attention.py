"""backstage/attention.py: scores by plain loops, sinusoids number by number."""

import math

import pytest
import torch
from backstage import attention
from backstage.attention import additive_attention, bilinear_attention, sinusoids

B, Q, K, N = 2, 5, 7, 4


@pytest.fixture
def tensors():
    """Queries, keys, which of these each query sees (the last ones are at its place), W, U, v."""
    torch.manual_seed(0)
    queries, keys = (torch.randn(B, length, N, dtype=torch.float64) for length in (Q, K))
    sees = torch.ones(Q, K, dtype=torch.bool).tril(K - Q - 1)
    W, U = (torch.randn(N, N, dtype=torch.float64) for _ in "WU")
    v = torch.randn(N, dtype=torch.float64)
    for x in (queries, keys, W, U, v):
        x.requires_grad_()
    return queries, keys, sees, W, U, v


def contexts(queries, keys, sees, score):
    """Contexts (B, Q, N) by loops over stories, queries and the keys they see."""
    rows = []
    for b in range(B):
        for i in range(Q):
            seen = [j for j in range(K) if sees[i, j]]
            scores = torch.stack([score(queries[b, i], keys[b, j]) for j in seen])
            weights = torch.softmax(scores, 0)
            rows.append(sum(w * keys[b, j] for w, j in zip(weights, seen, strict=True)))
    return torch.stack(rows).view(B, Q, N)


def check(ours, expected, inputs):
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    factor = torch.randn_like(expected)
    pair = [torch.autograd.grad((factor * x).sum(), inputs) for x in (ours, expected)]
    torch.testing.assert_close(*pair, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scores", [1, 2 * K, 1 << 23])
def test_bilinear(tensors, monkeypatch, scores):
    """One query at a time, two, all."""
    queries, keys, sees, W, _, _ = tensors
    monkeypatch.setattr(attention, "SCORES", scores)
    monkeypatch.setattr(attention, "QUERIES", 1)
    expected = contexts(queries, keys, sees, lambda h, k: h @ W @ k)
    check(bilinear_attention(queries, keys, W), expected, [queries, keys, W])


@pytest.mark.parametrize("sums", [1, 100, 1 << 23])
def test_additive(tensors, monkeypatch, sums):
    """In chunks of one query, of two, of all."""
    queries, keys, sees, W, U, v = tensors
    monkeypatch.setattr(attention, "SUMS", sums)
    expected = contexts(queries, keys, sees, lambda h, k: v @ torch.tanh(W @ h + U @ k))
    ours = additive_attention(queries, keys, W, U, v)
    check(ours, expected, [queries, keys, W, U, v])


@pytest.mark.parametrize("size", [6, 7])
def test_sinusoids(size):
    found = sinusoids(3, 4, size)
    assert found.shape == (4, size)
    for t in range(4):
        for i in range(size):
            wave = math.cos if i % 2 else math.sin
            assert found[t, i].item() == pytest.approx(
                wave((3 + t) / 10000 ** (i // 2 * 2 / size)), abs=1e-12
            )
