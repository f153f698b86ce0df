"""A training that is stopped and resumed, at whatever step, ends like one that was never stopped.

To the bit: its weights, its log, the lines that it prints and the text that it generates.
"""

import contextlib
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import backstage.bookkeeping
import backstage.defaults
import backstage.program
import backstage.run
import backstage.saving
import lstlm
import pytest
import torch
from backstage.errors import UserError
from backstage.sealed import seal
from small import ONE_THREAD, content_of
from stopping import (
    STEPS,
    before_steps,
    check_equal,
    equal_weights,
    flags,
    read_log,
    read_weights,
    stop_at,
)


@pytest.fixture
def whole(folder, capsys) -> list[str]:
    """A training that nothing happens to, the model `whole`; what it tells of its losses."""
    assert lstlm.main(flags(folder, "whole")) == 0
    return told(capsys)


def told(capsys) -> list[str]:
    """The lines of losses that were printed, without their rates."""
    return re.findall(r"^epoch .*(?=, [\d,]+ tokens/s)", capsys.readouterr().out, re.M)


def stop_and_resume(monkeypatch, argv: list[str], step: int) -> None:
    """Train, with Ctrl-C in that step, and go on."""
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        assert lstlm.main(argv) == 130
    assert lstlm.main([*argv, "-resume"]) == 0


# ---- What a resumed run is equal in -------------------------------------------------------------


def check_each_step(folder: Path, monkeypatch, capsys, more: list[str], steps: list[int]) -> None:
    """Stop a training in each of these steps; resumed it ends like the whole one."""
    sample = ["-prompt", "-text", "a", "-seed", "5", "-json", "-model"]
    assert lstlm.main([*flags(folder, "whole"), *more]) == 0
    whole = told(capsys)
    assert lstlm.main([*sample, str(folder / "whole.pt")]) == 0
    text = capsys.readouterr().out
    assert f"step {steps[-1]}:" in whole[-1]
    for step in steps:
        name = f"stopped{step}"
        stop_and_resume(monkeypatch, [*flags(folder, name), *more], step)
        assert told(capsys) == whole
        check_equal(folder, name)
        assert lstlm.main([*sample, str(folder / f"{name}.pt")]) == 0
        assert capsys.readouterr().out == text


def test_stopped_at_each_step_and_resumed(folder, monkeypatch, capsys):
    steps = list(range(1, STEPS + 1))  # the last one, too: then no minibatch is left
    check_each_step(folder, monkeypatch, capsys, ["-patience", "0"], steps)


@pytest.mark.slow
def test_stopped_at_each_of_thirty_steps_and_resumed(folder, monkeypatch, capsys):
    lines = (folder / "corpus").read_text().splitlines(keepends=True)
    (folder / "corpus").write_text("".join(lines[:12]))
    more = ["-E", "10", "-patience", "0"]
    check_each_step(folder, monkeypatch, capsys, more, list(range(1, 31)))


# A plain model with dropout as `make demo` trains it, where bfloat16 is fast.
DEMO = "-train -H 2 -N 16 -EDim 8 -VSize 2000 -B 8 -E 4 -seed 0 -precision bf16 -dropout 0.2"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_training_like_the_demo_is_stopped_and_resumed(folder, monkeypatch, number):
    corpus = str(folder / "corpus")
    command = [*DEMO.split(), "-train_corpus", corpus, "-valid_corpus", corpus, "-model"]
    whole = str(folder / "whole.pt")
    part = str(folder / "part.pt")
    assert lstlm.main([*command, whole]) == 0
    with monkeypatch.context() as patch:
        before_steps(patch, lambda step: step == 4 and signal.raise_signal(number))
        assert lstlm.main([*command, part]) == 128 + number
    assert read_log(folder / "part.pt")[-1]["epoch"] == 1
    assert content_of(folder / "part.state.pt")["numbers"]["step"] == 4
    assert lstlm.main([*command, part, "-resume"]) == 0
    check_equal(folder, "part")


def test_stopped_again_and_again(folder, monkeypatch, whole):
    status = []
    for _ in range(20):
        with monkeypatch.context() as patch:
            stop_at(patch, 2)
            resumed = ["-resume"] if status else []
            status.append(lstlm.main([*flags(folder, "often"), *resumed]))
        if status[-1] == 0:
            break
    assert status == [130] * 6 + [0]
    check_equal(folder, "often")


