"""A training outlives its audience: pipes whose reader left, full disks, terminals that close."""

import contextlib
import errno
import io
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import lstlm
import pytest
from backstage.shell import guarded
from small import content_of
from stopping import before_steps, check_equal, flags

NO_ROOM = "No space left on device"
needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def left_pipe() -> io.TextIOWrapper:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def full_disk() -> io.TextIOWrapper:
    """A file on a full disk."""
    return open("/dev/full", "w")


DEAD = [
    pytest.param(left_pipe, 0, id="pipe"),
    pytest.param(full_disk, 1, marks=needs_full_disk, id="full disk"),
]


@pytest.fixture
def whole(folder) -> None:
    """A training that everybody listens to, the model `whole`."""
    assert lstlm.main(flags(folder, "whole")) == 0


@contextlib.contextmanager
def stream(monkeypatch, name: str, opened: io.TextIOWrapper):
    """Have it as sys.stdout or sys.stderr."""
    with monkeypatch.context() as patch, opened:
        patch.setattr(sys, name, opened)
        yield


# ---- Trainings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "status"), DEAD)
@pytest.mark.parametrize("more", [[], ["-json"]], ids=["text", "json"])
def test_it_goes_on_to_its_end_when_nobody_reads_what_it_prints(
    folder, whole, monkeypatch, capsys, make, status, more
):
    """Where a reader may be there all the same, a line says in the end that something is lost."""
    with stream(monkeypatch, "stdout", make()):
        assert lstlm.main([*flags(folder, "m"), *more]) == status
    check_equal(folder, "m")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lstlm.py: error: ") == bool(status)
    assert last.endswith(NO_ROOM) == bool(status)


@pytest.mark.parametrize(("make", "status"), DEAD)
def test_it_goes_on_to_its_end_when_standard_error_is_dead(
    folder, whole, monkeypatch, capsys, make, status
):
    with stream(monkeypatch, "stderr", make()):
        assert lstlm.main(flags(folder, "m")) == 0
    check_equal(folder, "m")
    assert "best valid loss" in capsys.readouterr().out


def test_what_can_be_written_again_is_written(folder, monkeypatch):
    """A disk that was full for a while costs what was printed then, and a line says so."""

    class Paper(io.StringIO):
        full = False

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, NO_ROOM)
            return super().write(text)

    paper = Paper()
    monkeypatch.setattr(sys, "stdout", paper)
    before_steps(monkeypatch, lambda step: setattr(paper, "full", 5 <= step < 10))
    assert lstlm.main(flags(folder, "m")) == 1
    text = paper.getvalue()
    assert "step 3:" in text and "step 6:" not in text and "step 12:" in text
    assert "best valid loss" in text


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_terminal_that_closes_ends_nothing(folder, whole, monkeypatch, name):
    """As with nohup or disown: no signal, but what is printed fails."""
    master, terminal = pty.openpty()
    before_steps(monkeypatch, lambda step: step == 2 and os.close(master))
    with stream(monkeypatch, name, open(terminal, "w")):
        assert lstlm.main(flags(folder, "m")) == 0
    check_equal(folder, "m")


def test_a_signal_that_interrupts_a_print_is_noted(folder, whole, monkeypatch):
    """Within a print that waits for its reader Python allows no other one."""

    class Busy(io.StringIO):
        def write(self, text: str) -> int:
            if "stopping" in text:
                raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")
            return super().write(text)

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Busy())
        before_steps(patch, lambda step: step == 5 and signal.raise_signal(signal.SIGTERM))
        assert lstlm.main(flags(folder, "m")) == 143
    assert content_of(folder / "m.state.pt")["numbers"]["step"] == 5
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 0
    check_equal(folder, "m")


# ---- SIGHUP -------------------------------------------------------------------------------------


@contextlib.contextmanager
def hanging_up(monkeypatch, before, times: int = 1):
    """SIGHUP comes in step 5, so many times, where it was handled like this before."""
    earlier = signal.signal(signal.SIGHUP, before)

    def come(step: int) -> None:
        for _ in range(times if step == 5 else 0):
            signal.raise_signal(signal.SIGHUP)

    try:
        with monkeypatch.context() as patch:
            before_steps(patch, come)
            yield
    finally:
        assert signal.signal(signal.SIGHUP, earlier) == before


def handled(_number, _frame) -> None:
    """A handler of SIGHUP that ends nothing, unlike the default."""


@pytest.mark.parametrize("times", [1, 2])  # from the system, and perhaps from the shell too
def test_a_hang_up_saves_and_stops(folder, whole, monkeypatch, capsys, times):
    with hanging_up(monkeypatch, handled, times):
        assert lstlm.main(flags(folder, "m")) == 129
    assert "stopped and saved; go on with: " in capsys.readouterr().err
    assert content_of(folder / "m.state.pt")["numbers"]["step"] == 5
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 0
    check_equal(folder, "m")


