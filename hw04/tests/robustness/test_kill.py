"""`kill -9` at any moment loses nothing that was saved; the resumed run ends as the undisturbed.

Each run is killed again and again, at a random time or at a chosen moment: in a step, or before, in
or after a write, an fsync, a replacement or a removal of a file. Killed processes do not show what
a power cut does to a disk.
"""

import json
import random
import time
from pathlib import Path

import lstlm
import pytest
from backstage.files import lock_file, side_file
from backstage.lock import exclusive
from backstage.run_state import STATE_KIND
from backstage.sealed import read_sealed
from stopping import equal_weights, flags, read_log, without_times

# A training has at least so many moments of each kind. How many depends on its losses: a model is
# written, and so synchronised and put in its place, only when the valid loss is the best yet.
SIDES = {
    "step": 12, "write": 19, "fsync": 8, "folder fsync": 8, "keep": 3, "replace": 8, "unlink": 8,
}


def outcome(model: Path) -> tuple[dict, list[dict]]:
    """The weights, and the log of the last start without its times."""
    records = read_log(model)
    start = max(i for i, record in enumerate(records) if record.get("event") == "start")
    weights = read_sealed(model, lstlm.LSTMLM.KIND, "missing")["weights"]
    return weights, without_times(records[start:])


class Chain:
    """A run that is killed and resumed until it ends, and what must be true after each kill."""

    def __init__(self, launch, model: Path):
        self.launch = launch
        self.model = model
        self.states = [side_file(model, ending) for ending in (".state.pt", ".state.prev.pt")]
        self.saved = False
        self.step = 0
        self.kills = 0
        self.killed = False  # whether the last of its processes was

    def go_on(self, argv: list[str], **how) -> bool:
        """Start or resume the run, to be killed as told; whether it has ended. Checks the files."""
        resumed = ["-resume"] if any(path.exists() for path in self.states) else []
        output = self.model.with_suffix(".output")
        status = self.launch([*argv, *resumed], output, **how)
        assert status in (0, -9), output.read_text()
        assert "Traceback" not in output.read_text()
        self.killed = status != 0
        self.kills += self.killed
        self.saved |= self.model.exists()
        if self.saved:
            read_sealed(self.model, lstlm.LSTMLM.KIND, "lost")
        there = [path for path in self.states if path.exists()]
        steps = [read_sealed(path, STATE_KIND, "")["numbers"]["step"] for path in there]
        assert steps == sorted(steps, reverse=True)
        if steps:
            assert steps[0] >= self.step
            self.step = steps[0]
        # Killed after it had removed its states, it has ended, too.
        return status == 0 or (self.step > 0 and not steps)


def moment(generator: random.Random, seconds: float) -> dict:
    """A random time, or a random moment among the first third of its kind.

    So that a run is killed several times.
    """
    if generator.random() < 0.3:
        return {"delay": generator.uniform(0, seconds)}
    kind = generator.choice(list(SIDES))
    side = generator.choice(["before", "after"])
    return {"fatal": [kind, side, generator.randint(1, 1 + SIDES[kind] // 3)]}


def check_hidden_files(model: Path, killed: bool) -> None:
    """Nothing hidden is left beside a model but, if its last process was killed, a free lock."""
    left = set(model.parent.glob(f".{model.stem}.*"))
    if killed:
        with exclusive(model, "wait", seconds=0):
            left.discard(lock_file(model))
    assert not left


def kill_and_resume(launch, folder: Path, kills: int) -> None:
    """As many kills as told, over as many runs as that takes, which end like the undisturbed."""
    started = time.perf_counter()
    assert launch(flags(folder, "whole"), folder / "output") == 0
    seconds = time.perf_counter() - started
    expected, expected_log = outcome(folder / "whole.pt")
    generator = random.Random(0)
    done = 0
    while done < kills:
        model = folder / f"run{done}.pt"
        chain = Chain(launch, model)
        ended = False
        while not ended:
            how = moment(generator, seconds) if done + chain.kills < kills else {}
            ended = chain.go_on(flags(folder, model.stem), **how)
        weights, log = outcome(model)
        assert log == expected_log
        assert equal_weights(weights, expected)
        check_hidden_files(model, chain.killed)
        assert not any(path.exists() for path in chain.states)
        done += chain.kills
    assert done == kills


def test_eight_kills(launch, folder):
    kill_and_resume(launch, folder, 8)


@pytest.mark.slow
def test_two_hundred_kills(launch, folder):
    kill_and_resume(launch, folder, 200)


def kinds_of(moments: dict[str, int]) -> set[str]:
    """The kinds in the counts that killing.py prints."""
    return {name.rsplit(" ", 1)[0] for name in moments}


def test_the_moments_are_those_that_a_training_has(launch, folder):
    assert launch(flags(folder, "whole"), folder / "output") == 0
    counts = json.loads((folder / "output").read_text().splitlines()[-1])
    assert kinds_of(counts) == set(SIDES)
    assert counts["step before"] == counts["step after"] == 12
    enough = {kind: counts[f"{kind} before"] >= count for kind, count in SIDES.items()}
    assert all(enough.values()), counts
