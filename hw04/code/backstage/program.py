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
from backstage.processes import exclusive_to_all, join_processes, rank_and_world_size
from backstage.shell import guarded, outliving_readers
from backstage.words import printable


def run_program(
    program: str, parse: Callable[[list[str] | None], Namespace], argv: list[str] | None = None
) -> int:
    """Run `args.run(args)` of the parsed command line; returns the exit status of `guarded`."""
    set_up_memory()

    def run() -> None:
        args = parse(argv)
        args.model = follow_link(args.model)
        with contextlib.ExitStack() as stack:
            if args.run.__name__ == "train":
                stack.enter_context(outliving_readers())
                join_processes(args, stack)
                instead = "give another path with -model"
                stack.enter_context(exclusive_to_all(args.model, instead))
            first = rank_and_world_size()[0] == 0
            args.trace = start_trace(program, args.trace if first else None, argv, stack)
            args.out = sys.stdout
            if args.json and first:  # only its records go there, what is for people goes to
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # standard error
            for note in args.notes if first else ():
                print(note)
            args.run(args)

    smaller = "make -H, -N, -EDim, -B or -bptt smaller"
    return guarded(program, run, argv, smaller, answers=True)


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
    if not path:
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
