#!/usr/bin/env python3
"""Measure both systems beside textbook loops, in turn, and print tables in Markdown.

    python bench/compare.py CORPUS                      # all: half an hour or more on 2 cores
    python bench/compare.py CORPUS -short               # what is looked at every day: 2 minutes
    python bench/compare.py CORPUS -only training generation -rounds 5
    python bench/compare.py CORPUS -results bench/results/NAME.json   # from which tables.py makes
                                                                      # those of bench/README.md

CORPUS is tokenised text, one story a line. The rows of a table take turns (harness.py); beside each
figure stands half its range over the rounds, in per cent, and in a ratio's brackets its range.
Where rounds disagree on which of two is faster, the table says that there is no difference. Rows
in bfloat16 are left out where the processor has no units for it. Run it on a machine that does
nothing else.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[1] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("compare.py", "-r requirements-dev.txt"):
    import torch
    from backstage.device import choose_precision
    from backstage.errors import UserError
    from backstage.files import atomic_write
    from backstage.parser import Parser, positive
    from harness import Contest, machine, measure, table

SHORT = {"training", "small", "generation", "transformer"}
SMALL_SPEECH = Path(__file__).resolve().parents[1] / "hw4p1" / "results" / "speech.yaml"
SPEECH = ("speech_per_s", "s of speech/s")
NAMES = {"fp32": "float32", "bf16": "bfloat16"}


def precisions() -> list[str]:
    """What is worth measuring here: fp32, and bf16 where the CPU multiplies it."""
    has_bfloat16 = choose_precision("auto", torch.device("cpu")) == torch.bfloat16
    return ["fp32", "bf16"] if has_bfloat16 else ["fp32"]


def our_rows(*command: str, extra: dict[str, tuple[str, ...]] | None = None) -> dict:
    """Rows of ours in each precision, and those with `extra` flags."""
    rows = {}
    for precision in precisions():
        for name, flags in {"": (), **(extra or {})}.items():
            what = f"ours, {NAMES[precision]}{name}"
            rows[what] = [*command, "-precision", precision, *flags]
    return rows


def training(corpus: str, short: bool) -> Contest:
    """The handout's setting: H = 2, N = 512, B = 32, V = 10,003."""
    train = ["lstlm/train_speed.py", corpus, "-steps", "2"]
    packed = ["lstlm/train_speed.py", corpus, "-steps", "1", "-layout", "packed"]
    rows = {
        "textbook, padded": [*train, "-layout", "padded"],
        "the same, our batches and memory settings": [*train, "-layout", "padded", "-similar"],
    }
    extra = {}
    if not short:
        rows = {"textbook, packed": packed, **rows}
        extra = {", `-a`": ("-a",), ", GRU": ("-cell", "gru"), ", RNN": ("-cell", "rnn")}
    rows |= our_rows(*train, extra=extra)
    bases = tuple(name for name in rows if not name.startswith("ours"))
    columns = ("flops_fraction", "gemm_gflops", "extra_mb")
    return Contest("training", rows, bases, slow=("textbook, packed",), columns=columns)


def small(corpus: str, *flags: str) -> Contest:
    """Small models, where overhead shows."""
    train = ["lstlm/train_speed.py", corpus, *flags]
    base = "textbook, padded"
    rows = {base: [*train, "-layout", "padded"], **our_rows(*train)}
    columns = ("flops_fraction", "gemm_gflops")
    return Contest(f"training, `{' '.join(flags)}`", rows, (base,), columns=columns)


def lengths(corpus: str) -> Contest:
    """All stories of one length."""
    rows = {}
    for length, steps in ((50, 12), (500, 2)):
        train = ("lstlm/train_speed.py", corpus, "-length", str(length), "-steps", str(steps))
        for name, row in our_rows(*train).items():
            rows[f"{name}, {length} tokens"] = row
    bases = tuple(name for name in rows if name.endswith(" 50 tokens"))
    return Contest("training, stories of one length", rows, bases)


def evaluation(corpus: str) -> Contest:
    """64 stories of 200 tokens; and, with the same stories, training."""
    evaluate = ["lstlm/eval_speed.py", corpus, "-length", "200"]
    best = precisions()[-1]
    train = ["lstlm/train_speed.py", corpus, "-length", "200", "-steps", "2", "-precision", best]
    base = "`nn.LSTM`, all scores"
    rows = {base: [*evaluate, "-naive"], f"our training, {NAMES[best]}": train}
    rows |= our_rows(*evaluate, extra={", V = 260,003": ("-VSize", "260000")})
    return Contest("evaluation", rows, tuple(rows)[:2], columns=("extra_mb",))


def generation() -> Contest:
    """A story of 200 tokens, greedily, and 16 drawn together; each beside its products."""
    speed = "lstlm/generate_speed.py"
    base = "`nn.LSTM` and `nn.Linear`"
    rows = {base: [speed, "-plain"], **our_rows(speed)}
    rows["ours, int8"] = [speed, "-precision", "int8"]
    rows["products alone, float32"] = [speed, "-bare"]
    sixteen = [speed, "-samples", "16", "-tokens", "50"]
    rows["ours, float32, 16 stories drawn"] = sixteen
    rows["products alone, float32, 16 stories"] = [*sixteen, "-bare"]
    bases = (base, "ours, float32")
    return Contest("generation", rows, bases, columns=("ms_per_token",))


