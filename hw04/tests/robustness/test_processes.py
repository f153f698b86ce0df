"""Training by several processes: the result of one, one writer, a signal that stops them all.

Most are forks, as tools/killing.py starts them; some are started by torchrun itself.
"""

import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import backstage.bookkeeping
import fflm
import lstlm
import pytest
import torch
from holding import held, wait_for
from small import content_of
from stopping import check_equal, read_log, read_weights

# The last minibatch of 4 has 3 stories; segments of 5 leave some processes without.
LENGTHS = [3, 9, 1, 14, 2, 2, 7, 5, 11, 1, 6]
TRAINING = (
    "-train -H 2 -N 8 -EDim 6 -E 2 -B 4 -a -bptt 5 -precision fp32 -valid_every 2 -lr 0.01"
)


@pytest.fixture
def command(folder):
    """A function that gives a command for a model, to train for 6 steps on ragged stories."""

    def make(name: str, lengths=LENGTHS) -> list[str]:
        words = list("abcdefgh")
        stories = [[words[(3 * i + j * j) % 8] for j in range(n)] for i, n in enumerate(lengths)]
        corpus = folder / "corpus"
        corpus.write_text("".join(" ".join(story) + "\n" for story in stories))
        corpora = ["-train_corpus", str(corpus), "-valid_corpus", str(corpus)]
        return [*TRAINING.split(), *corpora, "-model", str(folder / f"{name}.pt")]

    return make


def torchrun(command: list[str], program=lstlm, **more) -> subprocess.Popen:
    """Start two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [sys.executable, *launcher, program.__file__, *command], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **more,
    )


def losses(model: Path) -> list[float]:
    """The train and valid losses in the log of a run."""
    records = [record for record in read_log(model) if record.get("mode") == "train"]
    return [record[key] for record in records for key in ("train_nats", "valid_nats")]


def check_alike(folder: Path, name: str, expected_name: str) -> None:
    """Two runs ended alike, within rounding."""
    model = folder / f"{name}.pt"
    expected = folder / f"{expected_name}.pt"
    assert losses(model) == pytest.approx(losses(expected), rel=1e-4)
    weights = read_weights(model)
    for name, tensor in read_weights(expected).items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4)


def check_files(folder: Path) -> None:
    """Nothing is left of what is written only for a while."""
    left = [path.name for path in folder.iterdir() if ".state" in path.name]
    assert left + [path.name for path in folder.glob(".*")] == []


# ---- Under torchrun -----------------------------------------------------------------------------


@pytest.mark.thorough
def test_two_processes_train_what_one_does(folder, command):
    assert lstlm.main(command("one")) == 0
    process = torchrun(command("two"))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("best valid loss") == out.count("vocabulary:") == 1  # only the first speaks
    check_alike(folder, "two", "one")
    assert len(losses(folder / "two.pt")) == 2 * 4
    assert {path.name for path in folder.iterdir()} >= {"two.pt", "two.log.jsonl"}
    check_files(folder)


@pytest.mark.thorough
def test_a_signal_to_one_of_two_stops_both_with_the_state_saved(folder, command):
    process = torchrun([*command("m"), "-E", "1000000"], start_new_session=True)
    log = folder / "m.log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 3):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "stopped and saved" in err
    state = content_of(folder / "m.state.pt")
    assert state["numbers"]["step"] > 3


@pytest.mark.thorough
def test_a_model_that_the_first_process_cannot_save_is_the_best_of_none(folder, command):
    # As a full disk: no model fits into that.
    little = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, 4096))
    process = torchrun([*command("m"), "-E", "4", "-patience", "1"], preexec_fn=little)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    said = "m.pt: the best model could not be saved"
    assert err.count("lstlm.py: error:") == err.count(said) == 1, err
    assert "go on from the last state" not in err  # there is none
    assert "stopped early" not in err + out  # each epoch was better than those before
    assert "epoch 4, step" in err + out


SLOW = """
import os, sys, time
from pathlib import Path
sys.path.append({code!r})
import lstlm
import {name}
from backstage.processes import leave
count = 0
whole = lstlm.compute_loss

