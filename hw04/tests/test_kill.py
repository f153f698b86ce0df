"""kill -9 at any moment of a training loses nothing that was saved, and the resumed run ends like the undisturbed one.

Each run is killed again and again, at a random time or at a chosen moment: in a step, or before, in or after a write,
an fsync, a replacement or a removal of a file. Killed processes do not show what a power cut does to a disk.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import lstlm
import pytest
import torch
from test_resume import flags, folder  # noqa: F401 - folder is a fixture

# A training has at least so many moments of each kind. How many depends on its losses: a model is written, and so
# synchronised and put in its place, only when the valid loss is the best yet.
SIDES = {"step": 12, "write": 19, "fsync": 8, "folder fsync": 8, "keep": 3, "replace": 8, "unlink": 8}


@pytest.fixture(scope="module")
def launch():
    """A function that trains with the given flags in a new process, saving every 2 steps; returns its exit status."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(lstlm.__file__).parent)}
    driver = [sys.executable, Path(__file__).with_name("killing.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(driver, env=environment, **pipes) as process:

        def run(argv: list[str], output: Path, fatal: list | None = None, **more) -> int:
            request = {"argv": argv, "output": str(output), "save_steps": 2, "fatal": fatal, **more}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield run
        process.stdin.close()


def outcome(model: Path):
    """The weights, and the log of the last start without its times."""
    records = [json.loads(line) for line in model.with_suffix(".log.jsonl").read_text().splitlines()]
    start = max(i for i, record in enumerate(records) if record.get("event") == "start")
    kept = [{k: v for k, v in r.items() if k not in ("tokens_per_s", "seconds")} for r in records[start:]]
    return lstlm.read_checked(model, lstlm.MODEL, "missing")["weights"], kept


class Chain:
    """A run that is killed and resumed until it ends, and what must be true after each kill."""

    def __init__(self, launch, model: Path):
        self.launch, self.model = launch, model
        self.states = [lstlm.side_file(model, ending) for ending in (".state.pt", ".state.prev.pt")]
        self.saved, self.step, self.kills = False, 0, 0

    def go_on(self, argv: list[str], **how) -> bool:
        """Start or resume the run, to be killed as told; whether it has ended. Checks the files."""
        resumed = ["-resume"] if any(path.exists() for path in self.states) else []
        output = self.model.with_suffix(".output")
        status = self.launch([*argv, *resumed], output, **how)
        assert status in (0, -9), output.read_text()
        assert "Traceback" not in output.read_text()
        self.kills += status != 0
        self.saved |= self.model.exists()
        if self.saved:
            lstlm.read_checked(self.model, lstlm.MODEL, "lost")
        generations = [lstlm.read_checked(path, lstlm.STATE, "") for path in self.states if path.exists()]
        steps = [state["numbers"]["step"] for state in generations]
        assert steps == sorted(steps, reverse=True)
        if steps:
            assert steps[0] >= self.step
            self.step = steps[0]
        return status == 0 or (self.step > 0 and not steps)  # killed after it had removed its states, it has ended


def moment(generator: random.Random, seconds: float) -> dict:
    """A random time, or a random moment among the first third of its kind, so that a run is killed several times."""
    if generator.random() < 0.3:
        return {"delay": generator.uniform(0, seconds)}
    kind = generator.choice(list(SIDES))
    return {"fatal": [kind, generator.choice(["before", "after"]), generator.randint(1, 1 + SIDES[kind] // 3)]}


def kill_and_resume(launch, folder, kills: int) -> None:  # noqa: F811
    """As many kills as told, over as many runs as that takes; each run ends like the undisturbed one."""
    started = time.perf_counter()
    assert launch(flags(folder, "whole"), folder / "output") == 0
    seconds = time.perf_counter() - started
    expected, expected_log = outcome(folder / "whole.pt")
    generator, done = random.Random(0), 0
    while done < kills:
        model = folder / f"run{done}.pt"
        chain = Chain(launch, model)
        ended = False
        while not ended:
            how = moment(generator, seconds) if done + chain.kills < kills else {}
            ended = chain.go_on(flags(folder, model.stem), **how)
        weights, log = outcome(model)
        assert log == expected_log
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        assert not list(folder.glob(f".{model.stem}.*"))
        assert not any(path.exists() for path in chain.states)
        done += chain.kills
    assert done == kills


def test_eight_kills(launch, folder):  # noqa: F811
    kill_and_resume(launch, folder, 8)


@pytest.mark.slow
def test_two_hundred_kills(launch, folder):  # noqa: F811
    kill_and_resume(launch, folder, 200)


def kinds_of(moments: dict[str, int]) -> set[str]:
    """The kinds in the counts that killing.py prints."""
    return {name.rsplit(" ", 1)[0] for name in moments}


def test_the_moments_are_those_that_a_training_has(launch, folder):  # noqa: F811
    assert launch(flags(folder, "whole"), folder / "output") == 0
    counts = json.loads((folder / "output").read_text().splitlines()[-1])
    assert kinds_of(counts) == set(SIDES)
    assert counts["step before"] == 12
    assert all(counts[f"{kind} before"] >= count for kind, count in SIDES.items()), counts
