"""Attention to a past, and of other kinds (exercise 4); sinusoidal positions (exercise 8)."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

ATTENTION = ("dot", "bilinear", "additive")
SUMS = 1 << 23  # numbers that additive attention has in memory at a time


def look_back(model, hidden: Tensor, past: Tensor | None) -> Tensor:
    """`LSTMLM.attend` with a `past`, and with attention other than the dot product.

    Contexts (B, T, n) of hidden states (B, T, n) that look at all strictly earlier ones: the `past`
    (B, P, n), if any, and those before them in `hidden`.
    """
    T = hidden.shape[1]
    keys = hidden if past is None else torch.cat([past, hidden], 1)  # (B, P + T, n)
    P = keys.shape[1] - T
    earlier = hidden.new_ones(T, P + T, dtype=torch.bool).tril(P - 1)
    if model.attention == "dot":
        return F.scaled_dot_product_attention(hidden, keys, keys, attn_mask=earlier)
    if model.attention == "bilinear":
        return bilinear_attention(hidden, keys, earlier, model.W.to(keys))
    weights = model.W.to(keys), model.U.to(keys), model.v.to(keys)
    return additive_attention(hidden, keys, earlier, *weights)


def bilinear_attention(queries: Tensor, keys: Tensor, sees: Tensor, W: Tensor) -> Tensor:
    """Contexts (B, q, n) by the scores h_i^T W h_j (Luong et al. 2015, "general").

    `queries` (B, q, n) look at `keys` (B, k, n) where `sees` (q, k) is true; zeros for a query that
    sees nothing.
    """
    return F.scaled_dot_product_attention(queries @ W, keys, keys, attn_mask=sees, scale=1.0)


def additive_attention(
    queries: Tensor, keys: Tensor, sees: Tensor, W: Tensor, U: Tensor, v: Tensor
) -> Tensor:
    """Contexts (B, q, n) by the scores v^T tanh(W h_i + U h_j) (Bahdanau et al. 2015).

    The sums W h_i + U h_j are B q k n numbers, so a few queries are done at a time, and again in
    the backward pass.
    """

    def contexts(query, key_sums, keys, sees):
        sums = F.linear(query, W)[:, :, None] + key_sums[:, None]  # (B, q', k', n)
        scores = torch.tanh(sums) @ v  # (B, q', k')
        # A finite number, as the softmax of a query that sees nothing should be one, too.
        scores = scores.masked_fill(~sees, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, 2).masked_fill(~sees, 0.0)
        return weights @ keys

    key_sums = F.linear(keys, U)  # (B, k, n)
    size = SUMS // max(1, keys.numel()) + 1
    parts = []
    for query, seen in zip(queries.split(size, 1), sees.split(size), strict=True):
        end = max(1, int(seen.any(0).sum()))  # of the keys that one of these sees
        inputs = query, key_sums[:, :end], keys[:, :end], seen[:, :end]
        parts.append(checkpoint(contexts, *inputs, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(parts, 1)


def sinusoids(begin: int, count: int, size: int) -> Tensor:
    """The encodings (count, size) of the positions from `begin` on (Vaswani et al. 2017, 3.5)."""
    positions = torch.arange(begin, begin + count)[:, None]
    pairs = torch.arange(0, size, 2, dtype=torch.float64)
    angles = positions / 10000 ** (pairs / size)  # (count, size / 2)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :size]
