"""The model, from masks to the whole transformer."""

from hw4lib.model.decoder_layers import SelfAttentionDecoderLayer
from hw4lib.model.masks import CausalMask, PadMask
from hw4lib.model.positional_encoding import PositionalEncoding
from hw4lib.model.sublayers import FeedForwardLayer, SelfAttentionLayer
from hw4lib.model.transformers import DecoderOnlyTransformer

__all__ = [
    "CausalMask", "DecoderOnlyTransformer", "FeedForwardLayer", "PadMask", "PositionalEncoding",
    "SelfAttentionDecoderLayer", "SelfAttentionLayer",
]
