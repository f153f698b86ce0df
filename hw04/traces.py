#!/usr/bin/env python3
"""Write code/traces.txt: what lstlm.py prints in its four modes, for items 8 to 11 of the handout.

    python traces.py                   # of the model that ships
    python traces.py -train_log FILE   # of one whose -train wrote FILE, with -trace FILE
    python traces.py -h                # every flag, with its default

The training is not repeated: its part is FILE, in which only the folders of absolute paths are left
out. All else is run now, with `lstlm.py ... -trace`, in a folder laid out as the handout's, so that
each command can be repeated in hw04/code/. Evaluation needs the real stories: `python
data/get_data.py tiny -same` gets them. Without them that part is kept as it is in the traces there,
if these are of the same model. Exit status: 0; 2 when something is wrong that you can mend; 1 for a
failing machine.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE / "code"))
from backstage.errors import UserError  # noqa: E402 - found by the line above
from backstage.files import atomic_write  # noqa: E402
from backstage.parser import Parser  # noqa: E402
from backstage.shell import guarded  # noqa: E402

BEGINNING = ("-text", "once upon a time")
SIX = (  # beginnings that the handout asks for, one typed line each
    "there was a girl", "one day, a bird", "there once was a boys and", "one day , a",
    "once upon a time , an elf", "once upon a time",
)  # fmt: skip
CORPORA = ("tiny.valid.tokens.200K", "tiny.train.tokens.4M", "tiny.test.tokens.4M")
EVALUATION = "11. -evaluate: on valid and train, and on test"
ROUNDS = ("-prompt", "-continue", "-max_tokens", "50")
RUNS = (  # heading, flags of lstlm.py, lines to type
    ("9. -use: the next token after the six beginnings of the handout", ("-use", "-greedy"), SIX),
    ("10. -prompt: the greedy completion", ("-prompt", "-greedy", *BEGINNING), ()),
    (
        "10. -prompt: five samples, drawn at temperature 1",
        ("-prompt", "-samples", "5", "-temperature", "1", "-seed", "1", *BEGINNING), (),
    ),
    (
        "10a. -prompt -continue: text and continuation fed back until <eos> or a loop, 50 new "
        "tokens a round, greedy",
        (*ROUNDS, "-greedy", *BEGINNING), (),
    ),
    (
        "10a. -prompt -continue: the same, drawn at temperature 1",
        (*ROUNDS, "-temperature", "1", "-seed", "6", *BEGINNING), (),
    ),
    *(
        (
            f"6a. -fpenalty: the greedy completion with a frequency penalty of {penalty}",
            ("-prompt", "-greedy", "-fpenalty", penalty, *BEGINNING), (),
        )
        for penalty in ("-2", "0.5", "2")
    ),
    (
        EVALUATION,
        ("-evaluate", "-test_corpus", *(f"../data/tiny/{name}" for name in CORPORA)), (),
    ),
)  # fmt: skip


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def made_with(model: Path) -> str:
    """The line at the top of the traces that says to handin.py of which model they are."""
    return f"# The model is {model.name} with the SHA-256 {sha256(model)}."


def read_text(path: Path, remedy: str) -> str:
    """The text of a file. Raises UserError, with the remedy, if there is none."""
    try:
        return require(path, remedy).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; {remedy}") from None


def require(path: Path, remedy: str) -> Path:
    """`path`, if it is a file. Raises UserError if not."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {remedy}")
    return path


def read_train_log(path: Path) -> str:
    """The trace of a training that came to its end, absolute paths cut to their last two parts."""
    text = read_text(path, "training writes it with -trace FILE; name it with -train_log")
    if "best valid loss" not in text:
        why = "not the trace of a finished training; add -trace FILE to its command"
        raise UserError(f"{path}: {why}")
    absolute = r"(?<![\w./~])/[^\s'\"]+"
    return re.sub(absolute, lambda path: "/".join(path[0].split("/")[-2:]), text)


def check_train_log(path: Path, log: str, model: Path) -> None:
    """Raise UserError if this trace of a training is not that of the model, by its valid loss."""
    from backstage.sealed import read_metadata  # which needs packages, and -h does not

    try:
        nats = read_metadata(model.read_bytes())[0]["content"]["facts"]["valid_nats"]
        loss = f"best valid loss {nats:.4f} nats"
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{model}: no model of lstlm.py ({error}); give another -model") from None
    if loss not in log:
        why = f"not the trace of the training of {model}, which ended with '{loss}'"
        raise UserError(f"{path}: {why}; name that with -train_log")


