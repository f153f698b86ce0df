#!/usr/bin/env python3
"""Measure the training step of lstlm.py: batch building, loss, gradient, clipping and optimizer.

    python bench/lstlm/train_speed.py CORPUS           # the handout's setting: H 2, N 512, B 32
    python bench/lstlm/train_speed.py CORPUS -precision fp32 -a
    python bench/lstlm/train_speed.py CORPUS -layout padded      # a textbook's step instead

The corpus is tokenised text, one story a line. The output layer has VSize + 3 words, whatever the
corpus fills of them. Prints one JSON line: target tokens per second, seconds per step, and
`flops_fraction`, the floating-point operations of the model's weights over the rate of a large
matrix product measured in the same process; `extra_mb`, by how much the steps (gradients and the
optimizer's state among it) raised the process's resident memory, or that of the GPU, at its peak.
Run it on a machine that does nothing else, and compare only figures of one session: machines
drift. Linux only.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("train_speed.py"):
    import lstlm
    import torch
    from backstage.device import choose_device, choose_precision, set_up_memory
    from backstage.dropped_rnn import CELLS
    from backstage.errors import UserError
    from backstage.minibatches import segments, shuffled_batches
    from backstage.optimizer import FiniteAdamW, make_optimizer
    from backstage.parser import Parser, positive, whole
    from backstage.state import State
    from measuring import Textbook, now, peak_of_memory, read_sample, start_of_memory, take_turns
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def product_rate(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Floating-point operations per second of a product of square matrices.

    They have 2048 rows, on a GPU 8192.
    """
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n).to(device, dtype)
    b = torch.randn(n, n).to(device, dtype)
    a @ b
    start = now(device)
    for _ in range(repeats):
        a @ b
    return repeats * 2 * n**3 / (now(device) - start)


def flops_per_token(model: nn.Module) -> float:
    """Two for each weight of the LSTM and the output layer, three times.

    Once forward, and once for the gradient of each of the two factors.
    """
    total = 0
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and not name.startswith("embedding"):
            total += parameter.numel()
    return 6.0 * total


def our_optimizer(model: lstlm.LSTMLM) -> FiniteAdamW:
    """That of `lstlm.train`, at its default rates."""
    optimizer = make_optimizer(model, lstlm.parse_args(["-train"]))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"]
    return optimizer


def our_step(
    model: lstlm.LSTMLM, optimizer: FiniteAdamW, batch: list[list[int]], bptt: int
) -> None:
    """What `lstlm.train` does with a minibatch: a gradient step for each of its segments."""
    device = model.output.weight.device
    parts = list(segments(batch, bptt, lstlm.collate_stories))
    first_tokens = int(parts[0][2].sum())
    state = State() if len(parts) > 1 else None
    for inputs, targets, lengths in parts:
        share = int(lengths.sum()) / first_tokens
        loss = share * model(inputs.to(device), lengths, targets.to(device), state)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        loss.item()


