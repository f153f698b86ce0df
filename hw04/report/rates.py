#!/usr/bin/env python3
"""Rows that are compared at their own best learning rates: `experiments.py rates`.

    python rates.py -data DIR               # all rows of plans.py, in turn; goes on where it was
    python rates.py -data DIR "tied, lstm"  # this one
    python rates.py -list                   # what is there of each row

A row is trained with seed 0 at 0.004, 0.008, 0.016 and 0.032, and at the half or the double of the
lowest or highest rate as long as that one is best by valid loss; then at the best rate with its
other seeds. Each training is one of experiments.py: resumable, its result in results/rates/.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing(Path(sys.argv[0]).name):  # experiments.py, or this one
    import store
    import torch
    from backstage.files import side_file
    from backstage.lock import exclusive
    from backstage.parser import Parser
    from plans import ROWS, Plan
    from runner import LATER, Experiment, require_corpora

FIRST = (0.004, 0.008, 0.016, 0.032)
MOST = 10  # rates of a row, so that a loss that falls for ever ends


def search(loss: Callable[[float], float | None], rates: tuple[float, ...]) -> dict[float, float]:
    """The loss at each of these rates, and beyond their ends until the best is inside.

    Beyond is twice the highest rate, or half the lowest. Ends early, with what there is, where
    `loss` returns None: for what is not known yet. At most MOST rates are tried.
    """
    found = {}
    ahead = list(rates)
    while ahead and len(found) < MOST:
        rate = ahead.pop(0)
        value = loss(rate)
        if value is None:
            return found
        found[rate] = value
        best = min(found, key=found.get)
        if not ahead and best == max(found):
            ahead = [2 * best]
        elif not ahead and best == min(found):
            ahead = [best / 2]
    return found


def is_inside(found: dict[float, float]) -> bool:
    """Whether the best of these rates has worse ones on both sides."""
    return bool(found) and min(found) < min(found, key=found.get) < max(found)


class Row:
    """A plan that is trained at several rates, then with all its seeds at the best one."""

    def __init__(self, plan: Plan, data: Path):
        self.plan = plan
        self.data = data

    def at(self, rate: float, seed: int) -> Experiment:
        """The training at this rate with this seed."""
        return Experiment(self.plan.at(rate), seed, self.data)

    def known(self) -> dict[float, float]:
        """The valid loss of the first seed at each rate, as far as results are stored."""
        def stored(rate: float) -> float | None:
            result = self.at(rate, self.plan.seeds[0]).done()
            return result and result["valid"]["nats"]

        return search(stored, FIRST)

    def best(self) -> list[Experiment]:
        """The trainings at the best rate, one for each seed; none if that rate is not known yet."""
        found = self.known()
        if not is_inside(found):
            return []
        best = min(found, key=found.get)
        return [self.at(best, seed) for seed in self.plan.seeds]

    def results(self) -> list[dict]:
        """What is stored of these."""
        every = [experiment.done() for experiment in self.best()]
        return [result for result in every if result]

    def run(self, threads: int, only_first: bool = False) -> None:
        """Train and evaluate what is missing, of all seeds or only of the first."""
        found = search(lambda rate: self.trained(rate, self.plan.seeds[0], threads), FIRST)
        best = min(found, key=found.get)
        for seed in [] if only_first else self.plan.seeds[1:]:
            self.trained(best, seed, threads)

    def trained(self, rate: float, seed: int, threads: int) -> float:
        """The valid loss at a rate, trained now if its result is not there."""
        one = self.at(rate, seed)
        with exclusive(side_file(one.model, ".run"), LATER):
            if not one.done():
                print(time.strftime("%H:%M"), one.run(threads), flush=True)
            return one.done()["valid"]["nats"]

    def line(self) -> str:
        """What is there of it, for a person."""
        found = self.known()
        rates = "  ".join(f"{rate:g}: {loss:.3f}" for rate, loss in sorted(found.items()))
        perplexities = [result["test"]["ppl"] for result in self.results()]
        if not perplexities:
            return f"{self.plan.name:24} {rates or 'nothing yet'}"
        mean = statistics.mean(perplexities)
        spread = max(perplexities) - min(perplexities)
        parameters = self.results()[0]["parameters"]
        best = f"test {mean:.2f} (spread {spread:.2f} of {len(perplexities)})"
        return f"{self.plan.name:24} {best}, {parameters:,} parameters; {rates}"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line, with the `rows` that it names."""
    parser = Parser("rates.py", __doc__)
    add = parser.add_argument
    add("names", nargs="*", default=[], metavar="ROW", help="of plans.py (default all)")
    store.add_data_flag(add)
    add("-list", action="store_true", help="only print what is there (default train what is not)")
    add("-first", action="store_true", help="only the first seed, at each rate (default all seeds)")
    args = parser.parse_intermixed_args(argv)
    unknown = sorted({*args.names} - {plan.name for plan in ROWS})
    if unknown:
        parser.error(f"no row named {'; '.join(unknown)}; see: rates.py -list")
    args.rows = [Row(plan, args.data) for plan in ROWS if plan.name in args.names or not args.names]
    return args


def carry_out(argv: list[str] | None) -> None:
    """Train the rows, or say what is there of them."""
    args = parse_args(argv)
    if not args.list:
        require_corpora([row.at(FIRST[0], 0) for row in args.rows])
        for row in args.rows:
            row.run(torch.get_num_threads(), args.first)
    for row in args.rows:
        print(row.line())


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for what the user can mend, that of a program that fails."""
    return guarded("rates.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
