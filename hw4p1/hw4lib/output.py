"""Output: lines that fit a terminal, progress bars, and what happens when nobody takes it any more.

As with a closed terminal or pipe, or a full disk.
"""

import contextlib
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator

LEAST = 20  # columns below which lines are left as they are


def folded(text: str, stream) -> str:
    """The lines of a text, folded between words where `stream` is a terminal that they do not fit.

    What follows has the indent of its line, and two more spaces where there is one.
    """
    width = shutil.get_terminal_size().columns if stream.isatty() else 0
    if width < LEAST:
        return text
    return "\n".join(line if len(line) <= width else fold(line, width) for line in text.split("\n"))


def fold(line: str, width: int) -> str:
    """A line in several, or with a smaller indent; a word longer than `width` stays whole."""
    text = line.lstrip(" ")
    indent = min(len(line) - len(text), max(width - len(text), width // 4)) * " "
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent and indent + "  ",
        break_long_words=False, break_on_hyphens=False, replace_whitespace=False,
    )


class Folded:
    """A stream to a terminal, whose lines end between words."""

    def __init__(self, stream):
        self.stream = stream
        self.line = ""  # which has no end yet

    def write(self, text: str) -> int:
        *lines, self.line = (self.line + text).split("\n")
        if lines:
            self.stream.write("".join(folded(line, self.stream) + "\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        line, self.line = self.line, ""
        if line:
            self.stream.write(folded(line, self.stream))
        self.stream.flush()

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


@contextlib.contextmanager
def folded_output() -> Iterator[None]:
    """Have what is printed in the block fit the terminal, if it goes to one."""
    if not sys.stdout.isatty():
        yield
        return
    with contextlib.redirect_stdout(Folded(sys.stdout)):
        yield


class Outlived:
    """A stream that becomes silent when it cannot be written any more; `error` says why."""

    def __init__(self, stream):
        self.stream = stream
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        self._attempt(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self.stream.flush)

    def _attempt(self, act) -> None:
        if self.error is None:
            try:
                act()
            except (OSError, ValueError) as error:  # ValueError: it was closed
                self.error = error

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


@contextlib.contextmanager
def outlived_output() -> Iterator[None]:
    """Let no print fail in the block, as what it makes is worth more than what it says.

    A block that was carried out ends with the error of standard output, if there was one.
    """
    output = Outlived(sys.stdout)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(Outlived(sys.stderr)):
        yield
        output.flush()
    if output.error:
        raise output.error


def mend_streams() -> None:
    """Open the standard streams that are closed for all the run, as in `<&-`, `>&-`, `2>&-`.

    To be called before any file is opened, which would else get the number of such a stream, and
    with it what a library writes there.
    """
    for name, way in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, way))  # noqa: SIM115 - for all the run


def give_up_output() -> None:
    """Let what cannot be written go nowhere, as Python's end would fail on it once more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
