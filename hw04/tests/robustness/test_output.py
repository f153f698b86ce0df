"""Standard output that fails when a program has written all that it had to say."""

import os
import subprocess
import sys
from pathlib import Path

import lstlm
import pytest

PROGRAM = Path(lstlm.__file__)
SINGLE = PROGRAM.parent.parent / "single.py"
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full disk")
@pytest.mark.parametrize("flags", [
    [str(PROGRAM), "-use", "-greedy", "-text", "a"],
    [str(SINGLE), "-h"],
])
def test_a_full_disk_is_one_line_though_output_is_kept_to_the_end(flags):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, *flags], stdout=full, stderr=subprocess.PIPE, text=True, env=BUFFERED
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("No space left on device")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_reader_that_left_is_no_failure():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, str(SINGLE), "-h"], stdout=writer, stderr=subprocess.PIPE, env=BUFFERED
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
