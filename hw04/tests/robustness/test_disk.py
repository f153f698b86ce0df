"""Files that cannot be written, are cut off, or are left over: nothing that was saved is lost."""

import errno
import itertools
import math
import os
import resource
import shutil
import signal
import subprocess
import sys

import backstage.bookkeeping
import backstage.checkpoint
import backstage.files
import backstage.run
import backstage.saving
import lstlm
import pytest
import torch
from small import content_of
from stopping import (
    before_steps,
    check_equal,
    equal_weights,
    flags,
    read_log,
    read_weights,
    stop_at,
)

ROOM = 3000  # bytes: for the log, but not for a checkpoint


def full(*_args, **_more):
    """What a full disk says to whatever is written."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def run_with_little_room(*args: str) -> subprocess.CompletedProcess:
    """lstlm.py in a process whose files cannot grow beyond ROOM bytes, as on a full disk."""
    return subprocess.run(
        [sys.executable, lstlm.__file__, *args], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM)),
    )


# ---- Full disks ---------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_full_disk_leaves_the_old_model_and_is_told_at_once(folder):
    assert lstlm.main(flags(folder, "m")) == 0
    before = (folder / "m.pt").read_bytes()
    done = run_with_little_room(*flags(folder, "m"))
    assert done.returncode == 1
    assert done.stderr.startswith("lstlm.py: error:")
    assert len(done.stderr.splitlines()) == 1
    assert (folder / "m.pt").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_a_disk_that_becomes_full_is_told(folder):
    done = run_with_little_room(*flags(folder, "m"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "warning:" in done.stderr
    assert "could not be saved (File too large)" in done.stderr.strip().splitlines()[-1]
    assert ", saved" not in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["corpus", "m.log.jsonl"]
    assert len(read_log(folder / "m.pt")) == 7


def test_a_full_disk_in_the_middle_is_survived(folder, monkeypatch, capsys):
    """Two saves fail, then there is room again: the run ends like one that nothing happened to."""
    assert lstlm.main(flags(folder, "whole")) == 0
    write = backstage.files.atomic_write
    saves = itertools.count(1)

    def failing(path, *args, **more):
        if path.suffix == ".pt" and next(saves) in (3, 4):
            full()
        write(path, *args, **more)

    monkeypatch.setattr(backstage.saving, "SAVE_STEPS", 2)
    monkeypatch.setattr(backstage.saving, "atomic_write", failing)
    monkeypatch.setattr(backstage.checkpoint, "atomic_write", failing)
    assert lstlm.main(flags(folder, "full")) == 0
    assert capsys.readouterr().err.count("No space left on device") == 2
    assert equal_weights(read_weights(folder / "full.pt"), read_weights(folder / "whole.pt"))


def test_a_state_that_cannot_be_saved_when_a_signal_comes_is_told(folder, monkeypatch, capsys):
    monkeypatch.setattr(backstage.saving, "atomic_write", full)
    stop_at(monkeypatch, 5)
    assert lstlm.main(flags(folder, "m")) == 1
    told = capsys.readouterr().err
    why = "m.state.pt: stopped, but not saved (No space left on device)"
    assert told.splitlines()[-1].endswith(why)
    assert "go on with" not in told


def test_a_model_that_cannot_be_saved_is_no_reason_to_stop_early(folder, monkeypatch, capsys):
    monkeypatch.setattr(backstage.bookkeeping, "save_model", full)
    assert lstlm.main([*flags(folder, "m"), "-patience", "1"]) == 1
    told = capsys.readouterr()
    assert "stopped early" not in told.out + told.err
    assert "epoch 3, step 12:" in told.out
    assert "make room, and train again" in told.err  # there is no state to go on from


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_trace_on_a_full_disk_ends_no_training(folder, capsys):
    assert lstlm.main([*flags(folder, "m"), "-trace", "/dev/full"]) == 1
    told = capsys.readouterr()
    assert "No space left on device" in told.err
    assert "best valid loss" in told.out
    assert (folder / "m.pt").exists()


def test_too_little_room_is_found_before_the_training(folder, monkeypatch, capsys):
    usage = shutil.disk_usage(folder)._replace(free=20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert lstlm.main(flags(folder, "m")) == 2
    assert "make room" in capsys.readouterr().err
    assert not (folder / "m.log.jsonl").exists()


# ---- Bad and left-over files --------------------------------------------------------------------

DAMAGES = {
    "flipped": lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:],
    "cut": lambda data: data[:-9],
    "empty": lambda data: b"",
    "gone": None,
}


def test_a_bad_state_is_told_and_the_one_before_is_used(folder, monkeypatch, capsys):
    assert lstlm.main(flags(folder, "whole")) == 0
    monkeypatch.setattr(backstage.saving, "SAVE_STEPS", 3)
    for name, damage in DAMAGES.items():
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


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_bad_model_is_an_error_that_names_the_one_before_it(folder, capsys, damage):
    """Another training's model must not answer in its place."""
    assert lstlm.main(flags(folder, "m")) == 0
    use = ["-use", "-model", str(folder / "m.pt"), "-text", "a", "-greedy"]
    whole = (folder / "m.pt").read_bytes()
    (folder / "m.pt").write_bytes(DAMAGES[damage](whole))
    capsys.readouterr()
    assert lstlm.main(use) == 2
    assert "damaged" in (alone := capsys.readouterr().err)
    assert "m.prev.pt" not in alone
    (folder / "m.prev.pt").write_bytes(whole)
    assert lstlm.main(use) == 2
    told = capsys.readouterr()
    assert f"the model before it is {folder / 'm.prev.pt'}" in told.err
    assert len(told.err.splitlines()) == 1
    assert not told.out


