"""Ctrl-C and SIGTERM during a training: they wait for the end of a step."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from backstage.errors import Stopped
from backstage.processes import rank_and_world_size


class StopSignal:
    """The signal that came, if any: its `number`, else 0."""

    number = 0
    at_once = False  # whether what is done now can be left off and done again

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Note a signal, to save the state after the step; a second one stops at once."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [(number, signal.signal(number, self.note)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    @contextlib.contextmanager
    def stopping_at_once(self) -> Iterator[None]:
        """Raise Stopped when a signal comes within this, or came; not in several processes."""
        self.at_once = rank_and_world_size()[1] == 1  # else the others would wait for this one
        try:
            if self.at_once and self.number:
                raise Stopped(self.number)
            yield
        finally:
            self.at_once = False

    def note(self, number: int, _frame) -> None:
        """The handler."""
        # Of several processes each got the signal, and torchrun passes it on once more.
        alone = rank_and_world_size()[1] == 1
        if self.number and alone:
            raise KeyboardInterrupt
        self.number = number
        again = "; Ctrl-C again stops at once" if alone else ""
        try:
            print(f"\nstopping after this step, and saving{again}", file=sys.stderr, flush=True)
        except BrokenPipeError:  # who read this is gone, and said so by the signal; nothing is told
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if self.at_once:
            raise Stopped(number)
