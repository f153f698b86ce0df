"""Files that cannot be written, are cut off, or are left over: nothing that was saved is lost."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys

import lstlm
import pytest
import torch
from test_resume import check_equal, flags, folder, outcome, stop_at  # noqa: F401 - folder is a fixture

ROOM = 5000  # bytes: for the log, but not for a checkpoint


def run_with_little_room(*args):
    """lstlm.py in a process whose files cannot grow beyond ROOM bytes, as on a full disk."""
    command = [sys.executable, lstlm.__file__, *args]
    limits = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))  # noqa: E731
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=limits)


def test_a_full_disk_leaves_the_old_model_and_is_told_at_once(folder):  # noqa: F811
    assert lstlm.main(flags(folder, "m")) == 0
    before = (folder / "m.pt").read_bytes()
    done = run_with_little_room(*flags(folder, "m"))
    assert done.returncode == 1
    assert done.stderr.startswith("lstlm.py: error:")
    assert len(done.stderr.splitlines()) == 1
    assert (folder / "m.pt").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_a_disk_that_becomes_full_is_told(folder):  # noqa: F811
    done = run_with_little_room(*flags(folder, "m"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "warning:" in done.stderr
    assert "could not be saved (File too large)" in done.stderr.strip().splitlines()[-1]
    assert ", saved" not in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["corpus", "m.log.jsonl"]
    assert len([json.loads(line) for line in (folder / "m.log.jsonl").read_text().splitlines()]) == 7


def test_a_full_disk_in_the_middle_is_survived(folder, monkeypatch, capsys):  # noqa: F811
    """Two saves fail, then there is room again: the run ends like one that nothing happened to."""
    assert lstlm.main(flags(folder, "whole")) == 0
    write, count = lstlm.atomic_write, iter(range(1000))

    def failing(path, *args, **more):
        if path.suffix == ".pt" and next(count) in (2, 3):
            raise OSError(28, "No space left on device")
        write(path, *args, **more)

    monkeypatch.setattr(lstlm, "SAVE_STEPS", 2)
    monkeypatch.setattr(lstlm, "atomic_write", failing)
    assert lstlm.main(flags(folder, "full")) == 0
    assert capsys.readouterr().err.count("No space left on device") == 2
    weights, _ = outcome(folder, "full")
    expected, _ = outcome(folder, "whole")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_state_that_cannot_be_saved_when_a_signal_comes_is_told(folder, monkeypatch, capsys):  # noqa: F811
    write = lstlm.atomic_write

    def failing(path, *args, **more):
        if "state" in path.name:
            raise OSError(28, "No space left on device")
        write(path, *args, **more)

    monkeypatch.setattr(lstlm, "atomic_write", failing)
    stop_at(monkeypatch, 5)
    assert lstlm.main(flags(folder, "m")) == 1
    told = capsys.readouterr().err
    assert told.splitlines()[-1].endswith("m.state.pt: stopped, but not saved (No space left on device)")
    assert "go on with" not in told


def test_a_model_that_cannot_be_saved_is_no_reason_to_stop_early(folder, monkeypatch, capsys):  # noqa: F811
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lstlm, "save_model", full)
    assert lstlm.main([*flags(folder, "m"), "-patience", "1"]) == 1
    told = capsys.readouterr()
    assert "stopped early" not in told.out + told.err
    assert "epoch 3, step 12:" in told.out
    assert "make room, and train again" in told.err  # there is no state to go on from


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_trace_on_a_full_disk_ends_no_training(folder, capsys):  # noqa: F811
    assert lstlm.main([*flags(folder, "m"), "-trace", "/dev/full"]) == 1
    told = capsys.readouterr()
    assert "No space left on device" in told.err
    assert "best valid loss" in told.out
    assert (folder / "m.pt").exists()


def test_too_little_room_is_found_before_the_training(folder, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(lstlm.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 20_000}))
    assert lstlm.main(flags(folder, "m")) == 2
    assert "make room" in capsys.readouterr().err
    assert not (folder / "m.log.jsonl").exists()


def test_a_bad_state_is_told_and_the_one_before_is_used(folder, monkeypatch, capsys):  # noqa: F811
    assert lstlm.main(flags(folder, "whole")) == 0
    monkeypatch.setattr(lstlm, "SAVE_STEPS", 3)
    for name, damage in (("flipped", lambda b: b[:3000] + bytes([b[3000] ^ 1]) + b[3001:]), ("cut", lambda b: b[:-9]),
                         ("empty", lambda b: b""), ("gone", None)):
        with monkeypatch.context() as patch:
            stop_at(patch, 8)
            assert lstlm.main(flags(folder, name)) == 130
        newest = folder / f"{name}.state.pt"
        if damage:
            newest.write_bytes(damage(newest.read_bytes()))
        else:
            newest.unlink()
        capsys.readouterr()
        assert lstlm.main([*flags(folder, name), "-resume"]) == 0
        told = capsys.readouterr()
        assert f"using {folder / name}.state.prev.pt, the one before" in told.err
        assert "going on after step 6" in told.out
        check_equal(folder, name)
        assert not list(folder.glob(f"{name}.state*"))


def test_a_bad_model_is_told_and_the_one_before_is_used(folder, capsys):  # noqa: F811
    assert lstlm.main(flags(folder, "m")) == 0
    assert lstlm.main(flags(folder, "m")) == 0
    (folder / "m.pt").write_bytes((folder / "m.pt").read_bytes()[:-1])
    assert lstlm.main(["-use", "-model", str(folder / "m.pt"), "-text", "a", "-greedy"]) == 0
    assert "m.prev.pt, the one before" in capsys.readouterr().err
    (folder / "m.prev.pt").write_bytes(b"")
    assert lstlm.main(["-use", "-model", str(folder / "m.pt"), "-text", "a", "-greedy"]) == 2
    assert "damaged" in capsys.readouterr().err


def test_leftovers_of_killed_processes_are_removed_and_those_of_others_stay(folder):  # noqa: F811
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    dead = [folder / f".{name}.{process.pid}.tmp" for name in ("m.pt", "m.state.pt", "m.log.jsonl")]
    others = [folder / f".m.pt.{os.getppid()}.tmp", folder / f".mm.pt.{process.pid}.tmp", folder / ".m.pt.x.tmp"]
    for path in (*dead, *others):
        path.write_bytes(b"x")
    assert lstlm.main(flags(folder, "m")) == 0
    assert [path.exists() for path in (*dead, *others)] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_steps_without_a_finite_number_are_skipped_and_counted(folder, monkeypatch, capsys, bad):  # noqa: F811
    """Steps 2 and 3 are as if they had not been, but for the learning rate and the order."""
    whole, updates = lstlm.summed_nats, []
    step, calls = torch.optim.AdamW.step, iter(range(1, 1000))

    def broken(model, *args):
        nats, state = whole(model, *args)
        if torch.is_grad_enabled() and next(calls) in (2, 3):
            nats = nats * torch.nan if bad == "loss" else nats + (nats - nats.detach()) * torch.inf
        return nats, state

    monkeypatch.setattr(lstlm, "summed_nats", broken)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *args: updates.append(1) or step(self, *args))
    without_pieces = [*flags(folder, "m"), "-bptt", "500"]
    assert lstlm.main(without_pieces) == 0
    told = capsys.readouterr()
    assert "step skipped (1 so far)" in told.err
    assert "step skipped (2 so far)" in told.err
    assert len(updates) == 10
    assert "nan" not in told.out


def test_too_many_skipped_steps_end_the_training_with_the_last_good_state(folder, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(lstlm, "SAVE_STEPS", 2)
    whole, calls = lstlm.train_step, iter(range(1, 1000))
    monkeypatch.setattr(lstlm, "train_step", lambda *args: float("nan") if next(calls) > 5 else whole(*args))
    assert lstlm.main([*flags(folder, "m")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "5 steps in a row" in error
    assert "m.state.pt is from before" in error
    numbers = [int(n) for n in error.split("stories ")[1].split(" of ")[0].split(", ")]
    assert len(set(numbers)) == 4
    assert set(numbers) <= set(range(1, 17))
    state = torch.load(folder / "m.state.pt", weights_only=True)
    assert state["numbers"]["step"] == 4
    assert all(tensor.isfinite().all() for tensor in state["weights"].values())


def test_ctrl_c_while_the_libraries_load(tmp_path):
    press = "signal.signal(signal.SIGINT, signal.default_int_handler)\nsignal.raise_signal(signal.SIGINT)\n"
    (tmp_path / "torch.py").write_text(f"import signal\n{press}")  # also where a shell has it ignored
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, lstlm.__file__, "-h"], env=environment, capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT
    assert "Traceback" not in done.stderr
