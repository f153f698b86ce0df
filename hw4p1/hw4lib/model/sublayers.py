"""The sublayers of encoder and decoder layers (handout, section 5.2.3).

They are pre-norm: x + dropout(f(norm(x))).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError

LONG = 1024  # positions


class SelfAttentionLayer(nn.Module):
    """Masked multi-head self-attention.

    Each position takes from the positions that its masks let it see.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        check_heads(d_model, num_heads)
        self.mha = nn.MultiheadAttention(d_model, num_heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, key_padding_mask: Tensor | None = None, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, T, d_model), masks (B, T) and (T, T) -> (B, T, d_model), weights (B, T, T).

        Masks are True where a position is ignored.

        The weights are the mean over the heads.
        """
        normed = self.norm(x)
        attended, weights = self.mha(
            normed, normed, normed, key_padding_mask=key_padding_mask, attn_mask=attn_mask,
            need_weights=True, average_attn_weights=True,
        )
        return x + self.dropout(attended), weights

    def causal(self, x: Tensor, cache=None) -> Tensor:
        """`forward` with the causal mask alone and without weights, several times as fast.

        (B, n, d_model) both.

        With a `cache` (hw4lib.decoding) x is what follows the positions in it, which each of x sees
        too.
        """
        B, n, E = x.shape
        H = self.mha.num_heads
        # (B, n, 3 * E).
        qkv = F.linear(self.norm(x), self.mha.in_proj_weight, self.mha.in_proj_bias)
        q, k, v = qkv.view(B, n, 3, H, E // H).permute(2, 0, 3, 1, 4).reshape(3, B * H, n, E // H)
        if cache is not None:
            k, v = cache.extend(k, v)  # (B * H, L, E / H)
        # (B * H, n, E / H).
        heads = causal_attention(q, k, v, self.mha.dropout if self.training else 0.0)
        joined = heads.view(B, H, n, E // H).transpose(1, 2).reshape(B, n, E)
        return x + self.dropout(self.mha.out_proj(joined))

    def over_all(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """`forward` without a causal mask and without weights, which are never made whole.

        x (B, T, d_model), mask of booleans (B, T) -> (B, T, d_model).
        """
        H = self.mha.num_heads
        qkv = F.linear(self.norm(x), self.mha.in_proj_weight, self.mha.in_proj_bias)
        q, k, v = qkv.unflatten(2, (3, H, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        heads = F.scaled_dot_product_attention(
            q, k, v, visible(key_padding_mask), self.mha.dropout if self.training else 0.0
        )
        return x + self.dropout(self.mha.out_proj(heads.transpose(1, 2).flatten(2)))


class CrossAttentionLayer(nn.Module):
    """Multi-head attention from a target's positions to the encoder's frames.

    Its norm is of the targets alone: the frames have been normalised at the encoder's end.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        check_heads(d_model, num_heads)
        self.mha = nn.MultiheadAttention(d_model, num_heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, y: Tensor, key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """x (B, L, d_model), frames y (B, T, d_model), masks (B, T), (L, T).

        Returns (B, L, d_model), weights (B, L, T), the mean over the heads.
        """
        attended, weights = self.mha(
            self.norm(x), y, y, key_padding_mask=key_padding_mask, attn_mask=attn_mask,
            need_weights=True, average_attn_weights=True,
        )
        return x + self.dropout(attended), weights

    def keys_values(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, T, D) of frames (B, T, d_model), the same for all targets."""
        E, H = self.mha.embed_dim, self.mha.num_heads
        kv = F.linear(y, self.mha.in_proj_weight[E:], self.mha.in_proj_bias[E:])
        k, v = kv.unflatten(2, (2, H, -1)).permute(2, 0, 3, 1, 4)
        return k, v

    def over_frames(
        self, x: Tensor, memory: tuple[Tensor, Tensor], key_padding_mask: Tensor | None = None
    ) -> Tensor:
        """`forward` with what `keys_values` gave, without weights.

        x (B * W, n, d_model) has W sequences for each utterance, one after the other, which look at
        the same frames; mask of booleans (B, T).
        """
        k, v = memory
        B, H, _, D = k.shape
        E = H * D
        q = F.linear(self.norm(x), self.mha.in_proj_weight[:E], self.mha.in_proj_bias[:E])
        q = q.reshape(B, -1, H, D).transpose(1, 2)  # (B, H, W * n, D)
        heads = F.scaled_dot_product_attention(
            q, k, v, visible(key_padding_mask), self.mha.dropout if self.training else 0.0
        )
        joined = heads.transpose(1, 2).reshape(x.shape)
        return x + self.dropout(self.mha.out_proj(joined))


def check_heads(d_model: int, num_heads: int) -> None:
    """UserError if a vector cannot be divided among the heads."""
    if num_heads < 1 or d_model % num_heads:
        what = f"d_model {d_model} does not divide into num_heads {num_heads} equal parts"
        raise UserError(f"{what}; change one")


def visible(key_padding_mask: Tensor | None) -> Tensor | None:
    """Which keys each query sees (B, 1, 1, T), of a mask (B, T) that is True where it does not."""
    return None if key_padding_mask is None else ~key_padding_mask[:, None, None]


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """The last n of L positions, q (M, n, D), look at themselves and all before, k and v (M, L, D).

    (M, n, D).

    M counts batch and heads together. Two plain batched products: on a CPU, with the short
    sequences here, bfloat16 training takes a third of the time that it takes with
    F.scaled_dot_product_attention. Of a LONG sequence the scores (n, L) would fill the memory, and
    without dropout that function never has them whole.
    """
    n, L = q.shape[1], k.shape[1]
    if n == L >= LONG:
        rows = F.scaled_dot_product_attention(q[None], k[None], v[None], None, dropout, True)
        return rows[0]
    future = q.new_full((n, L), -math.inf).triu(L - n + 1)
    scores = torch.baddbmm(future, q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5)  # (M, n, L)
    return torch.bmm(F.dropout(scores.softmax(-1), dropout), v)


class FeedForwardLayer(nn.Module):
    """Two linear layers with a GELU between them, at each position by itself."""

    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.0):
        super().__init__()
        self.ffn = nn.Sequential(
            nn.Linear(d_model, d_ff), nn.GELU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model)
        )
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, d_model) -> (B, T, d_model)."""
        return x + self.dropout(self.ffn(self.norm(x)))
