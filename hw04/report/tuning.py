#!/usr/bin/env python3
"""The search for good settings, with Optuna: `experiments.py tune lstm` (or `feed-forward`).

    python tuning.py lstm -data DIR           # goes on until 24 trials are finished
    python tuning.py lstm -trials 40 -jobs 2  # or start the same command twice: they share it

A trial trains on the first 3,000 stories and is judged by its best valid loss. One that does worse
than the median of the others after as many quarters of an epoch is pruned, and one with more
parameters than the run "base" is not begun. The search is kept in build/experiments/tune.db, an
SQLite file: Ctrl-C stops and drops the trial that it cuts off, and the same command goes on with
others; the trial of a process that was killed is done anew. results/searches/NAME.json has all
trials, and the best one's perplexity on the test corpus, which no choice has seen.
"""

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("tuning.py"):
    import store
    import torch
    from backstage.errors import UserError
    from backstage.lock import exclusive
    from backstage.parser import Parser, positive
    from plans import CUT, Plan
    from runner import LATER, Experiment, require_corpora

PARAMETERS = 2_321_999  # of the run "base"
REPORTS = 4  # looks at the valid loss in each epoch, whatever -B


def lstm_flags(trial) -> str:
    """One point of the search for the LSTM."""
    whole = trial.suggest_int
    real = trial.suggest_float
    choose = trial.suggest_categorical
    flags = [
        f"-VSize 4000 -H {whole('H', 1, 3)} -N {whole('N', 96, 384, step=32)}",
        f"-EDim {whole('EDim', 32, 256, step=32)} -B {choose('B', (4, 8, 16, 32))}",
        f"-lr {real('lr', 5e-4, 2e-2, log=True):.4g}",
        f"-dropout {real('dropout', 0, 0.4, step=0.1):.1g} -E {whole('E', 1, 3)}",
    ]
    if choose("tie", (False, True)):
        flags.append("-tie")
    return " ".join(flags)


def feed_forward_flags(trial) -> str:
    """One point of the search for the feed-forward model with the vectors of the run "base"."""
    whole = trial.suggest_int
    flags = [
        f"-lstm BASE -K {whole('K', 2, 10)} -H {whole('H', 1, 3)}",
        f"-N {whole('N', 128, 512, step=64)} -B {trial.suggest_categorical('B', (4, 8, 16, 32))}",
        f"-lr {trial.suggest_float('lr', 5e-4, 2e-2, log=True):.4g} -E {whole('E', 1, 3)}",
    ]
    return " ".join(flags)


SEARCHES = {"lstm": ("lstlm", lstm_flags), "feed-forward": ("fflm", feed_forward_flags)}


def read_figures(lines: Iterable[str]) -> Iterator[int | tuple[int, float]]:
    """What a training prints: its number of parameters, then step and valid loss of each report."""
    for line in lines:
        record = re.search(r'\{"mode.*\}$', line)
        count = re.search(r"([\d,]+) parameters", line)
        if record:
            figures = json.loads(record[0])
            valid = figures["valid_nats"]
            yield figures["step"], math.inf if valid is None else valid
        elif count:
            yield int(count[1].replace(",", ""))


def reports(command: list[str], threads: int) -> Iterator[int | tuple[int, float]]:
    """Run a training; yields its `read_figures`. Kills it if closed."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    # The number of parameters is no JSON, so it comes to standard error.
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=environment, text=True, **both) as process:
        try:
            yield from read_figures(process.stdout)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {' '.join(command)}")


def objective(trial, name: str, data: Path, threads: int) -> float:
    """The best valid loss of a trial, in nats per token.

    Raises TrialPruned for one that is not worth its time.
    """
    import optuna

    _, flags_of = SEARCHES[name]
    experiment = experiment_of(name, trial.number, data, flags_of(trial))
    experiment.train_base(threads)
    remove(experiment)  # what a trial of the same number left, if the search was begun anew
    stories = sum(1 for _ in experiment.corpus("train", CUT[0]).open())
    steps = -(-stories // trial.params["B"])  # of an epoch
    command = [
        sys.executable, experiment.program.__file__, *experiment.training_flags(), "-json",
        "-valid_every", str(-(-steps // REPORTS)), "-patience", "1",
    ]
    losses = []
    quarters = 0
    with contextlib.closing(reports(command, threads)) as figures:
        for figure in figures:
            if isinstance(figure, int):
                trial.set_user_attr("parameters", figure)
                if figure > PARAMETERS:
                    raise optuna.TrialPruned
                continue
            step, loss = figure
            losses.append(loss)
            now = round(REPORTS * step / steps)
            if now > quarters:  # an epoch's end may come a step before the next look
                quarters = now
                trial.report(loss, quarters)
                if trial.should_prune():
                    raise optuna.TrialPruned
    return min(losses)


def experiment_of(name: str, number: int, data: Path, flags: str = "") -> Experiment:
    """A trial as an experiment, which `flags` train.

    Its model is build/experiments/tune-NAME-NUMBER.0.pt.
    """
    program, _ = SEARCHES[name]
    plan = Plan("tune", f"tune {name} {number}", flags, 3, stories=CUT, program=program)
    return Experiment(plan, 0, data)


def remove(experiment: Experiment) -> None:
    """Remove a trial's model, log and state."""
    for path in experiment.model.parent.glob(f"{experiment.model.stem}.*"):
        path.unlink()


