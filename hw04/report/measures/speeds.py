#!/usr/bin/env python3
"""How many tokens a second each training of the stories' tables does, all on one machine.

    python speeds.py -data DIR    # -> results/measures/speeds.json; 30 minutes on two cores

DIR is as for experiments.py. The rates that trainings log are of different machines, and of hours
when other programs ran. Here each training begins as `experiments.py run` would begin it, in a
process of its own, and is left after some steps to warm up and as many that are measured. Its
minibatches are those of all trainings with the same -B and tokens. `base`, or of the rows of
rates.py `tied, lstm`, comes first and last in its setting, so that one sees by how much the machine
drifted. Nothing else should run.

What results/measures/speeds.json has already is not measured again; on another processor, delete it
first.
"""

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("speeds.py"):
    import store
    import torch
    from backstage.device import set_up_memory
    from backstage.errors import UserError
    from backstage.parser import Parser
    from backstage.run import Run
    from plans import PLANS, ROWS, Plan
    from runner import Experiment, require_corpora
    from tqdm import tqdm

STEPS = {"main": 12, "full": 6, "small": 30, "rates": 30}  # to warm up, and as many to measure
BASES = ("base", "full, base", ROWS[0].name)  # of their settings


class Enough(Exception):
    """Raised in a training when all is measured; its argument is what `measure` returns."""


class TimedRun(Run):
    """A training that is left after `warm_up` steps and as many that are measured.

    The state is not saved in between. A `base`, little trained, is saved in the end, as a
    feed-forward model needs its vectors.
    """

    warm_up: int
    is_base: bool

    def end_step(self, batch: list[int]) -> None:
        """As the parent's, then measure."""
        super().end_step(batch)
        self.tick()
        if self.step == self.warm_up:
            self.warm = self.tokens, self.seconds
        if self.step < 2 * self.warm_up:
            return
        if self.is_base:
            self.save_best(0.0)
        tokens, seconds = self.warm
        rate = (self.tokens - tokens) / (self.seconds - seconds)
        precision = self.facts["precision"].removeprefix("torch.")
        raise Enough({"tokens_per_s": round(rate, 1), "precision": precision})

    def save_state_if_due(self, *_) -> None:
        """Not at all."""


def measure(plan: Plan, data: Path, build: Path, steps: int) -> dict:
    """The rate of a training's steps, in target tokens per second, and the format of its products.

    Evaluation and files are not in it. To be called in a process of its own; `build` is the folder
    of the models.
    """
    set_up_memory()
    # With seed 0 whatever the plan's, as that is the one of the `base` here.
    experiment = Experiment(plan, 0, data, build)
    settings = {"warm_up": steps, "is_base": plan.name in BASES}
    run_class = type("PlannedRun", (TimedRun,), settings)
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        args = experiment.program.parse_args([*experiment.training_flags(), "-device", "cpu"])
        args.out = nowhere
        try:
            experiment.program.train(args, run_class=run_class)
        except Enough as enough:
            return {"name": plan.name, **enough.args[0]}
    raise UserError(f"{plan.name}: fewer than {2 * steps} steps; give a larger corpus")


def measure_all(plans: list[Plan], data: Path) -> list[dict]:
    """The rates of all plans, one after the other."""
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        for plan in tqdm(plans, unit="training"):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                asked = process.submit(measure, plan, data, Path(folder), STEPS[plan.group])
                rates.append(asked.result())
            tqdm.write(f"{plan.name}: {rates[-1]['tokens_per_s']:,.0f} tokens/s")
    return rates


def missing(known: set[str]) -> list[Plan]:
    """The plans whose rates are not known, and the `base` of their setting first and last."""
    plans = []
    for group in STEPS:
        of_group = [plan for plan in (*PLANS, *ROWS) if plan.group == group]
        base = [plan for plan in of_group if plan.name in BASES]
        new = [plan for plan in of_group if plan.name not in known and plan not in base]
        if new:
            plans += [*base, *new, *base]
    return plans


def carry_out(argv: list[str] | None) -> None:
    """Measure what is missing, and write it."""
    parser = Parser("speeds.py", __doc__)
    store.add_data_flag(parser.add_argument)
    data = parser.parse_args(argv).data.resolve()
    path = store.RESULTS / "measures" / "speeds.json"
    here = {
        "processor": store.processor(), "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
    stored = {"machine": here, "rates": []}
    if path.exists():
        stored = store.read_json(path)
    plans = missing({row["name"] for row in stored["rates"]})
    if not plans:
        print(f"{path}: has the rates of all trainings; to measure them again, delete it")
        return
    there = stored["machine"]
    if here != {key: there[key] for key in here}:
        raise UserError(f"{path}: of another machine, {there}; delete it to measure all here")
    require_corpora([Experiment(plan, 0, data) for plan in plans])
    rates = stored["rates"] + measure_all(plans, data)
    store.write_json(path, {
        "made by": "hw04/report/measures/speeds.py", "steps": STEPS,
        "machine": {**here, "date": time.strftime("%Y-%m-%d")}, "rates": rates,
    })


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for what the user can mend."""
    return guarded("speeds.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
