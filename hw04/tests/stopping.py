"""Small trainings that tests stop, kill and resume, and what comes of them."""

import itertools
import json
import signal
from collections.abc import Callable
from pathlib import Path

import backstage.run
import torch
from small import content_of

STEPS = 12  # of the command that `flags` gives


def write_corpus(path: Path) -> None:
    """Write 16 short stories: 4 minibatches of 4. Each has a word that comes once."""
    words = list("abcdefgh")
    lines = []
    for i in range(16):
        story = [words[(3 * i + i * i * j) % 8] for j in range(2 + i % 7)]
        lines.append(" ".join([*story, f"once{i}"]) + "\n")
    path.write_text("".join(lines))


def flags(folder: Path, name: str) -> list[str]:
    """A command of 12 steps with everything on that is random, or carried over segments, or moves.

    It is for the `corpus` in the folder, and the model is called `name`.
    """
    corpus = str(folder / "corpus")
    text = (
        "-H 2 -N 8 -EDim 6 -E 3 -B 4 -a additive -dropout 0.3 -locked -bptt 3 -precision bf16 "
        "-valid_every 3 -lr 0.05 -emb_lr 0.02 -weight_decay 0.1 -schedule cosine -tie -positions"
    )
    corpora = ["-train_corpus", corpus, "-valid_corpus", corpus]
    return ["-train", *corpora, *text.split(), "-model", str(folder / f"{name}.pt")]


def read_log(model: Path) -> list[dict]:
    """The records in the log of a model."""
    return [json.loads(line) for line in model.with_suffix(".log.jsonl").read_text().splitlines()]


def without_times(records: list[dict]) -> list[dict]:
    """Records of a log without what the clock says."""
    times = ("tokens_per_s", "seconds")
    return [{key: x for key, x in record.items() if key not in times} for record in records]


def read_weights(model: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint."""
    return content_of(model)["weights"]


def equal_weights(weights: dict, expected: dict) -> bool:
    """Whether two sets of weights are equal to the bit."""
    same_names = weights.keys() == expected.keys()
    return same_names and all(torch.equal(weights[name], expected[name]) for name in expected)


def check_equal(folder: Path, name: str, whole: str = "whole") -> None:
    """The run of that name ended like the run `whole`, to the bit: its weights and its log."""
    model = folder / f"{name}.pt"
    expected = folder / f"{whole}.pt"
    assert without_times(read_log(model)) == without_times(read_log(expected))
    assert equal_weights(read_weights(model), read_weights(expected))
    assert not list(folder.glob(f"{name}.state*"))


def before_steps(monkeypatch, action: Callable[[int], object]) -> None:
    """Call `action` with the number of each step before it: 1, 2, ... from now on.

    A step that a stopped run began, and a resumed one goes on with, is none.
    """
    numbers = itertools.count(1)
    begin = backstage.run.Run.begin_step

    def begin_step(run, parts):
        if not run.part:
            action(next(numbers))
        begin(run, parts)

    monkeypatch.setattr(backstage.run.Run, "begin_step", begin_step)


def stop_at(monkeypatch, step: int) -> None:
    """Let Ctrl-C come during that step, as counted from now on."""

    def press(number: int) -> None:
        if number == step:
            signal.raise_signal(signal.SIGINT)

    before_steps(monkeypatch, press)
