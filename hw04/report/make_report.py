#!/usr/bin/env python3
"""Make hw04/report.pdf from the stored results: figures by figures.py, report.typ by Typst.

The log of all trials, trials.csv, is made of them too.

    python make_report.py          # some seconds; experiments.py and measures/ make the results
    python make_report.py -check   # whether the PDF is made of the report and results of now

What the PDF was made of stands in made_of.txt, a line with a digest for each file.
"""

import hashlib
import json
import sys
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("code", "report"))
import store
from backstage.errors import UserError
from backstage.files import atomic_write
from backstage.parser import Parser
from backstage.shell import guarded
from plans import GROUPS, PLANS
from trials import as_csv

PDF = store.REPORT.parent / "report.pdf"
MADE_OF = store.REPORT / "made_of.txt"


def inputs() -> dict[str, bytes]:
    """What the report is made of, by name: files, and of plans.py only the names and the seeds."""
    paths = [store.REPORT / "figures.py", store.REPORT / "report.typ"]
    contents = {path.name: path.read_bytes() for path in paths}
    for path in sorted(store.RESULTS.glob("*/*.json")):
        contents[path.relative_to(store.REPORT).as_posix()] = path.read_bytes()
    contents["plans.py"] = repr([(plan.name, plan.seeds) for plan in PLANS]).encode()
    return contents


def digests(pdf: bytes) -> str:
    """A line with the SHA-256 and the name of each input and of the PDF."""
    contents = {**inputs(), PDF.name: pdf}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in contents.items()]
    return "".join(line + "\n" for line in lines)


def differing() -> list[str]:
    """The names of the files that are not those of which the PDF was made."""
    if not PDF.exists():
        return [PDF.name]
    then = MADE_OF.read_text().splitlines() if MADE_OF.exists() else []
    now = digests(PDF.read_bytes()).splitlines()
    return sorted({line.split()[1] for line in {*then} ^ {*now}})


def index() -> dict[str, list[str]]:
    """The stored results by their kinds, which Typst cannot list, and what was not trained.

    A result is named by its path in results/, without the ending.
    """
    def named(*folders: str) -> list[str]:
        return [f"{path.parent.name}/{path.stem}" for path in store.result_files(*folders)]

    runs = named(*GROUPS)
    done = {}  # the number of seeds
    for plan in PLANS:
        done[plan] = sum(f"{plan.group}/{plan.stem(seed)}" in runs for seed in plan.seeds)
    return {
        "runs": runs, "analyses": named("analysis"), "looks": named("looks"),
        "rows": named("rates"), "others": named("measures", "searches"),
        "missing": [plan.name for plan, seeds in done.items() if not seeds],
        "few": [plan.name for plan, seeds in done.items() if 0 < seeds < len(plan.seeds)],
    }


def make() -> None:
    """Draw the figures, make the PDF, and note what it is made of."""
    try:
        import figures
        import typst
    except ModuleNotFoundError as missing:
        how = "pip install -r requirements-dev.txt"
        raise UserError(f"this Python has no {missing.name}; {how}") from None
    figures.draw_all()
    (figures.FIGURES / "index.json").write_text(json.dumps(index()))
    pdf = typst.compile(store.REPORT / "report.typ", root=store.REPORT)
    atomic_write(PDF, lambda file: file.write(pdf))
    atomic_write(MADE_OF, lambda file: file.write(digests(pdf).encode()))
    atomic_write(store.REPORT / "trials.csv", lambda file: file.write(as_csv().encode()))
    print(f"{PDF}: {PDF.stat().st_size / 1e3:.0f} kB")


def check() -> int:
    """Say whether the PDF is up to date; returns the exit status."""
    names = differing()
    if not names:
        return 0
    why = f"not made of what is there now ({', '.join(names)})"
    print(f"{PDF.name} is {why}; run make report", file=sys.stderr)
    return 1


def carry_out(argv: list[str] | None) -> int | None:
    """Make the report, or check it."""
    parser = Parser("make_report.py", __doc__)
    parser.add_argument("-check", action="store_true", help="only say whether the PDF is up to "
        "date (default make it)")
    return check() if parser.parse_args(argv).check else make()


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 for a PDF that is not up to date, 2 for what one can mend."""
    return guarded("make_report.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
