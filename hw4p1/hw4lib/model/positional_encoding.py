"""Sinusoidal positions (handout, section 5.2.2; Vaswani et al. 2017, section 3.5)."""

import torch
from torch import Tensor, nn

from ..errors import UserError


class PositionalEncoding(nn.Module):
    """Adds to each position t its row of P.

    P[t, 2i] = sin(t / 10000^(2i/d)), P[t, 2i+1] = cos of the same angle.
    """

    def __init__(self, d_model: int, max_len: int):
        super().__init__()
        self.create_pe_table(d_model, max_len)

    def create_pe_table(self, d_model: int, max_len: int) -> None:
        """Register P as the buffer `pe` (1, max_len, d_model).

        An odd `d_model` ends with a sine.
        """
        positions = torch.arange(max_len, dtype=torch.float64)[:, None]
        even = torch.arange(0, d_model, 2, dtype=torch.float64)
        angles = positions / 10000 ** (even / d_model)  # (max_len, ceil(d / 2))
        pe = torch.empty(1, max_len, d_model)
        pe[0, :, 0::2] = angles.sin()
        pe[0, :, 1::2] = angles[:, : d_model // 2].cos()
        self.register_buffer("pe", pe)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, T, d_model) plus the rows of the positions `start` to `start + T - 1`.

        Raises ValueError if they go beyond `max_len`.
        """
        end, max_len = start + x.shape[1], self.pe.shape[1]
        if end > max_len:
            raise UserError(
                f"a sequence of {end} tokens, but the model's max_len is {max_len}; give a shorter "
                "one"
            )
        return x + self.pe[:, start:end]
