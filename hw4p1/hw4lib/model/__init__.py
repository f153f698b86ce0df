"""The model, from masks to the whole transformer."""

from .decoder_layers import SelfAttentionDecoderLayer
from .masks import CausalMask, PadMask
from .positional_encoding import PositionalEncoding
from .sublayers import FeedForwardLayer, SelfAttentionLayer
from .transformers import DecoderOnlyTransformer

__all__ = [
    "CausalMask", "DecoderOnlyTransformer", "FeedForwardLayer", "PadMask", "PositionalEncoding",
    "SelfAttentionDecoderLayer", "SelfAttentionLayer",
]
