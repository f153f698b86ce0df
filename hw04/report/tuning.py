#!/usr/bin/env python3
"""The search for good settings, with Optuna: `experiments.py tune lstm` and `experiments.py tune feed-forward`.

    python tuning.py lstm -data DIR                  # goes on until 24 trials are finished
    python tuning.py lstm -trials 40 -jobs 2         # or start the same command twice: processes share the search

A trial trains on the first 3,000 stories and is judged by its best valid loss. One that does worse than the median of
the others after as many quarters of an epoch is pruned, and one with more parameters than the run "base" is not begun.
The search is kept in build/experiments/tune.db, an SQLite file: Ctrl-C stops and drops the trial that it cuts off, and
the same command goes on with others; the trial of a process that was killed is done anew. results/tune-NAME.json has
all trials, and the best one's perplexity on the test corpus, which no choice has seen.
"""

import argparse
import contextlib
import json
import math
import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import experiments
import torch
from experiments import CUT, Experiment, Plan, write_json

PARAMETERS = 2_321_999  # of the run "base"
REPORTS = 4  # looks at the valid loss in each epoch, whatever -B


def lstm_flags(trial) -> str:
    """One point of the search for the LSTM."""
    choose = trial.suggest_categorical
    flags = (f"-VSize 4000 -H {trial.suggest_int('H', 1, 3)} -N {trial.suggest_int('N', 96, 384, step=32)} "
             f"-EDim {trial.suggest_int('EDim', 32, 256, step=32)} -B {choose('B', (4, 8, 16, 32))} "
             f"-lr {trial.suggest_float('lr', 5e-4, 2e-2, log=True):.4g} "
             f"-dropout {trial.suggest_float('dropout', 0, 0.4, step=0.1):.1g} -E {trial.suggest_int('E', 1, 3)}")
    return flags + " -tie" * choose("tie", (False, True))


def feed_forward_flags(trial) -> str:
    """One point of the search for the feed-forward model, which has the vectors of the run "base"."""
    return (f"-lstm BASE -K {trial.suggest_int('K', 2, 10)} -H {trial.suggest_int('H', 1, 3)} "
            f"-N {trial.suggest_int('N', 128, 512, step=64)} -B {trial.suggest_categorical('B', (4, 8, 16, 32))} "
            f"-lr {trial.suggest_float('lr', 5e-4, 2e-2, log=True):.4g} -E {trial.suggest_int('E', 1, 3)}")


SEARCHES = {"lstm": ("lstlm", lstm_flags), "feed-forward": ("fflm", feed_forward_flags)}


def reports(command: list[str], threads: int):
    """Run a training; yields its number of parameters, then step and valid loss of each report. Kills it if closed."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # the number of parameters is no JSON
    with subprocess.Popen(command, env=environment, text=True, **both) as process:
        try:
            for line in process.stdout:
                if found := re.search(r'\{"mode.*\}$', line):
                    record = json.loads(found[0])
                    yield record["step"], math.inf if record["valid_nats"] is None else record["valid_nats"]
                elif found := re.search(r"([\d,]+) parameters", line):
                    yield int(found[1].replace(",", ""))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {' '.join(command)}")


def objective(trial, name: str, data: Path, threads: int) -> float:
    """The best valid loss (nats per token) of a trial. Raises TrialPruned for one that is not worth its time."""
    import optuna

    program, flags_of = SEARCHES[name]
    experiment = experiment_of(name, trial.number, data, flags_of(trial))
    experiment.train_base(threads)
    remove(experiment)  # what a trial of the same number left, if the search was begun anew
    stories = sum(1 for _ in experiment.corpus("train", CUT[0]).open())
    steps = -(-stories // trial.params["B"])  # of an epoch
    command = [sys.executable, str(experiments.REPORT.parent / "code" / f"{program}.py"), *experiment.training_flags(),
               "-json", "-valid_every", str(-(-steps // REPORTS)), "-patience", "1"]
    losses, quarters = [], 0
    with contextlib.closing(reports(command, threads)) as figures:
        for figure in figures:
            if isinstance(figure, int):
                trial.set_user_attr("parameters", figure)
                if figure > PARAMETERS:
                    raise optuna.TrialPruned
                continue
            step, loss = figure
            losses.append(loss)
            if (now := round(REPORTS * step / steps)) > quarters:  # an epoch's end may come a step before the next look
                trial.report(loss, quarters := now)
                if trial.should_prune():
                    raise optuna.TrialPruned
    return min(losses)


def experiment_of(name: str, number: int, data: Path, flags: str = "") -> Experiment:
    """A trial as an experiment, whose model is build/experiments/tune-NAME-NUMBER.0.pt; `flags` train it."""
    plan = Plan("tune", f"tune {name} {number}", flags, 3, stories=CUT, program=SEARCHES[name][0])
    return Experiment(plan, 0, data)


def remove(experiment: Experiment) -> None:
    """Remove a trial's model, log and state."""
    for path in experiment.model.parent.glob(f"{experiment.model.stem}.*"):
        path.unlink()


