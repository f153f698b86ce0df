"""A training that is stopped and resumed, at whatever step, ends like the one that was never stopped."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import lstlm
import pytest
import torch


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a corpus of 16 short stories: 4 minibatches of 4. Pictures would take longer than all the rest."""
    monkeypatch.setattr(lstlm, "draw_curve", lambda *_: None)
    words = list("abcdefgh")
    stories = [[words[(3 * i + i * i * j) % 8] for j in range(2 + i % 7)] + [f"once{i}"] for i in range(16)]
    (tmp_path / "corpus").write_text("".join(" ".join(story) + "\n" for story in stories))
    return tmp_path


def flags(folder, name: str) -> list[str]:
    """A command of 12 steps with everything on that is random, or carried over pieces, or in the optimizer."""
    corpus = str(folder / "corpus")
    return ["-train", "-train_corpus", corpus, "-valid_corpus", corpus, "-H", "2", "-N", "8", "-EDim", "6", "-E", "3",
            "-B", "4", "-a", "additive", "-dropout", "0.3", "-locked", "-bptt", "3", "-precision", "bf16",
            "-valid_every", "3", "-lr", "0.05", "-emb_lr", "0.02", "-weight_decay", "0.1", "-schedule", "cosine",
            "-tie", "-positions", "-model", str(folder / f"{name}.pt")]


def outcome(folder, name: str):
    """The weights, and the log without its times."""
    weights = torch.load(folder / f"{name}.pt", weights_only=True)["weights"]
    records = [json.loads(line) for line in (folder / f"{name}.log.jsonl").read_text().splitlines()]
    return weights, [{k: v for k, v in r.items() if k not in ("tokens_per_s", "seconds")} for r in records]


def check_equal(folder, name: str) -> None:
    """The run of that name ended like the run `whole`, to the bit."""
    (weights, log), (expected, expected_log) = outcome(folder, name), outcome(folder, "whole")
    assert log == expected_log
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in weights)
    assert not (folder / f"{name}.state.pt").exists()


def stop_at(monkeypatch, step: int) -> None:
    """Let a signal come during that step, as counted from the start of this process."""
    count, whole = iter(range(1, 100)), lstlm.train_step

    def train_step(*args):
        if next(count) == step:
            signal.raise_signal(signal.SIGINT)
        return whole(*args)

    monkeypatch.setattr(lstlm, "train_step", train_step)


def told(capsys) -> list[str]:
    """The lines of losses that were printed, without their rates."""
    return re.findall(r"^epoch .*(?=, [\d,]+ tokens/s)", capsys.readouterr().out, re.M)


def test_rate_and_seconds_leave_out_the_stop(folder, monkeypatch):
    """By a clock on which a step takes a second and a stop a thousand, the resumed run tells the times of the whole."""
    now, step = [0.0], lstlm.train_step
    monkeypatch.setattr(lstlm.time, "perf_counter", lambda: now[0])

    def second(*args):
        now[0] += 1
        return step(*args)

    def times(name: str) -> list[tuple[float, float]]:
        log = (folder / f"{name}.log.jsonl").read_text().splitlines()[1:]
        return [(record["tokens_per_s"], record["seconds"]) for record in map(json.loads, log)]

    monkeypatch.setattr(lstlm, "train_step", second)
    assert lstlm.main(flags(folder, "whole")) == 0
    tokens = sum(len(line.split()) + 1 for line in (folder / "corpus").read_text().splitlines())
    assert times("whole")[1] == (tokens - round(3 * times("whole")[0][0]), 4)
    assert [seconds for _, seconds in times("whole")] == [3, 4, 6, 8, 9, 12]
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert lstlm.main(flags(folder, "part")) == 130
    now[0] += 1000
    assert lstlm.main([*flags(folder, "part"), "-resume"]) == 0
    assert times("part") == times("whole")