def textbook_step(
    model: Textbook, optimizer: torch.optim.Optimizer, batch: list[list[int]], packed: bool
) -> None:
    """What the handout recommends and no more: nn.CrossEntropyLoss over all padded positions."""
    device = model.output.weight.device
    inputs, targets, lengths = lstlm.collate_stories(batch)
    inputs = inputs.to(device).t()  # (T, B)
    targets = targets.to(device).t()  # (T, B)
    optimizer.zero_grad()
    words = model.embedding(inputs)  # (T, B, EDim)
    if packed:
        sequence = pack_padded_sequence(words, lengths, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(model.lstm(sequence)[0])  # (T, B, N)
    else:
        hidden, _ = model.lstm(words)  # (T, B, N)
    logits = model.output(hidden)  # (T, B, V)
    criterion = nn.CrossEntropyLoss(ignore_index=-100)
    loss = criterion(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()


def sample_batches(args: argparse.Namespace) -> list[list[list[int]]]:
    """Minibatches for the steps and one more.

    A textbook's are random stories, unless `-similar` is given. Ours are chosen at random out of
    those of an epoch, each of stories of similar length.
    """
    stories = read_sample(args)
    in_turn = args.layout != "ours" and not args.similar
    needed = args.B * (args.steps + 1) if in_turn else args.B
    if len(stories) < needed:
        few = f"{len(stories)} stories, fewer than {needed}"
        raise UserError(f"{args.corpus}: {few}; give a larger corpus, or smaller -B or -steps")
    if in_turn:
        return [stories[i * args.B : (i + 1) * args.B] for i in range(args.steps + 1)]
    batches = shuffled_batches(stories, args.B, torch.Generator().manual_seed(args.seed))
    full = [batch for batch in batches if len(batch) == args.B]
    chosen = random.Random(args.seed).choices(full, k=args.steps + 1)
    return [[stories[story] for story in batch] for batch in chosen]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("train_speed.py", __doc__)
    add = parser.add_argument
    add("corpus", help="tokenised text, one story a line")
    numbers = {
        "H": 2, "N": 512, "B": 32, "VSize": 10000, "EDim": 100, "steps": 10, "bptt": 512,
    }
    for name, default in numbers.items():
        add(f"-{name}", type=positive, default=default, help=f"(default {default})")
    what = "make all stories this long (default 0: as they are)"
    add("-length", type=whole(0), default=0, help=what)
    add("-seed", type=whole(0), default=0, help="(default 0)")
    layouts = ("ours", "padded", "packed")
    add("-layout", choices=layouts, default="ours", help="(default ours)")
    add("-cell", choices=CELLS, default="lstm", help="(default lstm)")
    add("-a", action="store_const", const="dot", help="with attention (default without)")
    add("-precision", choices=("auto", "fp32", "bf16"), default="auto", help="(default auto)")
    add("-device", choices=("cpu", "cuda"), default="cpu", help="(default cpu)")
    what = "give a textbook's step our batches and memory settings too (default neither)"
    add("-similar", action="store_true", help=what)
    what = "measure once for each line that is read (default once)"
    add("-turns", action="store_true", help=what)
    args = parser.parse_args(argv)
    if args.layout != "ours" and (args.a or args.precision == "bf16" or args.cell != "lstm"):
        why = "the textbook's step is a float32 LSTM without attention"
        parser.error(f"-layout {args.layout}: {why}")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    is_ours = args.layout == "ours"
    if is_ours or args.similar:
        set_up_memory()
    torch.manual_seed(args.seed)
    device = choose_device(args.device)
    precision = choose_precision(args.precision if is_ours else "fp32", device)
    batches = sample_batches(args)
    vectors = torch.randn(args.VSize + 3, args.EDim)
    if is_ours:
        switches = {"precision": precision, "cell": args.cell}
        model = lstlm.LSTMLM(vectors, args.N, args.H, args.a, **switches).to(device).train()
        optimizer = our_optimizer(model)
    else:
        model = Textbook(vectors, args.N, args.H).to(device).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(batch: list[list[int]]) -> None:
        if is_ours:
            our_step(model, optimizer, batch, args.bptt)
        else:
            textbook_step(model, optimizer, batch, args.layout == "packed")

    def measure() -> dict:
        start_mb = start_of_memory(device.type)
        step(batches[0])  # warm-up
        start = now(device)
        for batch in batches[1:]:
            step(batch)
        seconds = now(device) - start
        rate = sum(len(story) - 1 for batch in batches[1:] for story in batch) / seconds
        extra_mb = round(peak_of_memory(device.type) - start_mb, 1)
        # Without hardware for it, a bfloat16 product of this size takes minutes.
        fast = {torch.float32, choose_precision("auto", device)}
        peak = max(product_rate(dtype, device) for dtype in fast)
        return {
            "layout": args.layout, "device": args.device, "similar": args.similar or is_ours,
            "B": args.B, "H": args.H, "N": args.N,
            "vocab": args.VSize + 3, "attention": args.a, "cell": args.cell, "length": args.length,
            "precision": str(precision).removeprefix("torch."), "tokens_per_s": round(rate, 1),
            "s_per_step": round(seconds / args.steps, 3),
            "flops_fraction": round(rate * flops_per_token(model) / peak, 4),
            "gemm_gflops": round(peak / 1e9), "extra_mb": extra_mb,
            "threads": torch.get_num_threads(), "torch": str(torch.__version__),
        }

    take_turns(measure, args.turns)


if __name__ == "__main__":
    sys.exit(guarded("train_speed.py", main))
