"""Two trainings of one name at once: the second is refused before it reads or writes anything."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fflm
import lstlm
import pytest
from backstage.errors import UserError
from backstage.files import lock_file
from backstage.lock import exclusive
from extensions import literature, modern, transformer, unbiased
from holding import held, start_python, wait_for
from stopping import check_equal, flags, read_log

KILLING = Path(__file__).parents[1] / "tools" / "killing.py"
LONG = ["-E", "6"]  # epochs, so that there is time to stop it in the middle
ENDLESS = ["-E", "1000000"]


class Starter:
    """A process that starts trainings, each a fork of it, as tools/killing.py does."""

    def __init__(self):
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(lstlm.__file__).parent)
        }
        self.process = subprocess.Popen(
            [sys.executable, KILLING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment, start_new_session=True,
        )

    def start(self, argv: list[str], output: Path, **more) -> None:
        """Start a training, whose output goes to a file."""
        request = {"argv": argv, "output": str(output), "save_steps": 2, **more}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def status(self) -> int:
        """The exit status of what was started, negative for a signal."""
        return json.loads(self.process.stdout.readline())

    def run(self, argv: list[str], output: Path, **more) -> int:
        """Both."""
        self.start(argv, output, **more)
        return self.status()


@pytest.fixture(scope="module")
def starters():
    """Two of them."""
    both = [Starter(), Starter()]
    yield both
    for starter in both:
        os.killpg(starter.process.pid, signal.SIGKILL)
        starter.process.communicate()


def number_in(lock: Path) -> int:
    """The process that a lock file names."""
    number = int(lock.read_text())
    assert number > 1  # as signals to 0 go to this process too
    return number


def check_refused(text: str, model: Path, process: int) -> None:
    """What was printed is one line, which says who has the model, and what to do."""
    line = text.removesuffix("{}\n")  # the moments that killing.py has counted
    assert len(line.splitlines()) == 1 and line.startswith("lstlm.py: error: "), text
    assert f"{model}: process {process} works on it (.{model.stem}.lock)" in line
    assert "give another path with -model" in line


# ---- Trainings ----------------------------------------------------------------------------------


def test_while_one_trains_no_other_does(starters, folder):
    """Neither from the beginning nor with -resume; the first one ends as if it had been alone."""
    one, two = starters
    model = folder / "m.pt"
    state = folder / "m.state.pt"
    assert two.run([*flags(folder, "whole"), *LONG], folder / "output") == 0
    one.start([*flags(folder, "m"), *LONG], folder / "first")
    wait_for(lambda: state.exists() and model.exists())
    process = number_in(lock_file(model))
    os.kill(process, signal.SIGSTOP)
    try:
        before = {path: path.read_bytes() for path in folder.glob("m.*")}
        for more in ([], ["-resume"]):
            started = time.perf_counter()
            assert two.run([*flags(folder, "m"), *LONG, *more], folder / "second") == 2
            assert time.perf_counter() - started < 5
            check_refused((folder / "second").read_text(), model, process)
        assert {path: path.read_bytes() for path in folder.glob("m.*")} == before
        assert two.run(flags(folder, "other"), folder / "output") == 0  # which disturbs no one
    finally:
        os.kill(process, signal.SIGCONT)
    assert one.status() == 0
    check_equal(folder, "m")
    assert not list(folder.glob(".*"))


def test_after_a_kill_the_next_one_trains(starters, folder):
    one, two = starters
    assert one.run(flags(folder, "whole"), folder / "output") == 0
    assert one.run(flags(folder, "m"), folder / "output", fatal=["step", "after", 5]) == -9
    assert lock_file(folder / "m.pt").exists()
    assert two.run([*flags(folder, "m"), "-resume"], folder / "output") == 0
    check_equal(folder, "m")
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("pairs", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_of_two_that_start_at_once_one_trains(starters, folder, pairs):
    """It is killed each time, so that all but the first pair find a lock file that is left."""
    model = folder / "m.pt"
    lock = lock_file(model)
    outputs = [folder / "output0", folder / "output1"]
    for pair in range(pairs):
        for path in [*folder.glob("m.*"), *folder.glob("output?")]:
            path.unlink()
        for starter, output in zip(starters, outputs, strict=True):
            starter.start([*flags(folder, "m"), *ENDLESS], output)
        wait_for(lambda: any("works on it" in text for text in texts(outputs)))
        wait_for(lambda: any("epoch 1, step 3" in text for text in texts(outputs)))
        last = number_in(lock)
        os.kill(last, signal.SIGKILL)
        statuses = [starter.status() for starter in starters]
        assert sorted(statuses) == [-9, 2], pair
        check_refused(texts(outputs)[statuses.index(2)], model, last)
        assert sum(record.get("event") == "start" for record in read_log(model)) == 1


def texts(paths: list[Path]) -> list[str]:
    """What is in these files, nothing in those that are not there."""
    return [path.read_text() if path.exists() else "" for path in paths]


@pytest.mark.parametrize("program", [lstlm, fflm, literature, modern, transformer, unbiased])
def test_no_program_reads_data_for_a_name_that_another_has(program, tmp_path, capsys):
    model = tmp_path / "m.pt"
    corpora = ["-train_corpus", str(tmp_path / "none"), "-valid_corpus", str(tmp_path / "none")]
    more = {
        literature: ["-with", "smoothing"], modern: ["-with", "mingru", "-EDim", "8"],
        transformer: ["-EDim", "8"], unbiased: ["-tie"],
    }.get(program, [])
    command = ["-train", *corpora, *more, "-model", str(model)]
    with held(model) as process:
        assert program.main(command) == 2
        assert f"process {process} works on it" in capsys.readouterr().err
    assert program.main(command) == 2
    assert "none: " in capsys.readouterr().err  # no such corpus


def test_the_command_is_refused_in_seconds(folder):
    command = [sys.executable, lstlm.__file__, *flags(folder, "m")]
    with held(folder / "m.pt") as process:
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        assert time.perf_counter() - started < 5
    assert done.returncode == 2
    check_refused(done.stderr, folder / "m.pt", process)
    assert sorted(path.name for path in folder.iterdir()) == ["corpus"]


def test_who_only_reads_a_model_asks_for_no_lock(folder):
    assert lstlm.main(flags(folder, "m")) == 0
    with held(folder / "m.pt"):
        assert lstlm.main(["-use", "-text", "a", "-model", str(folder / "m.pt")]) == 0


# ---- Places where it cannot be ------------------------------------------------------------------


def refuse_in_one_line(folder: Path, model: Path, capsys) -> str:
    """The line with which a training is refused."""
    assert lstlm.main([*flags(folder, "m"), "-model", str(model)]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("place", ["/proc/m.pt", "@/corpus/m.pt", "@/" + 250 * "m" + ".pt"])
def test_a_place_that_cannot_be_written_is_told(folder, place, capsys):
    err = refuse_in_one_line(folder, Path(place.replace("@", str(folder))), capsys)
    assert "cannot be written (" in err and "give another path with -model" in err


def test_a_folder_or_a_link_in_its_place_is_told_and_stays_as_it_is(folder, capsys):
    lock = lock_file(folder / "m.pt")
    lock.mkdir()
    assert "cannot be written (Is a directory)" in refuse_in_one_line(folder, folder / "m", capsys)
    lock.rmdir()
    other = folder / "other"
    other.write_text("what somebody has written")
    lock.symlink_to(other)
    assert "cannot be written (" in refuse_in_one_line(folder, folder / "m.pt", capsys)
    assert other.read_text() == "what somebody has written" and lock.is_symlink()


def test_the_lock_file_is_no_corpus_and_no_trace(folder, capsys):
    trace = ["-trace", str(lock_file(folder / "m.pt"))]
    assert lstlm.main([*flags(folder, "m"), *trace]) == 2
    assert "two flags name it" in capsys.readouterr().err


# ---- The lock itself ----------------------------------------------------------------------------

COUNT = """
import sys
from pathlib import Path
from backstage.lock import exclusive
counter = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with exclusive(counter, "wait", seconds=60):
        counter.write_text(str(int(counter.read_text()) + 1))
