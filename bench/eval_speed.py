#!/usr/bin/env python3
"""Measure evaluation: tokens per second, and the memory that it takes beyond the weights.

    python bench/eval_speed.py CORPUS                              # stories of the corpus, V = 10,003
    python bench/eval_speed.py CORPUS -VSize 260000 -length 200    # stories of 200 tokens each
    python bench/eval_speed.py CORPUS -naive                       # nn.LSTM, all scores, nn.CrossEntropyLoss

Prints one JSON line. `extra_mb` is by how much the loss raises the process's resident memory, or that of the GPU, at
its peak, less one bfloat16 copy of the weights where a CPU makes it (bf16); hidden states and all else are in it. A
first evaluation of two short stories comes before, so that the libraries have loaded what they need. Linux only.
"""

import argparse
import json

import torch
from torch import nn
from train_speed import lstlm, now, peak_of_memory, read_sample, start_of_memory


@torch.no_grad()
def naive_loss(model: lstlm.LSTMLM, stories: list[list[int]], batch_size: int) -> float:
    """The same figure as `compute_loss` the way a textbook has it."""
    total, tokens = 0.0, 0
    for start in range(0, len(stories), batch_size):
        inputs, targets, lengths = lstlm.collate_stories(stories[start : start + batch_size])
        inputs, targets = inputs.to(model.output.weight.device), targets.to(model.output.weight.device)
        logits = model.output(model.lstm(model.embedding(inputs.t()))[0])
        criterion = nn.CrossEntropyLoss(ignore_index=-100, reduction="sum")
        total += float(criterion(logits.flatten(0, 1), targets.t().flatten()))
        tokens += int(lengths.sum())
    return total / tokens


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("corpus", help="tokenised text, one story a line")
    defaults = {"H": 2, "N": 512, "B": 64, "VSize": 10000, "EDim": 100, "stories": 64, "length": 0, "seed": 0}
    for name, default in defaults.items():
        p.add_argument(f"-{name}", type=int, default=default, help=f"(default {default})")
    p.add_argument("-a", action="store_const", const="dot", help="with attention (default without)")
    p.add_argument("-precision", choices=("auto", "fp32", "bf16"), default="auto", help="(default auto)")
    p.add_argument("-device", choices=("cpu", "cuda"), default="cpu", help="(default cpu)")
    p.add_argument("-naive", action="store_true", help="the textbook's way (default ours)")
    args = p.parse_args(argv)
    if not args.naive:
        lstlm.set_up_memory()
    device = lstlm.choose_device(args.device)
    precision = lstlm.choose_precision("fp32" if args.naive else args.precision, device)
    stories = read_sample(args)[: args.stories]
    torch.manual_seed(args.seed)
    vectors = torch.randn(args.VSize + 3, args.EDim)
    model = lstlm.LSTMLM(vectors, args.N, args.H, args.a, precision=precision).to(device).eval()
    loss_of = naive_loss if args.naive else lstlm.compute_loss
    loss_of(model, [story[:9] for story in stories[:2]], 2)
    before, start = start_of_memory(args.device), now(device)
    loss = loss_of(model, stories, args.B)
    seconds = now(device) - start
    copied = precision == torch.bfloat16 and args.device == "cpu"
    copy = sum(p.numel() * 2 for p in model.parameters()) / 2**20 if copied else 0
    tokens = sum(len(story) - 1 for story in stories)
    print(json.dumps({
        "naive": args.naive, "device": args.device, "B": args.B, "H": args.H, "N": args.N,
        "vocab": args.VSize + 3, "attention": args.a,
        "precision": str(precision).removeprefix("torch."), "tokens": tokens, "nats": round(loss, 4),
        "tokens_per_s": round(tokens / seconds, 1), "extra_mb": round(peak_of_memory(args.device) - before - copy, 1),
        "threads": torch.get_num_threads(), "torch": str(torch.__version__),
    }))


if __name__ == "__main__":
    main()
