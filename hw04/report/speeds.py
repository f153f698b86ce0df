#!/usr/bin/env python3
"""How many tokens a second each training of the report's full and small settings does, all on one machine.

    python speeds.py -data DIR       # -> results/speeds.json; DIR as for experiments.py; 25 minutes on two cores

The rates that trainings log are of different machines, and of hours when other programs ran. Here each training begins
as `experiments.py run` would begin it, in a process of its own, and is left after some steps to warm up and as many
that are measured. Its minibatches are those of all trainings with the same -B and tokens. `base` comes once more at the
end of its setting, so that one sees by how much the machine drifted. Nothing else should run.
"""

import argparse
import contextlib
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import experiments
from experiments import PLANS, RESULTS, Experiment, Plan, lstlm, processor, torch, write_json
from tqdm import tqdm

STEPS = {"full": 6, "small": 30}  # to warm up, and as many to measure


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
        try:
            status = program.main(Experiment(plan, plan.seeds[0], data).training_flags() + ["-device", "cpu"])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(os.environ.get("LSTLM_DATA", lstlm.DATA)),
                        help="the folder with tiny/, wiki/ and glove.6B/ (default $LSTLM_DATA, else hw04/data)")
    data = parser.parse_args().data.resolve()
    groups = [[plan for plan in PLANS if plan.group == group] for group in STEPS]
    plans = [plan for group in groups for plan in [*group, next(p for p in group if p.name.endswith("base"))]]
    write_json(RESULTS / "speeds.json", {
        "made by": "hw04/report/speeds.py", "steps": STEPS, "rates": measure_all(plans, data),
        "machine": {"processor": processor(), "threads": torch.get_num_threads(), "torch": str(torch.__version__),
                    "date": time.strftime("%Y-%m-%d")}})


if __name__ == "__main__":
    main()
