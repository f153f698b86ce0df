"""The entry of every program: what comes out at the end of one, whatever happens in it."""

import contextlib
import errno
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator

from backstage.errors import Stopped, UserError, lacks_memory
from backstage.folding import on_terminal
from backstage.launched import launched
from backstage.words import printable

LEAST_MEMORY = 700 * 10**6  # bytes; with fewer PyTorch may abort where nobody can catch it
TRAINING = {"-train", "--train"}
# How many times a thread of PyTorch looks for work before it sleeps, which libgomp reads when it is
# loaded. A training lasts, beside other work, whose turn it is while a thread spins; for evaluation
# and generation the library's own 300,000 are a quarter faster (bench/README.md).
SPIN = "1000"


def guarded(
    program: str, action: Callable[[], int | None], argv: list[str] | None = None,
    smaller: str = "give it less to do", answers: bool = False,
) -> int:
    """Carry out an action; returns the exit status, that of the action or 0 if all went well.

    2 for what the user can mend, 1 for failures while running, 128 and its number for a signal:
    each of these with one line on standard error. `argv` is what the program was called with, and
    `smaller` what helps where memory is too little. A program that `answers` is there for what it
    prints: when nobody reads that any more it ends. Any other goes on, for its files.
    """
    mend_streams()
    try:
        with contextlib.redirect_stdout(on_terminal(sys.stdout)):
            errors = Lasting(on_terminal(sys.stderr))  # that nobody reads it ends nothing
            with contextlib.redirect_stderr(errors):
                return status_of(program, action, argv, smaller, answers)
    finally:
        give_up(sys.stdout)
        give_up(sys.stderr)


def status_of(
    program: str, action: Callable[[], int | None], argv: list[str] | None, smaller: str,
    answers: bool,
) -> int:
    """What `guarded` returns."""
    try:
        with contextlib.nullcontext() if answers else outliving_readers():
            return carried_out(action)
    except UserError as error:
        return fail(program, f"error: {error}", 2)
    except Stopped as stopped:
        if launched()[0] == 0:
            again = printable(command_again(program, argv))
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
        if not lacks_memory(error):
            raise
        return fail(program, f"error: too little memory; {smaller}", 1)


def carried_out(action: Callable[[], int | None]) -> int:
    """The exit status of an action, 0 if it has none; all that it printed is out."""
    try:
        status = action() or 0
    except SystemExit:  # argparse's, after -h
        sys.stdout.flush()
        raise
    sys.stdout.flush()  # now, as Python's end would print a failure in its own way
    return status


def fail(program: str, what: str, status: int) -> int:
    """Print one line on standard error; returns the exit status."""
    print(f"{program}: {printable(what)}", file=sys.stderr)
    return status


def command_again(program: str, argv: list[str] | None) -> str:
    """The command that was given, to be shown to the person."""
    if launched()[1] > 1:
        return "the same torchrun command and"
    command = sys.orig_argv if argv is None else ["python", program, *argv]
    return shlex.join(command).removesuffix(" -resume")


# ---- Streams ------------------------------------------------------------------------------------


class Lasting:
    """An output stream that falls silent where it would fail; `error` is then the first failure."""

    def __init__(self, stream):
        self.stream = stream
        self.terminal = stream.isatty()
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        self.attempt(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self.attempt(self.stream.flush)

    def attempt(self, action: Callable, *args) -> None:
        """Do it, or note why that is not possible."""
        try:
            action(*args)
        except OSError as error:
            self.error = self.error or error

    def reader_left(self) -> bool:
        """Whether the failure is that of a pipe whose reader has ended, or of a closed terminal."""
        if isinstance(self.error, BrokenPipeError):
            return True
        return self.terminal and self.error.errno == errno.EIO

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


@contextlib.contextmanager
def outliving_readers() -> Iterator[None]:
    """Within it what is printed is lost if it cannot be written, and nothing ends for that.

    At its end this is an OSError, unless the reader left, as that of `| head` does.
    """
    out = Lasting(sys.stdout)
    try:
        with contextlib.redirect_stdout(out):
            yield
    except SystemExit:  # argparse's, after -h
        check_output(out)
        raise
    check_output(out)


def check_output(out: Lasting) -> None:
    """Raise OSError if some of what was printed is lost though there may be a reader."""
    out.flush()
    give_up(out.stream)
    if out.error and not out.reader_left():
        what = "what was printed is not all there, though all else was done"
        raise OSError(f"{what}: {out.error.strerror}")


def give_up(stream) -> None:
    """Let what cannot be written go nowhere, as Python's end would fail on it once more."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def mend_streams() -> None:
    """Let printing never fail for a stream that is closed, or that cannot encode a letter."""
    for name, way in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # for all the run, as in `<&-`, `>&-`, `2>&-`
            setattr(sys, name, open(os.devnull, way))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not one of a notebook
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def importing(
    program: str, install: str = "-r requirements.txt", least: int = LEAST_MEMORY
) -> Iterator[None]:
    """Let a package that is missing or broken end the program with one line and status 2.

    Too little memory for the packages ends it with status 1, Ctrl-C in the seconds that they take
    with status 130. `install` is what pip installs, and `least` the bytes that they need.
    """
    if TRAINING.intersection(sys.argv):
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    try:
        check_limit(least)
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (ImportError, OSError, MemoryError, RuntimeError) as error:  # OSError: of a C library
        mend_streams()
        if lacks_memory(error):
            what = "too little memory; close other programs, or raise the limit of ulimit -v"
            raise SystemExit(fail(program, f"error: {what}", 1)) from None
        if isinstance(error, RuntimeError):
            raise
        what = (str(error).strip().splitlines() or ["a package is broken"])[0]
        if isinstance(error, ModuleNotFoundError):
            what = f"this Python has no {error.name}"
        how = f"use .venv/bin/python, which make demo makes, or pip install {install}"
        raise SystemExit(fail(program, f"error: {what}; {how}", 2)) from None


def check_limit(least: int) -> None:
    """Raise MemoryError if this process may not have so many bytes of addresses."""
    with contextlib.suppress(ImportError):  # Windows has no such limits
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY and limit < least:
            raise MemoryError
