"""One layer of the decoder, with and without an encoder (handout, section 5.2.4)."""

from torch import Tensor, nn

from .sublayers import CrossAttentionLayer, FeedForwardLayer, SelfAttentionLayer


class SelfAttentionDecoderLayer(nn.Module):
    """Self-attention, then the feed-forward network."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.self_attn = SelfAttentionLayer(d_model, num_heads, dropout)
        self.ffn = FeedForwardLayer(d_model, d_ff, dropout)

    def forward(
        self, x: Tensor, key_padding_mask: Tensor | None = None, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, T, d_model), masks (B, T), (T, T) -> (B, T, d_model), weights (B, T, T)."""
        x, weights = self.self_attn(x, key_padding_mask, attn_mask)
        return self.ffn(x), weights

    def causal(self, x: Tensor, cache=None) -> Tensor:
        """x (B, n, d_model) -> (B, n, d_model) without weights, as in SelfAttentionLayer.causal."""
        return self.ffn(self.self_attn.causal(x, cache))


class CrossAttentionDecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's frames, then the feed-forward network."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.self_attn = SelfAttentionLayer(d_model, num_heads, dropout)
        self.cross_attn = CrossAttentionLayer(d_model, num_heads, dropout)
        self.ffn = FeedForwardLayer(d_model, d_ff, dropout)

    def forward(
        self, x: Tensor, enc_output: Tensor, dec_key_padding_mask: Tensor | None = None,
        enc_key_padding_mask: Tensor | None = None, attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, L, d_model), frames (B, T, d_model), masks (B, L), (B, T), (L, L).

        Returns (B, L, d_model), weights (B, L, L) and (B, L, T). The mask of frames is for
        cross-attention alone, the other two for self-attention.
        """
        x, self_weights = self.self_attn(x, dec_key_padding_mask, attn_mask)
        x, cross_weights = self.cross_attn(x, enc_output, enc_key_padding_mask)
        return self.ffn(x), self_weights, cross_weights

    def causal(
        self, x: Tensor, memory: tuple[Tensor, Tensor], enc_key_padding_mask: Tensor | None = None,
        cache=None,
    ) -> Tensor:
        """`forward` with the causal mask, a mask of booleans (B, T), and without weights.

        `memory` is what the cross-attention's `keys_values` gave, `cache` as in
        SelfAttentionLayer.causal; x (B * W, n, d_model).
        """
        x = self.self_attn.causal(x, cache)
        return self.ffn(self.cross_attn.over_frames(x, memory, enc_key_padding_mask))
