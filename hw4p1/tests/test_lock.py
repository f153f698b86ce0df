"""Two trainings of one run at once: the second is refused before it reads or writes anything."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import run_lm
import yaml
from hw4lib.errors import UserError
from hw4lib.lock import exclusive

HW4P1 = Path(run_lm.__file__).parent
SMALL = {
    "data": {"batch_size": 4},
    "model": {"d_model": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1},
    "training": {"epochs": 100_000},
}  # fmt: skip
TRAIN = ["train", "--config", "small.yaml", "--data", "data", "--run", "one"]
COUNT = """
import sys
from pathlib import Path
from hw4lib.lock import exclusive
counter = Path(sys.argv[1])
for _ in range(60):
    with exclusive(counter, "wait", seconds=60):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with a few transcripts and a small configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    for partition in ("train", "val", "test"):
        (tmp_path / "data" / partition).mkdir(parents=True)
        for i, text in enumerate(["THE OLD CAT", "A RED MAT SAT", "AND RAN AWAY", "THE CAT SAT"]):
            np.save(tmp_path / "data" / partition / f"{i}.npy", np.array(text))
    return tmp_path


@pytest.fixture
def first(here):
    """A training of the run `one` in a process of its own, which goes on for ever."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, HW4P1 / "run_lm.py", *TRAIN]
    with (here / "first").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    last = run_lm.checkpoint_path("one", "last-epoch")
    deadline = time.monotonic() + 60
    while not last.exists():
        assert process.poll() is None and time.monotonic() < deadline, (here / "first").read_text()
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


def refused(capsys, arguments: list[str]) -> str:
    """The one line with which a command is refused."""
    assert run_lm.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("run_lm.py: error: ") and len(err.splitlines()) == 1, err
    return err


def test_while_one_trains_no_other_does(here, first, capsys):
    os.kill(first.pid, signal.SIGSTOP)
    root = here / "expts" / "one"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    (here / "data").rename(here / "moved")  # so that an error would come of reading it
    for more in ([], ["--resume"]):
        started = time.perf_counter()
        err = refused(capsys, [*TRAIN, *more])
        assert time.perf_counter() - started < 5
        said = f"expts/one: process {first.pid} works on it (.one.lock); wait, or name another"
        assert said in err and "--run" in err
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    (here / "moved").rename(here / "data")
    assert run_lm.main([*TRAIN, "--run", "two", "--epochs", "1"]) == 0
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert (here / "expts" / ".one.lock").exists()
    capsys.readouterr()
    assert "this run has a model" in refused(capsys, TRAIN)  # the lock is free
    assert run_lm.main([*TRAIN, "--resume", "--set", "training.epochs=1"]) == 0
    assert not list((here / "expts").glob(".*"))


def test_a_place_that_cannot_be_written_is_told(here, capsys):
    (here / "expts").write_text("a file")
    assert "expts/one: cannot be written (File exists)" in refused(capsys, TRAIN)
    (here / "expts").unlink()
    (here / "expts" / ".one.lock").mkdir(parents=True)
    assert "expts/one: cannot be written (Is a directory)" in refused(capsys, TRAIN)


def test_a_lock_in_one_block_after_the_other(tmp_path):
    for _ in range(2):
        with exclusive(tmp_path / "run", "give another"):
            assert (tmp_path / ".run.lock").read_text().strip() == str(os.getpid())
        assert not list(tmp_path.iterdir())
    with pytest.raises(UserError), exclusive(tmp_path / "run", "give another"):
        raise UserError("of what is done in it")
    assert not list(tmp_path.iterdir())


def test_several_take_turns_though_each_removes_the_file(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, counter]
    processes = [subprocess.Popen(command, env={"PYTHONPATH": str(HW4P1)}) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert counter.read_text() == "240"
    assert list(tmp_path.iterdir()) == [counter]
