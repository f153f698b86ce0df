#!/usr/bin/env python3
"""lstlm.py with one thing more that others gave their LSTM language models, to see whether it pays.

    python literature.py -with weight-drop -train ...  # recurrent weights dropped (Merity 2018, 2)
    python literature.py -with smoothing -train ...    # large states, and changes, cost (the same)
    python literature.py -with averaging -train ...    # the mean of late weights (Polyak 1992)
    python literature.py -with mogrifier -train ...    # input and state gate each other (Melis)

The other flags are those of lstlm.py, of whose modes -train and -evaluate are here. lstlm.py reads
the checkpoints too, but for the mogrifier's. Papers: Merity, Keskar & Socher 2018; Polyak &
Juditsky 1992; Melis, Kocisky & Blunsom 2020, section 2.
"""

import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[2] / "code"))
from backstage.shell import importing

with importing("literature.py"):
    import lstlm
    import torch
    from backstage.checkpoint import Loaded
    from backstage.dropped_rnn import CELLS, DroppedLSTM
    from backstage.errors import UserError
    from backstage.flags import make_parser, parse_flags
    from backstage.processes import leave
    from backstage.program import run_program
    from backstage.run import Run
    from torch import Tensor, nn
    from torch.nn import functional as F

DROPPED = 0.2  # share of the recurrent weights
LARGE = 2.0  # what the mean square of the states costs, the paper's alpha
CHANGE = 1.0  # what the mean square of their changes costs, the paper's beta
DECAY = 0.99  # of the weights of 100 steps before, 37 % are in the mean
ROUNDS = 5  # of gating, as in the paper


def layers_with(part: type) -> dict[str, type[nn.RNNBase]]:
    """The recurrent layers of each kind of cell, each a subclass with this part before it."""
    return {
        name: type(part.__name__ + kind.__name__, (part, kind), {}) for name, kind in CELLS.items()
    }


def refuse_gpu(name: str, data: Tensor) -> None:
    """Raise UserError for a computation on a GPU, whose fused layers are one piece."""
    if data.device.type != "cpu":
        raise UserError(f"-with {name}: a GPU's LSTM has no place for it; give -device cpu")


# ---- Dropped recurrent weights ------------------------------------------------------------------


class DroppedWeights:
    """In each forward pass other recurrent weights are zero, the same ones at all positions."""

    def forward(self, inputs, initial=None):
        """As the parent's."""
        if self.training:
            refuse_gpu("weight-drop", inputs.data)
        return super().forward(inputs, initial)

    def direction(self, rows: Tensor, runs: list[tuple[int, int]], weights, *states: Tensor):
        """As the parent's, of one direction of one layer."""
        w_ih, w_hh, *biases = weights
        dropped = F.dropout(w_hh, DROPPED, self.training)
        return super().direction(rows, runs, [w_ih, dropped, *biases], *states)


class WeightDrop(lstlm.LSTMLM):
    """For each minibatch, or segment of one, other recurrent weights are zero."""

    RNN_CLASSES = layers_with(DroppedWeights)


# ---- Smooth states ------------------------------------------------------------------------------


class RememberedOutputs:
    """Remembers the last layer's packed rows (R, N), before and after dropout, for `Smoothing`."""

    def drop(self, rows: Tensor, batch_sizes: Tensor) -> Tensor:
        """As the parent's, which calls it for each layer in turn."""
        dropped = super().drop(rows, batch_sizes)
        self.remembered = rows, dropped, batch_sizes.tolist()
        return dropped


class Smoothing(lstlm.LSTMLM):
    """In training the loss has the cost of large states, and of large changes of them."""

    RNN_CLASSES = layers_with(RememberedOutputs)

    def forward(self, inputs, lengths, targets=None, state=None):
        """As the parent's; with `targets`, in training, the mean nats and the cost."""
        result = super().forward(inputs, lengths, targets, state)
        if targets is None or not self.training:
            return result
        return result + self.cost().to(result.dtype)

    def cost(self) -> Tensor:
        """LARGE times the mean square of the dropped states, CHANGE times that of the changes.

        These are changes of the states before dropout, from one position to the next.
        """
        layer = self.last or self.lstm
        rows, dropped, sizes = layer.remembered
        layer.remembered = None
        dtype = self.output.weight.dtype
        cost = LARGE * dropped.to(dtype).square().mean()
        at = rows.to(dtype).split(sizes)  # the rows (b, N) of each position
        changes = [after - before[: len(after)] for before, after in zip(at, at[1:], strict=False)]
        if changes:
            cost = cost + CHANGE * torch.cat(changes).square().mean()
        return cost


# ---- The mean of the weights --------------------------------------------------------------------


class Averaging:
    """A `Run` that looks at the valid loss of the mean of the weights, and keeps that.

    Training goes on from the weights. The mean is of all steps at first, then the older ones are
    forgotten. It is not in the state file: a run that goes on begins it anew.
    """

    def __enter__(self):
        super().__enter__()
        self.mean = [p.detach().clone() for p in self.bare_model.parameters()]
        return self

    def swap(self) -> None:
        """Exchange the weights and their mean."""
        for p, mean in zip(self.bare_model.parameters(), self.mean, strict=True):
            p.data, mean.data = mean.data, p.data

    def report(self) -> None:
        """As the parent's, of the mean."""
        self.swap()
        super().report()
        self.swap()

    def end_step(self, batch: list[int]) -> None:
        """As the parent's, then the mean has the new weights in it."""
        super().end_step(batch)
        weights = [p.detach() for p in self.bare_model.parameters()]
        torch._foreach_lerp_(self.mean, weights, max(1 - DECAY, 1 / self.step))


