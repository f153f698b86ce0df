"""Another process that has the lock of a name while a test goes on."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lstlm

CODE = Path(lstlm.__file__).parent
HOLD = """
import sys
from pathlib import Path
from backstage.lock import exclusive
with exclusive(Path(sys.argv[1]), "go away"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_python(program: str, *argv: object, **more) -> subprocess.Popen:
    """Start a small program that imports from the folder of the code."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", program, *map(str, argv)]
    return subprocess.Popen(command, env={"PYTHONPATH": str(CODE)}, **pipes, **more)


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Let another process have the lock of `path`; yields its number."""
    with start_python(HOLD, path) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process.pid
        except BaseException:
            process.kill()  # as the test may have stopped it
            raise


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true; half a minute is too long."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