def test_losses_are_on_paper_as_soon_as_they_are_told(folder, monkeypatch):
    """So that a process that is killed has told its consumer and its trace what the log has."""
    paper, step, seen = io.BytesIO(), lstlm.train_step, []

    def look(*args):
        seen.append([text.count("step 3: train") for text in (paper.getvalue().decode(), trace.read_text())])
        return step(*args)

    trace = folder / "trace"
    monkeypatch.setattr(lstlm, "train_step", look)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(paper))
    assert lstlm.main([*flags(folder, "m"), "-trace", str(trace)]) == 0
    assert seen == [[0, 0]] * 3 + [[1, 1]] * 9


def test_a_process_that_gets_a_signal_when_nobody_reads_what_it_says(folder):
    command = [sys.executable, lstlm.__file__, *flags(folder, "alone"), "-E", "100000", "-patience", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        while not (folder / "alone.pt").exists() and process.poll() is None:
            time.sleep(0.1)
        process.stderr.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    assert (folder / "alone.state.pt").exists()


def test_an_unfinished_run_is_not_replaced_and_all_its_files_are_named(folder, capsys):
    for ending in ("state", "state.prev"):
        (folder / f"m.{ending}.pt").write_text("")
    assert lstlm.main(flags(folder, "m")) == 2
    assert f"or delete {folder}/m.state.pt and {folder}/m.state.prev.pt" in capsys.readouterr().err


def test_one_of_several_processes_writes_the_trace(folder, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    args = lstlm.parse_args([*flags(folder, "m"), "-trace", str(folder / "trace")])
    with contextlib.ExitStack() as stack:
        lstlm.start_trace(args, [], stack)("typed")
    assert not (folder / "trace").exists()


@pytest.mark.parametrize(("epochs", "stories"), [(3, 16), pytest.param(10, 12, marks=pytest.mark.slow)], ids=str)
def test_stopped_at_each_step_and_resumed(folder, monkeypatch, capsys, epochs, stories):
    """Runs of 12 and of 30 steps: weights, log, printed lines and sampled text are those of the undisturbed run."""
    lines = (folder / "corpus").read_text().splitlines(keepends=True)
    (folder / "corpus").write_text("".join(lines[:stories]))
    more, sample = ["-E", str(epochs), "-patience", "0"], ["-prompt", "-text", "a", "-seed", "5", "-json", "-model"]
    assert lstlm.main([*flags(folder, "whole"), *more]) == 0
    whole = told(capsys)
    assert lstlm.main([*sample, str(folder / "whole.pt")]) == 0
    text = capsys.readouterr().out
    steps = epochs * stories // 4
    assert whole[-1].startswith(f"epoch {epochs}, step {steps}:")
    for step in range(1, steps + 1):
        name = f"stopped{step}"
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            assert lstlm.main([*flags(folder, name), *more]) == 130
        assert lstlm.main([*flags(folder, name), *more, "-resume"]) == 0
        assert told(capsys) == whole
        check_equal(folder, name)
        assert lstlm.main([*sample, str(folder / f"{name}.pt")]) == 0
        assert capsys.readouterr().out == text


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing_that_was_saved(folder, monkeypatch, capsys):
    """It comes within the step, or while the state is saved."""
    assert lstlm.main(flags(folder, "whole")) == 0
    monkeypatch.setattr(lstlm, "SAVE_STEPS", 4)
    step, fsync = lstlm.train_step, os.fsync
    for name in ("step", "save"):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            count = iter(range(1, 100))

            def interrupted(*args, count=count, twice=name == "step"):
                if next(count) == 6:
                    signal.raise_signal(signal.SIGINT)
                    twice and signal.raise_signal(signal.SIGINT)
                    patch.setattr(os, "fsync", lambda file: fsync(file) or signal.raise_signal(signal.SIGINT))
                return step(*args)

            patch.setattr(lstlm, "train_step", interrupted)
            assert lstlm.main(flags(folder, name)) == 130
        error = capsys.readouterr().err
        assert "interrupted" in error
        assert "go on with" not in error
        assert not list(folder.glob(".*"))
        assert lstlm.main([*flags(folder, name), "-resume"]) == 0
        assert "going on after step 4" in capsys.readouterr().out
        check_equal(folder, name)


def test_what_makes_a_resumed_run_another_is_said(folder, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        lstlm.main(flags(folder, "m"))
    state = lstlm.unseal((folder / "m.state.pt").read_bytes())
    state["facts"] |= {"threads": 99, "device": "cuda"}
    (folder / "m.state.pt").write_bytes(lstlm.seal(state))
    capsys.readouterr()
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 0
    out = capsys.readouterr().out
    for name, then, now in (("threads", 99, torch.get_num_threads()), ("device", "cuda", "cpu")):
        assert f"note: {name} was {then} and is {now}: the result will not be equal to the bit" in out
    assert "on a GPU" not in out
    whole = lstlm.describe_training
    monkeypatch.setattr(lstlm, "describe_training", lambda *args: {**whole(*args), "device": "cuda"})
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        lstlm.main(flags(folder, "gpu"))
    assert lstlm.main([*flags(folder, "gpu"), "-resume"]) == 0
    assert "note: on a GPU the result will not be equal to the bit" in capsys.readouterr().out


def test_stopped_again_and_again(folder, monkeypatch):
    assert lstlm.main(flags(folder, "whole")) == 0
    status = []
    for _ in range(20):
        with monkeypatch.context() as patch:
            stop_at(patch, 2)
            status.append(lstlm.main([*flags(folder, "often"), *(["-resume"] if status else [])]))
        if status[-1] == 0:
            break
    assert status == [130] * 6 + [0]
    check_equal(folder, "often")


def test_killed_between_saves_and_resumed(folder, monkeypatch):
    """What a killed run did after its last save is done again, its log lines too."""
    assert lstlm.main(flags(folder, "whole")) == 0
    monkeypatch.setattr(lstlm, "SAVE_STEPS", 5)
    whole, count = lstlm.train_step, iter(range(100))

    def killed(*args):
        if next(count) == 9:
            raise SystemError  # nothing of ours runs after a kill -9
        return whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(lstlm, "train_step", killed)
        with pytest.raises(SystemError):
            lstlm.main(flags(folder, "killed"))
    before = len((folder / "killed.log.jsonl").read_text().splitlines())
    assert lstlm.main([*flags(folder, "killed"), "-resume"]) == 0
    assert before == 6  # the start and steps 3, 4, 6, 8, 9: of these the last three came after the save
    check_equal(folder, "killed")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_gets_a_signal(folder, number, status):
    command = [sys.executable, lstlm.__file__, *flags(folder, "process"), "-E", "100000", "-patience", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        while not (folder / "process.pt").exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(number)
        error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == status, error
    assert re.search(r"go on with: \S*python\S* \S*lstlm.py -train .* -resume\n", error)
    assert "Traceback" not in error
    assert (folder / "process.state.pt").exists()
    assert not list(folder.glob(".*"))


def test_an_unfinished_run_is_not_replaced_and_other_flags_are_refused(folder, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        lstlm.main(flags(folder, "m"))
    state = (folder / "m.state.pt").read_bytes()
    capsys.readouterr()
    assert lstlm.main(flags(folder, "m")) == 2
    assert "-resume" in capsys.readouterr().err
    for other, said in ((["-E", "4"], "E 3, not 4"), (["-lr", "1"], "lr 0.05, not 1.0"), (["-N", "10"], "N 8, not 10")):
        assert lstlm.main([*flags(folder, "m"), *other, "-resume"]) == 2
        assert said in capsys.readouterr().err
    assert (folder / "m.state.pt").read_bytes() == state
    (folder / "m.state.pt").write_bytes(state[:-50])
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 2
    assert "damaged" in capsys.readouterr().err
    assert lstlm.main([*flags(folder, "none"), "-resume"]) == 2
    assert "no unfinished run" in capsys.readouterr().err
