"""The affine map of the last dimension (handout, section 4.1)."""

import numpy as np


class Linear:
    """Z = A W^T + b over any number of leading dimensions.

    `W` has shape (out_features, in_features), `b` has shape (out_features,). Both are zero until
    `init_weights`; zeros in float32, so that float32 input stays float32 and float64 stays float64.
    """

    def __init__(self, in_features: int, out_features: int):
        self.W = np.zeros((out_features, in_features), dtype=np.float32)
        self.b = np.zeros(out_features, dtype=np.float32)

    def init_weights(self, W: np.ndarray, b: np.ndarray) -> None:
        """Use these arrays, not copies of them, as weights and bias."""
        self.W = W
        self.b = b

    def forward(self, A: np.ndarray) -> np.ndarray:
        """A: (*, in_features) -> Z: (*, out_features).

        ValueError if A's last dimension is another one.
        """
        out_features, in_features = self.W.shape
        if A.ndim == 0 or A.shape[-1] != in_features:
            raise ValueError(
                f"Linear: the input has shape {A.shape}; its last dimension must be {in_features}"
            )
        self.A = A
        self.input_shape = A.shape
        Z = self._rows(A) @ self.W.T + self.b  # (B, out_features)
        return Z.reshape(*A.shape[:-1], out_features)

    def backward(self, dLdZ: np.ndarray) -> np.ndarray:
        """dLdZ: (*, out_features) -> dLdA: (*, in_features), equations 8 to 10 of the handout.

        Sets `dLdA`, `dLdW`, `dLdb`, each in place of the one before: gradients are not accumulated.
        """
        dZ = self._rows(dLdZ)  # (B, out_features)
        self.dLdA = (dZ @ self.W).reshape(self.input_shape)
        self.dLdW = dZ.T @ self._rows(self.A)  # (out_features, in_features)
        self.dLdb = dZ.sum(axis=0)  # (out_features,)
        return self.dLdA

    @staticmethod
    def _rows(x: np.ndarray) -> np.ndarray:
        """(*, C) -> (B, C), so that one matrix product follows, not one for each leading index."""
        return x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])
