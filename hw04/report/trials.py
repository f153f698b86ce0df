"""The log of all trials, a line for each stored training and each trial of a search: trials.csv."""

import sys

if __name__ == "__main__":
    print("trials.py: error: no program; make_report.py uses it", file=sys.stderr)
    sys.exit(2)

import csv
import io
from collections.abc import Iterator

from plans import GROUPS, ROWS
from store import read_results

FIELDS = (
    "date", "group", "name", "seed", "program", "flags", "stories", "backward", "parameters", "V",
    "valid_ppl", "test_ppl", "test_bpc", "minutes", "processor", "threads", "precision", "torch",
)


def trials() -> Iterator[dict]:
    """What is stored of each training, in order of their days; then the trials of the searches."""
    runs = read_results(*GROUPS, *{plan.group for plan in ROWS})
    for run in sorted(runs, key=lambda run: (run["machine"]["date"], run["group"])):
        settings = run["configuration"]
        yield {
            **{field: run[field] for field in ("group", "name", "parameters", "V", "minutes")},
            "seed": settings["seed"], "flags": settings["flags"],
            "program": settings.get("program", "lstlm"),
            "backward": settings.get("backward", False),
            "stories": settings["stories"][0] or "all",
            "valid_ppl": f"{run['valid']['ppl']:.2f}", "test_ppl": f"{run['test']['ppl']:.2f}",
            "test_bpc": f"{run['test']['bpc']:.4f}",
            **{key: value for key, value in run["machine"].items() if key in FIELDS},
        }
    for search in read_results("searches"):
        for trial in search["trials"]:
            yield {
                "group": f"search, {search['name']}", "name": f"{trial['number']} {trial['state']}",
                "flags": " ".join(f"{name}={value}" for name, value in trial["flags"].items()),
                "parameters": trial["parameters"], "minutes": trial["minutes"],
                **{key: value for key, value in search["machine"].items() if key in FIELDS},
            }


def as_csv() -> str:
    """The table, whose first line has the names of the columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(trials())
    return text.getvalue()
