"""The four layers of the handout's section 4, each class in a file of its own.

Each has `forward`, which keeps what `backward` needs, and `backward`, which takes dL/d(output) and
returns dL/d(input). No array that is given is changed. A result has the data type of what went in;
where those differ, NumPy's promotion decides (float32 with float64 gives float64).
"""

from .activation import Softmax
from .linear import Linear
from .multi_head_attention import MultiHeadAttention
from .scaled_dot_product_attention import ScaledDotProductAttention

__all__ = ["Linear", "MultiHeadAttention", "ScaledDotProductAttention", "Softmax"]
