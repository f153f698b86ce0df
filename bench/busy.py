#!/usr/bin/env python3
"""Measure what is left of the programs' speed beside busy processes, with each way of waiting.

    python bench/busy.py CORPUS             # tokenised text, one story a line; ten minutes or more
    python bench/busy.py CORPUS -rounds 3 -only "train, N = 256, B = 8" -results busy.json

Two processes that do nothing but count compete for the processor's cores (`-busy`), or the same
program once more (the column `twins`, each one's rate). PyTorch's threads, those of libgomp, wait
for each other by spinning, so that a thread which is not running keeps the others from work. Three
ways to wait: libgomp's own, a spin of 1,000 turns (GOMP_SPINCOUNT), and one thread, which waits for
nobody. The rows take turns, each a process of its own. `fair` is what a program would keep if the
system shared C cores evenly among its T threads and K others: C / (T + K) of its quiet rate, at
most all of it. Prints a Markdown table: median tokens per second when quiet, and what is left of
the default's quiet rate.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("busy.py"):
    import torch
    from backstage.errors import UserError
    from backstage.files import atomic_write
    from backstage.parser import Parser, positive

HERE = Path(__file__).resolve().parent
WAYS = {
    "default": {}, "spin 1,000": {"GOMP_SPINCOUNT": "1000"}, "1 thread": {"OMP_NUM_THREADS": "1"},
}


def programs(corpus: str) -> dict[str, list[str]]:
    """What is measured: a name and the arguments of a program of this folder."""
    train = ["lstlm/train_speed.py", corpus]
    small = ["-N", "256", "-EDim", "64", "-VSize", "2000", "-B", "8", "-steps", "40"]
    return {
        "train, N = 256, B = 8": [*train, *small],
        "train, N = 512, B = 32": [*train, "-steps", "3"],
        "evaluate": ["lstlm/eval_speed.py", corpus, "-length", "200"],
        "generate": ["lstlm/generate_speed.py"],
        "hw4p1, train": ["transformer/train_speed.py"],
    }


def rate(arguments: list[str], settings: dict[str, str], copies: int = 1) -> float:
    """Tokens per second that a program of this folder measures of itself: the mean of `copies`."""
    command = [sys.executable, str(HERE / arguments[0]), *arguments[1:]]
    print("running", *settings.items(), *arguments, file=sys.stderr)
    env = {**os.environ, **settings}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        for _ in range(copies)
    ]
    printed = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise UserError(f"{arguments[0]} ended with an error; try it by itself")
    records = [json.loads(text.splitlines()[-1]) for text in printed]
    return statistics.mean(record["tokens_per_s"] for record in records)


@contextlib.contextmanager
def beside(count: int) -> Iterator[None]:
    """Let so many processes be busy meanwhile."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measured(args: argparse.Namespace) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Rates by program, way to wait, and `quiet`, `busy` or `twins`, each a list of `-rounds`."""
    rates = {}
    for name in args.only or programs(""):
        arguments = programs(args.corpus)[name]
        rates[name] = {way: {"quiet": [], "busy": [], "twins": []} for way in WAYS}
        for _ in range(args.rounds):
            for way, settings in WAYS.items():
                rates[name][way]["quiet"].append(rate(arguments, settings))
                rates[name][way]["twins"].append(rate(arguments, settings, copies=2))
            with beside(args.busy):
                for way, settings in WAYS.items():
                    rates[name][way]["busy"].append(rate(arguments, settings))
    return rates


def print_table(rates: dict, busy: int) -> None:
    """Print the medians of what was measured."""
    head = ["program", "way to wait", "quiet, tokens/s", "of the default", "busy", "fair"]
    head += ["twins", "fair"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    cores = len(os.sched_getaffinity(0))
    for name, ways in rates.items():
        base = statistics.median(ways["default"]["quiet"])
        for way, results in ways.items():
            quiet, beside_busy, twins = (statistics.median(xs) / base for xs in results.values())
            threads = 1 if way == "1 thread" else torch.get_num_threads()
            fair = [min(1.0, cores / total) * quiet for total in (threads + busy, 2 * threads)]
            shares = (quiet, beside_busy, fair[0], twins, fair[1])
            cells = [name, way, f"{quiet * base:,.0f}", *(f"{share:.2f}" for share in shares)]
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = Parser("busy.py", __doc__)
    add = parser.add_argument
    add("corpus", help="tokenised text, one story a line")
    add("-busy", type=positive, default=2, help="busy processes (default 2)")
    add("-rounds", type=positive, default=3, help="(default 3)")
    names = [*programs("")]
    what = f"of: {'; '.join(names)} (default all)"
    add("-only", nargs="+", choices=names, metavar="NAME", help=what)
    add("-results", type=Path, help="write all rates to this JSON file too (default none)")
    args = parser.parse_args()
    rates = measured(args)
    print_table(rates, args.busy)
    if args.results:
        content = json.dumps(rates, indent=1).encode() + b"\n"
        atomic_write(args.results, lambda file: file.write(content))


if __name__ == "__main__":
    sys.exit(guarded("busy.py", main))
