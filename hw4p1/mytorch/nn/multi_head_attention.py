"""Attention in several subspaces at once.

Handout, section 4.4; Vaswani et al. 2017, section 3.2.2.
"""

import numpy as np

from .linear import Linear
from .scaled_dot_product_attention import ScaledDotProductAttention


class MultiHeadAttention:
    """`num_heads` attentions side by side, each over its own E / num_heads projected features.

    The same function as `torch.nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)`
    without dropout.
    """

    def __init__(self, embed_dim: int, num_heads: int):
        if num_heads < 1 or embed_dim % num_heads != 0:
            raise ValueError(
                f"embed_dim {embed_dim} cannot be divided into {num_heads} equal heads"
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.attention = ScaledDotProductAttention()
        self.q_proj = Linear(embed_dim, embed_dim)
        self.k_proj = Linear(embed_dim, embed_dim)
        self.v_proj = Linear(embed_dim, embed_dim)
        self.out_proj = Linear(embed_dim, embed_dim)

    def init_weights(self, Wq, bq, Wk, bk, Wv, bv, Wo, bo) -> None:
        """Weights (E, E) and biases (E,) of the projections of query, key, value and output."""
        self.q_proj.init_weights(Wq, bq)
        self.k_proj.init_weights(Wk, bk)
        self.v_proj.init_weights(Wv, bv)
        self.out_proj.init_weights(Wo, bo)

    def forward(
        self, query: np.ndarray, key: np.ndarray, value: np.ndarray,
        key_padding_mask: np.ndarray | None = None, attn_mask: np.ndarray | None = None,
    ) -> np.ndarray:
        """query (N, L, E), key and value (N, S, E) -> (N, L, E).

        `key_padding_mask` (N, S) and `attn_mask` (L, S) are True where a key is ignored; either may
        be None.
        """
        self.N, self.L, self.E = query.shape
        self.S = key.shape[1]
        q = self._split_heads(self.q_proj.forward(query))  # (N, H, L, E/H)
        k = self._split_heads(self.k_proj.forward(key))  # (N, H, S, E/H)
        v = self._split_heads(self.v_proj.forward(value))
        mask = self._merge_masks(key_padding_mask, attn_mask)
        return self.out_proj.forward(self._concat_heads(self.attention.forward(q, k, v, mask)))

    def backward(self, d_output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """d_output (N, L, E) -> (d_query, d_key, d_value).

        The four projections keep `dLdW` and `dLdb`.
        """
        d_heads = self._split_heads(self.out_proj.backward(d_output))  # (N, H, L, E/H)
        dq, dk, dv = (self._concat_heads(d) for d in self.attention.backward(d_heads))
        return self.q_proj.backward(dq), self.k_proj.backward(dk), self.v_proj.backward(dv)

    def _merge_masks(
        self, key_padding_mask: np.ndarray | None, attn_mask: np.ndarray | None
    ) -> np.ndarray | None:
        """(N, S) or None, (L, S) or None -> (N, H, L, S), True where either is.

        None if there is no mask.

        It is a read-only view, in which the heads (and without padding the batch) share their
        memory.
        """
        masks = []
        if key_padding_mask is not None:
            masks.append(np.asarray(key_padding_mask, dtype=bool)[:, None, None, :])  # (N, 1, 1, S)
        if attn_mask is not None:
            masks.append(np.asarray(attn_mask, dtype=bool)[None, None, :, :])  # (1, 1, L, S)
        if not masks:
            return None
        merged = masks[0] | masks[-1]
        return np.broadcast_to(merged, (self.N, self.num_heads, self.L, self.S))

    def _split_heads(self, x: np.ndarray) -> np.ndarray:
        """(N, L, E) -> (N, H, L, E/H)."""
        N, L, E = x.shape
        return x.reshape(N, L, self.num_heads, E // self.num_heads).swapaxes(1, 2)

    def _concat_heads(self, x: np.ndarray) -> np.ndarray:
        """(N, H, L, E/H) -> (N, L, E), the inverse of `_split_heads`."""
        N, H, L, D = x.shape
        return x.swapaxes(1, 2).reshape(N, L, H * D)
