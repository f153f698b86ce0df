"""The two transformers (handout, section 5.2.5), in the pre-norm form.

A decoder alone models text; encoder and decoder recognise speech.
"""

import math
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from .decoder_layers import CrossAttentionDecoderLayer, SelfAttentionDecoderLayer
from .encoder_layers import SelfAttentionEncoderLayer
from .masks import CausalMask, PadMask
from .positional_encoding import PositionalEncoding
from .pretrained import copy_decoder
from .speech_embedding import SpeechEmbedding


class DecoderOnlyTransformer(nn.Module):
    """Token ids -> embeddings plus positions -> decoder layers -> norm -> scores of the next token.

    With `weight_tying` the embedding is the output layer's matrix E, and its rows enter the layers
    times sqrt(d_model) (Vaswani et al. 2017, section 3.4). A row that suits the scores has a norm
    near 1, and would be lost beside a position, whose norm is sqrt(d_model / 2). Weights that were
    tied without this factor need an `embedding_scale` of 1. In training each layer is skipped with
    the probability `layer_drop_rate` (Fan et al. 2020).
    """

    embedding_scale = 1.0  # unless it is tied

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
            self.embedding_scale = math.sqrt(d_model)

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
        for number, layer in kept(self, self.dec_layers):
            if need_weights:
                x, maps[f"layer{number}_dec_self"] = layer(x, pad_mask, causal_mask)
            else:
                x = layer.causal(x)
        return self.final_linear(self.norm(x)), maps

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Embeddings (B, n, d_model) of ids (B, n) that stand at the positions from `start` on."""
        vectors = self.target_embedding(tokens) * self.embedding_scale
        return self.dropout(self.positional_encoding(vectors, start))

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


class EncoderDecoderTransformer(nn.Module):
    """Speech features -> fewer frames -> encoder layers; token ids -> decoder layers that see them.

    The encoder's output is also scored by itself, for connectionist temporal classification (CTC,
    Graves et al. 2006). Both halves share `positional_encoding` and `dropout`. In training each
    layer is skipped with the probability `layer_drop_rate`. With `weight_tying` the embedding is
    the output layer's matrix, times sqrt(d_model) (Vaswani et al. 2017, section 3.4): without that
    it is small beside the positions, and hardly learns.
    """

    def __init__(
        self, input_dim: int, time_reduction: int, reduction_method: str, num_encoder_layers: int,
        num_encoder_heads: int, d_ff_encoder: int, num_decoder_layers: int, num_decoder_heads: int,
        d_ff_decoder: int, d_model: int, dropout: float, max_len: int, num_classes: int,
        weight_tying: bool = False, layer_drop_rate: float = 0.0, skip_encoder_pe: bool = False,
        skip_decoder_pe: bool = False,
    ):
        super().__init__()
        self.max_len, self.num_classes = max_len, num_classes
        self.num_encoder_layers, self.num_decoder_layers = num_encoder_layers, num_decoder_layers
        self.layer_drop_rate = layer_drop_rate
        self.skip_encoder_pe, self.skip_decoder_pe = skip_encoder_pe, skip_decoder_pe
        self.source_embedding = SpeechEmbedding(
            input_dim, d_model, time_reduction, reduction_method, dropout
        )
        self.target_embedding = nn.Embedding(num_classes, d_model)
        self.positional_encoding = PositionalEncoding(d_model, max_len)
        self.dropout = nn.Dropout(dropout)
        self.enc_layers = nn.ModuleList(
            SelfAttentionEncoderLayer(d_model, num_encoder_heads, d_ff_encoder, dropout)
            for _ in range(num_encoder_layers)
        )
        self.dec_layers = nn.ModuleList(
            CrossAttentionDecoderLayer(d_model, num_decoder_heads, d_ff_decoder, dropout)
            for _ in range(num_decoder_layers)
        )
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.final_linear = nn.Linear(d_model, num_classes)
        self.ctc_head = nn.Sequential(nn.Linear(d_model, num_classes), nn.LogSoftmax(-1))
        self.embedding_scale = 1.0
        if weight_tying:
            self.target_embedding.weight = self.final_linear.weight
            self.embedding_scale = math.sqrt(d_model)

    def forward(
        self, padded_sources: Tensor, padded_targets: Tensor, source_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None, need_weights: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Features (B, T, input_dim), ids (B, L), both right-padded to lengths (B,).

        Returns logits (B, L, num_classes), attention maps, and the CTC head's output, as `encode`
        and `decode` have them. Raises ValueError in training mode without lengths.
        """
        if self.training and (source_lengths is None or target_lengths is None):
            raise UserError("source_lengths and target_lengths: in training both have to be known")
        if source_lengths is None:
            B, T, _ = padded_sources.shape
            source_lengths = torch.full((B,), T, device=padded_sources.device)
        x_enc, pad_mask, enc_maps, ctc = self.encode(padded_sources, source_lengths, need_weights)
        logits, dec_maps = self.decode(
            padded_targets, x_enc, target_lengths, pad_mask, need_weights
        )
        return logits, enc_maps | dec_maps, ctc

    def encode(
        self, padded_sources: Tensor, source_lengths: Tensor, need_weights: bool = True
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Features (B, T, input_dim) with lengths (B,) -> frames (B, T', d_model), their mask.

        The mask (B, T') is True in the padding. Then come the maps `layer1_enc_self`, ... (B, T',
        T'), none without `need_weights`; and `log_probs` (T', B, num_classes) of the CTC head, time
        first, with `lengths` (B,), those of the frames.
        """
        x, lengths = self.source_embedding(padded_sources, source_lengths)
        pad_mask = PadMask(x, lengths)
        if not self.skip_encoder_pe:
            x = self.positional_encoding(x)
        x = self.dropout(x)
        maps = {}
        for number, layer in kept(self, self.enc_layers[: self.num_encoder_layers]):
            if need_weights:
                x, maps[f"layer{number}_enc_self"] = layer(x, pad_mask)
            else:
                x = layer.fast(x, pad_mask)
        x = self.encoder_norm(x)
        with torch.autocast(x.device.type, enabled=False):  # sums of many log-probabilities follow
            log_probs = self.ctc_head(x.to(self.ctc_head[0].weight.dtype))
        return x, pad_mask, maps, {"log_probs": log_probs.transpose(0, 1), "lengths": lengths}

    def decode(
        self, padded_targets: Tensor, encoder_output: Tensor, target_lengths: Tensor | None = None,
        pad_mask_src: Tensor | None = None, need_weights: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Ids (B, L), frames (B, T', d_model) -> logits (B, L, num_classes), attention maps.

        The maps are `layer1_dec_self`, ... (B, L, L) and `layer1_dec_cross`, ... (B, L, T'), none
        without `need_weights`. The logits at real positions are the same then: the causal mask
        alone hides padding, which stands at the end.
        """
        if self.training and target_lengths is None:
            warnings.warn("decode without target_lengths in training mode", stacklevel=2)
        x = self.embed(padded_targets)
        maps = {}
        if need_weights:
            causal_mask = CausalMask(padded_targets)  # (L, L)
            pad_mask = None  # or (B, L)
            if target_lengths is not None:
                pad_mask = PadMask(padded_targets, target_lengths)
        for number, layer in kept(self, self.dec_layers[: self.num_decoder_layers]):
            if need_weights:
                name = f"layer{number}_dec"
                x, maps[f"{name}_self"], maps[f"{name}_cross"] = layer(
                    x, encoder_output, pad_mask, pad_mask_src, causal_mask
                )
            else:
                memory = layer.cross_attn.keys_values(encoder_output)
                x = layer.causal(x, memory, pad_mask_src)
        return self.final_linear(self.decoder_norm(x)), maps

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Embeddings (B, n, d_model) of ids (B, n) that stand at the positions from `start` on."""
        x = self.target_embedding(tokens)
        if self.embedding_scale != 1:
            x = x * self.embedding_scale
        if not self.skip_decoder_pe:
            x = self.positional_encoding(x, start)
        return self.dropout(x)

    def memories(self, encoder_output: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of frames (B, T', d_model) for each decoder layer's cross-attention."""
        layers = self.dec_layers[: self.num_decoder_layers]
        return [layer.cross_attn.keys_values(encoder_output) for layer in layers]

    def score(self, batch_prompts: Tensor, encoder_output: Tensor, pad_mask_src: Tensor) -> Tensor:
        """Scores (B, num_classes) of the token after prompts (B, L), which have no padding.

        They look at frames (B, T', d_model) with a mask (B, T'). Keeps nothing between calls;
        hw4lib.decoding.SpeechScorer does. Raises ValueError in training mode.
        """
        caches = [None] * self.num_decoder_layers
        memories = self.memories(encoder_output)
        return self.score_after(caches, batch_prompts, 0, memories, pad_mask_src)

    def score_after(
        self, caches: list, tokens: Tensor, start: int, memories: list[tuple[Tensor, Tensor]],
        pad_mask_src: Tensor | None,
    ) -> Tensor:
        """Scores (B * W, num_classes) of the token after `tokens` (B * W, n).

        These follow the `start` positions in `caches`, one for each layer, which get the new
        positions' keys and values. Each of the B utterances of `memories` has W sequences, one
        after the other. Raises ValueError in training mode.
        """
        if self.training:
            raise UserError("the next token is scored for generation only; call model.eval() first")
        x = self.embed(tokens, start)
        layers = self.dec_layers[: self.num_decoder_layers]
        for layer, cache, memory in zip(layers, caches, memories, strict=True):
            x = layer.causal(x, memory, pad_mask_src, cache)
        return self.final_linear(self.decoder_norm(x[:, -1]))

    @classmethod
    def from_pretrained_decoder(
        cls, decoder_checkpoint_path: str | Path, config: dict
    ) -> tuple["EncoderDecoderTransformer", dict[str, list[tuple[str, nn.Parameter]]]]:
        """A model of `config` whose decoder begins as a DecoderOnlyTransformer was trained.

        As many layers are copied as both have, each its self-attention and feed-forward network;
        beside them embedding, output layer and last norm. Returns the model, and its parameters by
        name, those that are `transferred` and the `new` ones. UserError for a checkpoint that is
        none, or whose model does not fit.
        """
        model = cls(**config)
        return model, copy_decoder(decoder_checkpoint_path, model, config["num_decoder_heads"])

    def log_param_groups(self, groups: list[dict]) -> None:
        """Print how many parameters each group of an optimizer has."""
        for group in groups:
            size = sum(p.numel() for p in group["params"])
            print(f"{group.get('name', 'group')}: {size:,} parameters")


def kept(model: nn.Module, layers: nn.ModuleList) -> Iterator[tuple[int, nn.Module]]:
    """Layers with their numbers from 1, less those that a model in training drops."""
    for number, layer in enumerate(layers, 1):
        may_drop = model.training and model.layer_drop_rate > 0
        if not may_drop or random.random() >= model.layer_drop_rate:
            yield number, layer
