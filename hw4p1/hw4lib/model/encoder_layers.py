"""One layer of the encoder."""

from torch import Tensor, nn

from .sublayers import FeedForwardLayer, SelfAttentionLayer


class SelfAttentionEncoderLayer(nn.Module):
    """Self-attention over all frames, then the feed-forward network."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.self_attn = SelfAttentionLayer(d_model, num_heads, dropout)
        self.ffn = FeedForwardLayer(d_model, d_ff, dropout)

    def forward(
        self, x: Tensor, key_padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, T, d_model), mask (B, T) -> (B, T, d_model), weights (B, T, T)."""
        x, weights = self.self_attn(x, key_padding_mask)
        return self.ffn(x), weights

    def fast(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """`forward` with a mask of booleans and without weights."""
        return self.ffn(self.self_attn.over_all(x, key_padding_mask))
