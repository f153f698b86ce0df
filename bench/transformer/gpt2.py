"""A GPT-2-style decoder in the manner of nanoGPT, to compare with: one module a thing, no cache.

Pre-norm blocks; one product for queries, keys and values; PyTorch's fused attention under a causal
mask; GELU; learned positions (Radford et al. 2019). Padding is attended to by padding alone, as it
stands at the end, and has no loss.
"""

import sys

if __name__ == "__main__":
    print("gpt2.py: error: no program; train_speed.py uses it", file=sys.stderr)
    sys.exit(2)

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int):
        super().__init__()
        self.heads = num_heads
        self.norm_1 = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.project = nn.Linear(d_model, d_model)
        self.norm_2 = nn.LayerNorm(d_model)
        self.mlp = nn.Sequential(nn.Linear(d_model, d_ff), nn.GELU(), nn.Linear(d_ff, d_model))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = self.qkv(self.norm_1(x)).split(C, 2)
        q, k, v = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in (q, k, v))  # (B, H, T, E)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.norm_2(x))


class GPT2(nn.Module):
    """Ids (B, T) -> logits (B, T, V); with targets the mean nats, without those that are `pad`."""

    def __init__(
        self, num_layers: int, d_model: int, num_heads: int, d_ff: int, max_len: int, V: int
    ):
        super().__init__()
        self.tokens = nn.Embedding(V, d_model)
        self.positions = nn.Embedding(max_len, d_model)
        self.blocks = nn.Sequential(*[Block(d_model, num_heads, d_ff) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, V)

    def forward(self, ids: Tensor, targets: Tensor, pad: int) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        logits = self.output(self.norm(self.blocks(x)))  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=pad)