@pytest.mark.parametrize("epochs", [2, 5], ids=["at the end", "early"])
def test_a_run_that_ends_early_does_so_resumed(folder, monkeypatch, capsys, epochs):
    """Ctrl-C comes in the step after which `-patience` ends it, and in one before."""
    more = ["-E", str(epochs), "-patience", "1", "-lr", "9", "-emb_lr", "9"]  # each epoch is worse
    losses = iter(range(100))
    monkeypatch.setattr(lstlm, "compute_loss", lambda *_: float(next(losses)))
    more += ["-valid_every", "100"]
    assert lstlm.main([*flags(folder, "whole"), *more]) == 0
    assert "stopped early: no better valid loss for 1 epochs" in capsys.readouterr().out
    assert [record["step"] for record in read_log(folder / "whole.pt")[1:]] == [4, 8]
    for step in (6, 8):
        losses = iter(range(100))
        stop_and_resume(monkeypatch, [*flags(folder, f"part{step}"), *more], step)
        assert capsys.readouterr().out.count("stopped early") == 1
        check_equal(folder, f"part{step}")


def test_killed_between_saves_and_resumed(folder, monkeypatch, whole):
    """What a killed run did after its last save is done again, its log lines too."""
    monkeypatch.setattr(backstage.saving, "SAVE_STEPS", 5)

    def kill(number: int) -> None:
        if number == 10:
            raise SystemError  # nothing of ours runs after a kill -9

    with monkeypatch.context() as patch:
        before_steps(patch, kill)
        with pytest.raises(SystemError):
            lstlm.main(flags(folder, "killed"))
    before = len(read_log(folder / "killed.pt"))
    assert lstlm.main([*flags(folder, "killed"), "-resume"]) == 0
    assert before == 6  # the start and steps 3, 4, 6, 8, 9: the last three came after the save
    check_equal(folder, "killed")


def test_rate_and_seconds_leave_out_the_stop(folder, monkeypatch):
    """By a clock on which a step takes a second and a stop a thousand.

    The resumed run tells the times of the whole one.
    """
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def pass_a_second(_number: int) -> None:
        nonlocal now
        now += 1

    def times(name: str) -> list[tuple[float, float]]:
        records = read_log(folder / f"{name}.pt")[1:]
        return [(record["tokens_per_s"], record["seconds"]) for record in records]

    before_steps(monkeypatch, pass_a_second)
    assert lstlm.main(flags(folder, "whole")) == 0
    lines = (folder / "corpus").read_text().splitlines()
    tokens = sum(len(line.split()) + 1 for line in lines)
    assert times("whole")[1] == (tokens - round(3 * times("whole")[0][0]), 4)
    assert [seconds for _, seconds in times("whole")] == [3, 4, 6, 8, 9, 12]
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert lstlm.main(flags(folder, "part")) == 130
    now += 1000
    assert lstlm.main([*flags(folder, "part"), "-resume"]) == 0
    assert times("part") == times("whole")


def test_losses_are_on_paper_as_soon_as_they_are_told(folder, monkeypatch):
    """So that a process that is killed has told its consumer and its trace what the log has."""
    paper = io.BytesIO()
    trace = folder / "trace"
    seen = []

    def look(_number: int) -> None:
        texts = [paper.getvalue().decode(), trace.read_text()]
        seen.append([text.count("step 3: train") for text in texts])

    before_steps(monkeypatch, look)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(paper))
    assert lstlm.main([*flags(folder, "m"), "-trace", str(trace)]) == 0
    assert seen == [[0, 0]] * 3 + [[1, 1]] * 9


# ---- Signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["step", "save"])
def test_a_second_ctrl_c_stops_at_once_and_loses_nothing_that_was_saved(
    folder, monkeypatch, capsys, whole, when
):
    """It comes within the step, or while the state is saved."""
    monkeypatch.setattr(backstage.saving, "SAVE_STEPS", 4)
    fsync = os.fsync

    def press_after(file: int) -> None:
        fsync(file)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:

        def press(number: int) -> None:
            if number != 6:
                return
            patch.setattr(os, "fsync", press_after)
            signal.raise_signal(signal.SIGINT)
            if when == "step":
                signal.raise_signal(signal.SIGINT)

        before_steps(patch, press)
        assert lstlm.main(flags(folder, "m")) == 130
    error = capsys.readouterr().err
    assert "interrupted" in error
    assert "go on with" not in error
    assert not list(folder.glob(".*"))
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 0
    assert "going on after step 4" in capsys.readouterr().out
    check_equal(folder, "m")


