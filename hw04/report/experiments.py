#!/usr/bin/env python3
"""The experiments of the report: named trainings, each run once, resumable, with results as JSON.

    python experiments.py list                      # what is planned, what is done, minutes of both
    python experiments.py run -data DIR [NAME ...]  # train and evaluate what is missing, in turn
    python experiments.py run -jobs 2               # as many at a time, with shares of the threads
    python experiments.py rest -data DIR            # what is made of models, and searches, counts
    python experiments.py rates -data DIR           # rows at their best rates; see rates.py
    python experiments.py tune lstm                 # Optuna's search for settings; see tuning.py
    python experiments.py ship strong               # its model becomes code/lm_model.pt, in 16 bits

DIR holds `tiny/` with the three TinyStories files, `wiki/` with those of WikiText-2, and
`glove.6B/`, as hw04/data/README.md says. Models, logs and cut corpora go to build/experiments,
results to hw04/report/results/GROUP/NAME.SEED.json. A result is that of its configuration: flags,
seed, cuts and the digests of the corpora; when one of these changes the run is done anew. Ctrl-C
stops; the same command goes on from the last step. The runs are in plans.py.
"""

import argparse
import contextlib
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("experiments.py"):
    import rates
    import store
    import torch
    import tuning
    from backstage.defaults import DEFAULT_MODEL
    from backstage.files import atomic_write, side_file
    from backstage.lock import exclusive
    from backstage.parser import Parser, positive
    from backstage.sealed import seal, unseal
    from plans import PLANS
    from rest import make_rest
    from runner import LATER, Experiment, require_corpora, trace

OTHERS = {"rates": rates.main, "tune": tuning.main}  # programs with flags of their own


def show(experiments: list[Experiment]) -> None:
    """Print a line for each run: what it took and gave, or what is planned."""
    left = 0
    for experiment in experiments:
        plan = experiment.plan
        result = experiment.done()
        if result:
            valid = result["valid"]["ppl"]
            test = result["test"]
            text = (
                f"{result['minutes']:6.1f} min  valid {valid:7.2f}  test {test['ppl']:7.2f}  "
                f"{test['bpc']:.4f} bits/char  {result['parameters'] / 1e6:5.2f} M"
            )
        else:
            left += plan.minutes
            text = f"{plan.minutes:6d} min planned"
        print(f"{plan.group:6}{experiment.label:36} {text}")
    print(f"{left} minutes of one core left")


def run(experiments: list[Experiment], jobs: int) -> None:
    """Train and evaluate these, so many at a time, first those that need no model of another."""
    threads = max(1, torch.get_num_threads() // jobs)
    by_need = sorted(experiments, key=Experiment.takes_vectors)
    alone = sum(not experiment.takes_vectors() for experiment in experiments)
    with ThreadPoolExecutor(jobs) as pool:
        for wave in (by_need[:alone], by_need[alone:]):
            for line in pool.map(lambda experiment: experiment.run(threads), wave):
                print(time.strftime("%H:%M"), line, flush=True)


def ship(trained: Path, place: Path) -> None:
    """Write a trained model with weights of 16 bits, half as large.

    Tied matrices, one tensor here, stay one there.
    """
    content = unseal(trained.read_bytes())
    smaller = {}  # by where a tensor is in memory
    for x in content["weights"].values():
        smaller[x.data_ptr()] = x.half() if x.is_floating_point() else x
    content["weights"] = {name: smaller[x.data_ptr()] for name, x in content["weights"].items()}
    atomic_write(place, lambda file: file.write(seal(content)))
    print(f"{place}: {place.stat().st_size / 1e6:.1f} MB")
    trace(place).unlink(missing_ok=True)  # that of another model
    if trace(trained).exists():
        shutil.copyfile(trace(trained), trace(place))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line, with the `experiments` that it names."""
    parser = Parser("experiments.py", __doc__)
    add = parser.add_argument
    add("what", choices=("list", "run", "rest", "ship", "rates", "tune"), help="see above; "
        "experiments.py tune -h has the flags of that one, rates -h of that")
    add("names", nargs="*", default=[], metavar="NAME", help="of runs or of groups of them "
        "(default all)")
    store.add_data_flag(add)
    add("-jobs", type=positive, default=1, help="trainings at a time (default 1)")
    add("-first", action="store_true", help="only the first seed of each run (default all)")
    args = parser.parse_intermixed_args(argv)
    known = {name for plan in PLANS for name in (plan.name, plan.group)}
    unknown = sorted({*args.names} - known)
    if unknown:
        parser.error(f"no run or group named {', '.join(unknown)}; see: experiments.py list")
    args.experiments = []
    for plan in PLANS:
        if not args.names or {plan.name, plan.group} & {*args.names}:
            seeds = plan.seeds[:1] if args.first else plan.seeds
            args.experiments += [Experiment(plan, seed, args.data) for seed in seeds]
    if args.what == "ship" and (len(args.names) != 1 or not args.experiments[0].model.exists()):
        parser.error("ship needs the name of one run whose model is in build/experiments")
    if args.what in OTHERS:
        parser.error(f"{args.what} comes first, before all flags")
    return args


def missing(experiments: list[Experiment]) -> list[Experiment]:
    """Those that have no result yet. Raises UserError if a corpus of theirs is not there."""
    left = [one for one in experiments if not one.done()]
    require_corpora(left)
    if not left:
        print(f"nothing to train: {len(experiments)} of {len(experiments)} results are there")
    return left


def carry_out(argv: list[str] | None) -> None:
    """Do what the command line says."""
    args = parse_args(argv)
    if args.what == "list":
        show(args.experiments)
    elif args.what == "run":
        with contextlib.ExitStack() as stack:
            for one in args.experiments:  # what is missing is asked when nobody else works on it
                stack.enter_context(exclusive(side_file(one.model, ".run"), LATER))
            run(missing(args.experiments), args.jobs)
    elif args.what == "rest":
        make_rest(args.data.resolve())
    else:
        ship(args.experiments[0].model, DEFAULT_MODEL)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for what the user can mend, that of a program that fails."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] and given[0] in OTHERS:
        return OTHERS[given[0]](given[1:])
    return guarded("experiments.py", lambda: carry_out(given), argv)


if __name__ == "__main__":
    sys.exit(main())
