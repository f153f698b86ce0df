"""Attention to a past, and of other kinds (exercise 4); sinusoidal positions (exercise 8)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

ATTENTION = ("dot", "bilinear", "additive")
SUMS = 1 << 22  # numbers that additive attention has in memory at a time
SCORES = 1 << 23  # queries x keys that the others have a mask for at a time,
QUERIES = 64  # but of no fewer queries


def look_back(model, hidden: Tensor, past: Tensor | None) -> Tensor:
    """`LSTMLM.attend` with a `past`, and with attention other than the dot product.

    Contexts (B, T, n) of hidden states (B, T, n) that look at all strictly earlier ones: the `past`
    (B, P, n), if any, and those before them in `hidden`.
    """
    keys = hidden if past is None else torch.cat([past, hidden], 1)  # (B, P + T, n)
    if model.attention == "dot":
        return dot_attention(hidden, keys, hidden.shape[2] ** -0.5)
    if model.attention == "bilinear":
        return bilinear_attention(hidden, keys, model.W.to(keys))
    return additive_attention(hidden, keys, model.W.to(keys), model.U.to(keys), model.v.to(keys))


def in_pieces(attend: Callable[..., Tensor], size: int, queries: Tensor, *keys: Tensor) -> Tensor:
    """Contexts (B, q, n) by `attend(sees, queries, *keys)`, for `size` queries at a time.

    All of `keys` are (B, k, n), and the queries (B, q, n) stand at the last q of these places; a
    query sees what is strictly earlier: `sees` (q', k') is true there. With gradients each piece is
    computed again in the backward pass, so that no more than one is in memory.
    """
    T = queries.shape[1]
    K = keys[0].shape[1]
    P = K - T

    def piece(start: int, queries: Tensor, *keys: Tensor) -> Tensor:
        shape = queries.shape[1], keys[0].shape[1]
        sees = queries.new_ones(shape, dtype=torch.bool).tril(P + start - 1)
        return attend(sees, queries, *keys)

    parts = []
    for start in range(0, T, size):
        # As many keys as one of these sees; but all after a longer past, when little is saved, and
        # memory is used again only by tensors of the same size.
        seen = K if P >= T else max(1, P + min(T, start + size) - 1)
        inputs = start, queries[:, start : start + size], *(x[:, :seen] for x in keys)
        if torch.is_grad_enabled() and size < T:
            part = checkpoint(piece, *inputs, use_reentrant=False, preserve_rng_state=False)
        else:
            part = piece(*inputs)
        parts.append(part)
    return torch.cat(parts, 1)


def dot_attention(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Contexts (B, q, n) of `queries` (B, q, n) that look at the strictly earlier of `keys`.

    These are (B, k, n), of which the last q stand where the queries do. Zeros for a query that sees
    nothing. The mask has q k numbers, so of a long text a few queries are done at a time.
    """

    def contexts(sees, queries, keys):
        attend = partial(F.scaled_dot_product_attention, attn_mask=sees, scale=scale)
        if keys.device.type != "cpu":
            return attend(queries, keys, keys)
        # PyTorch has a kernel that never holds all scores, for tensors with heads: here one.
        keys = keys[:, None]  # (B, 1, k', n)
        return attend(queries[:, None], keys, keys)[:, 0]

    size = max(QUERIES, SCORES // keys.shape[1])
    return in_pieces(contexts, size, queries, keys)


def bilinear_attention(queries: Tensor, keys: Tensor, W: Tensor) -> Tensor:
    """As `dot_attention`, by the scores h_i^T W h_j (Luong et al. 2015, "general")."""
    return dot_attention(queries @ W, keys, 1.0)


def additive_attention(queries: Tensor, keys: Tensor, W: Tensor, U: Tensor, v: Tensor) -> Tensor:
    """As `dot_attention`, by the scores v^T tanh(W h_i + U h_j) (Bahdanau et al. 2015).

    The sums W h_i + U h_j are B q k n numbers, so a few queries are done at a time.
    """

    def contexts(sees, queries, keys, key_sums):
        sums = F.linear(queries, W)[:, :, None] + key_sums[:, None]  # (B, q', k', n)
        scores = torch.tanh(sums) @ v  # (B, q', k')
        # A finite number, as the softmax of a query that sees nothing should be one, too.
        scores = scores.masked_fill(~sees, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, 2).masked_fill(~sees, 0.0)
        return weights @ keys

    size = SUMS // max(1, keys.numel()) + 1
    return in_pieces(contexts, size, queries, keys, F.linear(keys, U))


def sinusoids(begin: int, count: int, size: int) -> Tensor:
    """The encodings (count, size) of the positions from `begin` on (Vaswani et al. 2017, 3.5)."""
    positions = torch.arange(begin, begin + count)[:, None]
    pairs = torch.arange(0, size, 2, dtype=torch.float64)
    angles = positions / 10000 ** (pairs / size)  # (count, size / 2)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :size]
