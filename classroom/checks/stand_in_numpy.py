"""The NumPy layers of the second assignment by PyTorch, for checks of what is built of them."""

import torch
from torch.nn import functional as F


class Differentiated:
    """A layer whose backward is PyTorch's."""

    def run(self, function, *arrays):
        """function(*arrays), as an array; what backward needs is kept."""
        self.inputs = [torch.tensor(array, requires_grad=True) for array in arrays]
        self.result = function(*self.inputs)
        return self.result.detach().numpy().copy()

    def back(self, gradient) -> list:
        """The gradients of all inputs."""
        found = torch.autograd.grad(self.result, self.inputs, torch.tensor(gradient))
        return [each.numpy().copy() for each in found]


class Linear(Differentiated):
    """For mytorch.nn.linear.Linear."""

    def __init__(self, in_features: int, out_features: int):
        self.W, self.b = torch.zeros(out_features, in_features).numpy(), None

    def init_weights(self, W, b) -> None:
        self.W, self.b = W, b

    def forward(self, A):
        return self.run(F.linear, A, self.W, self.b)

    def backward(self, dLdZ):
        self.dLdA, self.dLdW, self.dLdb = self.back(dLdZ)
        return self.dLdA


class Softmax(Differentiated):
    """For mytorch.nn.activation.Softmax."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, Z):
        return self.run(lambda z: F.softmax(z, self.dim), Z)

    def backward(self, dLdA):
        return self.back(dLdA)[0]


class Attention(Differentiated):
    """For mytorch.nn.scaled_dot_product_attention.ScaledDotProductAttention."""

    def forward(self, Q, K, V, mask=None):
        seen = None if mask is None else torch.tensor(~(mask > 0))
        return self.run(lambda *x: F.scaled_dot_product_attention(*x, attn_mask=seen), Q, K, V)

    def backward(self, d_output):
        return tuple(self.back(d_output))


def install(program) -> None:
    """Let the layers that are built of others have these."""
    attention = program("mytorch.nn.scaled_dot_product_attention")
    attention.Softmax = Softmax
    multi_head = program("mytorch.nn.multi_head_attention")
    multi_head.Linear, multi_head.ScaledDotProductAttention = Linear, Attention
