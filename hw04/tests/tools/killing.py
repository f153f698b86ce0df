"""Trainings that go wrong at a chosen moment, each in processes of its own; run by the tests.

Each line of standard input is a request in JSON, answered by one line with the exit status of the
process, negative for a signal, or a list of those of several processes. The libraries are loaded
once, and each process is a fork of this one.

A request has `argv`, the file `output` for what the first process prints and the counts of all
moments, `save_steps`, and perhaps

    fatal       such as ["fsync", "before", 3]: the moment at which it is killed
    delay       the seconds after which it is killed
    processes   how many train together, as torchrun would start them; each has output.N
    victim      which of the processes alone is killed at that moment
    poisoned    [N, K, L]: the losses number K to L of process N are no numbers
    stopped     [K, N, ...]: SIGTERM comes to processes N, ... in their valid loss number K
"""

import io
import json
import math
import os
import signal
import socket
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable

import backstage.bookkeeping
import backstage.files
import backstage.run
import backstage.saving
import lstlm
import torch
import torch._dynamo  # noqa: F401 - so that it is there before the forks

SECONDS = 120  # after which a process is killed that has not ended


class Moments:
    """What a training does with files, counted; at the `fatal` moment it is killed."""

    def __init__(self, fatal: list | None):
        self.fatal = fatal
        self.counts = Counter()

    def come(self, kind: str, side: str) -> None:
        """A moment of this kind is here."""
        self.counts[f"{kind} {side}"] += 1
        if self.fatal == [kind, side, self.counts[f"{kind} {side}"]]:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, kind_of: Callable[..., str], function: Callable) -> Callable:
        """The same function with a moment before and after it, of the kind of its arguments."""

        def watched(*args, **more):
            kind = kind_of(*args)
            self.come(kind, "before")
            result = function(*args, **more)
            self.come(kind, "after")
            return result

        return watched

    def open(self, path, mode: str):
        """`open`, with moments in the middle of what is written."""
        if mode not in ("xb", "ab"):
            return open(path, mode)
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

        return Watched(io.FileIO(path, mode))

    def install(self) -> None:
        """Watch all of this process."""

        def kind_of_fsync(file: int) -> str:
            return "folder fsync" if stat.S_ISDIR(os.fstat(file).st_mode) else "fsync"

        def kind_of_replace(old, _new) -> str:
            return "replace" if str(old).endswith(".tmp") else "keep"

        backstage.files.open = self.open
        backstage.bookkeeping.open = self.open
        os.fsync = self.watch(kind_of_fsync, os.fsync)
        os.replace = self.watch(kind_of_replace, os.replace)
        os.unlink = self.watch(lambda *_: "unlink", os.unlink)
        run = backstage.run.Run
        begin = run.begin_step
        end = run.end_step

        def begin_step(run, parts):
            self.come("step", "before")
            begin(run, parts)

        def end_step(run, batch):
            self.come("step", "after")
            end(run, batch)

        run.begin_step = begin_step
        run.end_step = end_step


def poison(first: int, last: int) -> None:
    """Make these losses of this process no numbers, and so their gradients."""
    count = 0
    whole = lstlm.LSTMLM.loss

    def loss(*args):
        nonlocal count
        count += torch.is_grad_enabled()
        bad = torch.is_grad_enabled() and first <= count <= last
        return whole(*args) * (math.nan if bad else 1)

    lstlm.LSTMLM.loss = loss


def stop_in_valid_loss(number: int) -> None:
    """Let SIGTERM come as this process begins its valid loss of that number."""
    count = 0
    whole = lstlm.compute_loss

    def compute_loss(*args):
        nonlocal count
        count += 1
        if count == number:
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("the signal should have ended it")
        return whole(*args)

    lstlm.compute_loss = compute_loss


def train(
    argv: list[str], output: str, save_steps: int, fatal: list | None = None,
    poisoned: list | None = None, save_seconds: float = 300, victim: int | None = None,
    stopped: list | None = None,
) -> None:
    """Train, and end this process. What it prints goes to `output`, then the moments' counts."""
    signal.alarm(SECONDS)
    file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (0, 1, 2):
        os.dup2(file, stream)
    status = 1
    try:
        backstage.saving.SAVE_STEPS = save_steps
        backstage.saving.SAVE_SECONDS = save_seconds
        backstage.bookkeeping.draw_curve = lambda *_: None  # it takes longer than all the rest
        rank = int(os.environ.get("RANK", 0))
        moments = Moments(fatal if victim in (None, rank) else None)
        moments.install()
        if poisoned and poisoned[0] == rank:
            poison(*poisoned[1:])
        if stopped and rank in stopped[1:]:
            stop_in_valid_loss(stopped[0])
        status = lstlm.main(argv)
        print(json.dumps(moments.counts))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def start_together(request: dict, processes: int) -> list[int]:
    """Start processes that train together; returns their ids."""
    together = {
        "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }
    children = []
    for rank in range(processes):
        child = os.fork()
        if not child:
            os.environ.update(together, RANK=str(rank), LOCAL_RANK=str(rank))
            train(**{**request, "output": f"{request['output']}.{rank}"})
        children.append(child)
    return children


def start(request: dict) -> int:
    """Start a process; returns its id."""
    child = os.fork()
    if not child:
        train(**request)
    return child


def status_of(child: int) -> int:
    """The exit status of a process, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def serve() -> None:
    """Answer all requests."""
    for line in sys.stdin:
        request = json.loads(line)
        delay = request.pop("delay", None)
        processes = request.pop("processes", None)
        if processes:
            answer = [status_of(child) for child in start_together(request, processes)]
        else:
            child = start(request)
            if delay is not None:
                time.sleep(delay)
                os.kill(child, signal.SIGKILL)
            answer = status_of(child)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
