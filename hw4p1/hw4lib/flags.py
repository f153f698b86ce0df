"""The flags of run_lm.py; the help of each says its default."""

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

from .config import LARGEST_NUMBER, LM, Schema
from .entry import Parser
from .errors import UserError

LONGEST_NAME = 255 - len("..lock")  # bytes: of a run, whose lock is the file .NAME.lock
METHODS = ("greedy", "beam", "sample")
# Flags of `generate` that not every method looks at: their defaults, and the methods that do.
OF_METHODS = {
    "temperature": (1.0, ("beam", "sample")), "repeat_penalty": (1.0, ("greedy", "beam")),
    "beam_width": (10, ("beam",)), "top_k": (0, ("sample",)), "top_p": (1.0, ("sample",)),
    "seed": (0, ("sample",)),
}  # fmt: skip
# Flags of `train`, and the settings that they stand for.
SETTINGS_OF = {
    "epochs": ("training.epochs", "scheduler.warmup.epochs", "scheduler.cosine.T_max"),
    "data": ("data.root",), "seed": ("training.seed",),
}  # fmt: skip


def make_parser(usage: str, commands: dict[str, Callable], device: str) -> Parser:
    """The commands train, evaluate, generate and handin, which are functions, with their flags.

    `device` is where they compute unless told otherwise.
    """
    parser = Parser(
        "run_lm.py", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, what: str, data: str = "", default: str | None = "lm") -> Callable:
        """A command, with the flags of all commands; returns the function that adds others.

        Without a default run it is lm, or the shipped model where that is not there.
        """
        command_parser = parsers.add_parser(name, help=what, description=what)
        command_parser.set_defaults(command=commands[name])
        add = command_parser.add_argument
        shown = default or "lm, or the shipped model where that is not there"
        what = f"its files are in expts/NAME (default: {shown})"
        add("--run", type=run_name, default=default, metavar="NAME", help=what)
        what = f"where it computes (default here: {device}, or what a resumed run had)"
        add("--device", choices=("cpu", "cuda"), help=what)
        if data:
            what = f"the folder with train/, val/ and test/ (default: {data})"
            add("--data", metavar="DIR", help=what)
        return add

    add_train_flags(command(
        "train", "Train a model, or go on with it.",
        "data.root of the configuration; the embedded stories where that is not there",
    ))
    of_training = "that of the training"
    what = "Metrics of the best model on the test split, and texts."
    add = command("evaluate", what, of_training, None)
    what = "where numbers, texts and a picture go (default: evaluated/NAME)"
    add("--out", type=Path, metavar="DIR", help=what)
    add = command("generate", "Continue a prompt.", default=None)
    add_generate_flags(add)
    defaults = {name: default for name, (default, _) in OF_METHODS.items()}
    parsers.choices["generate"].set_defaults(**defaults)
    what = "Evaluate the best model and pack what is handed in."
    add = command("handin", what, of_training)
    what = "what is handed in (default: %(default)s)"
    add("--out", type=Path, metavar="FILE", default=Path("handin.tar"), help=what)
    return parser


def add_train_flags(add: Callable, schema: Schema = LM) -> None:
    what = f"the configuration (default: {schema.shipped.name} beside this file)"
    add("--config", default=schema.shipped, metavar="FILE", help=what)
    what = "replace one, as in model.d_model=128 (default: none is replaced)"
    add("--set", metavar="KEY=VALUE", action="append", help=what)
    what = "epochs, 1/4 of them warm-up, then a cosine (default: training.epochs, no change)"
    add("--epochs", type=positive, metavar="N", help=what)
    what = "go on with a run as if it had never been stopped, with its settings and data; no other "
    what += "flag is needed (default: training.resume)"
    add("--resume", action="store_true", help=what)
    what = "of the random numbers of training (default: training.seed)"
    add("--seed", type=whole(0, LARGEST_NUMBER), metavar="N", help=what)


