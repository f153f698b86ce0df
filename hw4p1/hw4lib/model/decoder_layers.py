"""One layer of the decoder (handout, section 5.2.4)."""

from torch import Tensor, nn

from .sublayers import FeedForwardLayer, SelfAttentionLayer


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
