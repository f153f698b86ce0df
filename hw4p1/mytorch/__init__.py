"""The layers of attention in NumPy alone.

What PyTorch's modules do, forward and backward, in a few lines each.
"""

from .nn import Linear, MultiHeadAttention, ScaledDotProductAttention, Softmax

__all__ = ["Linear", "MultiHeadAttention", "ScaledDotProductAttention", "Softmax"]