"""
FORK = """
import os, sys
from pathlib import Path
from backstage.lock import exclusive
with exclusive(Path(sys.argv[1]), "go away"):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print("held", flush=True)
    os.kill(os.getpid(), 9)
"""


def test_several_take_turns_though_each_removes_the_file(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [start_python(COUNT, counter, 60) for _ in range(4)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    assert counter.read_text() == "240"
    assert list(tmp_path.iterdir()) == [counter]


def test_a_fork_does_not_keep_the_lock_of_a_process_that_was_killed(tmp_path):
    with start_python(FORK, tmp_path / "m.pt") as process:
        assert process.stdout.readline() == "held\n"
        assert process.wait() == -signal.SIGKILL
        with exclusive(tmp_path / "m.pt", "give another"):
            pass
        process.stdin.close()


def test_a_lock_that_is_freed_soon_is_waited_for(tmp_path):
    with held(tmp_path / "m.pt") as process:
        os.kill(process, signal.SIGSTOP)
        refused = pytest.raises(UserError, match=f"process {process} works on it")
        with refused, exclusive(tmp_path / "m.pt", "give another"):
            pass
        os.kill(process, signal.SIGKILL)
        with exclusive(tmp_path / "m.pt", "give another"):
            pass


def test_a_file_system_without_locks_is_trained_on(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def lockf(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with exclusive(tmp_path / "m.pt", "give another"):
        pass
    assert not list(tmp_path.iterdir())