def open_study(name: str):
    """The study of that name in build/experiments/tune.db, with trials whose process has died handed out again."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise SystemExit("tuning.py: error: no optuna; pip install -r requirements-dev.txt") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the heartbeat is: nothing to tell a user
    experiments.BUILD.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{experiments.BUILD / 'tune.db'}", heartbeat_interval=30,
                                         heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback())
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True,
                                pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1))
    # The same seed again would draw again what a search that goes on, or another of its processes, has tried.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    return study


def finished(study) -> list:
    """The trials that are over, pruned ones among them."""
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def search(name: str, data: Path, trials: int, jobs: int) -> dict:
    """Go on with a search until it has so many trials; returns and stores what all of them gave."""
    from optuna.study import MaxTrialsCallback
    from optuna.trial import TrialState

    study, threads = open_study(name), max(1, torch.get_num_threads() // jobs)

    def tell(study, trial) -> None:
        value = f"{trial.value:.4f} nats" if trial.state.name == "COMPLETE" else trial.state.name.lower()
        print(time.strftime("%H:%M"), f"{name} {trial.number}: {value}", trial.params, flush=True)
        if trial.state.name != "COMPLETE":
            remove(experiment_of(name, trial.number, data))
        store(name, study, data)

    if len(finished(study)) < trials:
        enough = MaxTrialsCallback(trials, states=(TrialState.COMPLETE, TrialState.PRUNED))
        study.optimize(lambda trial: objective(trial, name, data, threads), n_jobs=jobs, callbacks=[tell, enough])
    return store(name, study, data, test=True)


def store(name: str, study, data: Path, test: bool = False) -> dict:
    """Write results/tune-NAME.json; with `test`, the best trial's model is measured on the test corpus."""
    rows = [{"number": trial.number, "state": trial.state.name.lower(), "flags": trial.params,
             "parameters": trial.user_attrs.get("parameters"),
             "valid_nats": trial.value if trial.state.name == "COMPLETE" else None,
             "minutes": round(trial.duration.total_seconds() / 60, 2)} for trial in finished(study)]
    record = {"name": name, "machine": {"processor": experiments.processor(), "torch": torch.__version__,
                                        "date": time.strftime("%Y-%m-%d")}, "trials": rows}
    done = [row for row in rows if row["valid_nats"] is not None]
    if test and done:
        best = min(done, key=lambda row: row["valid_nats"])
        figures = experiment_of(name, best["number"], data).evaluate(torch.get_num_threads())
        record["best"] = {**best, "test": {key: figures[key] for key in experiments.MEASURES}}
    write_json(experiments.RESULTS / f"tune-{name}.json", record)
    return record


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SEARCHES)
    parser.add_argument("-data", type=Path, default=Path(os.environ.get("LSTLM_DATA", experiments.lstlm.DATA)),
                        help="the folder with tiny/ (default $LSTLM_DATA, else hw04/data)")
    parser.add_argument("-trials", type=int, default=24, help="that the search has in the end (default 24)")
    parser.add_argument("-jobs", type=int, default=1, help="trials at a time (default 1)")
    args = parser.parse_args(argv)
    best = search(args.name, args.data, args.trials, args.jobs).get("best")
    if best:
        print(f"best: {best['valid_nats']:.4f} nats, test perplexity {best['test']['ppl']:.2f}, {best['flags']}")


if __name__ == "__main__":
    main()
