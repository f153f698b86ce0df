"""Training by several processes: the result of one, one writer, and a signal that stops them all."""

import contextlib
import json
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

import lstlm
import pytest
import torch

PROGRAM = Path(lstlm.__file__)
LENGTHS = [3, 9, 1, 14, 2, 2, 7, 5, 11, 1, 6]  # the last minibatch of 4 has 3 stories; pieces of 5 leave some without


@pytest.fixture
def flags(tmp_path):
    """A command that trains for 6 steps on ragged stories, with attention and pieces."""
    words = list("abcdefgh")
    stories = [[words[(3 * i + j * j) % 8] for j in range(n)] for i, n in enumerate(LENGTHS)]
    (tmp_path / "corpus").write_text("".join(" ".join(story) + "\n" for story in stories))
    corpus = str(tmp_path / "corpus")
    return ["-train", "-train_corpus", corpus, "-valid_corpus", corpus, "-H", "2", "-N", "8", "-EDim", "5", "-E", "2",
            "-B", "4", "-a", "-bptt", "5", "-precision", "fp32", "-valid_every", "2", "-lr", "0.01"]


def torchrun(flags: list[str], model: Path, **more) -> subprocess.Popen:
    """Start two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(PROGRAM)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *flags, "-model", str(model)], env=environment, **pipes, **more)


def losses(model: Path) -> list[float]:
    """The train and valid losses in the log of a run."""
    records = map(json.loads, model.with_suffix(".log.jsonl").read_text().splitlines())
    return [record[key] for record in records if record.get("mode") == "train" for key in ("train_nats", "valid_nats")]


@pytest.mark.parametrize("bptt", ["5", "500"])  # the second story may be shorter than a piece
def test_two_processes_train_what_one_does(flags, tmp_path, bptt):
    flags = [*flags, "-bptt", bptt]
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    assert lstlm.main([*flags, "-model", str(one)]) == 0
    process = torchrun(flags, two)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("best valid loss") == out.count("vocabulary:") == 1  # only the first one speaks
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert len(losses(two)) == 2 * 4
    weights, expected = (torch.load(path, weights_only=True)["weights"] for path in (two, one))
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-3, atol=1e-4)
    assert {path.name for path in tmp_path.iterdir()} >= {"two.pt", "two.log.jsonl"}
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp" or ".state" in path.name]


def test_a_signal_to_one_of_two_stops_both_with_the_state_saved(flags, tmp_path):
    model = tmp_path / "m.pt"
    process = torchrun([*flags, "-E", "1000000"], model, start_new_session=True)
    log = tmp_path / "m.log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 3):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "stopped and saved" in err
    state = torch.load(tmp_path / "m.state.pt", weights_only=True)
    assert state["numbers"]["step"] > 3


def test_a_model_that_the_first_process_cannot_save_is_the_best_of_none(flags, tmp_path):
    full = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, 4096))  # as a full disk: no model fits into that
    process = torchrun([*flags, "-E", "4", "-patience", "1"], tmp_path / "m.pt", preexec_fn=full)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert err.count("lstlm.py: error:") == err.count("m.pt: the best model could not be saved") == 1, err
    assert "go on from the last state" not in err  # there is none
    assert "stopped early" not in err + out  # each epoch was better than those before
    assert "epoch 4, step" in err + out


@pytest.mark.parametrize("failures", [0, 1])
def test_a_process_hears_whether_the_first_one_could_save(monkeypatch, failures):
    monkeypatch.setattr(lstlm, "over_processes", lambda failed: [failed + failures])  # the sum over both
    second = SimpleNamespace(args=SimpleNamespace(model=None), facts={}, first=False, epoch=3, step=9, best=math.inf,
                             best_epoch=0, surviving=lambda path: contextlib.nullcontext())
    assert lstlm.Run.save_best(second, 1.5) == (not failures)
    assert (second.best, second.best_epoch) == (math.inf if failures else 1.5, 3)
