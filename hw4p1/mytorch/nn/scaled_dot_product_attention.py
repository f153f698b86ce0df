"""softmax(Q K^T / sqrt(E)) V (handout, section 4.3; Vaswani et al. 2017, equation 1)."""

import math

import numpy as np

from .activation import Softmax


class ScaledDotProductAttention:
    """Attention of L queries over S keys, for each index of the leading (N, ..., H) by itself.

    After `forward`, `attention_scores` (N, ..., H, L, S) holds the weights: each row sums to 1.
    """

    def __init__(self):
        # Taken from the score of a key to be ignored: large beside any score, yet finite.
        self.eps = 1e10
        self.softmax = Softmax(dim=-1)

    def forward(
        self, Q: np.ndarray, K: np.ndarray, V: np.ndarray, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Q (N, ..., H, L, E), K (N, ..., H, S, E), V (N, ..., H, S, Ev) -> (N, ..., H, L, Ev).

        `mask` is (N, ..., H, L, S) or can be broadcast to it; where it is True (or 1) the key is
        ignored.
        """
        self.Q, self.K, self.V = Q, K, V
        self.scale = 1 / math.sqrt(Q.shape[-1])
        # (N, ..., H, L, S); scaling Q is less work than scaling these.
        scores = (Q * self.scale) @ K.swapaxes(-1, -2)
        if mask is not None:
            np.subtract(scores, self.eps, out=scores, where=np.asarray(mask, dtype=bool))
        self.attention_scores = self.softmax.forward(scores)
        return self.attention_scores @ V

    def backward(self, d_output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """d_output (N, ..., H, L, Ev) -> (dQ, dK, dV), shaped as Q, K and V.

        Equations 15 to 19 of the handout.

        A masked key got the weight 0 in the forward pass, so no gradient reaches it, without
        masking again.
        """
        dV = self.attention_scores.swapaxes(-1, -2) @ d_output
        d_scores = self.softmax.backward(d_output @ self.V.swapaxes(-1, -2))  # (N, ..., H, L, S)
        dQ = d_scores @ self.K * self.scale
        dK = d_scores.swapaxes(-1, -2) @ self.Q * self.scale
        return dQ, dK, dV
