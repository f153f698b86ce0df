#!/usr/bin/env python3
"""Measure generation: milliseconds for each token of one story, and what low precision changes.

    python bench/lstlm/generate_speed.py                  # ours, float32, random weights
    python bench/lstlm/generate_speed.py -precision int8
    python bench/lstlm/generate_speed.py -plain           # nn.LSTM and nn.Linear, the state carried
    python bench/lstlm/generate_speed.py -samples 16      # 16 stories as one batch, drawn
    python bench/lstlm/generate_speed.py -samples 16 -bare      # the products of such steps alone
    python bench/lstlm/generate_speed.py -agree MODEL CORPUS -precision int8

Greedy, from `<bos>`, 200 tokens, of which no `<eos>` (its bias is -1e9). `first_ms` is for each
token of the first text in the process, `ms_per_token` of the fastest of five. Ours is
`generate_next_token`, all of it: counts, softmax, choice; the plain way takes the largest score and
no more. Both print a digest of the text. `-bare` makes the matrix products of a step and no more,
which is what no way of choosing words can be faster than. `-agree` goes through the stories of
CORPUS, as many as fill -positions, and counts at how many of them the most probable next token is
that of float32. Prints one JSON line.
"""

import argparse
import functools
import hashlib
import json
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("generate_speed.py"):
    import lstlm
    import torch
    from backstage.continuations import Continuation
    from backstage.corpora import BOS
    from backstage.device import choose_precision, set_up_memory
    from backstage.one_step import OneStep
    from backstage.parser import Parser, positive, whole
    from backstage.reading import next_logits
    from backstage.sampling import Sampling
    from backstage.state import State
    from measuring import Textbook, take_turns


@torch.inference_mode()
def plain(model: Textbook, count: int) -> list[int]:
    """The most probable tokens, by modules of PyTorch alone."""
    ids = [BOS]
    state = None
    for _ in range(count):
        hidden, state = model.lstm(model.embedding(torch.tensor([ids[-1:]])), state)
        ids.append(int(model.output(hidden[0, 0]).argmax()))
    return ids


def ours(model: lstlm.LSTMLM, count: int) -> list[int]:
    """The same by `generate_next_token`."""
    ids = [BOS]
    state = State()
    for _ in range(count):
        ids.append(lstlm.generate_next_token(model, ids, greedy=True, state=state))
    return ids


def together(model: lstlm.LSTMLM, count: int, samples: int) -> list[int]:
    """So many stories at once, drawn at random as by `-prompt -samples`; their ids in a row."""
    stories = [Continuation([BOS], 1, seed, count) for seed in range(samples)]
    for _ in lstlm.grow(model, stories, Sampling()):
        pass
    return [token for story in stories for token in story.ids]


@torch.inference_mode()
def bare(model: lstlm.LSTMLM, count: int, samples: int) -> list[int]:
    """The products of each step alone, on the same numbers again and again; no ids."""
    step = OneStep.of(model)
    N = model.lstm.hidden_size
    widths = [model.embedding.weight.shape[1] + N] + [2 * N] * (len(step.layers) - 1) + [N]
    rows = [torch.randn(samples, width) for width in widths]
    for _ in range(count):
        for multiply, x in zip([*step.layers, step.output], rows, strict=True):
            multiply(x)
    return []


def best_ids(model: lstlm.LSTMLM, story: list[int]) -> list[int]:
    """The most probable next token at each position of a story, step by step."""
    state = State()
    ends = range(1, len(story))
    return [int(next_logits(model, [story[:end]], state).argmax()) for end in ends]


def agreement(args: argparse.Namespace, precision: torch.dtype) -> dict:
    """The share of positions at which `precision` and float32 have the same favourite."""
    path, corpus = map(Path, args.agree)
    loaded = lstlm.load(path).loaded
    same = 0
    total = 0
    for story in lstlm.tokenize_corpus(corpus, loaded.token2idx):
        loaded.model.precision = torch.float32
        exact = best_ids(loaded.model, story)
        loaded.model.precision = precision
        low = best_ids(loaded.model, story)
        same += sum(a == b for a, b in zip(exact, low, strict=True))
        total += len(exact)
        if total >= args.positions:
            break
    return {"agree": round(same / total, 4), "positions": total}


def parse_args() -> argparse.Namespace:
    parser = Parser("generate_speed.py", __doc__)
    add = parser.add_argument
    numbers = {"H": 2, "N": 512, "VSize": 10000, "EDim": 100, "tokens": 200, "positions": 10000}
    for name, default in numbers.items():
        add(f"-{name}", type=positive, default=default, help=f"(default {default})")
    add("-precision", choices=("fp32", "bf16", "int8"), default="fp32", help="(default fp32)")
    add("-plain", action="store_true", help="the plain way (default ours)")
    what = "count agreement (default measure time)"
    add("-agree", nargs=2, metavar=("MODEL", "CORPUS"), help=what)
    what = "draw so many stories together (default 0: one, greedily)"
    add("-samples", type=whole(0), default=0, help=what)
    add("-bare", action="store_true", help="the products alone (default all of a step)")
    what = "measure once for each line that is read (default once)"
    add("-turns", action="store_true", help=what)
    args = parser.parse_args()
    if args.plain and (args.samples or args.bare):
        parser.error("-plain -samples, -plain -bare: the plain way grows one story, whole")
    return args


def main() -> None:
    args = parse_args()
    if not args.plain:
        set_up_memory()
    precision = choose_precision(args.precision, torch.device("cpu"), generating=True)
    threads = torch.get_num_threads()
    facts = {"plain": args.plain, "precision": args.precision, "threads": threads}
    if args.agree:
        print(json.dumps({**facts, **agreement(args, precision)}))
        return
    torch.manual_seed(0)
    vectors = torch.randn(args.VSize + 3, args.EDim)
    model = lstlm.LSTMLM(vectors, args.N, args.H, precision=precision).eval()
    with torch.no_grad():
        model.output.bias[:3] = -1e9
    generate = ours
    if args.plain:
        model = Textbook.of(model).eval()
        generate = plain
    elif args.bare:
        generate = functools.partial(bare, samples=max(1, args.samples))
    elif args.samples:
        generate = functools.partial(together, samples=args.samples)
    each = args.tokens * max(1, args.samples)

    def measure() -> dict:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            ids = generate(model, args.tokens)
            times.append((time.perf_counter() - start) / each)
        text = hashlib.sha256(repr(ids).encode()).hexdigest()[:16]
        fastest = min(times)
        return {
            **facts, "samples": args.samples, "bare": args.bare,
            "first_ms": round(times[0] * 1e3, 3),
            "ms_per_token": round(fastest * 1e3, 3), "tokens_per_s": round(1 / fastest, 1),
            "text": text,
        }

    take_turns(measure, args.turns)


if __name__ == "__main__":
    sys.exit(guarded("generate_speed.py", main))
