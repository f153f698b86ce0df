#!/usr/bin/env python3
"""Run all measurements one after the other and print one table, in Markdown, of ratios from that one run.

    python bench/compare.py CORPUS                                       # 15 minutes on 2 cores
    python bench/compare.py CORPUS -yardstick textbook_lstm.py -agree MODEL VALID_CORPUS -results bench.json

Each row is a process of its own, so that none finds memory or code that another has prepared. `-yardstick` is another
program for the textbook's step, with the flags and the JSON keys of train_speed.py. Rows in bfloat16 are left out where
the CPU does not multiply it. Run it on a machine that does nothing else: rows are minutes apart, and machines drift.
"""

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from train_speed import lstlm

BENCH = Path(__file__).resolve().parent


class Runs:
    """Runs programs of this folder and keeps what they print."""

    def __init__(self):
        self.records = []

    def __call__(self, program: str, *args) -> dict:
        command = [sys.executable, str(BENCH / program), *map(str, args)]
        print("running", program, *args, file=sys.stderr)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        record = json.loads(done.stdout)
        self.records.append({"program": program, "args": [Path(str(a)).name for a in args], **record})
        return record


def precisions() -> list[str]:
    """What is worth measuring here: fp32, and bf16 where the CPU multiplies it."""
    return ["fp32", "bf16"] if lstlm.choose_precision("auto", torch.device("cpu")) == torch.bfloat16 else ["fp32"]


def table(title: str, head: list[str], rows: list[list]) -> None:
    """Print a Markdown table."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")


def training(run: Runs, corpus: str, yardstick: str | None) -> None:
    """Tokens per second and memory of a training step, and how they depend on the stories' length."""
    speed = "train_speed.py"
    rows = {
        "textbook, packed": run(speed, corpus, "-layout", "packed", "-steps", 1),
        "textbook, padded": run(speed, corpus, "-layout", "padded", "-steps", 3),
        "textbook, padded, with our batches and memory settings": run(
            speed, corpus, "-layout", "padded", "-similar", "-steps", 5
        ),
    }
    for precision in precisions():
        common = (speed, corpus, "-precision", precision)
        rows |= {
            f"ours, {precision}": run(*common),
            f"ours, {precision}, `-a`": run(*common, "-a"),
            f"ours, {precision}, `-a`, stories of 900 tokens": run(
                *common, "-a", "-length", 900, "-bptt", 1000, "-steps", 2
            ),
            f"ours, {precision}, `-cell gru`": run(*common, "-cell", "gru"),
            f"ours, {precision}, `-cell rnn`": run(*common, "-cell", "rnn"),
        }
    if yardstick:
        rows["yardstick, packed"] = run(yardstick, corpus, "-layout", "packed", "-steps", 1)
        rows["yardstick, padded"] = run(yardstick, corpus, "-layout", "padded", "-steps", 3)
    packed, padded = (rows[f"textbook, {layout}"]["tokens_per_s"] for layout in ("packed", "padded"))
    table("Training", ["step", "tokens/s", "s/step", "over packed", "over padded", "`flops_fraction`", "MiB"], [
        [name, f"{r['tokens_per_s']:,.0f}", r["s_per_step"], f"{r['tokens_per_s'] / packed:.1f}",
         f"{r['tokens_per_s'] / padded:.2f}", f"{r['flops_fraction']:.2f}", f"{r.get('extra_mb', 0):,.0f}" or "-"]
        for name, r in rows.items()
    ])
    lengths = []
    for precision in precisions():
        pairs = [
            [run(speed, corpus, "-precision", precision, "-length", n, "-steps", steps)["tokens_per_s"]
             for n, steps in ((50, 20), (500, 2))]
            for _ in range(3)
        ]
        short, long = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(long / short for short, long in pairs)
        lengths.append([precision, f"{short:,.0f}", f"{long:,.0f}", f"{ratio:.2f}"])
    title = "Training, all stories of one length: tokens/s (medians of three pairs, the ratio too)"
    table(title, ["precision", "50", "500", "ratio"], lengths)


