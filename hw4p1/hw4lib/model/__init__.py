"""The models, from masks to whole transformers."""

from .decoder_layers import CrossAttentionDecoderLayer, SelfAttentionDecoderLayer
from .encoder_layers import SelfAttentionEncoderLayer
from .masks import CausalMask, PadMask
from .positional_encoding import PositionalEncoding
from .sublayers import CrossAttentionLayer, FeedForwardLayer, SelfAttentionLayer
from .transformers import DecoderOnlyTransformer, EncoderDecoderTransformer

__all__ = [
    "CausalMask", "CrossAttentionDecoderLayer", "CrossAttentionLayer", "DecoderOnlyTransformer",
    "EncoderDecoderTransformer", "FeedForwardLayer", "PadMask", "PositionalEncoding",
    "SelfAttentionDecoderLayer", "SelfAttentionEncoderLayer", "SelfAttentionLayer",
]
