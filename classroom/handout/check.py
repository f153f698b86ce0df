#!/usr/bin/env python3
"""Check what you have written, item by item.

    python check.py            # every item that is written
    python check.py ITEM ...   # these

Each item is checked by itself: what it calls of others is replaced. A check that fails says what
was expected, what came, and the usual cause. Exit status: 0 if all that was checked is right.
"""

import importlib
import os
import sys
import tempfile
import types
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

try:
    from checks import exchange, running
    from checks.case import Case, Outcome, Verdict
    from checks.items import ASSIGNMENTS, EXERCISES, causes
    from checks.judges import judge
except ModuleNotFoundError as error:
    install = "use .venv/bin/python after pip install -r requirements.txt (README.md)"
    print(f"check.py: error: this Python has no {error.name}; {install}", file=sys.stderr)
    raise SystemExit(2) from None


def main(names: list[str]) -> int:
    """Check these items, or all; returns the exit status."""
    cases = [Case.of(tree) for tree in exchange.load((HERE / "checks" / "cases").read_bytes())]
    assignment = "hw04" if (HERE / "code" / "lstlm.py").is_file() else "hw4p1"
    items = list(dict.fromkeys(case.item for case in cases))
    for name in names:
        if name in ("-h", "--help") or name not in items:
            wanted = "" if name in ("-h", "--help") else f"there is no item {name}\n\n"
            print(f"{wanted}{__doc__}\nItems: {' '.join(items)}")
            return 0 if not wanted else 2
    chosen = names or [item for item in items if item not in EXERCISES]
    counts = {"right": 0, "wrong": 0, "not written yet": 0}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for item in chosen:
            own = [case for case in cases if case.item == item]
            counts[check_item(assignment, item, own)] += 1
        os.chdir(HERE)
    print(", ".join(f"{count} {what}" for what, count in counts.items() if count))
    return 1 if counts["wrong"] or (names and counts["not written yet"]) else 0


def check_item(assignment: str, item: str, cases: list[Case]) -> str:
    """Check one item, print what there is to say; returns "right", "wrong", "not written yet"."""
    verdicts: dict[str, Verdict] = {}
    for case in cases:
        if case.part in verdicts and not verdicts[case.part].passed:
            continue
        verdicts[case.part] = check_case(assignment, item, case)
    title = ASSIGNMENTS[assignment][item].title
    if all(not verdict.written for verdict in verdicts.values()):
        print(f"{title}: not written yet")
        return "not written yet"
    print(title)
    for part, verdict in verdicts.items():
        print(f"  {part}: {'ok' if verdict.passed else 'NO'}")
        for line in verdict.message.splitlines():
            print(f"      {line}")
    return "right" if all(verdict.passed for verdict in verdicts.values()) else "wrong"


def check_case(assignment: str, item: str, case: Case) -> Verdict:
    """Run a case in modules that are loaded anew."""
    forget_modules()
    try:
        program, drivers, folder = load(assignment)
    except (Exception, SystemExit) as error:
        return judge(case, Outcome.of(running.describe(error, HERE)), causes(assignment, item))
    outcome = Outcome.of(running.run_case(drivers[case.run], program, case.given, folder))
    return judge(case, outcome, causes(assignment, item))


def load(assignment: str) -> tuple:
    """The student's program, what runs cases on it, and the folder that it is in."""
    if assignment == "hw04":
        from checks import drivers_exercises, drivers_hw04

        code = HERE / "code"
        sys.path.insert(0, str(code))
        program = running.import_file(code / "lstlm.py", "lstlm")
        return program, drivers_hw04.DRIVERS | drivers_exercises.DRIVERS, code
    from checks import drivers_hw4p1, stand_in_numpy

    stand_in_numpy.install(importlib.import_module)
    return importlib.import_module, drivers_hw4p1.DRIVERS, HERE


def forget_modules() -> None:
    """Forget the student's modules, in which the last case has put stand-ins."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("lstlm", "mytorch", "hw4lib"):
            module = sys.modules.pop(name)
            assert isinstance(module, types.ModuleType)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
