#!/usr/bin/env python3
"""Run all measurements one after the other and print tables, in Markdown, of ratios from one run.

    python bench/lstlm/compare.py CORPUS                      # 15 minutes on 2 cores
    python bench/lstlm/compare.py CORPUS -yardstick textbook_lstm.py -agree MODEL VALID_CORPUS \\
        -results bench.json

Each row is a process of its own, so that none finds memory or code that another has prepared.
`-yardstick` is another program for the textbook's step, with the flags and the JSON keys of
train_speed.py. Rows in bfloat16 are left out where the CPU does not multiply it. Run it on a
machine that does nothing else: rows are minutes apart, and machines drift.
"""

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("compare.py"):
    import torch
    from backstage.device import choose_precision
    from backstage.errors import UserError
    from backstage.files import atomic_write
    from backstage.parser import Parser

HERE = Path(__file__).resolve().parent
PLAIN = "`nn.LSTM` and `nn.Linear`"


class Runs:
    """Runs programs of this folder and keeps what they print."""

    def __init__(self):
        self.records = []

    def __call__(self, program: str, *args) -> dict:
        command = [sys.executable, str(HERE / program), *map(str, args)]
        print("running", program, *args, file=sys.stderr)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise UserError(f"{program} ended with status {done.returncode}; try it by itself")
        try:
            record = json.loads(done.stdout)
        except ValueError:
            raise UserError(f"{program}: printed no line of JSON; try it by itself") from None
        names = [Path(str(arg)).name for arg in args]
        self.records.append({"program": program, "args": names, **record})
        return record


def precisions() -> list[str]:
    """What is worth measuring here: fp32, and bf16 where the CPU multiplies it."""
    has_bfloat16 = choose_precision("auto", torch.device("cpu")) == torch.bfloat16
    return ["fp32", "bf16"] if has_bfloat16 else ["fp32"]


def table(title: str, head: list[str], rows: list[list]) -> None:
    """Print a Markdown table."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")


def training(run: Runs, corpus: str, yardstick: str | None) -> None:
    """Tokens per second and memory of a training step."""
    speed = "train_speed.py"
    packed = ("-layout", "packed", "-steps", 1)
    padded = ("-layout", "padded", "-steps", 3)
    similar = ("-layout", "padded", "-similar", "-steps", 5)
    rows = {
        "textbook, packed": run(speed, corpus, *packed),
        "textbook, padded": run(speed, corpus, *padded),
        "textbook, padded, with our batches and memory settings": run(speed, corpus, *similar),
    }
    long = ("-length", 900, "-bptt", 1000, "-steps", 2)
    for precision in precisions():
        common = (speed, corpus, "-precision", precision)
        ours = f"ours, {precision}"
        rows[ours] = run(*common)
        rows[f"{ours}, `-a`"] = run(*common, "-a")
        rows[f"{ours}, `-a`, stories of 900 tokens"] = run(*common, "-a", *long)
        rows[f"{ours}, `-cell gru`"] = run(*common, "-cell", "gru")
        rows[f"{ours}, `-cell rnn`"] = run(*common, "-cell", "rnn")
    if yardstick:
        rows["yardstick, packed"] = run(yardstick, corpus, *packed)
        rows["yardstick, padded"] = run(yardstick, corpus, *padded)
    packed_rate = rows["textbook, packed"]["tokens_per_s"]
    padded_rate = rows["textbook, padded"]["tokens_per_s"]
    cells = []
    for name, row in rows.items():
        rate = row["tokens_per_s"]
        memory = f"{row['extra_mb']:,.0f}" if "extra_mb" in row else "-"
        ratios = [f"{rate / packed_rate:.1f}", f"{rate / padded_rate:.2f}"]
        share = f"{row['flops_fraction']:.2f}"
        cells.append([name, f"{rate:,.0f}", row["s_per_step"], *ratios, share, memory])
    head = ["step", "tokens/s", "s/step", "over packed", "over padded", "`flops_fraction`", "MiB"]
    table("Training", head, cells)


def lengths(run: Runs, corpus: str) -> None:
    """How the rate of training depends on the stories' length."""
    cells = []
    for precision in precisions():
        common = ("train_speed.py", corpus, "-precision", precision)
        pairs = []
        for _ in range(3):
            short = run(*common, "-length", 50, "-steps", 20)["tokens_per_s"]
            long = run(*common, "-length", 500, "-steps", 2)["tokens_per_s"]
            pairs.append((short, long))
        short, long = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        ratio = statistics.median(long / short for short, long in pairs)
        cells.append([precision, f"{short:,.0f}", f"{long:,.0f}", f"{ratio:.2f}"])
    title = "Training, all stories of one length: tokens/s (medians of three pairs, the ratio too)"
    table(title, ["precision", "50", "500", "ratio"], cells)


