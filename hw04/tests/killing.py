"""Trainings that are killed at a chosen moment, each in a process of its own; run by test_kill.py.

Each line of standard input is a request in JSON, answered by one line with the exit status, negative for a signal.
The libraries are loaded once, and each training is a fork of this process.
"""

import io
import json
import os
import signal
import stat
import sys
import time
from collections import Counter

import lstlm
import torch._dynamo  # noqa: F401 - so that it is there before the forks


class Moments:
    """What a training does with files, counted; at the `fatal` one, such as `["fsync", "before", 3]`, it is killed."""

    def __init__(self, fatal: list | None):
        self.fatal, self.counts = fatal, Counter()

    def come(self, kind: str, side: str) -> None:
        """A moment of this kind is here."""
        self.counts[f"{kind} {side}"] += 1
        if self.fatal == [kind, side, self.counts[f"{kind} {side}"]]:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, kind_of, function):
        """The same function, with a moment before and after it; `kind_of` its arguments is the kind."""

        def watched(*args, **more):
            kind = kind_of(*args)
            self.come(kind, "before")
            result = function(*args, **more)
            self.come(kind, "after")
            return result

        return watched

    def install(self) -> None:
        """Watch all of this process."""
        moments = self

        class Watched(io.BufferedWriter):
            def write(self, data) -> int:
                data = bytes(data)
                moments.come("write", "before")
                super().write(data[: len(data) // 2])
                self.flush()  # half of it has reached the system
                moments.come("write", "after")
                super().write(data[len(data) // 2 :])
                return len(data)

        def watched_open(path, mode):
            return Watched(io.FileIO(path, mode)) if mode in ("wb", "ab") else open(path, mode)

        lstlm.open = watched_open
        folder = lambda file: "folder fsync" if stat.S_ISDIR(os.fstat(file).st_mode) else "fsync"  # noqa: E731
        os.fsync = self.watch(folder, os.fsync)
        os.replace = self.watch(lambda old, new: "replace" if str(old).endswith(".tmp") else "keep", os.replace)
        os.unlink = self.watch(lambda *_, **__: "unlink", os.unlink)
        lstlm.train_step = self.watch(lambda *_: "step", lstlm.train_step)


def train(argv: list[str], output: str, save_steps: int, fatal: list | None) -> None:
    """Train, and end this process. What it prints goes to the file `output`, then the counts of all moments."""
    file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (0, 1, 2):
        os.dup2(file, stream)
    moments, status = Moments(fatal), 1
    try:
        lstlm.SAVE_STEPS, lstlm.draw_curve = save_steps, lambda *_: None  # a picture takes longer than all the rest
        moments.install()
        status = lstlm.main(argv)
        print(json.dumps(moments.counts))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    """Answer all requests."""
    for line in sys.stdin:
        request = json.loads(line)
        delay = request.pop("delay", None)
        if not (child := os.fork()):
            train(**request)
        if delay is not None:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
