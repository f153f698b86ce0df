"""The decoder-only transformer (handout, section 5.2.5), in the pre-norm form."""

import random

from torch import Tensor, nn

from ..errors import UserError
from .decoder_layers import SelfAttentionDecoderLayer
from .masks import CausalMask, PadMask
from .positional_encoding import PositionalEncoding


class DecoderOnlyTransformer(nn.Module):
    """Token ids -> embeddings plus positions -> decoder layers -> norm -> scores of the next token.

    With `weight_tying` the embedding is the output layer's matrix. In training each layer is
    skipped with the probability `layer_drop_rate` (Fan et al. 2020).
    """

    def __init__(
        self, num_layers: int, d_model: int, num_heads: int, d_ff: int, dropout: float,
        max_len: int,
        num_classes: int, weight_tying: bool = False, layer_drop_rate: float = 0.0,
    ):
        super().__init__()
        self.max_len, self.num_classes, self.num_layers = max_len, num_classes, num_layers
        self.layer_drop_rate = layer_drop_rate
        self.target_embedding = nn.Embedding(num_classes, d_model)
        self.positional_encoding = PositionalEncoding(d_model, max_len)
        self.dropout = nn.Dropout(dropout)
        self.dec_layers = nn.ModuleList(
            SelfAttentionDecoderLayer(d_model, num_heads, d_ff, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.final_linear = nn.Linear(d_model, num_classes)
        if weight_tying:
            self.target_embedding.weight = self.final_linear.weight

    def forward(
        self, padded_targets: Tensor, target_lengths: Tensor | None = None,
        need_weights: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Ids (B, T), right-padded to lengths (B,) -> logits (B, T, num_classes), attention maps.

        The maps (B, T, T) are under `layer1_dec_self`, `layer2_dec_self`, ...; a dropped layer has
        none. Without `need_weights` there are none, and it takes a fraction of the time and memory.
        The logits at real positions are the same: padding stands at the end, where the causal mask
        alone hides it from all of them. Raises ValueError in training mode without lengths, or if T
        is over max_len.
        """
        if self.training and target_lengths is None:
            raise UserError("target_lengths is missing: in training the padding has to be known")
        x = self.embed(padded_targets)  # (B, T, d_model)
        maps = {}
        if need_weights:
            causal_mask = CausalMask(padded_targets)  # (T, T)
            pad_mask = None  # or (B, T)
            if target_lengths is not None:
                pad_mask = PadMask(padded_targets, target_lengths)
        for number, layer in enumerate(self.dec_layers, 1):
            may_drop = self.training and self.layer_drop_rate > 0
            if may_drop and random.random() < self.layer_drop_rate:
                continue
            if need_weights:
                x, maps[f"layer{number}_dec_self"] = layer(x, pad_mask, causal_mask)
            else:
                x = layer.causal(x)
        return self.final_linear(self.norm(x)), maps

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Embeddings (B, n, d_model) of ids (B, n) that stand at the positions from `start` on."""
        return self.dropout(self.positional_encoding(self.target_embedding(tokens), start))

    def score(self, batch_prompts: Tensor) -> Tensor:
        """Scores (B, num_classes) of the token after prompts (B, L), which have no padding.

        Keeps nothing between calls; hw4lib.decoding.CachedScorer does. Raises ValueError in
        training mode.
        """
        return self.score_after([None] * self.num_layers, batch_prompts)

    def score_after(self, caches: list, tokens: Tensor, start: int = 0) -> Tensor:
        """Scores (B, num_classes) of the token after `tokens` (B, n).

        These follow the `start` positions in `caches`.

        Each of the `num_layers` caches gets the new positions' keys and values. Raises ValueError
        in training mode.
        """
        if self.training:
            raise UserError("the next token is scored for generation only; call model.eval() first")
        x = self.embed(tokens, start)
        for layer, cache in zip(self.dec_layers, caches, strict=True):
            x = layer.causal(x, cache)
        return self.final_linear(self.norm(x[:, -1]))