def evaluation(run: Runs, corpus: str) -> None:
    """Tokens per second and memory of the loss."""
    speed = "eval_speed.py"
    rows = {"naive": run(speed, corpus, "-naive", "-length", 200)}
    for precision in precisions():
        common = (speed, corpus, "-precision", precision, "-length", 200)
        rows[f"ours, {precision}"] = run(*common)
        rows[f"ours, {precision}, V = 260,003"] = run(*common, "-VSize", 260000)
    cells = [
        [name, f"{row['tokens_per_s']:,.0f}", f"{row['extra_mb']:,.0f}"]
        for name, row in rows.items()
    ]
    table("Evaluation, 64 stories of 200 tokens", ["loss", "tokens/s", "MiB"], cells)


def generation(run: Runs, agree: list[str] | None) -> None:
    """Milliseconds for a token."""
    speed = "generate_speed.py"
    ways = {PLAIN: ["-plain"]}
    for precision in (*precisions(), "int8"):
        ways[f"ours, {precision}"] = ["-precision", precision]
    turns = [{name: run(speed, *flags) for name, flags in ways.items()} for _ in range(3)]
    fastest = {}
    for name in ways:
        fastest[name] = min((turn[name] for turn in turns), key=lambda row: row["ms_per_token"])
    shares = {}
    for name, flags in ways.items():
        if agree and name not in (PLAIN, "ours, fp32"):
            record = run(speed, *flags, "-agree", *agree)
            shares[name] = f"{record['agree']:.2%} of {record['positions']:,}"
    plain = fastest[PLAIN]
    cells = []
    for name, row in fastest.items():
        ratio = f"{plain['ms_per_token'] / row['ms_per_token']:.1f}"
        same = "yes" if row["text"] == plain["text"] else "no"
        cells.append([name, f"{row['ms_per_token']:.2f}", ratio, same, shares.get(name, "")])
    title = "Generation, 200 tokens, the fastest of three times five, in turn"
    table(title, ["way", "ms/token", "times as fast", "same text", "same favourite"], cells)


def reading(run: Runs, corpus: str) -> None:
    """Seconds to read files."""
    read = run("read_speed.py", corpus)
    cells = []
    for name, row in read.items():
        if name.startswith("glove"):
            what = f"GloVe file of {row['mb']:,} MB, 10,000 words of it"
            cells.append([what, row["first_s"], row["cached_s"]])
    cells.append([f"corpus of {read['corpus_tokens']:,} tokens", read["corpus_s"], "-"])
    table("Reading, seconds", ["what", "first", "cached"], cells)


def parse_args() -> argparse.Namespace:
    parser = Parser("compare.py", __doc__)
    add = parser.add_argument
    add("corpus", help="tokenised text, one story a line")
    whole = lambda text: str(Path(text).resolve())  # noqa: E731
    add("-yardstick", type=whole, help="another textbook's program (default none)")
    what = "a trained model for the share of agreement (default none)"
    add("-agree", nargs=2, metavar=("MODEL", "CORPUS"), help=what)
    what = "write all records to this JSON file in the end (default none)"
    add("-results", type=Path, help=what)
    args = parser.parse_args()
    for path in (args.corpus, args.yardstick, *(args.agree or ())):
        if path and not Path(path).is_file():
            get = "hw04/data/get_data.py tiny gets tiny/tiny.train.tokens.4M"
            raise UserError(f"{path}: no such file; {get}")
    # Said now, not after all the measurements.
    if args.results and not args.results.resolve().parent.is_dir():
        raise UserError(f"{args.results}: its folder is missing; make it, or give another -results")
    return args


def main() -> None:
    args = parse_args()
    run = Runs()
    training(run, args.corpus, args.yardstick)
    lengths(run, args.corpus)
    evaluation(run, args.corpus)
    generation(run, args.agree)
    reading(run, args.corpus)
    machine = {
        "processor": platform.machine(), "threads": torch.get_num_threads(),
        "python": platform.python_version(), "torch": str(torch.__version__),
        "date": str(datetime.date.today()),
    }
    line = "{processor}, {threads} threads, Python {python}, PyTorch {torch}, {date}"
    print("\n" + line.format(**machine))
    if args.results:
        made_by = "bench/lstlm/compare.py CORPUS"
        record = {"made by": made_by, "machine": machine, "runs": run.records}
        content = json.dumps(record, indent=1).encode() + b"\n"
        atomic_write(args.results, lambda file: file.write(content))


if __name__ == "__main__":
    sys.exit(guarded("compare.py", main))
