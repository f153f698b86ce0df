"""Softmax along any dimension (handout, section 4.2)."""

import numpy as np


class Softmax:
    """a_m = exp(z_m) / sum_k exp(z_k) along the dimension `dim`, which may be negative."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, Z: np.ndarray) -> np.ndarray:
        """Z -> A, of the same shape. ValueError if Z has no dimension `dim`."""
        if not -Z.ndim <= self.dim < Z.ndim:
            raise ValueError(
                f"Softmax: there is no dimension {self.dim} in an input of shape {Z.shape}"
            )
        # exp(z - max) / sum is the same number, and cannot overflow. Z.max() would take three times
        # as long as fmax, which only differs in passing over NaN; that comes back in the sum.
        # Integers become float64, as in a division.
        largest = np.fmax.reduce(Z, axis=self.dim, keepdims=True)
        A = np.subtract(Z, largest, dtype=np.result_type(Z.dtype, np.float16))
        np.exp(A, out=A)
        A /= A.sum(axis=self.dim, keepdims=True)
        self.A = A
        return A

    def backward(self, dLdA: np.ndarray) -> np.ndarray:
        """dLdA -> dLdZ, of the same shape.

        The Jacobian diag(a) - a a^T of a slice (equation 12 of the handout) is never made: times
        dL/da it is a * (dL/da - <a, dL/da>).
        """
        dLdZ = dLdA - np.vecdot(self.A, dLdA, axis=self.dim, keepdims=True)
        dLdZ *= self.A
        return dLdZ
