"""The two masks of attention. True means: do not look there (handout, section 5.2.1)."""

import torch
from torch import Tensor


def PadMask(padded_input: Tensor, input_lengths: Tensor) -> Tensor:
    """True at the padding of a right-padded batch.

    (N, T) for an input (N, T, ...) with lengths (N,).
    """
    positions = torch.arange(padded_input.shape[1], device=padded_input.device)
    return positions >= input_lengths.to(padded_input.device)[:, None]  # (N, T)


def CausalMask(padded_input: Tensor) -> Tensor:
    """True where a position (row) would look at a later one (column).

    (T, T) for an input (N, T, ...).
    """
    T = padded_input.shape[1]
    return torch.ones(T, T, dtype=torch.bool, device=padded_input.device).triu(1)
