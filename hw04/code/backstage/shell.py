"""The entry of every program: what comes out at the end of one, whatever happens in it."""

import io
import os
import shlex
import sys
from collections.abc import Callable

from backstage.errors import Stopped, UserError
from backstage.words import printable


def guarded(
    program: str, action: Callable[[], int | None], argv: list[str] | None = None,
    smaller: str = "give it less to do",
) -> int:
    """Carry out an action; returns the exit status, that of the action or 0 if all went well.

    2 for what the user can mend, 1 for failures while running, 130 and 143 for signals: each of
    these with one line on standard error. `argv` is what the program was called with, and `smaller`
    what helps where memory is too little.
    """
    mend_streams()
    try:
        return carried_out(action)
    except UserError as error:
        return fail(program, f"error: {error}", 2)
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            again = command_again(program, argv)
            print(f"{program}: stopped and saved; go on with: {again} -resume", file=sys.stderr)
        return 128 + stopped.args[0]
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as in `lstlm.py -prompt | head`
        return 0
    except OSError as error:  # a full disk, say
        return fail(program, f"error: {error}", 1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        return fail(program, f"error: too little memory; {smaller}", 1)
    finally:
        give_up_output()


def carried_out(action: Callable[[], int | None]) -> int:
    """The exit status of an action, 0 if it has none; all that it printed is out."""
    try:
        status = action() or 0
    except SystemExit:  # argparse's, after -h
        sys.stdout.flush()
        raise
    sys.stdout.flush()  # now, as Python's end would print a failure in its own way
    return status


def give_up_output() -> None:
    """Let what cannot be written go nowhere, as Python's end would fail on it once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(program: str, what: str, status: int) -> int:
    """Print one line on standard error; returns the exit status."""
    print(f"{program}: {printable(what)}", file=sys.stderr)
    return status


def command_again(program: str, argv: list[str] | None) -> str:
    """The command that was given, to be shown to the person."""
    if "WORLD_SIZE" in os.environ:
        return "the same torchrun command and"
    command = sys.orig_argv if argv is None else ["python", program, *argv]
    return shlex.join(command).removesuffix(" -resume")


def mend_streams() -> None:
    """Let printing never fail for a stream that is closed, or that cannot encode a letter."""
    for name, way in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # for all the run, as in `<&-`, `>&-`, `2>&-`
            setattr(sys, name, open(os.devnull, way))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not one of a notebook
            stream.reconfigure(errors="backslashreplace")