def first_word() -> Contest:
    """A whole process that prints one word."""
    program = "lstlm/first_word.py"
    rows = {"`import torch`": [program, "-torch"], "`-prompt`, one word": [program]}
    return Contest("the first word", rows, ("`import torch`",), "s", "s")


def transformer(*flags: str) -> Contest:
    """hw4p1 beside a textbook's loop and a GPT-2."""
    train = ["transformer/train_speed.py", "--steps", "2", *flags]
    rows = {
        "textbook": [*train, "--loop", "textbook"], "GPT-2": [*train, "--loop", "gpt2"],
        "ours": train,
    }
    columns = ("not_padding",)
    name = " ".join(["hw4p1, training", *(f"`{flag}`" for flag in flags if flag != "--set")])
    return Contest(name, rows, ("textbook", "GPT-2"), columns=columns)


def cache() -> Contest:
    """hw4p1 generating with its cache and without."""
    rows = {"with the cache": ["transformer/generate_speed.py"]}
    columns = ("s_with_cache", "s_without", "times_faster", "same_sequences")
    return Contest("hw4p1, generation", rows, (), columns=columns)


def speech(config: Path | None = None) -> Contest:
    """hw4p1's recogniser, trained in a textbook's loop and ours."""
    train = ["transformer/asr_speed.py", *(("--config", str(config)) if config else ())]
    rows = {"textbook": [*train, "--steps", "1", "--loop", "textbook"], "ours": train}
    name = f"hw4p1, recogniser, training `{config.name if config else 'asr_config.yaml'}`"
    return Contest(name, rows, ("textbook",), *SPEECH, columns=("not_padding",))


def recognition() -> Contest:
    """hw4p1 recognising recordings on one core."""
    program = "transformer/recognise_speed.py"
    beams = ("--beam-width", "4", "--ctc-weight", "0.3")
    rows = {}
    for name, flags in {"asr_config": (), "speech": ("--config", str(SMALL_SPEECH))}.items():
        rows[f"greedy, `{name}.yaml`"] = [program, *flags]
        rows[f"4 beams with CTC, `{name}.yaml`"] = [program, *flags, *beams]
    columns = ("threads", "tokens")
    return Contest("hw4p1, recogniser, recordings", rows, (), *SPEECH, columns=columns)


def contests(corpus: str, short: bool = False) -> dict[str, Contest]:
    """What there is to measure, by a name each."""
    demo = ("-N", "256", "-EDim", "64", "-VSize", "2000", "-B", "8", "-steps", "60")
    tiny = ("-N", "128", "-EDim", "64", "-VSize", "2000", "-B", "32", "-steps", "30")
    every = {
        "training": training(corpus, short), "small": small(corpus, *demo),
        "smaller": small(corpus, *tiny), "lengths": lengths(corpus),
        "evaluation": evaluation(corpus), "generation": generation(),
        "first_word": first_word(), "transformer": transformer(),
        "pieces": transformer("--set", "tokenization.token_type=1k"), "cache": cache(),
        "speech": speech(), "small_speech": speech(SMALL_SPEECH),
        "recognition": recognition(),
    }
    return {name: each for name, each in every.items() if not short or name in SHORT}


def parse_args() -> argparse.Namespace:
    parser = Parser("compare.py", __doc__)
    add = parser.add_argument
    add("corpus", help="tokenised text, one story a line")
    add("-short", action="store_true", help=f"{', '.join(sorted(SHORT))} alone (default all)")
    names = [*contests("")]
    what = f"of {', '.join(names)} (default all)"
    add("-only", nargs="+", choices=names, metavar="NAME", help=what)
    add("-rounds", type=positive, default=3, help="(default 3)")
    what = "write machine and records to this JSON file, table by table; one of the same machine "
    what += "and day keeps its other tables (default none)"
    add("-results", type=Path, help=what)
    args = parser.parse_args()
    if not Path(args.corpus).is_file():
        get = "hw04/data/get_data.py tiny gets tiny/tiny.train.tokens.4M"
        raise UserError(f"{args.corpus}: no such file; {get}")
    args.corpus = str(Path(args.corpus).resolve())
    # Said now, not after all the measurements.
    if args.results and not args.results.resolve().parent.is_dir():
        raise UserError(f"{args.results}: its folder is missing; make it, or give another -results")
    return args


def main() -> None:
    args = parse_args()
    chosen = contests(args.corpus, args.short)
    stored = {"made by": "bench/compare.py", "machine": machine(), "tables": {}}
    if args.results and args.results.exists():
        before = json.loads(args.results.read_text())
        if before["machine"] == stored["machine"]:
            stored = before
    for name in args.only or chosen:
        contest = chosen[name]
        stored["tables"][name] = {
            "title": contest.title, "unit": contest.unit, "figure": contest.figure,
            "bases": contest.bases, "columns": contest.columns,
            "records": measure(contest, args.rounds),
        }
        print(f"\n{table(stored['tables'][name])}", flush=True)
        if args.results:
            content = json.dumps(stored, indent=1).encode() + b"\n"
            atomic_write(args.results, lambda file, content=content: file.write(content))
    print("\n" + ", ".join(f"{name}: {value}" for name, value in machine().items()))


if __name__ == "__main__":
    sys.exit(guarded("compare.py", main))