def earlier_evaluation(path: Path, model: Path) -> str:
    """That part of traces that are there already; empty if they are not of this model."""
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    if made_with(model) not in text.splitlines():
        return ""
    return text.partition(f"\n## {EVALUATION}\n\n")[2]


def lay_out(folder: Path, args: argparse.Namespace) -> Path:
    """Make the handout's folders with the program, the model and the data.

    Returns that of the program.
    """
    code = folder / "hw04" / "code"
    (code / "backstage").mkdir(parents=True)
    shutil.copy(HERE / "code" / "lstlm.py", code)
    for module in (HERE / "code" / "backstage").glob("*.py"):
        shutil.copy(module, code / "backstage")
    shutil.copy(args.model, code / "lm_model.pt")
    (folder / "hw04" / "data").mkdir()
    if (args.data / "tiny").exists():
        (folder / "hw04" / "data" / "tiny").symlink_to(args.data.resolve() / "tiny")
    return code


def run(code: Path, flags: tuple[str, ...], typed: tuple[str, ...] = ()) -> str:
    """Run lstlm.py in its folder with these flags and typed lines; returns what it printed."""
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    alone["PYTHONIOENCODING"] = "utf-8"
    done = subprocess.run(
        [sys.executable, "lstlm.py", *flags], cwd=code, env=alone, capture_output=True,
        input="".join(f"{line}\n" for line in typed), encoding="utf-8",
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        what = f"lstlm.py {' '.join(flags)} ended with status {done.returncode}"
        raise UserError(f"{what}: {last}; try it by itself")
    return done.stdout


def traces_text(args: argparse.Namespace) -> str:
    """The text of traces.txt."""
    require(args.model, "lstlm.py -train makes it, or give another -model")
    if not args.o.parent.is_dir():
        raise UserError(f"{args.o}: its folder is missing; make it, or give another -o")
    there = all((args.data / "tiny" / name).is_file() for name in CORPORA)
    kept = "" if there else earlier_evaluation(args.o, args.model)
    for name in () if kept else CORPORA:
        get = f"python {HERE / 'data' / 'get_data.py'} tiny -same gets it"
        remedy = f"{get}, or -data names the folder that has tiny/"
        require(args.data / "tiny" / name, remedy)
    log = read_train_log(args.train_log)
    check_train_log(args.train_log, log, args.model)
    with tempfile.TemporaryDirectory() as folder:
        code = lay_out(Path(folder), args)
        trace = code / "traces.txt"
        intro = "# What lstlm.py printed in its four modes, in the order of the handout's items."
        head = f"{intro}\n{made_with(code / 'lm_model.pt')}"
        trace.write_text(f"{head}\n\n## 8. -train\n\n{log}", encoding="utf-8")
        for heading, flags, typed in RUNS:
            if heading == EVALUATION and kept:
                print(f"{heading}: as it was, since {args.data / 'tiny'} is not there")
                return f"{trace.read_text(encoding='utf-8')}\n## {heading}\n\n{kept}"
            print(heading, flush=True)
            with trace.open("a", encoding="utf-8") as file:
                file.write(f"\n## {heading}\n\n")
            run(code, (*flags, "-model", "lm_model.pt", "-trace", "traces.txt"), typed)
        return trace.read_text(encoding="utf-8")


def make_traces(args: argparse.Namespace) -> None:
    """Write traces.txt."""
    text = traces_text(args)
    atomic_write(args.o, lambda file: file.write(text.encode()))
    print(f"{args.o}: {len(text.splitlines()):,} lines")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("traces.py", __doc__)
    add = parser.add_argument
    code = HERE / "code"
    model = code / "lm_model.pt"
    add("-model", type=Path, metavar="PATH", default=model, help="(default: %(default)s)")
    what = "the trace of its training (default: beside the model, with .train.txt for .pt)"
    add("-train_log", type=Path, metavar="FILE", help=what)
    data = Path(os.environ.get("LSTLM_DATA", HERE / "data"))
    what = "the folder with tiny/ (default: LSTLM_DATA of the environment, else %(default)s)"
    add("-data", type=Path, metavar="DIR", default=data, help=what)
    what = "what to write (default: %(default)s)"
    add("-o", type=Path, metavar="FILE", default=code / "traces.txt", help=what)
    args = parser.parse_args(argv)
    args.train_log = args.train_log or args.model.with_suffix(".train.txt")
    return args


def main(argv: list[str] | None = None) -> int:
    return guarded("traces.py", lambda: make_traces(parse(argv)), argv)


if __name__ == "__main__":
    sys.exit(main())
