#!/usr/bin/env python3
"""Time of packed_rnn.LSTM, of nn.LSTM on the same PackedSequence, and on the padded batch.

    python bench/lstlm/packed_rnn.py            # 3 minutes
    python bench/lstlm/packed_rnn.py -bf16      # under autocast

Forward and backward, of B sequences of 0.6 L to L positions. The three take turns, so that a busy
machine slows all of them; each time is a median, with half the distance of the quartiles behind it.
Tokens are the real ones, without padding.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("packed_rnn.py"):
    import torch
    from backstage.packed_rnn import LSTM
    from backstage.parser import Parser, positive
    from torch import nn
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

NAMES = ("packed_rnn.LSTM", "nn.LSTM packed", "nn.LSTM padded")


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    modules = make_modules(args.units, args.layers)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), B={args.B}, "
          f"{args.layers} layers of {args.units}, {'bfloat16' if args.bf16 else 'float32'}")
    print(f"{'L':>5} {'runs':>5}" + "".join(f" {name:>22}" for name in NAMES)
          + f" {'x packed':>9} {'x padded':>9} {'tokens/s':>9}")
    for L in args.lengths:
        lengths = torch.randint(max(1, int(0.6 * L)), L + 1, (args.B,)).sort(descending=True).values
        padded = torch.randn(int(lengths[0]), args.B, args.units)
        packed = pack_padded_sequence(padded, lengths)
        seconds = measure(modules, (packed, packed, padded), args)
        report(L, lengths, seconds)


def parse_args() -> argparse.Namespace:
    parser = Parser("packed_rnn.py", __doc__)
    add = parser.add_argument
    lengths = [50, 100, 200, 500, 1000]
    what = "positions of the longest sequence (default 50 100 200 500 1000)"
    add("-lengths", type=positive, nargs="+", default=lengths, metavar="L", help=what)
    numbers = {
        "B": (16, "sequences"), "units": (256, "of each layer, and of the input"),
        "layers": (2, "layers"), "threads": (1, "threads of PyTorch"),
    }
    for name, (default, what) in numbers.items():
        add(f"-{name}", type=positive, default=default, help=f"{what} (default {default})")
    what = "for each length, if that is two turns (default 8)"
    add("-seconds", type=float, default=8.0, help=what)
    add("-bf16", action="store_true", help="bfloat16 under autocast (default float32)")
    return parser.parse_args()


def make_modules(units: int, layers: int) -> tuple[nn.Module, ...]:
    """One for each of NAMES, with the same weights."""
    ours, parent = LSTM(units, units, layers), nn.LSTM(units, units, layers)
    parent.load_state_dict(ours.state_dict())
    return ours, parent, parent


def measure(modules, inputs, args) -> list[list[float]]:
    """Seconds of each turn of each module, after one of the fast ones that does not count.

    All have two turns, and more until the time is up: nn.LSTM packed 5, the others 30 at most.
    """
    for i in (0, 2):
        step(modules[i], inputs[i], args.bf16)
    seconds: list[list[float]] = [[], [], []]
    end = time.perf_counter() + args.seconds
    for turn in range(30):
        for i, most in enumerate((30, 5, 30)):
            if turn < 2 or (turn < most and time.perf_counter() < end):
                seconds[i].append(step(modules[i], inputs[i], args.bf16))
    return seconds


def step(module: nn.Module, x, bf16: bool) -> float:
    """Seconds of one forward and backward computation, with the input's gradient."""
    module.zero_grad()
    packed = isinstance(x, PackedSequence)
    rows = (x.data if packed else x).clone().requires_grad_()
    begin = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = module(x._replace(data=rows) if packed else rows)[0]
    (output.data if packed else output).sum().backward()
    return time.perf_counter() - begin


def report(L: int, lengths: torch.Tensor, seconds: list[list[float]]) -> None:
    """One line of the table."""
    medians = [statistics.median(values) for values in seconds]
    line = f"{L:5d} {len(lengths.unique()):5d}"
    for values, median in zip(seconds, medians, strict=True):
        low, _, high = statistics.quantiles(values, n=4)
        line += f" {1e3 * median:10.1f} ms +-{1e3 * (high - low) / 2:6.1f}"
    ours, packed, padded = medians
    print(f"{line} {packed / ours:9.1f} {padded / ours:9.2f} {int(lengths.sum()) / ours:9.0f}",
          flush=True)


if __name__ == "__main__":
    sys.exit(guarded("packed_rnn.py", main))