def kill_at(monkeypatch, folder, step: int) -> None:
    """A training of `m` that is killed before that step."""

    def kill(number: int) -> None:
        if number == step:
            raise SystemError  # nothing of ours runs after a kill -9

    with monkeypatch.context() as patch:
        before_steps(patch, kill)
        with pytest.raises(SystemError):
            lstlm.main(flags(folder, "m"))


def test_a_finished_model_outlives_runs_that_are_killed_before_their_first_state(
    folder, monkeypatch, capsys
):
    assert lstlm.main(flags(folder, "m")) == 0
    good = (folder / "m.pt").read_bytes()
    for _ in range(3):
        kill_at(monkeypatch, folder, 6)
        assert (folder / "m.pt").read_bytes() != good
        assert (folder / "m.prev.pt").read_bytes() == good
    assert "is of a run that was killed" in capsys.readouterr().out
    assert lstlm.main(flags(folder, "m")) == 0
    assert (folder / "m.pt").read_bytes() == good  # the same command, the same bytes
    assert (folder / "m.prev.pt").read_bytes() == good
    assert lstlm.main([*flags(folder, "m"), "-seed", "1"]) == 0
    assert (folder / "m.prev.pt").read_bytes() == good


def test_a_killed_runs_model_is_kept_where_nothing_better_is(folder, monkeypatch):
    kill_at(monkeypatch, folder, 6)
    first = (folder / "m.pt").read_bytes()
    assert lstlm.main([*flags(folder, "m"), "-seed", "1"]) == 0
    assert (folder / "m.prev.pt").read_bytes() == first


def test_a_model_that_goes_while_it_is_trained_is_told_at_the_end(folder, monkeypatch, capsys):
    def remove(number: int) -> None:
        if number == 12:
            (folder / "m.pt").unlink()

    before_steps(monkeypatch, remove)
    losses = itertools.count(1)  # each is worse, so that only the first model is saved
    monkeypatch.setattr(lstlm, "compute_loss", lambda *_: float(next(losses)))
    assert lstlm.main(flags(folder, "m")) == 1
    told = capsys.readouterr()
    assert "removed or replaced it while the training ran" in told.err
    assert "best valid loss" not in told.out


def test_leftovers_of_killed_processes_are_removed_and_those_of_others_stay(folder):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    names = ("m.pt", "m.state.pt", "m.log.jsonl")
    dead = [folder / f".{name}.{process.pid}.tmp" for name in names]
    others = [
        folder / f".m.pt.{os.getppid()}.tmp", folder / f".mm.pt.{process.pid}.tmp",
        folder / ".m.pt.x.tmp",
    ]
    for path in (*dead, *others):
        path.write_bytes(b"x")
    assert lstlm.main(flags(folder, "m")) == 0
    assert [path.exists() for path in (*dead, *others)] == [False] * 3 + [True] * 3


