"""`nn.LSTM`, `nn.GRU` and `nn.RNN` that are fast for a PackedSequence on a CPU, too.

PyTorch's own computes a PackedSequence there position by position, and the gradient of each
position is a zeroed tensor as large as the whole batch: time is quadratic in length. The classes
here take the same arguments and give the same results, with the same state_dict:

>>> import torch
>>> from torch import nn
>>> from torch.nn.utils.rnn import pack_sequence
>>> sequences = [torch.randn(length, 8) for length in (9, 5, 5, 2)]
>>> slow, fast = nn.LSTM(8, 16, num_layers=2), LSTM(8, 16, num_layers=2)
>>> fast.load_state_dict(slow.state_dict())
<All keys matched successfully>
>>> output, (hidden, cell) = fast(pack_sequence(sequences))
>>> torch.allclose(output.data, slow(pack_sequence(sequences))[0].data, atol=1e-6)
True
>>> padded, lengths = pad_packed_sequence(output)
>>> padded.shape, lengths
(torch.Size([9, 4, 16]), tensor([9, 5, 5, 2]))

The rows of a PackedSequence are runs of positions with equally many sequences: for the lengths 9,
5, 5 and 2 these are 2 positions of 4 sequences, 3 of 3 and 4 of 1. Each run is an ordinary tensor,
for which PyTorch is fast: an LSTM layer is one call of oneDNN where PyTorch has that. The states go
on from run to run, less those of the sequences that end.

Under `torch.autocast("cpu", torch.bfloat16)` an LSTM gives rows in bfloat16 and final states in
float32; cells, and the sums of gradients over runs, are float32 within. GRU and RNN stay float32.

Sizes in comments: R rows, of B sequences of at most T positions; a run has n positions of b
sequences; I and N are the sizes of a layer's input and states, K = layers x directions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence


class _Packed:
    """What the three classes share; it stands before their parents in `torch.nn`.

    A subclass may override `by_runs`, `drop`, the dropout between layers, and `run`, one layer over
    one run.
    """

    def forward(self, input, hx=None):
        """As the parent's, which computes what is not computed by runs."""
        if not self.by_runs(input):
            return super().forward(input, hx)
        rows, batch_sizes, sorted_indices, unsorted_indices = input
        if hx is None:
            hx = self.zeros(rows, batch_sizes)
        else:
            hx = self.permute_hidden(hx, sorted_indices)
        self.check_forward_args(rows, hx, batch_sizes)
        dtype = self.compute_dtype()
        with torch.autocast("cpu", enabled=False):
            rows, hx = self.layers(rows.to(dtype), batch_sizes, hx)
        output = PackedSequence(rows, batch_sizes, sorted_indices, unsorted_indices)
        return output, self.permute_hidden(hx, unsorted_indices)

    def by_runs(self, input: PackedSequence | Tensor) -> bool:
        """Whether it is computed here: a PackedSequence on a CPU."""
        return isinstance(input, PackedSequence) and input.data.device.type == "cpu"

    def drop(self, rows: Tensor, batch_sizes: Tensor) -> Tensor:
        """Dropout on the packed rows (R, N) that each layer but the last gives to the next."""
        return F.dropout(rows, self.dropout, self.training)

    def run(self, run: Tensor, states: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
        """One layer over a run (n, b, I), states (1, b, N) -> output (n, b, N), final states."""
        compute = {"GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}
        options = (self.bias, 1, 0.0, self.training, False, False)
        return compute[self.mode](run, states[0], weights, *options)

    def compute_dtype(self) -> torch.dtype:
        """The weights', under autocast too: step by step, bfloat16 would be the slower one."""
        return self.all_weights[0][0].dtype

    def zeros(self, rows: Tensor, batch_sizes: Tensor):
        """The states (K, B, N) before the first position, where none are given."""
        K = self.num_layers * (1 + self.bidirectional)
        B = int(batch_sizes[0])
        hidden = rows.new_zeros(K, B, self.proj_size or self.hidden_size)
        if self.mode != "LSTM":
            return hidden
        return hidden, rows.new_zeros(K, B, self.hidden_size)

    def layers(self, rows: Tensor, batch_sizes: Tensor, hx):
        """Rows (R, I), states (K, B, N) -> rows (R, N), or (R, 2N) of two directions, states."""
        states = (hx,) if isinstance(hx, Tensor) else hx
        states = [state.to(self.all_weights[0][0].dtype).split(1) for state in states]
        each = zip(self.all_weights, *states, strict=True)  # K times weights and states (1, B, N)
        runs = find_runs(batch_sizes)
        mirror = find_mirror(batch_sizes).to(rows.device) if self.bidirectional else None
        finals = []
        for layer in range(self.num_layers):
            if layer > 0:
                rows = self.drop(rows, batch_sizes)
            output, final = self.direction(rows, runs, *next(each))
            finals.append(final)
            if self.bidirectional:
                backward, final = self.direction(rows.index_select(0, mirror), runs, *next(each))
                finals.append(final)
                output = torch.cat([output, backward.index_select(0, mirror)], 1)
            rows = output
        finals = tuple(torch.cat(final) for final in zip(*finals, strict=True))
        return rows, finals[0] if isinstance(hx, Tensor) else finals

    def direction(self, rows: Tensor, runs: list[tuple[int, int]], weights, *states: Tensor):
        """One layer, forward: rows (R, I), states (1, B, N) -> rows (R, N), final states."""
        rounded = [weight.detach().to(rows.dtype) for weight in weights]  # once, not in each run
        outputs, ends, used = [], [], weights
        for chunk, (n, b) in zip(rows.split([n * b for n, b in runs]), runs, strict=True):
            ends.append([state[:, b:] for state in states])  # those of sequences that have ended
            states = [state[:, :b] for state in states]
            if rows.dtype != weights[0].dtype:
                used = [Rounded.apply(*pair) for pair in zip(weights, rounded, strict=True)]
            output, *states = self.run(chunk.view(n, b, -1), states, used)
            outputs.append(output.view(n * b, -1))
        ends.append(states)
        finals = [torch.cat(end[::-1], 1) for end in zip(*ends, strict=True)]  # last ones first
        return torch.cat(outputs), finals


class LSTM(_Packed, nn.LSTM):
    """`nn.LSTM`, fast for a PackedSequence on a CPU."""

    def compute_dtype(self):
        """bfloat16 where autocast asks for it and oneDNN, which has no projections, computes it."""
        dtype = super().compute_dtype()
        if dtype != torch.float32 or self.proj_size > 0 or not torch.is_autocast_enabled("cpu"):
            return dtype
        if torch.get_autocast_dtype("cpu") == torch.bfloat16 and onednn_has_bfloat16():
            return torch.bfloat16
        return dtype

    def run(self, run, states, weights):
        """oneDNN's layer has a float32 cell beside bfloat16 rows, if it gets one."""
        hidden, cell = states
        options = (self.bias, 1, 0.0, self.training, False, False)
        output, hidden, after = torch.lstm(run, (hidden.to(run.dtype), cell), weights, *options)
        return output, hidden.to(cell.dtype), after


class GRU(_Packed, nn.GRU):
    """`nn.GRU`, fast for a PackedSequence on a CPU."""


class RNN(_Packed, nn.RNN):
    """`nn.RNN`, fast for a PackedSequence on a CPU."""


class Rounded(torch.autograd.Function):
    """A weight's rounded copy for one run; autograd sums the gradients of all runs in float32.

    With one `weight.to(torch.bfloat16)` for all runs it would sum them in bfloat16, whose eight
    bits lose what a short run adds to a long one; with one for each run there were many copies.
    """

    @staticmethod
    def forward(ctx, weight, rounded):
        """The copy, which all runs share."""
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx, grad):
        """That of the weight, in float32 as autograd converts it; none of the copy."""
        return grad, None


def onednn_has_bfloat16() -> bool:
    """Whether `torch.lstm` is oneDNN's in bfloat16; else it has no float32 cell, and is slow."""
    onednn = torch.backends.mkldnn
    return onednn.is_available() and onednn.enabled and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def find_runs(batch_sizes: Tensor) -> list[tuple[int, int]]:
    """(n, b) of each run: n positions with b sequences."""
    b, n = batch_sizes.unique_consecutive(return_counts=True)
    return list(zip(n.tolist(), b.tolist(), strict=True))


def find_places(batch_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """For each row its position and its rank, the place of its sequence in falling length; (R,)."""
    goes_on = torch.arange(int(batch_sizes[0])) < batch_sizes[:, None]  # (T, B)
    return goes_on.nonzero(as_tuple=True)


def find_mirror(batch_sizes: Tensor) -> Tensor:
    """For each row that which is as far from the end of its sequence as it from the start; (R,)."""
    position, rank = find_places(batch_sizes)
    lengths = rank.bincount()  # (B,)
    begins = batch_sizes.cumsum(0) - batch_sizes  # (T,)
    return begins[lengths[rank] - 1 - position] + rank


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """As `torch.nn.utils.rnn.pad_packed_sequence`, by one copy of all rows.

    PyTorch's copies run by run, and the gradient of each copy is as large as the whole batch.
    """
    rows, batch_sizes, sorted_indices, unsorted_indices = sequence
    position, rank = find_places(batch_sizes)
    lengths = rank.bincount()  # (B,)
    T, B = len(batch_sizes), len(lengths)
    if total_length is not None and total_length < T:
        raise ValueError(f"total_length={total_length} is less than the longest length {T}")
    if total_length is not None:
        T = total_length
    if sorted_indices is not None:
        rank = sorted_indices.cpu()[rank]  # the place in the order that the caller gave
        lengths = lengths[unsorted_indices.cpu()]
    shape = (B, T) if batch_first else (T, B)
    place = rank * T + position if batch_first else position * B + rank
    padded = rows.new_full((T * B, *rows.shape[1:]), padding_value)
    padded = padded.index_copy(0, place.to(rows.device), rows)
    return padded.view(*shape, *rows.shape[1:]), lengths
