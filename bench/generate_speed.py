#!/usr/bin/env python3
"""Measure generation: milliseconds for each token of one story, and how often low precision picks another token.

    python bench/generate_speed.py                                  # ours, float32, random weights
    python bench/generate_speed.py -precision int8
    python bench/generate_speed.py -plain                           # nn.LSTM and nn.Linear, the state carried
    python bench/generate_speed.py -agree MODEL CORPUS -precision int8

Greedy, from `<bos>`, 200 tokens, of which no `<eos>` (its bias is -1e9). `first_ms` is for each token of the first
text in the process, `ms_per_token` of the fastest of five. Ours is `generate_next_token`, all of it: counts, softmax,
choice; the plain way takes the largest score and no more. Both print a digest of the text. `-agree` goes through the
stories of CORPUS, as many as fill -positions, and counts at how many of them the most probable next token is that of
float32. Prints one JSON line.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import torch
from train_speed import lstlm


@torch.inference_mode()
def plain(model: lstlm.LSTMLM, count: int) -> list[int]:
    """The most probable tokens, by modules of PyTorch alone."""
    ids, state = [lstlm.BOS], None
    for _ in range(count):
        hidden, state = model.lstm(model.embedding(torch.tensor([ids[-1:]])), state)
        ids.append(int(model.output(hidden[0, 0]).argmax()))
    return ids


def ours(model: lstlm.LSTMLM, count: int) -> list[int]:
    """The same by `generate_next_token`."""
    ids, memory = [lstlm.BOS], lstlm.Memory()
    for _ in range(count):
        ids.append(lstlm.generate_next_token(model, ids, greedy=True, state=memory))
    return ids


def best_ids(model: lstlm.LSTMLM, story: list[int]) -> list[int]:
    """The most probable next token at each position of a story, step by step."""
    memory = lstlm.Memory()
    return [int(lstlm.next_logits(model, [story[:end]], memory).argmax()) for end in range(1, len(story))]


def agreement(args: argparse.Namespace, precision: torch.dtype) -> dict:
    """The share of positions at which `precision` and float32 have the same favourite."""
    path, corpus = map(Path, args.agree)
    loaded = lstlm.load_model(lstlm.parse_args(["-use", "-model", str(path), "-device", "cpu"]))
    same = total = 0
    for story in lstlm.tokenize_corpus(corpus, loaded.token2idx):
        loaded.model.precision = torch.float32
        exact = best_ids(loaded.model, story)
        loaded.model.precision = precision
        same += sum(a == b for a, b in zip(exact, best_ids(loaded.model, story), strict=True))
        total += len(exact)
        if total >= args.positions:
            break
    return {"agree": round(same / total, 4), "positions": total}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("H", 2), ("N", 512), ("VSize", 10000), ("EDim", 100), ("tokens", 200), ("positions", 10000)):
        p.add_argument(f"-{name}", type=int, default=default, help=f"(default {default})")
    p.add_argument("-precision", choices=("fp32", "bf16", "int8"), default="fp32", help="(default fp32)")
    p.add_argument("-plain", action="store_true", help="the plain way (default ours)")
    p.add_argument("-agree", nargs=2, metavar=("MODEL", "CORPUS"), help="count agreement (default measure time)")
    args = p.parse_args()
    if not args.plain:
        lstlm.set_up_memory()
    precision = lstlm.choose_precision(args.precision, torch.device("cpu"), generating=True)
    facts = {"plain": args.plain, "precision": args.precision, "threads": torch.get_num_threads()}
    if args.agree:
        print(json.dumps({**facts, **agreement(args, precision)}))
        return
    torch.manual_seed(0)
    model = lstlm.LSTMLM(torch.randn(args.VSize + 3, args.EDim), args.N, args.H, precision=precision).eval()
    with torch.no_grad():
        model.output.bias[:3] = -1e9
    generate = plain if args.plain else ours
    times = []
    for _ in range(5):
        start = time.perf_counter()
        ids = generate(model, args.tokens)
        times.append((time.perf_counter() - start) / args.tokens)
    text = hashlib.sha256(repr(ids).encode()).hexdigest()[:16]
    print(json.dumps({**facts, "first_ms": round(times[0] * 1e3, 3), "ms_per_token": round(min(times) * 1e3, 3),
                      "text": text}))


if __name__ == "__main__":
    main()
