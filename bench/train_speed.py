#!/usr/bin/env python3
"""Measure the training step of lstlm.py: batch building, loss, gradient, clipping and optimizer.

    python bench/train_speed.py CORPUS                       # the handout's setting: H 2, N 512, B 32, V 10,000
    python bench/train_speed.py CORPUS -precision fp32 -a
    python bench/train_speed.py CORPUS -layout padded        # a textbook's step instead, to compare with

The corpus is tokenised text, one story a line. The output layer has VSize + 3 words, whatever the corpus fills of
them. Prints one JSON line: target tokens per second, seconds per step, and `flops_fraction`, the floating-point
operations of the model's weights over the rate of a large matrix product measured in the same process; `extra_mb`, by
how much the steps (gradients and the optimizer's state among it) raised the process's resident memory, or that of the
GPU, at its peak. Run it on a machine that does nothing else, and compare only figures of one session: machines drift.
Linux only.
"""

import argparse
import ctypes
import gc
import json
import random
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "hw04" / "code"))

import lstlm  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402


def start_of_memory(device: str = "cpu") -> float:
    """Memory in use now, in MiB, with that of what is gone given back and the peak set to it (Linux only)."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return peak_of_memory(device)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_of_memory()


def peak_of_memory(device: str = "cpu") -> float:
    """The largest memory in use since `start_of_memory`, in MiB: resident memory, or what tensors take of a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def now(device: torch.device) -> float:
    """The time in seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def product_rate(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Floating-point operations per second of a product of square matrices: of 2048 rows, on a GPU of 8192."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n).to(device, dtype) for _ in range(2))
    a @ b
    start = now(device)
    for _ in range(repeats):
        a @ b
    return repeats * 2 * n**3 / (now(device) - start)


def flops_per_token(model: lstlm.LSTMLM) -> float:
    """Two for each weight of the LSTM and the output layer, three times: forward, and both gradients."""
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and not name.startswith("embedding")]
    return 6.0 * sum(p.numel() for p in matrices)


def textbook_step(model: lstlm.LSTMLM, optimizer: torch.optim.Optimizer, batch: list[list[int]], packed: bool) -> None:
    """What the handout recommends and no more: nn.LSTM, nn.Linear, nn.CrossEntropyLoss over all padded positions."""
    inputs, targets, lengths = lstlm.collate_stories(batch)
    inputs, targets = inputs.to(model.output.weight.device), targets.to(model.output.weight.device)
    optimizer.zero_grad()
    words = nn.functional.embedding(inputs, model.embedding.weight.detach())  # frozen, as there
    if packed:
        words = pack_padded_sequence(words.transpose(0, 1), lengths, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(model.lstm(words)[0])
    else:
        hidden, _ = model.lstm(words.transpose(0, 1))
    loss = nn.CrossEntropyLoss(ignore_index=-100)(model.output(hidden).flatten(0, 1), targets.t().flatten())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()


def read_sample(args: argparse.Namespace) -> list[list[int]]:
    """The stories of the corpus as ids, in an order of their own for each seed; with `-length` cut to that length."""
    token2idx, _, _ = lstlm.build_vocab_and_embeddings(None, args.corpus, args.VSize, edim=args.EDim)
    stories = lstlm.tokenize_corpus(args.corpus, token2idx)
    random.Random(args.seed).shuffle(stories)
    if args.length:
        words = [token for story in stories for token in story[1:-1]]
        cut = range(0, len(words) - args.length, args.length - 1)
        stories = [[lstlm.BOS, *words[i : i + args.length - 1], lstlm.EOS] for i in cut]
    return stories


def sample_batches(args: argparse.Namespace) -> list[list[list[int]]]:
    """Minibatches for the steps and one more. A textbook's are random stories, unless `-similar` is given.

    Ours are chosen at random out of those of an epoch, each of stories of similar length.
    """
    stories = read_sample(args)
    if args.layout != "ours" and not args.similar:
        return [stories[i * args.B : (i + 1) * args.B] for i in range(args.steps + 1)]
    batches = lstlm.shuffled_batches(stories, args.B, torch.Generator().manual_seed(args.seed))
    chosen = random.Random(args.seed).choices([batch for batch in batches if len(batch) == args.B], k=args.steps + 1)
    return [[stories[story] for story in batch] for batch in chosen]


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("corpus", help="tokenised text, one story a line")
    for name, default in (("H", 2), ("N", 512), ("B", 32), ("VSize", 10000), ("EDim", 100), ("steps", 10), ("seed", 0)):
        p.add_argument(f"-{name}", type=int, default=default, help=f"(default {default})")
    p.add_argument("-length", type=int, default=0, help="make all stories this long (default 0: as they are)")
    p.add_argument("-bptt", type=int, default=512, help="(default 512)")
    p.add_argument("-layout", choices=("ours", "padded", "packed"), default="ours", help="(default ours)")
    p.add_argument("-cell", choices=lstlm.CELLS, default="lstm", help="(default lstm)")
    p.add_argument("-a", action="store_const", const="dot", help="with attention (default without)")
    p.add_argument("-precision", choices=("auto", "fp32", "bf16"), default="auto", help="(default auto)")
    p.add_argument("-device", choices=("cpu", "cuda"), default="cpu", help="(default cpu)")
    p.add_argument("-similar", action="store_true", help="give a textbook's step our batches and memory settings too")
    args = p.parse_args(argv)
    if args.layout == "ours" or args.similar:
        lstlm.set_up_memory()
    torch.manual_seed(args.seed)
    if args.layout != "ours" and (args.a or args.precision == "bf16" or args.cell != "lstm"):
        p.error(f"-layout {args.layout}: the textbook's step is a float32 LSTM without attention")
    device = lstlm.choose_device(args.device)
    precision = lstlm.choose_precision("fp32" if args.layout != "ours" else args.precision, device)
    batches = sample_batches(args)
    vectors = torch.randn(args.VSize + 3, args.EDim)
    model = lstlm.LSTMLM(vectors, args.N, args.H, args.a, precision=precision, cell=args.cell).to(device).train()
    nats_of = lstlm.Nats(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=args.layout == "ours" or None)

    def step(batch: list[list[int]]) -> None:
        if args.layout == "ours":
            lstlm.train_step(nats_of, optimizer, lstlm.pieces(batch, args.bptt))
        else:
            textbook_step(model, optimizer, batch, args.layout == "packed")

    start_mb = start_of_memory(device.type)
    step(batches[0])  # warm-up
    start = now(device)
    for batch in batches[1:]:
        step(batch)
    seconds = now(device) - start
    rate = sum(len(story) - 1 for batch in batches[1:] for story in batch) / seconds
    extra_mb = round(peak_of_memory(device.type) - start_mb, 1)
    # Without hardware for it, a bfloat16 product of this size takes minutes.
    fast = {torch.float32, lstlm.choose_precision("auto", device)}
    peak = max(product_rate(dtype, device) for dtype in fast)
    print(json.dumps({
        "layout": args.layout, "device": args.device, "similar": args.similar or args.layout == "ours",
        "B": args.B, "H": args.H, "N": args.N,
        "vocab": args.VSize + 3, "attention": args.a, "cell": args.cell, "length": args.length,
        "precision": str(precision).removeprefix("torch."), "tokens_per_s": round(rate, 1),
        "s_per_step": round(seconds / args.steps, 3), "flops_fraction": round(rate * flops_per_token(model) / peak, 4),
        "gemm_gflops": round(peak / 1e9), "extra_mb": extra_mb, "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }))


if __name__ == "__main__":
    main()
