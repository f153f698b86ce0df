#!/usr/bin/env python3
"""lstlm.py, but a `-tie` model has no bias at all, to see what the constant does.

    python unbiased.py -train -tie ...  # flags and modes of lstlm.py, which reads its checkpoints

So exercise 9 of the handout has it.
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "code"))
from backstage.shell import importing

with importing("unbiased.py"):
    from backstage.errors import UserError
    from backstage.flags import make_parser, parse_flags
    from backstage.processes import leave
    from backstage.program import run_program
    from backstage.run import Run
    from lstlm import evaluate, load_model, prompt, use  # noqa: F401 - load_model is for runner.py
    from lstlm import train as train_lstlm


class Unbiased:
    """A `Run` whose model's constant bias is zero."""

    def start(self) -> None:
        """As the parent's, which makes the bias the words' frequency."""
        super().start()
        self.bare_model.output.bias.zero_()


def train(args: Namespace, run_class: type[Run] = Run) -> None:
    """Train a model on `-train_corpus`, as lstlm.py does, without the bias of its output layer."""
    if not args.tie:
        raise UserError("-train: what it leaves out only a -tie model has; give -tie")
    train_lstlm(args, run_class=type("UnbiasedRun", (Unbiased, run_class), {}))


def parse_args(argv: list[str] | None = None) -> Namespace:
    """The flags of lstlm.py."""
    return parse_flags(make_parser("unbiased.py", __doc__, (train, use, prompt, evaluate)), argv)


def main(argv: list[str] | None = None) -> int:
    """Run one of the four modes; returns the exit status."""
    return run_program("unbiased.py", parse_args, argv)


if __name__ == "__main__":
    leave(main())