def test_a_hang_up_that_nohup_has_ignored_stays_so(folder, whole, monkeypatch):
    with hanging_up(monkeypatch, signal.SIG_IGN):
        assert lstlm.main(flags(folder, "m")) == 0
    check_equal(folder, "m")


def test_a_second_sigterm_is_no_reason_to_drop_what_was_done(folder, whole, monkeypatch, capsys):
    """`timeout` sends it to the process and to its group."""

    def come(step: int) -> None:
        for _ in range(2 if step == 5 else 0):
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        before_steps(patch, come)
        assert lstlm.main(flags(folder, "m")) == 143
    assert "stopped and saved" in capsys.readouterr().err
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 0
    check_equal(folder, "m")


def in_a_terminal(command: list[str]) -> tuple[int, int]:
    """Start a process that leads the session of a terminal; returns its number, and its master."""
    child, master = pty.fork()
    if not child:
        os.execve(command[0], command, {**os.environ, "OMP_NUM_THREADS": "1"})
    return child, master


def close_while_training(command: list[str], model: Path) -> int:
    """Close the terminal of a training that has saved a model; its exit status."""
    child, master = in_a_terminal(command)
    deadline = time.monotonic() + 60
    while not model.exists() and time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(master, False)
            os.read(master, 1 << 16)  # so that it never waits for its reader
        time.sleep(0.02)
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.thorough
def test_a_process_whose_terminal_closes_saves_and_stops(folder):
    endless = ["-E", "100000", "-patience", "0"]
    command = [sys.executable, lstlm.__file__, *flags(folder, "m"), *endless]
    assert close_while_training(command, folder / "m.pt") == 129
    assert content_of(folder / "m.state.pt")["numbers"]["step"] > 2


@pytest.mark.thorough
def test_a_process_that_nohup_started_ends_as_if_its_terminal_were_there(folder, whole):
    shell = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh"]  # what nohup does, but for its file
    command = [*shell, sys.executable, lstlm.__file__, *flags(folder, "m")]
    assert close_while_training(command, folder / "m.pt") == 0
    check_equal(folder, "m")


# ---- Other programs -----------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "status"), DEAD)
def test_a_program_that_is_there_for_its_files_goes_on(tmp_path, monkeypatch, capsys, make, status):
    def act() -> None:
        for number in range(3):
            print(number, flush=True)
        (tmp_path / "file").write_text("made")

    with stream(monkeypatch, "stdout", make()):
        assert guarded("x.py", act) == status
    assert (tmp_path / "file").read_text() == "made"
    assert capsys.readouterr().err.count("\n") == status


@pytest.mark.parametrize(("make", "status"), DEAD)
def test_a_program_that_answers_ends(monkeypatch, capsys, make, status):
    printed = []

    def act() -> None:
        for number in range(3):
            print(number, flush=True)
            printed.append(number)

    with stream(monkeypatch, "stdout", make()):
        assert guarded("x.py", act, answers=True) == status
    assert printed == []
    assert capsys.readouterr().err.count("\n") == status


@pytest.mark.parametrize("mode", ["-use", "-prompt", "-evaluate"])
@pytest.mark.parametrize(("make", "status"), DEAD)
def test_a_mode_that_answers_ends_at_once(
    trained, monkeypatch, capsys, mode, make, status
):
    asked = ["-test_corpus", str(trained / "valid.tokens")] if mode == "-evaluate" else [
        "-text", "a", "-seed", "1"
    ]
    with stream(monkeypatch, "stdout", make()):
        assert lstlm.main([mode, "-model", str(trained / "m.pt"), *asked]) == status
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lstlm.py")]
    assert len(err) == status and all(line.endswith(NO_ROOM) for line in err)


@pytest.mark.parametrize(("make", "_status"), DEAD)
def test_an_error_that_cannot_be_told_is_one_by_its_status(tmp_path, monkeypatch, make, _status):
    with stream(monkeypatch, "stderr", make()):
        assert lstlm.main(["-use", "-text", "a", "-model", str(tmp_path / "none.pt")]) == 2


@pytest.mark.thorough
def test_a_pipe_in_the_shell(folder, whole):
    """The reader leaves after a line, of what is printed and of the progress alike."""
    training = [sys.executable, lstlm.__file__, *flags(folder, "m")]
    script = '"$@" 2>&1 | head -n 1 >/dev/null; exit "${PIPESTATUS[0]}"'
    assert subprocess.run(["bash", "-c", script, "bash", *training]).returncode == 0
    check_equal(folder, "m")
