#!/usr/bin/env python3
"""lstlm.py with one thing more that others gave their LSTM language models, to see whether it pays here.

    python literature.py -with weight-drop -train ...  # recurrent weights dropped (Merity et al. 2018, section 2)
    python literature.py -with smoothing -train ...    # large states, and large changes of them, cost (the same)
    python literature.py -with averaging -train ...    # the mean of the late weights (Polyak & Juditsky 1992)
    python literature.py -with mogrifier -train ...    # input and state gate each other (Melis et al. 2020, section 2)

The other flags are those of lstlm.py, of whose modes -train and -evaluate are here. lstlm.py reads the checkpoints too,
but for the mogrifier's.
"""

import argparse
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))
import lstlm  # noqa: E402 - found by the line above
from lstlm import train  # noqa: E402, F401 - what experiments.py asks of a program

DROPPED = 0.2  # of the recurrent weights
LARGE, CHANGE = 2.0, 1.0  # what the mean square of the states, and of their changes, costs: the paper's alpha and beta
DECAY = 0.99  # of the weights of 100 steps before, 37 % are in the mean
ROUNDS = 5  # of gating, as in the paper


class WeightDrop(lstlm.LSTMLM):
    """For each minibatch, or piece of one, other recurrent weights are zero, the same at all its positions."""

    def input_sums(self, data: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor]:
        sums, w_hh = super().input_sums(data, w_ih, w_hh, b_ih, b_hh)
        return sums, F.dropout(w_hh, DROPPED, self.training)

    def run_cudnn(self, *args):
        if self.training:
            raise lstlm.UserError("-with weight-drop: a GPU's LSTM has no place for it; give -device cpu")
        return super().run_cudnn(*args)


class Smoothing(lstlm.LSTMLM):
    """Remembers the last layer's outputs, before and after dropout, for `SmoothNats`."""

    def drop(self, data: Tensor, sizes: Tensor) -> Tensor:
        self.hidden, self.dropped, self.sizes = data, super().drop(data, sizes), sizes.tolist()
        return self.dropped


class SmoothNats(lstlm.Nats):
    """The summed loss, and for each token the mean square of the dropped states and of the change of the others."""

    def forward(self, *batch):
        nats, state = super().forward(*batch)
        model = self.model
        at = model.hidden.split(model.sizes)  # the packed rows (b, N) of each position
        cost = LARGE * model.dropped.square().mean()
        if changes := [after - before[: len(after)] for before, after in zip(at, at[1:], strict=False)]:
            cost = cost + CHANGE * torch.cat(changes).square().mean()
        return nats + len(model.hidden) * cost, state


class Averaging(lstlm.Run):
    """Looks at the valid loss of the mean of the weights, and keeps that; training goes on from the weights.

    The mean is of all steps at first, then the older ones are forgotten. It is not in the state file: a run that goes
    on begins it anew.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.restart()

    def restart(self) -> None:
        self.mean = [p.detach().clone() for p in self.model.parameters()]

    def load_state(self) -> None:
        super().load_state()
        self.restart()

    def swap(self) -> None:
        for p, mean in zip(self.model.parameters(), self.mean, strict=True):
            p.data, mean.data = mean.data, p.data

    def report(self, stories: list[list[int]]) -> None:
        self.swap()
        super().report(stories)
        self.swap()

    def save_state_if_due(self) -> None:  # which is called after each step
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.model.parameters()], max(1 - DECAY, 1 / self.step))
        super().save_state_if_due()


class Mogrifier(lstlm.LSTMLM):
    """Before each step of a layer its input x and state h gate each other: x = 2 sigmoid(Q h) x, h = 2 sigmoid(R x) h,
    and so on, ROUNDS in all, each with its own matrix. These start at zero, so that the model begins as an LSTM.
    """

    KIND = "mogrifier"

    def __init__(self, embeddings: Tensor, *args, **switches):
        super().__init__(embeddings, *args, **switches)
        if self.cell != "lstm" or self.bidirectional:
            raise lstlm.UserError("-with mogrifier: only for -cell lstm, in one direction")
        for layer, (w_ih, w_hh, *_) in enumerate(self.layers()):
            sizes = w_ih.shape[1], w_hh.shape[1]
            for turn in range(ROUNDS):
                gate = w_hh.new_zeros(sizes if turn % 2 == 0 else sizes[::-1])
                self.register_parameter(f"gate_{layer}_{turn}", nn.Parameter(gate))

    def gate(self, layer: int, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """x (b, E) and h (b, N) of one position after they gated each other."""
        for turn in range(ROUNDS):
            weight = getattr(self, f"gate_{layer}_{turn}")
            if turn % 2 == 0:
                x = 2 * torch.sigmoid(F.linear(h, weight)) * x
            else:
                h = 2 * torch.sigmoid(F.linear(x, weight)) * h
        return x, h

    def run_cells(self, data: Tensor, sizes: Tensor, h0: list[Tensor], c0: list[Tensor]):
        last, final_h, final_c = lstlm.mirrored(sizes)[: sizes[0]].to(data.device), [], []
        for layer, (weights, h, c) in enumerate(zip(self.layers(), h0, c0, strict=True)):
            hidden, cells = [], []
            for x in (self.drop(data, sizes) if layer else data).split(sizes.tolist()):  # (b, E), b = sizes[t]
                x, h = self.gate(layer, x, h[: len(x)])
                h, c = torch.lstm_cell(x, (h, c[: len(x)]), *weights)
                hidden.append(h)
                cells.append(c)
            data = torch.cat(hidden)
            final_h.append(data[last])
            final_c.append(torch.cat(cells)[last])
        return data, final_h, final_c


ADDED = {"weight-drop": {"LSTMLM": WeightDrop}, "smoothing": {"LSTMLM": Smoothing, "Nats": SmoothNats},
         "averaging": {"Run": Averaging}, "mogrifier": {"LSTMLM": Mogrifier, "MODEL": Mogrifier.KIND}}


def added(name: str) -> AbstractContextManager:
    """While this is entered, lstlm.py has it."""
    return mock.patch.multiple(lstlm, **ADDED[name])


def split(argv: list[str]) -> tuple[str, list[str]]:
    """What is added, and the command line of lstlm.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("-with", dest="name", choices=ADDED, required=True, help="what is added (no default)")
    args, rest = parser.parse_known_args(argv)
    if not {"-train", "-evaluate"} & {*rest}:
        parser.error("one of -train and -evaluate is needed")
    return args.name, rest


def parse_args(argv: list[str]) -> argparse.Namespace:
    """The flags of lstlm.py, and as `added` the name of what is added."""
    name, rest = split(argv)
    args = lstlm.parse_args(rest)
    args.added = name
    return args


def load(args: argparse.Namespace) -> lstlm.Loaded:
    """`lstlm.load_model` of a checkpoint of this program."""
    with added(args.added):
        return lstlm.load_model(args)


def main(argv: list[str] | None = None) -> int:
    """Run lstlm.py; returns its exit status."""
    name, rest = split(sys.argv[1:] if argv is None else argv)
    with added(name), mock.patch.object(sys, "argv", [sys.argv[0], *rest]):  # so it tells how this one goes on
        return lstlm.main()


if __name__ == "__main__":
    lstlm.leave(main())
