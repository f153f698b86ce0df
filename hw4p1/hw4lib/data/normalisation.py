"""Mean and standard deviation of each bin, over an utterance or a whole training set."""

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

NORMS = ("global_mvn", "cepstral", "none")
EPS = 1e-8

Stats = tuple[Tensor, Tensor]  # mean and standard deviation, float32 (bins,)


class Moments:
    """Mean and variance of each bin over all frames that were added, in float64.

    Two sets are merged as in Chan, Golub and LeVeque (1979): each counts by its frames. So it does
    not matter in which order utterances come, nor how long they are.
    """

    def __init__(self, bins: int):
        self.frames = 0
        self.mean = np.zeros(bins)
        self.squares = np.zeros(bins)  # sum of squared distances from the mean

    def add(self, features: np.ndarray) -> None:
        """Add an utterance (bins, T)."""
        values = features.astype(np.float64)
        mean = values.mean(1)
        distance = mean - self.mean
        total = self.frames + values.shape[1]
        self.squares += np.square(values - mean[:, None]).sum(1)
        self.squares += np.square(distance) * self.frames * values.shape[1] / total
        self.mean += distance * values.shape[1] / total
        self.frames = total

    def stats(self) -> Stats:
        """Mean and standard deviation; that with n - 1."""
        variance = self.squares / max(1, self.frames - 1)
        std = np.sqrt(variance + EPS)
        return torch.from_numpy(self.mean).float(), torch.from_numpy(std).float()


def check_norm(norm: str) -> None:
    """UserError for a norm that there is not."""
    if norm not in NORMS:
        raise UserError(f"data.norm {norm!r}: choose one of {', '.join(NORMS)}")


def normalised(features: Tensor, norm: str, stats: Stats | None) -> Tensor:
    """Features (bins, T) as the model gets them; `stats` are those of `global_mvn`."""
    if norm == "none":
        return features
    if norm == "cepstral":
        mean = features.mean(1)
        std = features.std(1) if features.shape[1] > 1 else torch.zeros_like(mean)
    else:
        mean, std = stats
    return (features - mean[:, None]) / (std[:, None] + EPS)
