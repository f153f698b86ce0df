"""The end of a program: one line and an exit status, whatever happens in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hw4lib.entry import guarded
from hw4lib.errors import Stopped, UserError

HW4P1 = Path(__file__).resolve().parent.parent
FULL = Path("/dev/full")  # a disk that is always full


def raising(error):
    """An action that fails."""

    def action():
        raise error

    return action


@pytest.mark.parametrize(("error", "status", "line"), [
    (UserError("a: no"), 2, "p.py: error: a: no\n"),
    (UserError("a\x1b[2J: no\nb"), 2, "p.py: error: a\\x1b[2J: no\\nb\n"),
    (FileNotFoundError(2, "No such file", "f"), 2, "p.py: error: [Errno 2] No such file: 'f'\n"),
    (OSError(28, "No space left"), 1, "p.py: error: [Errno 28] No space left\n"),
    (MemoryError(), 1, "p.py: error: too little memory; buy some\n"),
    (RuntimeError("not enough memory"), 1, "p.py: error: too little memory; buy some\n"),
    (KeyboardInterrupt(), 130, "\np.py: interrupted\n"),
    (BrokenPipeError(), 0, ""),
    (Stopped(signal.SIGTERM), 143, "\np.py: stopped and saved; go on with: p.py 'a b' --resume\n"),
])  # fmt: skip
def test_each_end_has_its_status_and_one_line(capsys, error, status, line):
    assert guarded("p.py", raising(error), ["--resume", "a b"], smaller="buy some") == status
    assert capsys.readouterr() == ("", line)


def test_a_fault_of_the_program_is_not_hidden():
    for error in (RuntimeError("shapes"), KeyError("x")):
        with pytest.raises(type(error)):
            guarded("p.py", raising(error))


def run(program: str, shell: str = "{}", **env: str) -> subprocess.CompletedProcess:
    """A program that prints, in a process of its own, with its streams as the shell has them."""
    code = f"import sys; from hw4lib.entry import guarded; sys.exit(guarded('p.py', {program}))"
    command = f'"{sys.executable}" -c "$CODE"'
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", "set -o pipefail; " + shell.format(command)], capture_output=True,
        text=True, cwd=HW4P1, env={**kept, "CODE": code, **env},
    )


def test_letters_that_the_terminal_does_not_have():
    done = run("lambda: print('\u00e9')", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xe9\n", "")


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-"])
def test_streams_may_be_closed(stream):
    done = run("lambda: print(sys.stdin.read(), file=sys.stderr)", f"{{}} {stream}")
    assert done.returncode == 0 and "Traceback" not in done.stderr


@pytest.mark.parametrize("flush", [False, True])
def test_a_reader_may_leave_early(flush):
    program = f"lambda: (__import__('time').sleep(0.2), print('a' * 9, flush={flush}))"
    done = run(program, "{} | true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("action", [
    "lambda: print('a')", "lambda: print('a', flush=True)",
    "lambda: (print('a'), __import__('sys').exit(0))",  # as argparse does after -h
])
def test_a_full_disk_is_told_in_one_line(action):
    done = run(action, "{} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "p.py: error: [Errno 28] No space left on device\n"
