"""A program with modes: where its output goes, and its end."""

import contextlib
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from backstage.device import set_up_memory
from backstage.errors import UserError
from backstage.files import follow_link
from backstage.lock import exclusive
from backstage.processes import join_processes, rank_of_environment
from backstage.shell import guarded
from backstage.words import printable


def run_program(
    program: str, parse: Callable[[list[str] | None], Namespace], argv: list[str] | None = None
) -> int:
    """Run `args.run(args)` of the parsed command line; returns the exit status of `guarded`."""
    set_up_memory()

    def run() -> None:
        args = parse(argv)
        training = args.run.__name__ == "train"
        args.model = follow_link(args.model)
        with contextlib.ExitStack() as stack:
            if training and not rank_of_environment():  # the first of several processes has it
                stack.enter_context(exclusive(args.model, "give another path with -model"))
            args.trace = start_trace(program, args.trace, argv, stack)
            args.out = sys.stdout
            if args.json:  # only its records go there, what is for people goes to standard error
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            if training:
                join_processes(args, stack)
            args.run(args)

    return guarded(program, run, argv, smaller="make -H, -N, -EDim, -B or -bptt smaller")


class Tee:
    """Standard output that also goes to the `-trace` file (progress bars go to standard error)."""

    def __init__(self, screen, file):
        self.screen = screen
        self.file = file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # a full disk, which ends no training
            self.file.write(text)
        return self.screen.write(text)

    def flush(self) -> None:
        self.screen.flush()
        with contextlib.suppress(OSError):
            self.file.flush()

    def __getattr__(self, name: str):
        return getattr(self.screen, name)


def start_trace(
    program: str, path: Path | None, argv: list[str] | None, stack: contextlib.ExitStack
) -> Callable[[str], None]:
    """Copy what is printed to the `-trace` file; returns a function that adds what was typed."""
    if not path or rank_of_environment():  # the first of several processes writes it
        return lambda line: None
    try:  # a line at a time, as a process may be killed
        file = path.open("a", 1, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        why = f"cannot be written ({error.strerror}); give another -trace file"
        raise UserError(f"{path}: {why}") from None
    stack.enter_context(file)

    def note(line: str) -> None:
        with contextlib.suppress(OSError):  # a full disk is told at the end, when the file closes
            print(line, file=file)

    given = sys.argv[1:] if argv is None else argv
    note(f"$ python {program} {shlex.join(map(printable, given))}")
    stack.enter_context(contextlib.redirect_stdout(Tee(sys.stdout, file)))
    return note
