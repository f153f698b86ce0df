"""Output that nobody takes any more: a closed terminal or pipe, a full disk."""

import contextlib
import os
import sys
from collections.abc import Iterator


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