def open_study(name: str):
    """The study of that name in build/experiments/tune.db.

    Trials whose process has died are handed out again.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        how = "pip install -r requirements-dev.txt"
        raise UserError(f"this Python has no optuna; {how}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The heartbeat is experimental, which is nothing to tell a user.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    store.BUILD.mkdir(parents=True, exist_ok=True)
    file = store.BUILD / "tune.db"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    # Of two that start at once the second waits, as Optuna cannot make one file twice.
    with exclusive(file, LATER, seconds=60):
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{file}", heartbeat_interval=30,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
        )
        study = optuna.create_study(
            study_name=name, storage=storage, load_if_exists=True, pruner=pruner
        )
    # The same seed again would draw again what a search that goes on, or another of its processes,
    # has tried.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    return study


def finished(study) -> list:
    """The trials that are over, pruned ones among them."""
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def search(name: str, data: Path, trials: int, jobs: int) -> dict:
    """Go on with a search until it has so many trials; returns and stores what all of them gave."""
    from optuna.study import MaxTrialsCallback
    from optuna.trial import TrialState

    study = open_study(name)
    threads = max(1, torch.get_num_threads() // jobs)

    def tell(study, trial) -> None:
        complete = trial.state.name == "COMPLETE"
        value = f"{trial.value:.4f} nats" if complete else trial.state.name.lower()
        line = f"{name} {trial.number}: {value}"
        print(time.strftime("%H:%M"), line, trial.params, flush=True)
        if not complete:
            remove(experiment_of(name, trial.number, data))
        write_trials(name, study, data)

    if len(finished(study)) < trials:
        enough = MaxTrialsCallback(trials, states=(TrialState.COMPLETE, TrialState.PRUNED))
        study.optimize(
            lambda trial: objective(trial, name, data, threads), n_jobs=jobs,
            callbacks=[tell, enough],
        )
    return write_trials(name, study, data, test=True)


def write_trials(name: str, study, data: Path, test: bool = False) -> dict:
    """Write results/searches/NAME.json.

    With `test` the best trial's model is measured on the test corpus.
    """
    rows = []
    for trial in finished(study):
        complete = trial.state.name == "COMPLETE"
        rows.append({
            "number": trial.number, "state": trial.state.name.lower(), "flags": trial.params,
            "parameters": trial.user_attrs.get("parameters"),
            "valid_nats": trial.value if complete else None,
            "minutes": round(trial.duration.total_seconds() / 60, 2),
        })
    machine = {
        "processor": store.processor(), "torch": str(torch.__version__),
        "date": time.strftime("%Y-%m-%d"),
    }
    record = {"name": name, "machine": machine, "trials": rows}
    done = [row for row in rows if row["valid_nats"] is not None]
    if test and done:
        best = min(done, key=lambda row: row["valid_nats"])
        figures = experiment_of(name, best["number"], data).evaluate(torch.get_num_threads())
        record["best"] = {**best, "test": {key: figures[key] for key in store.MEASURES}}
    store.write_json(store.RESULTS / "searches" / f"{name}.json", record)
    return record


def carry_out(argv: list[str] | None) -> None:
    """Go on with the search that the command line names."""
    parser = Parser("tuning.py", __doc__)
    add = parser.add_argument
    add("name", choices=SEARCHES)
    store.add_data_flag(add, "tiny/")
    add("-trials", type=positive, default=24, help="that the search has in the end (default 24)")
    add("-jobs", type=positive, default=1, help="trials at a time (default 1)")
    args = parser.parse_args(argv)
    require_corpora([experiment_of(args.name, 0, args.data)])
    best = search(args.name, args.data, args.trials, args.jobs).get("best")
    if best:
        figures = f"{best['valid_nats']:.4f} nats, test perplexity {best['test']['ppl']:.2f}"
        print(f"best: {figures}, {best['flags']}")


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for what the user can mend."""
    return guarded("tuning.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
