"""The entry of every program: what comes out at the end of one, whatever happens in it."""

import io
import os
import shlex
import sys
from collections.abc import Callable

from .errors import Stopped, UserError


def guarded(
    program: str, action: Callable[[], None], argv: list[str] | None = None,
    smaller: str = "give it less to do",
) -> int:
    """Carry out an action; returns the exit status, 0 if all went well.

    2 for what the user can mend, 1 for a failing machine, 130 and 143 for signals: each of these
    with one line on standard error. `argv` is what the program was called with, and `smaller` what
    helps where memory is too little.
    """
    mend_streams()
    try:
        carry_out(action)
        return 0
    except (UserError, FileNotFoundError) as error:
        return fail(program, f"error: {error}", 2)
    except Stopped as stopped:
        given = sys.argv[1:] if argv is None else argv
        again = shlex.join([program, *(arg for arg in given if arg != "--resume"), "--resume"])
        print(f"\n{program}: stopped and saved; go on with: {again}", file=sys.stderr)
        return 128 + stopped.args[0]
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as in `run_lm.py generate | head -1`
        return 0
    except OSError as error:  # a full disk, say
        return fail(program, f"error: {error}", 1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        return fail(program, f"error: too little memory; {smaller}", 1)
    finally:
        give_up_output()


def carry_out(action: Callable[[], None]) -> None:
    """Carry out an action; then all that it printed is out, also what argparse prints for -h."""
    try:
        action()
    except SystemExit:  # argparse's
        sys.stdout.flush()
        raise
    sys.stdout.flush()  # now, as Python's end would print a failure in its own way


def fail(program: str, what: str, status: int) -> int:
    """Print one line on standard error; returns the exit status."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in what)
    print(f"{program}: {line}", file=sys.stderr)
    return status


def mend_streams() -> None:
    """Let printing never fail for a stream that is closed, or that cannot encode a letter."""
    for name, way in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # for all the run, as in `<&-`, `>&-`, `2>&-`
            setattr(sys, name, open(os.devnull, way))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not one of a notebook
            stream.reconfigure(errors="backslashreplace")


def give_up_output() -> None:
    """Let what cannot be written go nowhere, as Python's end would fail on it once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