def compute_loss(*args):
    global count
    count += 1
    if count == 2:
        Path(__file__ + "." + os.environ["RANK"]).touch()
        time.sleep(100)
    return whole(*args)

lstlm.compute_loss = compute_loss
leave({name}.main())
"""


def stop_in_slow_validation(folder: Path, argv: list[str], program) -> None:
    """Have torchrun get SIGTERM in the second valid loss of a training, which takes 100 seconds."""
    code = str(Path(lstlm.__file__).parent)
    slow = folder / "slow.py"
    slow.write_text(SLOW.format(code=code, name=program.__name__))
    process = torchrun(argv, program=SimpleNamespace(__file__=str(slow)))
    wait_for(lambda: all((folder / f"slow.py.{rank}").exists() for rank in range(2)))
    started = time.monotonic()
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 15, err  # after 30 torchrun would have killed them
    assert process.returncode != 0
    assert err.count("stopped and saved; go on with: the same torchrun command and -resume") == 1
    assert "Traceback" not in err[: err.index("stopped and saved")]


def run_to_end(argv: list[str], program=lstlm) -> str:
    """What two processes print that train to the end."""
    process = torchrun(argv, program)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("best valid loss") == 1
    return out


@pytest.mark.thorough
def test_torchrun_stopped_in_a_long_validation_stops_soon_and_resumes_equal(folder, command):
    run_to_end(command("whole"))
    stop_in_slow_validation(folder, command("m"), lstlm)
    assert "going on after step 3 of epoch 1" in run_to_end([*command("m"), "-resume"])
    check_equal(folder, "m")


@pytest.fixture
def feedforward(folder, command):
    """A function that gives a command of fflm.py, to train for 6 steps on the same stories."""
    assert lstlm.main(command("lm")) == 0
    corpus = str(folder / "corpus")
    corpora = ["-train_corpus", corpus, "-valid_corpus", corpus, "-lstm", str(folder / "lm.pt")]
    flags = "-K 2 -N 8 -E 2 -B 4 -bptt 5 -valid_every 2 -lr 0.01"
    return lambda name: ["-train", *corpora, *flags.split(), "-model", str(folder / f"{name}.pt")]


@pytest.mark.thorough
def test_torchrun_trains_fflm_as_one_process_does_and_resumes_equal(folder, feedforward):
    assert fflm.main(feedforward("one")) == 0
    run_to_end(feedforward("whole"), fflm)
    check_alike(folder, "whole", "one")
    stop_in_slow_validation(folder, feedforward("m"), fflm)
    assert "going on after step 3 of epoch 1" in run_to_end([*feedforward("m"), "-resume"], fflm)
    check_equal(folder, "m")
    check_files(folder)


@pytest.mark.thorough
def test_torchrun_of_fflm_is_refused_a_name_that_another_has(folder, feedforward):
    """Of the two the first one asks for the lock, and neither reads data before it has it."""
    with held(folder / "f.pt") as holder:
        process = torchrun(feedforward("f"), program=fflm)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 1 and out == ""  # torchrun's own status
    assert f"fflm.py: error: {folder}/f.pt: process {holder} works on it" in err
    assert "exitcode  : 2" in err and "vocabulary" not in err
    check_files(folder)


@pytest.mark.thorough
@pytest.mark.parametrize("victim", [0, 1])
def test_of_two_processes_of_torchrun_one_is_killed(folder, command, victim):
    process = torchrun([*command("m"), "-E", "1000000"])
    wait_for(lambda: (folder / "m.pt").exists())
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[victim]), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    ours = err[: err.index("failed (exitcode: ")]  # torchrun names the one it saw end first
    assert ours.count("lstlm.py: error: another process has ended") == 1
    assert "Traceback" not in ours
    assert content_of(folder / "m.pt")["facts"]["processes"] == 2


# ---- Forks --------------------------------------------------------------------------------------

ALIKE = {  # stories of so many words, and flags
    "segments that not all have": (LENGTHS, "-bptt 5"),
    "second story shorter than a segment": (LENGTHS, "-bptt 500"),
    "one position at a time": (LENGTHS, "-bptt 1"),
    "no story for the second": ([6], "-bptt 2 -E 1"),
    "a story of one word": ([1], "-bptt 1 -a additive"),
    "more stories asked for than there are": ([20, 1], "-B 64 -bptt 3"),
    "tied, three layers, long alone": ([30, 1, 2, 1], "-tie -H 3 -bptt 4 -a bilinear"),
}
QUICK = (
    "segments that not all have", "one position at a time", "no story for the second",
    "a story of one word",
)


@pytest.mark.parametrize(
    "case",
    [pytest.param(x, marks=[] if x in QUICK else [pytest.mark.thorough], id=x) for x in ALIKE],
)
def test_several_processes_train_what_one_does(launch, folder, command, case):
    lengths, more = ALIKE[case]
    assert lstlm.main([*command("one", lengths), *more.split()]) == 0
    several = [*command("several", lengths), *more.split()]
    assert launch(several, folder / "output", processes=2) == [0, 0]
    check_alike(folder, "several", "one")
    check_files(folder)
    told = [(folder / f"output.{rank}").read_text() for rank in range(2)]
    assert [text.count("best valid loss") for text in told] == [1, 0]


def test_a_gradient_that_is_no_number_in_one_process_skips_the_step_in_both(
    launch, folder, command
):
    """Loss number 4 of the second process: both leave out the rest of that minibatch."""
    output = folder / "output"
    status = launch(command("m"), output, processes=2, poisoned=[1, 4, 4])
    assert status == [0, 0]
    told = (folder / "output.0").read_text()
    assert told.count("step skipped (1 so far)") == 1
    assert "step skipped (2 so far)" not in told
    assert "step skipped (1 so far)" in (folder / "output.1").read_text()
    assert all(math.isfinite(loss) for loss in losses(folder / "m.pt"))


def test_too_many_skipped_steps_end_both(launch, folder, command):
    """Of the second process no loss is a number, from the second minibatch on."""
    argv = [*command("m"), "-E", "3", "-bptt", "500", "-valid_every", "100"]
    status = launch(argv, folder / "output", processes=2, poisoned=[1, 2, 1000])
    assert status == [2, 2]
    for rank in range(2):
        assert "5 steps in a row" in (folder / f"output.{rank}").read_text()


def test_killed_and_resumed_in_two_processes(launch, folder, command):
    """Without dropout a resumed training is equal to the bit there, too."""
    output = folder / "output"
    assert launch(command("whole"), output, processes=2) == [0, 0]
    status = launch(command("m"), output, processes=2, fatal=["step", "after", 5])
    assert status[0] == -signal.SIGKILL
    assert launch([*command("m"), "-resume"], output, processes=2) == [0, 0]
    assert "going on after step 4" in (folder / "output.0").read_text()
    check_equal(folder, "m")


@pytest.mark.parametrize("ranks", [[0, 1], [1], pytest.param([0], marks=pytest.mark.thorough)])
def test_stopped_in_the_valid_loss_of_two_processes_and_resumed(launch, folder, command, ranks):
    """Each that got the signal leaves off, the other when it has done its share."""
    output = folder / "output"
    assert launch(command("whole"), output, processes=2) == [0, 0]
    status = launch(command("m"), output, processes=2, stopped=[2, *ranks])
    assert status == [128 + signal.SIGTERM] * 2
    assert "stopped and saved" in (folder / "output.0").read_text()
    assert content_of(folder / "m.state.pt")["numbers"]["step"] == 3
    assert launch([*command("m"), "-resume"], output, processes=2) == [0, 0]
    check_equal(folder, "m")


@pytest.mark.parametrize("kill", [2, 9, pytest.param(5, marks=pytest.mark.thorough)])
def test_killed_between_segments_and_resumed_in_two_processes(launch, folder, command, kill):
    """The state has what the stories of both processes carry from segment to segment."""
    output = folder / "output"
    often = {"processes": 2, "save_seconds": 0}  # a state after each segment
    argv = [*command("m"), "-bptt", "2"]
    assert launch([*command("whole"), "-bptt", "2"], output, processes=2) == [0, 0]
    status = launch(argv, output, fatal=["keep", "after", kill], **often)
    assert status[0] == -signal.SIGKILL
    state = content_of(folder / "m.state.prev.pt")
    assert state["numbers"]["part"] > 0
    (folder / "m.state.prev.pt").rename(folder / "m.state.pt")
    assert launch([*argv, "-resume"], output, processes=2) == [0, 0]
    assert "segments into the next" in (folder / "output.0").read_text()
    check_equal(folder, "m")


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("moment", [["step", "before", 4], ["step", "after", 5]], ids=str)
def test_the_survivor_of_two_ends_in_one_line_with_its_state_valid(
    launch, folder, command, victim, moment
):
    output = folder / "output"
    assert launch(command("whole"), output, processes=2) == [0, 0]
    started = time.perf_counter()
    argv = command("m")
    status = launch(argv, output, processes=2, fatal=moment, victim=victim)
    assert time.perf_counter() - started < 60
    assert (status[victim], status[1 - victim]) == (-signal.SIGKILL, 1)
    told = (folder / f"output.{1 - victim}").read_text()
    errors = [line for line in told.splitlines() if line.startswith("lstlm.py: ")]
    assert len(errors) == 1 and "Traceback" not in told, told
    assert errors[0].startswith("lstlm.py: error: another process has ended or cannot be reached (")
    assert launch([*argv, "-resume"], output, processes=2) == [0, 0]
    check_equal(folder, "m")


def test_a_process_that_ends_for_an_error_of_its_own_does_not_leave_the_other_waiting(
    launch, folder, command
):
    """The first one alone looks at whether the model can be written."""
    (folder / "m.log.jsonl").mkdir()
    output = folder / "output"
    assert launch(command("m"), output, processes=2) == [2, 1]
    assert "m.log.jsonl is there and no regular file" in (folder / "output.0").read_text()
    told = (folder / "output.1").read_text()
    assert "another process has ended" in told and "Traceback" not in told


def test_a_name_that_another_has_is_refused_to_all_of_several(launch, folder, command):
    argv = command("m")
    before = sorted(path.name for path in folder.iterdir())
    with held(folder / "m.pt") as holder:
        started = time.perf_counter()
        assert launch(argv, folder / "output", processes=2) == [2, 2]
        assert time.perf_counter() - started < 5
    first, second = ((folder / f"output.{rank}").read_text() for rank in range(2))
    assert f"m.pt: process {holder} works on it (.m.lock)" in first
    assert "m.pt: not for the first process, which says why" in second
    for told in (first, second):
        assert told.count("lstlm.py: error: ") == 1 and "vocabulary" not in told
    assert sorted(path.name for path in folder.glob("[!o]*")) == before


def test_one_of_several_processes_writes_the_trace(launch, folder, command):
    trace = folder / "trace"
    argv = [*command("m"), "-json", "-trace", str(trace)]
    assert launch(argv, folder / "output", processes=2) == [0, 0]
    assert trace.read_text().count("$ python lstlm.py -train") == 1
    records = [line for line in trace.read_text().splitlines() if line.startswith("{")]
    assert len(records) == 4
    assert '"mode"' not in (folder / "output.1").read_text()


@pytest.mark.parametrize("failures", [0, 1])
def test_a_process_hears_whether_the_first_one_could_save(monkeypatch, failures):
    def sum_over_both(failed: bool) -> list[int]:
        return [failed + failures]

    monkeypatch.setattr(backstage.bookkeeping, "sum_over_processes", sum_over_both)
    second = SimpleNamespace(
        args=SimpleNamespace(model=None), facts={}, first=False, epoch=3, step=9, best=math.inf,
        best_epoch=0, surviving=lambda path: contextlib.nullcontext(),
    )
    assert lstlm.Run.save_best(second, 1.5) == (not failures)
    assert (second.best, second.best_epoch) == (math.inf if failures else 1.5, 3)
