"""What stands before the encoder: fewer frames of more features, by convolutions, LSTMs or both.

All take features (B, T, F) with lengths (B,), and give (B, T', D) with the new lengths. A frame of
an utterance depends on its own frames alone, whatever stands in the padding.
"""

import math

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..errors import UserError
from .packed_rnn import LSTM

METHODS = ("conv", "lstm", "both")


def factors(reduction: int) -> tuple[int, int]:
    """Two factors of a reduction, as close to each other as there are, the larger one first."""
    smaller = next(n for n in range(math.isqrt(reduction), 0, -1) if reduction % n == 0)
    return reduction // smaller, smaller


def check_sizes(dropout: float, **sizes: int) -> None:
    """UserError for a size below 1, or a dropout outside [0, 1)."""
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} is {size}; give at least 1")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is {dropout}; give at least 0 and less than 1")


class Conv2DSubsampling(nn.Module):
    """Two convolutions over time and frequency, without padding; strides in time reduce it."""

    def __init__(
        self, input_dim: int, output_dim: int, dropout: float = 0.0, time_reduction: int = 2,
        kernel_size: int = 3,
    ):
        super().__init__()
        check_sizes(
            dropout, input_dim=input_dim, output_dim=output_dim, time_reduction=time_reduction,
            kernel_size=kernel_size,
        )
        bins = input_dim - 2 * (kernel_size - 1)
        if bins < 1:
            raise UserError(f"input_dim is {input_dim}; two convolutions leave no bin of it")
        self.kernel_size = kernel_size
        self.time_stride1, self.time_stride2 = factors(time_reduction)
        self.conv = nn.Sequential(
            nn.Conv2d(1, output_dim, kernel_size, (self.time_stride1, 1)), nn.GELU(),
            nn.Conv2d(output_dim, output_dim, kernel_size, (self.time_stride2, 1)), nn.GELU(),
        )
        self.linear_out = nn.Linear(output_dim * bins, output_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, F) -> (B, T', D)."""
        maps = self.conv(x[:, None])  # (B, D, T', F')
        x = self.linear_out(maps.transpose(1, 2).flatten(2))
        return self.dropout(x), self.calculate_downsampled_length(lengths)

    def calculate_downsampled_length(
        self, lengths: Tensor, stride1: int | None = None, stride2: int | None = None
    ) -> Tensor:
        """T' for T, both (B,), after the two convolutions."""
        for stride in (stride1 or self.time_stride1, stride2 or self.time_stride2):
            lengths = (lengths - self.kernel_size) // stride + 1
        return lengths


class StackedBLSTMEmbedding(nn.Module):
    """Two bidirectional LSTMs, each followed by a maximum over neighbouring frames."""

    def __init__(
        self, input_dim: int, hidden_dim: int, output_dim: int, time_reduction: int = 2,
        dropout: float = 0.1,
    ):
        super().__init__()
        check_sizes(
            dropout, input_dim=input_dim, hidden_dim=hidden_dim, output_dim=output_dim,
            time_reduction=time_reduction,
        )
        if hidden_dim % 2:
            raise UserError(f"hidden_dim is {hidden_dim}; two directions need an even number")
        self.stride1, self.stride2 = factors(time_reduction)
        self.pool1_params, self.pool2_params = (
            {"kernel_size": stride, "stride": stride, "padding": 0, "dilation": 1}
            for stride in (self.stride1, self.stride2)
        )
        both_ways = {"batch_first": True, "bidirectional": True}
        self.blstm1 = LSTM(input_dim, hidden_dim // 2, **both_ways)
        self.pool1 = nn.MaxPool1d(**self.pool1_params)
        self.blstm2 = LSTM(hidden_dim, hidden_dim // 2, **both_ways)
        self.pool2 = nn.MaxPool1d(**self.pool2_params)
        self.linear_embed = nn.Linear(hidden_dim, output_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, F) -> (B, T', D)."""
        x = self.pool1(_over_frames(self.blstm1, x, lengths).transpose(1, 2)).transpose(1, 2)
        halfway = lengths // self.stride1
        x = self.pool2(_over_frames(self.blstm2, x, halfway).transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.linear_embed(x)), self.calculate_downsampled_length(lengths)

    def calculate_downsampled_length(self, lengths: Tensor) -> Tensor:
        """T' for T, both (B,), after the two pools."""
        return lengths // self.stride1 // self.stride2


def _over_frames(lstm: LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """The states of an LSTM over the frames of each utterance, zero in the padding."""
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    states, _ = lstm(packed)
    return pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])[0]


class SpeechEmbedding(nn.Module):
    """`time_reduction` frames become one, by convolutions, by LSTMs with pools, or by both.

    With both, the LSTMs have the larger of two factors.
    """

    def __init__(
        self, input_dim: int, output_dim: int, time_reduction: int = 6,
        reduction_method: str = "lstm", dropout: float = 0.0,
    ):
        super().__init__()
        check_sizes(
            dropout, input_dim=input_dim, output_dim=output_dim, time_reduction=time_reduction
        )
        if reduction_method not in METHODS:
            raise UserError(
                f"reduction_method {reduction_method!r}: choose one of {', '.join(METHODS)}"
            )
        self.embedding_dim, self.reduction_method = output_dim, reduction_method
        self.cnn = self.blstm = None
        by_lstm, by_cnn = time_reduction, time_reduction
        if reduction_method == "both":
            by_lstm, by_cnn = factors(time_reduction)
        if reduction_method != "lstm":
            self.cnn = Conv2DSubsampling(input_dim, output_dim, dropout, by_cnn)
            input_dim = output_dim
        if reduction_method != "conv":
            self.blstm = StackedBLSTMEmbedding(input_dim, output_dim, output_dim, by_lstm, dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, F) -> (B, T', D). UserError for an utterance of which no frame is left."""
        few = (self.calculate_downsampled_length(lengths) < 1).nonzero().flatten().tolist()
        if few:
            frames = f"utterance {few[0]} of the batch has {int(lengths[few[0]])} frames"
            raise UserError(f"{frames}, of which the reduction leaves none; leave it out")
        if self.cnn is not None:
            x, lengths = self.cnn(x, lengths)
        if self.blstm is not None:
            x, lengths = self.blstm(x, lengths)
        return x, lengths

    def calculate_downsampled_length(self, lengths: Tensor) -> Tensor:
        """T' for T, both (B,)."""
        for part in (self.cnn, self.blstm):
            if part is not None:
                lengths = part.calculate_downsampled_length(lengths)
        return lengths