# ---- Steps without a finite number --------------------------------------------------------------


def break_losses(monkeypatch, bad: str, numbers) -> list[int]:
    """Make these losses, or only their gradients, no finite number; those that were computed."""
    computed = []
    whole = lstlm.LSTMLM.loss

    def broken(*args):
        loss = whole(*args)
        if not torch.is_grad_enabled():
            return loss
        computed.append(len(computed) + 1)
        if computed[-1] in numbers and bad == "loss":
            return loss * math.nan
        if computed[-1] in numbers:
            loss.register_hook(lambda gradient: gradient * math.inf)
        return loss

    monkeypatch.setattr(lstlm.LSTMLM, "loss", broken)
    return computed


def count_updates(monkeypatch) -> list[list[torch.Tensor]]:
    """The parameters after each update that the optimizer made."""
    updates = []
    step = torch.optim.AdamW.step

    def counted(optimizer, *args):
        step(optimizer, *args)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        updates.append([p.detach().clone() for p in parameters])

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    return updates


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_steps_without_a_finite_number_are_skipped_and_counted(folder, monkeypatch, capsys, bad):
    """Steps 2 and 3 are as if they had not been, but for the learning rate and the order."""
    updates = count_updates(monkeypatch)
    break_losses(monkeypatch, bad, (2, 3))
    without_segments = [*flags(folder, "m"), "-bptt", "500"]
    assert lstlm.main(without_segments) == 0
    told = capsys.readouterr()
    assert "step skipped (1 so far)" in told.err
    assert "step skipped (2 so far)" in told.err
    assert len(updates) == 10
    assert "nan" not in told.out


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_refused_segment_updates_nothing_and_the_rest_is_left_out(
    folder, monkeypatch, capsys, bad
):
    """The second segment of the second minibatch is bad."""
    corpus = folder / "corpus"
    corpus.write_text("a b c d e f g h a b c\n" * 4)  # 12 targets: 4 segments for each of 2 steps
    command = [*flags(folder, "m"), "-B", "2", "-E", "1", "-bptt", "3", "-valid_every", "99"]
    models = []
    begin = backstage.run.Run.begin_step

    def begin_step(run, parts):
        begin(run, parts)
        models.append((run, [p.detach().clone() for p in run.bare_model.parameters()]))

    monkeypatch.setattr(backstage.run.Run, "begin_step", begin_step)
    updates = count_updates(monkeypatch)
    computed = break_losses(monkeypatch, bad, (6,))
    assert lstlm.main(command) == 0
    assert len(computed) == 6  # segments 7 and 8 were left out
    assert len(updates) == 5  # and 6 made no update
    run, _ = models[1]
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    assert all(torch.equal(p, last) for p, last in zip(parameters, updates[-1], strict=True))
    steps = {int(moments["step"]) for moments in run.optimizer.state.values()}
    assert steps == {5}
    assert (run.skipped, run.seen) == (1, 48)  # the order goes on as if nothing had been
    assert "step 2: loss or gradient is no finite number" in capsys.readouterr().err
    record = read_log(folder / "m.pt")[-1]
    assert math.isfinite(record["train_nats"])  # of the first minibatch alone


def test_too_many_skipped_steps_end_the_training_with_the_last_good_state(
    folder, monkeypatch, capsys
):
    monkeypatch.setattr(backstage.saving, "SAVE_STEPS", 2)
    break_losses(monkeypatch, "loss", range(6, 1000))
    assert lstlm.main([*flags(folder, "m"), "-bptt", "500"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "5 steps in a row" in error
    assert "m.state.pt is from before" in error
    numbers = [int(n) for n in error.split("stories ")[1].split(" of ")[0].split(", ")]
    assert len(set(numbers)) == 4
    assert set(numbers) <= set(range(1, 17))
    state = content_of(folder / "m.state.pt")
    assert state["numbers"]["step"] == 4
    assert all(tensor.isfinite().all() for tensor in state["weights"].values())


def test_ctrl_c_while_the_libraries_load(tmp_path):
    handle = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # where a shell ignores it
    (tmp_path / "torch.py").write_text(f"import signal\n{handle}\nsignal.raise_signal(2)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, lstlm.__file__, "-h"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT
    assert "Traceback" not in done.stderr
