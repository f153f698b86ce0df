"""The flags of run_asr.py; the help of each says its default."""

import argparse
from collections.abc import Callable
from pathlib import Path

from .asr_schema import ASR
from .entry import Parser
from .errors import UserError
from .flags import add_train_flags, flag_type, positive, run_name

fraction = flag_type(float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
weight = flag_type(float, lambda x: 0 <= x <= 100, "a number from 0 to 100")


def make_parser(usage: str, commands: dict[str, Callable], device: str) -> Parser:
    """The commands train, evaluate, recognise and handin, which are functions, with their flags.

    `device` is where they compute unless told otherwise.
    """
    parser = Parser(
        ASR.program, description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, what: str, data: str = "") -> Callable:
        """A command, with the flags of all commands; returns the function that adds others."""
        command_parser = parsers.add_parser(name, help=what, description=what)
        command_parser.set_defaults(command=commands[name])
        add = command_parser.add_argument
        what = f"its files are in expts/NAME (default: {ASR.run})"
        add("--run", type=run_name, default=ASR.run, metavar="NAME", help=what)
        what = f"where it computes (default here: {device}, or what a resumed run had)"
        add("--device", choices=("cpu", "cuda"), help=what)
        if data:
            what = f"the folder with the partitions (default: {data})"
            add("--data", metavar="DIR", help=what)
        return add

    add = command(
        "train", "Train a model, or go on with it.",
        "data.root of the configuration; speech that is made where that is not there",
    )
    add_train_flags(add, ASR)
    what = "a checkpoint of run_lm.py with which the decoder begins (default: none)"
    add("--decoder", type=Path, metavar="FILE", help=what)
    of_training = "that of the training"
    what = "Error rates of the best model on the test split, or on val if that has no transcripts."
    add = command("evaluate", what, of_training)
    what = "where numbers and texts go (default: evaluated/NAME)"
    add("--out", type=Path, metavar="DIR", help=what)
    add_search_flags(add)
    add = command("recognise", "Write what is said in recordings.")
    what = "a .wav, .flac, .ogg or .mp3 file, or a folder of them"
    add("paths", metavar="FILE", nargs="+", type=Path, help=what)
    add_search_flags(add)
    add = command("handin", "Write the texts of the test split as a CSV.", of_training)
    what = "what is handed in (default: %(default)s)"
    add("--out", type=Path, metavar="FILE", default=Path("submission.csv"), help=what)
    add_search_flags(add)
    return parser


def add_search_flags(add: Callable) -> None:
    what = "how many beginnings are followed at once; 1 is greedy (default: %(default)s)"
    add("--beam-width", type=positive, default=1, metavar="N", help=what)
    what = "the share that CTC has in ranking beams, 0 to 1 (default: %(default)s)"
    add("--ctc-weight", type=fraction, default=0.0, metavar="W", help=what)
    what = "a checkpoint of run_lm.py that is asked too (default: none)"
    add("--lm", type=Path, metavar="FILE", help=what)
    what = "how much its scores count (default: 0.3)"
    add("--lm-weight", type=weight, metavar="W", help=what)


def check_search(args: argparse.Namespace) -> None:
    """UserError for a weight of no language model; without a weight it is set to the default."""
    if args.lm is None and args.lm_weight is not None:
        raise UserError(f"--lm-weight {args.lm_weight}: there is no --lm; give one or leave it out")
    if args.lm_weight is None:
        args.lm_weight = 0.3
