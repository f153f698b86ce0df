#!/usr/bin/env python3
"""Make hw04/report.pdf from the stored results: figures by figures.py, then report.typ by Typst.

    python make_report.py            # some seconds; experiments.py and the other programs here make the results
    python make_report.py -check     # whether the PDF is made of the report and the results as they are now

What the PDF was made of stands in made_of.txt, a line with a digest for each file.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

REPORT = Path(__file__).resolve().parent
sys.path.append(str(REPORT.parent / "code"))
from lstlm import atomic_write  # noqa: E402 - found by the line above

PDF, MADE_OF, INDEX = REPORT.parent / "report.pdf", REPORT / "made_of.txt", REPORT / "figures" / "index.json"


def inputs() -> list[Path]:
    """The files that the report depends on."""
    return [REPORT / "figures.py", REPORT / "report.typ", *sorted((REPORT / "results").glob("*.json"))]


def digests(pdf: Path) -> str:
    """A line with the SHA-256 and the name of each input and of the PDF; of experiments.py only the plans count."""
    from experiments import PLANS

    contents = {path.name: path.read_bytes() for path in [*inputs(), pdf]}
    contents["experiments.py"] = repr([(plan.name, plan.seeds) for plan in PLANS]).encode()
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items())


def differing() -> list[str]:
    """The names of the files that are not those of which the PDF was made."""
    then = MADE_OF.read_text().splitlines() if MADE_OF.exists() else []
    now = digests(PDF).splitlines() if PDF.exists() else []
    return sorted({line.split()[1] for line in {*then} ^ {*now}}) or ([] if now else [PDF.name])


def index() -> dict[str, list[str]]:
    """The stems of the stored results by their kinds, which Typst cannot list, and what was not trained."""
    from experiments import PLANS, stem

    all_of_them, names = ([path.stem for path in sorted((REPORT / "results").glob(pattern))] for pattern in
                          ("*.json", "*.[0-9].json"))
    return {"runs": [name for name in names if not name.startswith(("analysis.", "looks."))],
            "analyses": [name for name in names if name.startswith("analysis.")],
            "looks": [name for name in names if name.startswith("looks.")],
            "others": [name for name in all_of_them if name not in names],
            "missing": [plan.name for plan in PLANS if not any(stem(plan, seed) in names for seed in plan.seeds)],
            "few": [plan.name for plan in PLANS if 0 < sum(stem(plan, seed) in names for seed in plan.seeds) <
                    len(plan.seeds)]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-check", action="store_true", help="only say whether the PDF is up to date")
    if parser.parse_args().check:
        if names := differing():
            print(f"{PDF.name} is not made of what is there now ({', '.join(names)}); run make report", file=sys.stderr)
        return 1 if names else 0
    try:
        import figures
        import typst
    except ModuleNotFoundError as missing:
        raise SystemExit(f"make_report.py: error: no {missing.name}; pip install -r requirements-dev.txt") from None
    figures.main()
    INDEX.write_text(json.dumps(index()))
    pdf = typst.compile(REPORT / "report.typ", root=REPORT)
    atomic_write(PDF, lambda file: file.write(pdf))
    atomic_write(MADE_OF, lambda file: file.write(digests(PDF).encode()))
    print(f"{PDF}: {PDF.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
