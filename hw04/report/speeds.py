#!/usr/bin/env python3
"""How many tokens a second each training of the stories' tables does, all on one machine.

    python speeds.py -data DIR       # -> results/speeds.json; DIR as for experiments.py; 30 minutes on two cores

The rates that trainings log are of different machines, and of hours when other programs ran. Here each training begins
as `experiments.py run` would begin it, in a process of its own, and is left after some steps to warm up and as many
that are measured. Its minibatches are those of all trainings with the same -B and tokens. `base` comes first and last
in its setting, so that one sees by how much the machine drifted. Nothing else should run.

What results/speeds.json has already is not measured again; on another processor, delete it first.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import experiments
from experiments import PLANS, RESULTS, Experiment, Plan, lstlm, processor, torch, write_json
from tqdm import tqdm

STEPS = {"main": 12, "full": 6, "small": 30}  # to warm up, and as many to measure


class Enough(Exception):
    """Raised in a training when all is measured; its argument is what `measure` returns."""


def measure(plan: Plan, data: Path, build: Path, steps: int) -> dict:
    """The rate of a training's steps (target tokens per second), evaluation and files not among them, and the format.

    To be called in a process of its own. A `base`, little trained, is left in `build`, where a feed-forward model looks
    for its vectors.
    """
    lstlm.set_up_memory()
    experiments.BUILD = build
    warm = {}

    def count(run: lstlm.Run) -> None:  # in place of saving the state, which is due or not after each step
        run.tick()
        if run.step == steps:
            warm.update(tokens=run.tokens, seconds=run.seconds)
        if run.step == 2 * steps:
            if plan.name.endswith("base"):
                run.save_best(0.0)
            rate = (run.tokens - warm["tokens"]) / (run.seconds - warm["seconds"])
            raise Enough({"name": plan.name, "tokens_per_s": round(rate, 1),
                          "precision": run.facts["precision"].removeprefix("torch.")})

    lstlm.Run.save_state_if_due = count
    program = getattr(experiments, plan.program)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:  # with seed 0 whatever the plan's, as that is the one of the `base` here
            status = program.main(Experiment(plan, 0, data).training_flags() + ["-device", "cpu"])
        except Enough as enough:
            return enough.args[0]
    raise SystemExit(f"{plan.name}: exit status {status}, and fewer than {2 * steps} steps")


def measure_all(plans: list[Plan], data: Path) -> list[dict]:
    """The rates of all plans, one after the other."""
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        for plan in tqdm(plans, unit="training"):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                rates.append(process.submit(measure, plan, data, Path(folder), STEPS[plan.group]).result())
            tqdm.write(f"{plan.name}: {rates[-1]['tokens_per_s']:,.0f} tokens/s")
    return rates


def missing(known: set[str]) -> list[Plan]:
    """The plans whose rates are not known, and the `base` of each setting that has some, first and last."""
    plans = []
    for group in STEPS:
        of_group = [plan for plan in PLANS if plan.group == group]
        base = [plan for plan in of_group if plan.name.endswith("base")]
        if new := [plan for plan in of_group if plan.name not in known and plan not in base]:
            plans += [*base, *new, *base]
    return plans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(os.environ.get("LSTLM_DATA", lstlm.DATA)),
                        help="the folder with tiny/, wiki/ and glove.6B/ (default $LSTLM_DATA, else hw04/data)")
    data, store = parser.parse_args().data.resolve(), RESULTS / "speeds.json"
    here = {"processor": processor(), "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
    stored = json.loads(store.read_text()) if store.exists() else {"machine": here, "rates": []}
    if not (plans := missing({row["name"] for row in stored["rates"]})):
        return
    if here != {key: stored["machine"][key] for key in here}:
        parser.error(f"{store}: of another machine, {stored['machine']}; delete it to measure all here")
    write_json(store, {"made by": "hw04/report/speeds.py", "steps": STEPS,
                       "machine": {**here, "date": time.strftime("%Y-%m-%d")},
                       "rates": stored["rates"] + measure_all(plans, data)})


if __name__ == "__main__":
    main()