def add_generate_flags(add: Callable) -> None:
    what = "the beginning, A to Z and ' (default: none)"
    add("words", metavar="TEXT", nargs="*", help=what)
    add("--prompt", metavar="TEXT", help="another way to give it (default: none)")
    add("--method", choices=METHODS, default="greedy", help="(default: %(default)s)")
    what = "end after so many tokens (default: what the model has room for)"
    add("--max-new-tokens", type=positive, metavar="N", help=what)
    what = "not for greedy: below 1 the probable is more probable (default: %(default)s)"
    add("--temperature", type=above_zero, help=what)
    what = "not for sample: above 1 less repetition (default: %(default)s)"
    add("--repeat-penalty", type=above_zero, help=what)
    what = "for beam (default: %(default)s)"
    add("--beam-width", type=positive, help=what)
    what = "for sample: draw from the k best, 0 for all (default: %(default)s)"
    add("--top-k", type=zero_or_more, help=what)
    what = "for sample: draw from the best that sum to this (default: %(default)s)"
    add("--top-p", type=share, help=what)
    what = "for sample: how many texts (default: %(default)s)"
    add("--samples", type=positive, default=1, help=what)
    what = "for sample: of what is drawn (default: %(default)s)"
    add("--seed", type=seed, help=what)


def run_name(text: str) -> str:
    if text.startswith(".") or text == "" or not set(text).isdisjoint("/\\\0"):
        why = "give a name without slashes or a dot before it: it is a folder in expts/"
        raise argparse.ArgumentTypeError(why)
    size = len(os.fsencode(text))
    if size > LONGEST_NAME:
        why = f"it has {size} bytes, and with .NAME.lock beside it a run's name has room for"
        raise argparse.ArgumentTypeError(f"{why} {LONGEST_NAME}; give a shorter one")
    return text


def flag_type(read: Callable, fits: Callable, hint: str) -> Callable:
    """The type of a flag: a number that `read` makes of the text, and that `fits`."""

    def parse(text: str):
        try:
            number = read(text)
        except ValueError:
            number = None
        if number is None or not fits(number):
            raise argparse.ArgumentTypeError(f"it is {text:.40}; give {hint}")
        return number

    return parse


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of a flag: a whole number in this range."""
    hint = f"a whole number from {least} to {most:,}"
    return flag_type(int, lambda n: least <= n <= most, hint)


positive = whole(1, 10**6)
seed = flag_type(int, lambda n: 0 <= n < 2**63, "a whole number from 0 to 2^63 - 1")
zero_or_more = flag_type(int, lambda n: n >= 0, "a whole number, at least 0")
above_zero = flag_type(float, lambda x: 0 < x < math.inf, "a number above 0")
share = flag_type(float, lambda x: 0 < x <= 1, "more than 0 and at most 1, which is no limit")


# ---- Flags that contradict each other, or do nothing


def check_settings_given(args: argparse.Namespace) -> None:
    """UserError if two flags of `train` set the same."""
    keys = [setting.partition("=")[0] for setting in args.set or []]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"--set {twice[0]}: given twice; leave one of them out")
    for name, same in SETTINGS_OF.items():
        value = getattr(args, name)
        for setting in args.set or []:
            if value is not None and setting.startswith(same):
                why = "both set it; leave one of them out"
                raise UserError(f"--{name} {value} --set {setting}: {why}")


def take_prompt(args: argparse.Namespace) -> None:
    """Let the words that stand without a flag be the prompt. UserError if there are two."""
    words = " ".join(args.words)
    if args.words and args.prompt is not None:
        raise UserError(f"--prompt {args.prompt} and {words}: two prompts; give one, in quotes")
    args.prompt = words if args.words else args.prompt or ""


def idle_flags(args: argparse.Namespace) -> list[str]:
    """A note on each flag of `generate` that does nothing with its method; it then has its default.

    UserError where several texts are asked for that would all be the same.
    """
    if args.method != "sample" and args.samples != 1:
        why = f"--method {args.method} gives the same text each time; use sample"
        raise UserError(f"--samples {args.samples}: {why}")
    notes = []
    for name, (default, methods) in OF_METHODS.items():
        if args.method not in methods and getattr(args, name) != default:
            given = f"--{name.replace('_', '-')} {getattr(args, name)}"
            why = f"--method {args.method}; it is for {' and '.join(methods)}"
            notes.append(f"note: {given} does nothing with {why}")
            setattr(args, name, default)
    return notes
