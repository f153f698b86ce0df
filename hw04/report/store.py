"""Where corpora, trained models and results are kept, and how a result is written and read."""

import sys

if __name__ == "__main__":
    print("store.py: error: no program; experiments.py uses it", file=sys.stderr)
    sys.exit(2)

import argparse
import json
import os
import platform
from pathlib import Path

from backstage.errors import UserError
from backstage.files import atomic_write

REPORT = Path(__file__).resolve().parent
RESULTS = REPORT / "results"  # a folder of JSON files for each group of plans and kind of measure
BUILD = REPORT.parents[1] / "build" / "experiments"  # models, logs and cut corpora
DATA = REPORT.parent / "data"  # corpora, if neither -data nor the environment names a folder
MEASURES = ("nats", "ppl", "bpc", "n_tokens", "unk_share")  # of a model and a corpus


def write_json(path: Path, record: dict) -> None:
    """Write a result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(record, indent=1).encode() + b"\n"
    atomic_write(path, lambda file: file.write(content))


def read_json(path: Path) -> dict:
    """A result. Raises UserError if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = f"cannot be read as a result ({error}); get it from the repository, or remove it"
        raise UserError(f"{path}: {why}") from None


def result_files(*folders: str, name: str = "*") -> list[Path]:
    """The files of stored results in these folders of results/, in order of their names."""
    paths = [path for folder in folders for path in (RESULTS / folder).glob(f"{name}.json")]
    return sorted(paths, key=lambda path: (path.name, path))


def read_results(*folders: str, name: str = "*") -> list[dict]:
    """The stored results in these folders of results/, in order of their files' names."""
    return [read_json(path) for path in result_files(*folders, name=name)]


def add_data_flag(add, folders: str = "tiny/, wiki/ and glove.6B/") -> None:
    """The flag `-data`: the folder with such folders of corpora, which must be there."""
    add("-data", type=folder, metavar="DIR", default=os.environ.get("LSTLM_DATA", str(DATA)),
        help=f"the folder with {folders} (default $LSTLM_DATA, else hw04/data)")


def folder(text: str) -> Path:
    """A type for argparse: a folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder; give another")
    return Path(text)


def processor() -> str:
    """The name of the processor, as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
