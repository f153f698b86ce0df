#!/usr/bin/env python3
"""Measure evaluation: tokens per second, and the memory that it takes beyond the weights.

    python bench/lstlm/eval_speed.py CORPUS             # stories of the corpus, V = 10,003
    python bench/lstlm/eval_speed.py CORPUS -VSize 260000 -length 200   # of 200 tokens each
    python bench/lstlm/eval_speed.py CORPUS -naive      # nn.LSTM, all scores, nn.CrossEntropyLoss

Prints one JSON line. `extra_mb` is by how much the loss raises the process's resident memory, or
that of the GPU, at its peak, less one bfloat16 copy of the weights where a CPU makes it (bf16);
hidden states and all else are in it. A first evaluation of two short stories comes before, so that
the libraries have loaded what they need. Linux only.
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("eval_speed.py"):
    import lstlm
    import torch
    from backstage.device import choose_device, choose_precision, set_up_memory
    from backstage.parser import Parser, positive, whole
    from measuring import Textbook, now, peak_of_memory, read_sample, start_of_memory, take_turns
    from torch import nn


@torch.no_grad()
def naive_loss(model: Textbook, stories: list[list[int]], batch_size: int) -> float:
    """The same figure as `compute_loss` the way a textbook has it."""
    device = model.output.weight.device
    criterion = nn.CrossEntropyLoss(ignore_index=-100, reduction="sum")
    nats = 0.0
    tokens = 0
    for start in range(0, len(stories), batch_size):
        batch = stories[start : start + batch_size]
        inputs, targets, lengths = lstlm.collate_stories(batch)
        inputs = inputs.to(device).t()  # (T, B)
        targets = targets.to(device).t()  # (T, B)
        hidden, _ = model.lstm(model.embedding(inputs))  # (T, B, N)
        logits = model.output(hidden)  # (T, B, V)
        nats += float(criterion(logits.flatten(0, 1), targets.flatten()))
        tokens += int(lengths.sum())
    return nats / tokens


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("eval_speed.py", __doc__)
    add = parser.add_argument
    add("corpus", help="tokenised text, one story a line")
    numbers = {"H": 2, "N": 512, "B": 64, "VSize": 10000, "EDim": 100, "stories": 64}
    for name, default in numbers.items():
        add(f"-{name}", type=positive, default=default, help=f"(default {default})")
    what = "make all stories this long (default 0: as they are)"
    add("-length", type=whole(0), default=0, help=what)
    add("-seed", type=whole(0), default=0, help="(default 0)")
    add("-a", action="store_const", const="dot", help="with attention (default without)")
    add("-precision", choices=("auto", "fp32", "bf16"), default="auto", help="(default auto)")
    add("-device", choices=("cpu", "cuda"), default="cpu", help="(default cpu)")
    add("-naive", action="store_true", help="the textbook's way (default ours)")
    what = "measure once for each line that is read (default once)"
    add("-turns", action="store_true", help=what)
    args = parser.parse_args(argv)
    if args.naive and args.a:
        parser.error("-naive -a: the textbook's model has no attention")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not args.naive:
        set_up_memory()
    device = choose_device(args.device)
    precision = choose_precision("fp32" if args.naive else args.precision, device)
    stories = read_sample(args)[: args.stories]
    torch.manual_seed(args.seed)
    vectors = torch.randn(args.VSize + 3, args.EDim)
    model = lstlm.LSTMLM(vectors, args.N, args.H, args.a, precision=precision)
    loss_of = lstlm.compute_loss
    if args.naive:
        model = Textbook.of(model)
        loss_of = naive_loss
    model = model.to(device).eval()
    loss_of(model, [story[:9] for story in stories[:2]], 2)
    tokens = sum(len(story) - 1 for story in stories)

    def measure() -> dict:
        before = start_of_memory(args.device)
        start = now(device)
        loss = loss_of(model, stories, args.B)
        seconds = now(device) - start
        extra_mb = peak_of_memory(args.device) - before
        if precision == torch.bfloat16 and args.device == "cpu":
            extra_mb -= sum(p.numel() * 2 for p in model.parameters()) / 2**20
        return {
            "naive": args.naive, "device": args.device, "B": args.B, "H": args.H, "N": args.N,
            "vocab": args.VSize + 3, "attention": args.a,
            "precision": str(precision).removeprefix("torch."), "tokens": tokens,
            "nats": round(loss, 4), "tokens_per_s": round(tokens / seconds, 1),
            "extra_mb": round(extra_mb, 1),
            "threads": torch.get_num_threads(), "torch": str(torch.__version__),
        }

    take_turns(measure, args.turns)


if __name__ == "__main__":
    sys.exit(guarded("eval_speed.py", main))
