"""`nn.LSTM`, `nn.GRU` and `nn.RNN` that are fast for a PackedSequence on a CPU, too.

PyTorch's own computes a PackedSequence there position by position, and the gradient of each
position is a zeroed tensor as large as the whole batch: time is quadratic in length. The classes
here take the same arguments and give the same results, with the same state_dict:

>>> import torch
>>> from torch import nn
>>> from torch.nn.utils.rnn import pack_sequence
>>> stories = [torch.randn(length, 8) for length in (9, 5, 5, 2)]
>>> fast, slow = LSTM(8, 16, num_layers=2), nn.LSTM(8, 16, num_layers=2)
>>> _ = fast.load_state_dict(slow.state_dict())
>>> output, (hidden, cell) = fast(pack_sequence(stories))
>>> torch.allclose(output.data, slow(pack_sequence(stories))[0].data, atol=1e-6)
True

The rows of a PackedSequence are runs of positions at which equally many sequences go on: for the
lengths 9, 5, 5 and 2 these are 2 positions of 4 sequences, 3 of 3 and 4 of 1. Each run is an
ordinary tensor, which PyTorch computes fast; the states are carried on from run to run, less those
of the sequences that end.

Sizes in comments: R rows, of B sequences of at most T positions; a run has n positions of b
sequences; I and N are the sizes of a layer's input and states, K = layers x directions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence


class _Packed:
    """What the three classes share; each adds `run`, one layer of one direction over one run."""

    def forward(self, input, hx=None):
        """As the parent's, which computes all but a PackedSequence on a CPU."""
        if not isinstance(input, PackedSequence) or input.data.device.type != "cpu":
            return super().forward(input, hx)
        if self.proj_size > 0:
            return super().forward(input, hx)
        rows, batch_sizes, sorted_indices, unsorted_indices = input
        if hx is None:
            hx = self.zeros(rows, batch_sizes)
        else:
            hx = self.permute_hidden(hx, sorted_indices)
        self.check_forward_args(rows, hx, batch_sizes)
        with torch.autocast("cpu", enabled=False):
            rows, hx = self.layers(rows, batch_sizes, hx)
        output = PackedSequence(rows, batch_sizes, sorted_indices, unsorted_indices)
        return output, self.permute_hidden(hx, unsorted_indices)

    def drop(self, rows, batch_sizes):
        """The dropout between layers, on the rows (R, N) of each layer but the last."""
        return F.dropout(rows, self.dropout, self.training)

    def zeros(self, rows, batch_sizes):
        """Initial hidden states (K, B, N)."""
        directions = 2 if self.bidirectional else 1
        return rows.new_zeros(self.num_layers * directions, int(batch_sizes[0]), self.hidden_size)

    def layers(self, rows, batch_sizes, hx):
        """All layers: rows (R, I) -> rows (R, N), (R, 2N) of both directions, and final states."""
        states = hx if isinstance(hx, tuple) else (hx,)
        states = list(zip(*states, strict=True))  # K times (B, N), or a pair of them
        weights = self.all_weights
        low = self.low_precision(weights)
        if low is None:
            rows = rows.to(weights[0][0].dtype)
            states = [tuple(s.to(rows.dtype) for s in state) for state in states]
        else:
            rows = rows.to(low)
            weights = [[w.to(low) for w in ws] for ws in weights]
            states = [(h.to(low), c.float()) for h, c in states]
        finals = []
        mirror = mirrored(batch_sizes) if self.bidirectional else None
        runs = runs_of(batch_sizes)
        step = 2 if self.bidirectional else 1
        for k in range(0, len(weights), step):
            if k > 0:
                rows = self.drop(rows, batch_sizes)
            out, final = self.direction(rows, runs, states[k], weights[k])
            finals.append(final)
            if self.bidirectional:
                back, final = self.direction(rows[mirror], runs, states[k + 1], weights[k + 1])
                out = torch.cat([out, back[mirror]], 1)
                finals.append(final)
            rows = out
        finals = tuple(torch.stack(f) for f in zip(*finals, strict=True))
        if low is not None:
            finals = tuple(f.float() for f in finals)
        return rows, finals if isinstance(hx, tuple) else finals[0]

    def low_precision(self, weights):
        return None

    def direction(self, rows, runs, states, weights):
        """One layer in one direction: rows (R, I) -> rows (R, N); states (B, N) -> final ones."""
        outputs, ended = [], []
        sizes = [n * b for n, b in runs]
        states = tuple(s[None] for s in states)
        nexts = [b for _, b in runs[1:]] + [0]
        for run, (n, b), left in zip(rows.split(sizes), runs, nexts, strict=True):
            out, *states = self.run(run.view(n, b, -1), states, weights)
            outputs.append(out.flatten(0, 1))
            ended.append([s[0, left:] for s in states])
            states = tuple(s[:, :left] for s in states)
        finals = tuple(torch.cat(e[::-1]) for e in zip(*ended, strict=True))
        return torch.cat(outputs), finals


class LSTM(_Packed, nn.LSTM):
    """`nn.LSTM`."""

    def zeros(self, rows, batch_sizes):
        h = super().zeros(rows, batch_sizes)
        return h, h

    def low_precision(self, weights):
        return None

    def run(self, run, states, weights):
        return torch.lstm(run, states, weights, self.bias, 1, 0.0, self.training, False, False)


class GRU(_Packed, nn.GRU):
    """`nn.GRU`."""

    def run(self, run, states, weights):
        return torch.gru(run, states[0], weights, self.bias, 1, 0.0, self.training, False, False)


class RNN(_Packed, nn.RNN):
    """`nn.RNN`."""

    def run(self, run, states, weights):
        compute = torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu
        return compute(run, states[0], weights, self.bias, 1, 0.0, self.training, False, False)


def runs_of(batch_sizes: Tensor) -> list[tuple[int, int]]:
    """(n, b) of each run: n positions in a row with b sequences."""
    b, n = batch_sizes.unique_consecutive(return_counts=True)
    return list(zip(n.tolist(), b.tolist(), strict=True))


def mirrored(batch_sizes: Tensor) -> Tensor:
    """The row (R,) of the same sequence, as far from its end as each row from the start."""
    goes_on = torch.arange(int(batch_sizes[0])) < batch_sizes[:, None]  # (T, B)
    positions, ranks = goes_on.nonzero(as_tuple=True)  # (R,) each
    lengths = goes_on.sum(0)  # (B,)
    begins = batch_sizes.cumsum(0) - batch_sizes  # (T,)
    return begins[lengths[ranks] - 1 - positions] + ranks