# ---- The mogrifier ------------------------------------------------------------------------------


class MogrifierLSTM(DroppedLSTM):
    """Before each step of a layer its input x and state h gate each other, ROUNDS in all.

    x = 2 sigmoid(Q h) x, h = 2 sigmoid(R x) h, and so on, each with its own matrix. These start at
    zero, so that the layer begins as an LSTM.
    """

    def __init__(self, *sizes, **switches):
        super().__init__(*sizes, **switches)
        for layer, (w_ih, w_hh, *_) in enumerate(self.all_weights):
            shape = w_ih.shape[1], w_hh.shape[1]
            for turn in range(ROUNDS):
                gate = torch.zeros(shape if turn % 2 == 0 else shape[::-1])
                self.register_parameter(f"gate_{layer}_{turn}", nn.Parameter(gate))

    def forward(self, inputs, initial=None):
        """As the parent's."""
        refuse_gpu("mogrifier", inputs.data)
        return super().forward(inputs, initial)

    def compute_dtype(self) -> torch.dtype:
        """The weights': step by step, bfloat16 would be the slower one."""
        return self.all_weights[0][0].dtype

    def layers(self, rows: Tensor, batch_sizes: Tensor, hx):
        """Rows (R, I), states (H, B, N) -> rows (R, N), final states."""
        hidden, cell = hx
        finals = []
        for layer, weights in enumerate(self.all_weights):
            if layer > 0:
                rows = self.drop(rows, batch_sizes)
            states = hidden[layer], cell[layer]
            rows, final = self.one_layer(layer, rows.split(batch_sizes.tolist()), states, weights)
            finals.append(final)
        return rows, tuple(torch.stack(final) for final in zip(*finals, strict=True))

    def one_layer(self, layer: int, inputs: tuple[Tensor, ...], states, weights):
        """The rows (b, I) of each position, states (B, N) -> rows (R, N), final states (B, N)."""
        h, c = states
        outputs, ended_h, ended_c = [], [], []
        for x in inputs:
            b = len(x)
            ended_h.append(h[b:])
            ended_c.append(c[b:])
            x, h = self.gate(layer, x, h[:b])
            h, c = torch.lstm_cell(x, (h, c[:b]), *weights)
            outputs.append(h)
        final_h = torch.cat([h, *ended_h[::-1]])  # the stories that ended last come first
        final_c = torch.cat([c, *ended_c[::-1]])
        return torch.cat(outputs), (final_h, final_c)

    def gate(self, layer: int, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """x (b, I) and h (b, N) of one position after they gated each other."""
        for turn in range(ROUNDS):
            weight = getattr(self, f"gate_{layer}_{turn}")
            if turn % 2 == 0:
                x = 2 * torch.sigmoid(F.linear(h, weight)) * x
            else:
                h = 2 * torch.sigmoid(F.linear(x, weight)) * h
        return x, h


class Mogrifier(lstlm.LSTMLM):
    """A language model of mogrifier layers."""

    KIND = "mogrifier"
    RNN_CLASSES = {**CELLS, "lstm": MogrifierLSTM}

    def __init__(self, *args, **switches):
        super().__init__(*args, **switches)
        if self.cell != "lstm" or self.bidirectional:
            raise UserError("-with mogrifier: only for -cell lstm, in one direction")


# ---- The program --------------------------------------------------------------------------------


class Added(NamedTuple):
    """What takes the place of the model's class, and what comes before the class of the run."""

    model_class: type[lstlm.LSTMLM] = lstlm.LSTMLM
    run_parts: tuple[type, ...] = ()


ADDED = {
    "weight-drop": Added(WeightDrop),
    "smoothing": Added(Smoothing),
    "averaging": Added(run_parts=(Averaging,)),
    "mogrifier": Added(Mogrifier),
}


def train(args: Namespace, run_class: type[Run] = Run) -> None:
    """Train a model on `-train_corpus`, as lstlm.py does, with what `-with` names."""
    added = ADDED[args.added]
    new = partial(lstlm.new_model, model_class=added.model_class)
    lstlm.train(args, new, type("AddedRun", (*added.run_parts, run_class), {}))


def evaluate(args: Namespace) -> None:
    """Print how well the model predicts each of `-test_corpus` (by default valid and train)."""
    model_class = ADDED[args.added].model_class
    lstlm.evaluate(args, partial(lstlm.load_to_evaluate, model_class=model_class))


def load_model(args: Namespace) -> Loaded:
    """`lstlm.load_model` of a checkpoint of this program."""
    return lstlm.load_model(args, model_class=ADDED[args.added].model_class)


def parse_args(argv: list[str] | None = None) -> Namespace:
    """The flags of lstlm.py, and as `added` the name of what is added."""
    parser = make_parser("literature.py", __doc__, (train, evaluate))
    parser.add_argument("-with", dest="added", choices=ADDED, required=True, help="what is added "
        "(no default)")
    return parse_flags(parser, argv)


def main(argv: list[str] | None = None) -> int:
    """Run one of the two modes; returns the exit status."""
    return run_program("literature.py", parse_args, argv)


if __name__ == "__main__":
    leave(main())
