"""Large matrix products without autograd, each by the library that is fast for it."""

import torch
from torch import Tensor
from torch.nn import functional as F


def has_onednn(x: Tensor) -> bool:
    """Whether oneDNN multiplies `x` by name. PyTorch gives float32 to MKL, half as fast on AMD."""
    cpu = x.device.type == "cpu" and torch.backends.mkldnn.is_available()
    return cpu and x.dtype == torch.float32


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (R, K) times the transpose of weight (n, K), plus bias (n,): `F.linear`."""
    if has_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient (n, K) of a weight, from that of `product(x, weight)` (R, n) and x (R, K)."""
    if has_onednn(x):
        # oneDNN copies a transposed first factor, so that is the smaller one; and it takes ages for
        # a weight with gaps between its rows.
        return product(x.t(), grad.contiguous().t()).t()
    return grad.t() @ x


class WeightGradient:
    """The gradient (n, K) of a weight, in `dtype`, to which each chunk of rows adds its share.

    A share in lower precision is written and converted in memory that all chunks use in turn:
    fresh memory for each costs as much as the sum.
    """

    def __init__(self, weight: Tensor, dtype: torch.dtype):
        self.total = torch.zeros_like(weight, dtype=dtype)
        if weight.dtype != dtype:
            self.low = torch.empty_like(weight)
            self.wide = torch.empty_like(self.total)

    def add(self, grad: Tensor, x: Tensor) -> None:
        """Add that of `product(x, weight)`, whose own gradient is `grad` (R, n); x (R, K)."""
        if x.dtype == self.total.dtype:
            self.total += weight_gradient(grad, x)
        else:
            torch.mm(grad.t(), x, out=self.low)
            self.total += self.wide.copy_(self.low)
