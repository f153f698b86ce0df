"""The entry of every program: what comes out at the end of one, whatever happens in it."""

import argparse
import contextlib
import difflib
import errno
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .errors import Interrupted, Stopped, UserError
from .output import folded, folded_output, give_up_output, mend_streams
from .signals import handled, interrupt

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements-dev.txt"
LITTLE_MEMORY = (  # in messages of torch and the system
    "memory", "bad_alloc", "bad allocation", "ALLOC_FAILED", "could not create a primitive",
    "failed to map segment",
)  # fmt: skip
# How many times a thread of PyTorch looks for work before it sleeps, which libgomp reads when it is
# loaded. Beside other programs its own 300,000 make a training several times slower.
SPIN = "1000"
LEAST_MEMORY = 10**9  # bytes of addresses; with fewer PyTorch may abort where nobody can catch it


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, as all others of a program.

    No flag may be shortened to its beginning.
    """

    def __init__(self, *args, **more):
        super().__init__(*args, **{"allow_abbrev": False, **more})

    def parse_known_args(self, args=None, namespace=None):
        """As that of argparse; but what no flag takes is answered with the nearest flag."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = next((text for text in unknown if text.startswith("-")), "")
            near = nearest(flag.partition("=")[0], re.findall(r"--?\w[\w-]*", self.format_usage()))
            why = "no such flag" if flag else "no flag takes it; a text needs quotes"
            hint = f"; did you mean {near}?" if near else ""
            self.error(f"{' '.join(unknown)}: {why}{hint}")
        return parsed, unknown

    def error(self, message: str):
        raise UserError(f"{message}; {self.prog} -h tells what there is")


def nearest(word: str, words: Iterable[str]) -> str:
    """The one of `words` that begins like a word, or else is most like it; empty if none is."""
    words = list(words)
    longer = [one for one in words if one.startswith(word) and word.strip("-")]
    return next(iter(longer or difflib.get_close_matches(word, words, 1)), "")


@contextlib.contextmanager
def importing(program: str) -> Iterator[None]:
    """Let a package that is missing or broken be told in one line, with status 2."""
    if sys.argv[1:2] == ["train"]:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    mend_streams()
    try:
        check_limit()
        yield
    except KeyboardInterrupt:  # Ctrl-C in the seconds that this takes
        raise SystemExit(128 + signal.SIGINT) from None
    except (ImportError, OSError, MemoryError) as error:  # OSError: of a library in C
        what, status = account(error, "close other programs, or raise the limit of ulimit -v")
        raise SystemExit(fail(program, what, status)) from None


def check_limit() -> None:
    """Raise MemoryError if this process may not have the memory that it needs at least."""
    with contextlib.suppress(ImportError):  # Windows has no such limits
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
            raise MemoryError


def guarded(
    program: str, action: Callable[[], None], argv: list[str] | None = None,
    smaller: str = "give it less to do",
) -> int:
    """Carry out an action; returns the exit status, 0 if all went well.

    2 for what the user can mend, 1 for a failing machine, 129, 130 and 143 for signals: each of
    these with one line on standard error. `argv` is what the program was called with, and `smaller`
    what helps where memory is too little. A fault of the program itself is raised.
    """
    mend_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not one of a notebook
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        with handled(interrupt):
            carry_out(action)
        return 0
    except Stopped as stopped:
        number, *again = stopped.args
        if not again:
            given = sys.argv[1:] if argv is None else argv
            again = [*(arg for arg in given if arg != "--resume"), "--resume"]
        tell(f"\n{program}: stopped and saved; go on with: {shlex.join([program, *again])}")
        return 128 + number
    except KeyboardInterrupt as interrupted:
        tell(f"\n{program}: interrupted")
        number = interrupted.args[0] if isinstance(interrupted, Interrupted) else signal.SIGINT
        return 128 + number
    except BrokenPipeError:  # such as in `run_lm.py generate | head -1`
        return 0
    except Exception as error:
        what, status = account(error, smaller)
        if status is None:
            raise
        return fail(program, what, status)
    finally:
        give_up_output()


def carry_out(action: Callable[[], None]) -> None:
    """Carry out an action; then all that it printed is out, also what argparse prints for -h."""
    with folded_output():
        try:
            action()
        except SystemExit:  # argparse's
            sys.stdout.flush()
            raise
        sys.stdout.flush()  # now, as Python's end would print a failure in its own way


def account(error: Exception, smaller: str) -> tuple[str, int | None]:
    """What to tell of an error, and the exit status: None for a fault of the program."""
    install = shlex.join(["pip", "install", "-r", str(REQUIREMENTS)])
    if isinstance(error, UserError | FileNotFoundError):
        return str(error), 2
    if lacks_memory(error):
        return f"too little memory; {smaller}", 1
    if isinstance(error, ModuleNotFoundError):
        return f"this Python has no {error.name}; {install}", 2
    if isinstance(error, ImportError):  # NumPy's is a page long
        first, *_ = str(error).strip().splitlines() or ["an import failed"]
        return f"{first}; {install}", 2
    if isinstance(error, UnicodeEncodeError):  # of a path
        why = f"cannot be written in this system's encoding, {error.encoding}"
        return f"{error.object!r:.200} {why}; set PYTHONUTF8=1", 2
    return str(error), 1 if isinstance(error, OSError) else None


def lacks_memory(error: Exception) -> bool:
    """Whether an error says that memory is too little, in Python's way or one of torch's."""
    if isinstance(error, OSError) and error.errno is not None:  # its text may be a file's name
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError | ImportError | OSError):
        return any(words in str(error) for words in LITTLE_MEMORY)
    return isinstance(error, MemoryError)


def fail(program: str, what: str, status: int) -> int:
    """Print one line on standard error; returns the exit status."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in what)
    tell(f"{program}: error: {line}")
    return status


def tell(line: str) -> None:
    """Print a line on standard error, if anybody is there to read it."""
    with contextlib.suppress(OSError):
        print(folded(line, sys.stderr), file=sys.stderr)
