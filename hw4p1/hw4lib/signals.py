"""The signals that end a program: Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from .errors import Interrupted

# Windows has no SIGHUP.
ENDING = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler(number, frame)` be called for these signals, until the block is left.

    Only Python's main thread can have handlers: in another the block runs without. A SIGHUP that is
    ignored, as `nohup` has it, stays ignored.
    """
    numbers = []
    if threading.current_thread() is threading.main_thread():
        numbers = [number for number in ENDING if not stays_ignored(number)]
    before = [(number, signal.getsignal(number)) for number in numbers]
    try:
        for number in numbers:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before:  # None: a handler that is not Python's
            signal.signal(number, signal.SIG_DFL if old is None else old)


def stays_ignored(number: int) -> bool:
    """Whether a signal is one that `nohup` has told the program to ignore."""
    asked_for = (signal.SIGINT, signal.SIGTERM)  # which a shell's `&` has ignored, not the person
    return number not in asked_for and signal.getsignal(number) is signal.SIG_IGN


def interrupt(number: int, _frame: FrameType | None) -> None:
    """A handler that ends what goes on; what it began is tidied up on the way.

    A closed terminal may send SIGHUP twice: that does not interrupt the tidying. Ctrl-C does.
    """
    for other in ENDING:
        if other != signal.SIGINT:
            signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)
