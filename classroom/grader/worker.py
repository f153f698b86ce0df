"""In the process that is shut in: a student's functions are called, and what comes is written.

Nothing here decides about points. A request has the cases of one item without what is expected of
them; for each an outcome is written, preceded by its length.
"""

import builtins
import importlib
import os
import signal
import sys
import time
import types
from pathlib import Path

from checks import (
    drivers_exercises,
    drivers_hw04,
    drivers_hw4p1,
    exchange,
    running,
    stand_in_layers,  # noqa: F401 - drivers need it when the files are hidden
)

from grader import drivers_whole

PLOTTING = (
    "matplotlib", "seaborn", "pandas", "IPython", "wandb", "google", "plotly", "tensorboard",
)
# What the functions of each item of the first assignment are, in lstlm.py.
PLACES = {
    "1": "LSTMLM.forward", "1a": "LSTMLM.attend", "2": "collate_stories", "3": "compute_loss",
    "4": "train", "5": "use", "6": "generate_next_token", "6a": "next_token_logits",
    "7": "evaluate",
}


class Forbidden(Exception):
    """What an item forbids was called."""


class TookTooLong(BaseException):
    """A case took longer than a case may."""


def work(request: bytes, files: str, results: int) -> None:
    """Run the cases of a request, and write their outcomes to the file descriptor `results`."""
    job = exchange.load(request)
    folder = Path(files)
    alarm = Alarm()
    try:
        alarm.set(job["import_seconds"])
        program = load(job, folder)
        alarm.stop()
    except BaseException as error:
        write(results, {"import": running.describe(error, folder)})
        return
    run_cases(job, program, folder, results, alarm)


def load(job: dict, folder: Path):
    """What drivers call `program`: the student's module, or a function that imports one."""
    sys.path.insert(0, str(folder / "code"))
    forgive_plots()
    for name in job["modules"]:  # that may not be imported
        shut_out(name)
    for name in job["forbidden"]:
        forbid(name)
    if job["assignment"] == "hw4p1":
        return importlib.import_module
    program = running.import_file(folder / "code" / "lstlm.py", "lstlm")
    if job["reference"]:
        reference = types.ModuleType("reference")
        reference.__file__ = program.__file__
        exec(compile(job["reference"], "reference", "exec"), vars(reference))
        fill_in(program, reference, job["item"])
    return program


def fill_in(program, reference, item: str) -> None:
    """Let the student's module have the reference's functions for all items but this one."""
    for other, place in PLACES.items():
        if other == item:
            continue
        source, target = reference, program
        *path, name = place.split(".")
        for step in path:
            source, target = getattr(source, step), getattr(target, step, None)
        if target is not None:
            setattr(target, name, getattr(source, name))


def run_cases(job: dict, program, folder: Path, results: int, alarm: "Alarm") -> None:
    """An outcome for each case; of a part in which one took too long the others are passed over."""
    drivers = {}
    for module in (drivers_hw04, drivers_hw4p1, drivers_exercises, drivers_whole):
        drivers |= module.DRIVERS
    before = dict(vars(program)) if isinstance(program, types.ModuleType) else None
    slow = set()
    for case in job["cases"]:
        if case["part"] in slow:
            write(results, {"kind": "TookTooLong", "message": "an earlier case of this part did"})
            continue
        try:
            alarm.set(job["case_seconds"])
            outcome = running.run_case(drivers[case["run"]], program, case["given"], folder)
        except BaseException as error:
            outcome = running.describe(error, folder)
        alarm.stop()
        if outcome.get("kind") == "TookTooLong":
            slow.add(case["part"])
        write(results, outcome)
        if before is not None:
            vars(program).clear()
            vars(program).update(before)


def write(results: int, outcome: dict) -> None:
    """Write an outcome, preceded by its length."""
    data = exchange.dump(outcome)
    data = len(data).to_bytes(8, "little") + data
    while data:
        data = data[os.write(results, data) :]


class Alarm:
    """Raises TookTooLong after so many seconds, those not counted in which no processor is free."""

    def __init__(self):
        signal.signal(signal.SIGALRM, self.ring)

    def set(self, seconds: float) -> None:
        """Begin to count."""
        self.end = seconds + time.monotonic() - waited()
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def stop(self) -> None:
        """Raise nothing any more."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def ring(self, *_) -> None:
        """The time that was set is over, or more of it has to be given."""
        left = self.end - (time.monotonic() - waited())
        if left <= 0.001:
            raise TookTooLong("longer than it may take")
        signal.setitimer(signal.ITIMER_REAL, left)


def waited() -> float:
    """For how many seconds this process would have run, had a processor been free."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def shut_out(name: str) -> None:
    """Make importing a module fail, also where it is loaded already."""
    for loaded in [*sys.modules]:
        if loaded == name or loaded.startswith(f"{name}."):
            sys.modules[loaded] = None
    sys.modules[name] = None


def forbid(place: str) -> None:
    """Make a function, or each method of a class that is called, raise Forbidden."""

    def refuse(*_, **__):
        raise Forbidden(f"{place} is not to be used here")

    module, _, name = place.rpartition(".")
    try:
        owner = importlib.import_module(module)
    except ImportError:
        module, _, inner = module.rpartition(".")
        owner = getattr(importlib.import_module(module), inner)
    found = getattr(owner, name)
    if isinstance(found, type):
        found.__init__ = refuse
    else:
        setattr(owner, name, refuse)


class Anything(types.ModuleType):
    """In the place of a package that is not installed here: whatever is called does nothing."""

    __path__: list[str] = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name)

    def __call__(self, *_, **__):
        return self


class PlotFinder:
    """Finds packages for plots and notebooks that are not installed."""

    def find_spec(self, name: str, path=None, target=None):
        if name.partition(".")[0] in PLOTTING:
            return importlib.util.spec_from_loader(name, self)
        return None

    def create_module(self, spec):
        return Anything(spec.name)

    def exec_module(self, module) -> None:
        """There is nothing to execute."""


def forgive_plots() -> None:
    """Let plots and what notebooks leave in a file do no harm."""
    sys.meta_path.append(PlotFinder())
    builtins.get_ipython = lambda: Anything("get_ipython")