def evaluation(run: Runs, corpus: str) -> None:
    """Tokens per second and memory of the loss."""
    speed = "eval_speed.py"
    rows = {"naive": run(speed, corpus, "-naive", "-length", 200)}
    for precision in precisions():
        common = (speed, corpus, "-precision", precision, "-length", 200)
        rows[f"ours, {precision}"] = run(*common)
        rows[f"ours, {precision}, V = 260,003"] = run(*common, "-VSize", 260000)
    table("Evaluation, 64 stories of 200 tokens", ["loss", "tokens/s", "MiB"], [
        [name, f"{r['tokens_per_s']:,.0f}", f"{r['extra_mb']:,.0f}"] for name, r in rows.items()
    ])


def generation(run: Runs, agree: list[str] | None) -> None:
    """Milliseconds for a token."""
    ways = {"`nn.LSTM` and `nn.Linear`": ["-plain"]}
    ways |= {f"ours, {precision}": ["-precision", precision] for precision in (*precisions(), "int8")}
    runs = [{name: run("generate_speed.py", *flags) for name, flags in ways.items()} for _ in range(3)]
    rows = {name: min((r[name] for r in runs), key=lambda r: r["ms_per_token"]) for name in ways}
    shares = {}
    for name, flags in ways.items():
        if agree and name not in ("`nn.LSTM` and `nn.Linear`", "ours, fp32"):
            record = run("generate_speed.py", *flags, "-agree", *agree)
            shares[name] = f"{record['agree']:.2%} of {record['positions']:,}"
    plain = rows["`nn.LSTM` and `nn.Linear`"]
    title = "Generation, 200 tokens, the fastest of three times five, in turn"
    table(title, ["way", "ms/token", "times as fast", "same text", "same favourite"], [
        [name, f"{r['ms_per_token']:.2f}", f"{plain['ms_per_token'] / r['ms_per_token']:.1f}",
         "yes" if r["text"] == plain["text"] else "no", shares.get(name, "")] for name, r in rows.items()
    ])


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("corpus", help="tokenised text, one story a line")
    p.add_argument("-yardstick", type=lambda text: str(Path(text).resolve()), help="another textbook's program")
    p.add_argument("-agree", nargs=2, metavar=("MODEL", "CORPUS"), help="a trained model for the share of agreement")
    p.add_argument("-results", type=Path, help="write all records to this JSON file in the end (default none)")
    args = p.parse_args()
    for path in (args.corpus, args.yardstick, *(args.agree or ())):
        if path and not Path(path).is_file():
            p.error(f"{path}: no such file (hw04/data/get_data.py tiny gets tiny/tiny.train.tokens.4M)")
    if args.results and not args.results.resolve().parent.is_dir():  # said now, not after all the measurements
        p.error(f"{args.results}: its folder is not there; make it, or give another -results")
    run = Runs()
    training(run, args.corpus, args.yardstick)
    evaluation(run, args.corpus)
    generation(run, args.agree)
    read = run("read_speed.py", args.corpus)
    glove = [(name, r) for name, r in read.items() if name.startswith("glove")]
    table("Reading, seconds", ["what", "first", "cached"], [
        *([f"GloVe file of {r['mb']:,} MB, 10,000 words of it", r["first_s"], r["cached_s"]] for _, r in glove),
        [f"corpus of {read['corpus_tokens']:,} tokens", read["corpus_s"], "-"],
    ])
    machine = {"processor": platform.machine(), "threads": torch.get_num_threads(),
               "python": platform.python_version(), "torch": str(torch.__version__), "date": str(datetime.date.today())}
    print("\n{processor}, {threads} threads, Python {python}, PyTorch {torch}, {date}".format(**machine))
    if args.results:
        record = {"made by": "bench/compare.py CORPUS", "machine": machine, "runs": run.records}
        lstlm.atomic_write(args.results, lambda file: file.write(json.dumps(record, indent=1).encode() + b"\n"))


if __name__ == "__main__":
    main()
