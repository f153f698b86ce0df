"""Ctrl-C, SIGTERM and SIGHUP during a training: they wait for the end of a step."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

from backstage.errors import Stopped
from backstage.processes import rank_and_world_size


class StopSignal:
    """The signal that came, if any: its `number`, else 0."""

    number = 0
    at_once = False  # whether what is done now can be left off and done again

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Note a signal, to save the state after the step; Ctrl-C after it stops at once."""
        before = [(number, signal.signal(number, self.note)) for number in stopping_signals()]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    @contextlib.contextmanager
    def stopping_at_once(self) -> Iterator[None]:
        """Raise Stopped when a signal comes within this, or came.

        Within it no process may wait for another, as that one would wait for ever.
        """
        self.at_once = True
        try:
            if self.number:
                raise Stopped(self.number)
            yield
        finally:
            self.at_once = False

    def note(self, number: int, _frame) -> None:
        """The handler.

        Only Ctrl-C is pressed again to say something more. SIGHUP comes twice when a terminal is
        closed, from its shell too, and SIGTERM twice from `timeout`.
        """
        # Of several processes each got the signal, and torchrun passes it on once more.
        alone = rank_and_world_size()[1] == 1
        if self.number and alone and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number:
            return
        self.number = number
        again = "; Ctrl-C again stops at once" if alone else ""
        # Who read this may be gone, and said so by the signal. Or the signal interrupts a print
        # that waits for its reader, within which Python allows no other: a RuntimeError.
        with contextlib.suppress(OSError, RuntimeError):
            print(f"\nstopping after this step, and saving{again}", file=sys.stderr, flush=True)
        if self.at_once:
            raise Stopped(number)


def stopping_signals() -> list[int]:
    """The signals that stop a training.

    A SIGHUP that `nohup` has ignored stays so; and only in the main thread Python allows handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    return numbers