def test_a_second_ctrl_c_in_the_gradient_step_stops_at_once(folder, monkeypatch, capsys, whole):
    """There the generator of segments is suspended: its thread ends, and the handlers come back."""
    monkeypatch.setattr(backstage.saving, "SAVE_STEPS", 4)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = threading.active_count()
    steps = 0
    step = torch.optim.AdamW.step

    def press(*args):
        nonlocal steps
        steps += 1
        if steps == 15:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", press)
        assert lstlm.main(flags(folder, "m")) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert threading.active_count() == threads
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 0
    check_equal(folder, "m")


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("loss", SystemError), ("step", SystemError), ("report", SystemError),
        ("thread", SystemError), ("step", UserError), ("report", UserError),
        ("loss", MemoryError), ("thread", MemoryError),
    ],
)
def test_a_training_that_fails_restores_the_handlers(folder, monkeypatch, capsys, place, error):
    """It fails in the loop's body, in the generator of its segments, or in the thread of that."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = threading.active_count()
    during = []

    def fail(*_):
        during.append(signal.getsignal(signal.SIGTERM))
        raise error("it failed")

    module, name = {
        "loss": (lstlm.LSTMLM, "loss"), "step": (torch.optim.AdamW, "step"),
        "report": (backstage.bookkeeping, "save_model"), "thread": (backstage.run, "segments"),
    }[place]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail)
        expected = pytest.raises(error) if error is SystemError else contextlib.nullcontext()
        with expected:
            status = lstlm.main(flags(folder, "m"))
            assert status == {UserError: 2, MemoryError: 1}[error]
            assert "Traceback" not in capsys.readouterr().err
    assert during[0] not in handlers
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    del expected  # the traceback that it keeps would keep the generator, and so its thread
    assert threading.active_count() == threads
    assert lstlm.main([*flags(folder, "m"), "-E", "1"]) == 0  # there is no unfinished run


def process(folder: Path, name: str) -> subprocess.Popen:
    """A training without end in a process, which has saved its first model."""
    endless = ["-E", "100000", "-patience", "0"]
    command = [sys.executable, lstlm.__file__, *flags(folder, name), *endless]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    while not (folder / f"{name}.pt").exists() and started.poll() is None:
        time.sleep(0.05)
    return started


INTERRUPTED = pytest.param(signal.SIGINT, 130, marks=pytest.mark.thorough, id="SIGINT")


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGTERM, 143, id="SIGTERM"), INTERRUPTED]
)
def test_a_process_that_gets_a_signal(folder, number, status):
    with process(folder, "process") as started:
        started.send_signal(number)
        error = started.communicate(timeout=60)[1].decode()
    assert started.returncode == status, error
    assert re.search(r"go on with: \S*python\S* \S*lstlm.py -train .* -resume\n", error)
    assert "Traceback" not in error
    assert (folder / "process.state.pt").exists()
    assert not list(folder.glob(".*"))


@pytest.mark.thorough
def test_a_process_that_gets_a_signal_when_nobody_reads_what_it_says(folder):
    with process(folder, "alone") as started:
        started.stderr.close()
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=60) == 143
    assert (folder / "alone.state.pt").exists()


# ---- Within a minibatch -------------------------------------------------------------------------


def segments_of(monkeypatch, action) -> None:
    """Call `action` with the number of each segment before it: 1, 2, ... from now on."""
    numbers = itertools.count(1)
    loss = lstlm.LSTMLM.loss

    def counted(model, *args):
        if model.training:
            action(next(numbers))
        return loss(model, *args)

    monkeypatch.setattr(lstlm.LSTMLM, "loss", counted)


LONG = ["-E", "1", "-bptt", "2", "-B", "2", "-valid_every", "1000"]
CELLS = [
    "-a additive", "-a dot -tie", "-cell gru -positions", "-cell rnn -a bilinear",
    "-bidirectional -dropout 0.2",
]


@pytest.mark.parametrize("kind", CELLS)
def test_stopped_after_each_segment_and_resumed(folder, monkeypatch, capsys, kind):
    """A story of many segments is one step, which no stop waits for the end of."""
    (folder / "corpus").write_text("a b c d e f g h i j k l m n o p q r s t u v w\na b c d e\n" * 2)
    corpus = str(folder / "corpus")
    small = ["-train", "-train_corpus", corpus, "-valid_corpus", corpus, "-H", "2", "-N", "4"]
    command = [*small, "-EDim", "4", *LONG, *kind.split(), "-model"]
    count = 0

    def note(number: int) -> None:
        nonlocal count
        count = number

    with monkeypatch.context() as patch:
        segments_of(patch, note)
        assert lstlm.main([*command, str(folder / "whole.pt")]) == 0
    assert count > 12
    for stop in range(1, count, 3):
        name = f"stopped{stop}"

        def press(number: int, stop=stop) -> None:
            if number == stop:
                signal.raise_signal(signal.SIGTERM)

        with monkeypatch.context() as patch:
            segments_of(patch, press)
            assert lstlm.main([*command, str(folder / f"{name}.pt")]) == 143
        assert content_of(folder / f"{name}.state.pt")["numbers"]["part"] in (stop, stop - 12)
        capsys.readouterr()
        assert lstlm.main([*command, str(folder / f"{name}.pt"), "-resume"]) == 0
        assert "segments into the next" in capsys.readouterr().out
        check_equal(folder, name)


def test_the_state_is_saved_between_segments_when_its_time_has_come(folder, monkeypatch):
    monkeypatch.setattr(backstage.saving, "SAVE_SECONDS", 0)
    (folder / "corpus").write_text("a b c d e f g h i j k l m n o p q r s t u v w\n")
    states = []

    def look(_number: int) -> None:
        path = folder / "m.state.pt"
        states.append(content_of(path)["numbers"]["part"] if path.exists() else None)

    segments_of(monkeypatch, look)
    assert lstlm.main([*flags(folder, "m"), *LONG]) == 0
    assert states == [None, *range(1, 12)]


def test_a_stop_does_not_wait_for_the_valid_loss(folder, monkeypatch, capsys, whole):
    for evaluation in (1, 2, 4, 6):  # of steps 3, 4 (the end of an epoch), 8 and 12
        name = f"m{evaluation}"
        numbers = itertools.count(1)
        compute_loss = lstlm.compute_loss

        def stopped(*args, numbers=numbers, evaluation=evaluation, compute_loss=compute_loss):
            if next(numbers) == evaluation:
                signal.raise_signal(signal.SIGTERM)
                raise AssertionError("the signal should have ended it")
            return compute_loss(*args)

        with monkeypatch.context() as patch:
            patch.setattr(lstlm, "compute_loss", stopped)
            assert lstlm.main(flags(folder, name)) == 143
        assert lstlm.main([*flags(folder, name), "-resume"]) == 0
        check_equal(folder, name)


def test_a_carried_state_that_is_not_the_models_is_refused(folder, monkeypatch, capsys):
    stop_at_segment = {"number": 5}

    def press(number: int) -> None:
        if number == stop_at_segment["number"]:
            signal.raise_signal(signal.SIGTERM)

    (folder / "corpus").write_text("a b c d e f g h i j k l m n o p q r s t u v w\n")
    command = [*flags(folder, "m"), *LONG]
    with monkeypatch.context() as patch:
        segments_of(patch, press)
        assert lstlm.main(command) == 143
    state = content_of(folder / "m.state.pt")
    carried = state["carried"]
    assert carried["position"] == 10
    odds = (
        {}, {**carried, "position": 12}, {**carried, "past": carried["past"][:, 1:]},
        {**carried, "recurrent": {}}, {**carried, "recurrent": {"0": {"h": torch.zeros(1)}}},
    )
    for odd in odds:
        (folder / "m.state.pt").write_bytes(seal({**state, "carried": odd}))
        capsys.readouterr()
        assert lstlm.main([*command, "-resume"]) == 2
        assert "not a state of this model" in capsys.readouterr().err
    numbers = {**state["numbers"], "part": 99}
    (folder / "m.state.pt").write_bytes(seal({**state, "numbers": numbers}))
    assert lstlm.main([*command, "-resume"]) == 2
    assert "not a state of this model" in capsys.readouterr().err


# ---- What may be resumed ------------------------------------------------------------------------


def test_an_unfinished_run_is_not_replaced_and_all_its_files_are_named(folder, capsys):
    for ending in ("state", "state.prev"):
        (folder / f"m.{ending}.pt").write_text("")
    assert lstlm.main(flags(folder, "m")) == 2
    assert f"or delete {folder}/m.state.pt and {folder}/m.state.prev.pt" in capsys.readouterr().err


def test_an_unfinished_run_is_not_replaced_and_other_flags_are_refused(folder, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        lstlm.main(flags(folder, "m"))
    state = (folder / "m.state.pt").read_bytes()
    capsys.readouterr()
    assert lstlm.main(flags(folder, "m")) == 2
    assert "-resume" in capsys.readouterr().err
    others = (
        ("-E", "4", "E 3, not 4"), ("-lr", "1", "lr 0.05, not 1.0"), ("-N", "10", "N 8, not 10"),
    )
    for flag, value, said in others:
        assert lstlm.main([*flags(folder, "m"), flag, value, "-resume"]) == 2
        assert said in capsys.readouterr().err
    assert (folder / "m.state.pt").read_bytes() == state
    (folder / "m.state.pt").write_bytes(state[:-50])
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 2
    assert "damaged" in capsys.readouterr().err
    assert lstlm.main([*flags(folder, "none"), "-resume"]) == 2
    assert "no unfinished run" in capsys.readouterr().err


def test_what_makes_a_resumed_run_another_is_said(folder, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        lstlm.main(flags(folder, "m"))
    state = content_of(folder / "m.state.pt")
    state["facts"] |= {"threads": 99, "device": "cuda"}
    (folder / "m.state.pt").write_bytes(seal(state))
    capsys.readouterr()
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 0
    out = capsys.readouterr().out
    for name, then, now in (("threads", 99, torch.get_num_threads()), ("device", "cuda", "cpu")):
        change = f"{name} was {then} and is {now}"
        assert f"note: {change}: the result will not be equal to the bit" in out
    assert "on a GPU" not in out


def test_that_a_gpu_makes_a_resumed_run_another_is_said(folder, monkeypatch, capsys):
    describe = lstlm.describe_training
    cuda = {"device": "cuda"}
    monkeypatch.setattr(lstlm, "describe_training", lambda *args: {**describe(*args), **cuda})
    stop_and_resume(monkeypatch, flags(folder, "gpu"), 5)
    out = capsys.readouterr().out
    assert "note: on a GPU the result will not be equal to the bit" in out


CHANGES = {
    "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_NUM_THREADS": "1",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_of_a_library_that_changes_the_bits_is_said(folder, monkeypatch, capsys, name):
    for setting in CHANGES:
        monkeypatch.delenv(setting, raising=False)
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert lstlm.main(flags(folder, "m")) == 130
    monkeypatch.setenv(name, CHANGES[name])
    monkeypatch.setenv("ONEDNN_VERBOSE", "0")  # which changes nothing
    capsys.readouterr()
    assert lstlm.main([*flags(folder, "m"), "-resume"]) == 0
    change = f"settings was none and is {name}={CHANGES[name]}"
    out = capsys.readouterr().out
    assert f"note: {change}: the result will not be equal to the bit" in out
    assert content_of(folder / "m.pt")["facts"]["settings"] == f"{name}={CHANGES[name]}"


def test_another_processor_is_said_and_what_an_old_state_lacks_is_not(
    folder, monkeypatch, capsys, whole
):
    processor = torch.cpu.get_capabilities()["cpu_name"]
    instructions = torch.backends.cpu.get_cpu_capability()
    for name in ("old", "other"):
        with monkeypatch.context() as patch:
            stop_at(patch, 5)
            assert lstlm.main(flags(folder, name)) == 130
        path = folder / f"{name}.state.pt"
        state = content_of(path)
        assert state["facts"]["processor"] == processor
        assert state["facts"]["instructions"] == instructions
        if name == "old":
            for fact in ("processor", "instructions", "settings"):
                del state["facts"][fact]
        else:
            state["facts"] |= {"processor": "Z80", "instructions": "NONE"}
        path.write_bytes(seal(state))
        capsys.readouterr()
        assert lstlm.main([*flags(folder, name), "-resume"]) == 0
        out = capsys.readouterr().out
        assert (f"processor was Z80 and is {processor}: " in out) == (name == "other")
        assert (f"instructions was NONE and is {instructions}: " in out) == (name == "other")
        assert out.count("equal to the bit") == (2 if name == "other" else 0)
        check_equal(folder, name)


@pytest.mark.thorough
def test_other_instructions_are_said(folder, monkeypatch):
    """ATEN_CPU_CAPABILITY is read when PyTorch starts."""
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert lstlm.main(flags(folder, "m")) == 130
    environment = {**ONE_THREAD, "ATEN_CPU_CAPABILITY": "default"}
    command = [sys.executable, lstlm.__file__, *flags(folder, "m"), "-resume"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    now = torch.backends.cpu.get_cpu_capability()
    assert f"note: instructions was {now} and is DEFAULT: " in done.stdout
    assert "note: settings was none and is ATEN_CPU_CAPABILITY=default: " in done.stdout


# ---- A run knows its own model ------------------------------------------------------------------


def stopped(folder, monkeypatch, step: int) -> list[str]:
    """A run of `m` that was stopped in that step; returns its command."""
    command = flags(folder, "m")
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        assert lstlm.main(command) == 130
    return command


def test_a_model_that_is_gone_is_made_anew_and_that_is_said(folder, monkeypatch, capsys):
    for step in (5, 12):
        command = stopped(folder, monkeypatch, step)
        (folder / "m.pt").unlink()
        capsys.readouterr()
        assert lstlm.main([*command, "-resume"]) == 0
        out = capsys.readouterr().out
        assert "m.pt is gone, the best model so far" in out
        best = float(re.search(r"best valid loss (\S+) nats", out)[1])
        assert content_of(folder / "m.pt")["facts"]["valid_nats"] == pytest.approx(best, abs=1e-4)
        assert not list(folder.glob("m.state*"))


def test_another_model_in_its_place_is_refused(folder, monkeypatch, capsys, whole):
    before = [*flags(folder, "m"), "-seed", "3"]
    assert lstlm.main(before) == 0
    earlier = (folder / "m.pt").read_bytes()
    command = stopped(folder, monkeypatch, 5)
    own = (folder / "m.pt").read_bytes()
    for other in (earlier, b"", own[:-1]):
        (folder / "m.pt").write_bytes(other)
        capsys.readouterr()
        assert lstlm.main([*command, "-resume"]) == 2
        assert "not the model that was there when the run stopped" in capsys.readouterr().err
        assert (folder / "m.pt").read_bytes() == other
        assert (folder / "m.state.pt").exists()
    (folder / "m.pt").write_bytes(own)
    assert lstlm.main([*command, "-resume"]) == 0
    assert equal_weights(read_weights(folder / "m.pt"), read_weights(folder / "whole.pt"))


def test_a_run_that_is_killed_at_its_very_end_is_resumed(folder, monkeypatch):
    """Its model says already that the run has ended, and is older than the last state."""
    monkeypatch.setattr(backstage.saving, "SAVE_STEPS", 5)
    losses = itertools.count(1)  # each is worse, so that only the first model is saved
    mark_finished = backstage.saving.mark_finished

    def kill(model: Path) -> None:
        mark_finished(model)
        raise SystemError

    with monkeypatch.context() as patch:
        patch.setattr(lstlm, "compute_loss", lambda *_: float(next(losses)))
        with patch.context() as killing:
            killing.setattr(backstage.saving, "mark_finished", kill)
            with pytest.raises(SystemError):
                lstlm.main(flags(folder, "m"))
        ended = (folder / "m.pt").read_bytes()
        assert content_of(folder / "m.pt")["facts"]["step"] == 3
        assert content_of(folder / "m.state.pt")["numbers"]["step"] == 10
        assert lstlm.main([*flags(folder, "m"), "-resume"]) == 0
    assert (folder / "m.pt").read_bytes() == ended
    assert not list(folder.glob("m.state*"))


def test_other_words_are_refused(folder, monkeypatch, capsys):
    """Another GloVe file gives as many other words, over which the old weights would be put."""
    glove = folder / "glove"
    letters = "abcdefgh"
    glove.write_text("".join(f"{letter} 1 2 3 4 5 6\n" for letter in letters[:5]))
    corpus = str(folder / "corpus")
    small = ["-train", "-H", "1", "-N", "4", "-E", "2", "-B", "4", "-glove_only"]
    command = [*small, "-embeddings_file", str(glove), "-train_corpus", corpus]
    command += ["-valid_corpus", corpus, "-model", str(folder / "m.pt")]
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert lstlm.main(command) == 130
    glove.write_text("".join(f"{letter} 1 2 3 4 5 6\n" for letter in letters[3:]))
    capsys.readouterr()
    assert lstlm.main([*command, "-resume"]) == 2
    assert "other words" in capsys.readouterr().err
