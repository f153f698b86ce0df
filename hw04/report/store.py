"""Where trained models and results are kept, and how a result is written."""

import json
import platform
from pathlib import Path

from backstage.files import atomic_write

REPORT = Path(__file__).resolve().parent
RESULTS = REPORT / "results"  # a folder of JSON files for each group of plans and kind of measure
BUILD = REPORT.parents[1] / "build" / "experiments"  # models, logs and cut corpora
MEASURES = ("nats", "ppl", "bpc", "n_tokens", "unk_share")  # of a model and a corpus


def write_json(path: Path, record: dict) -> None:
    """Write a result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(record, indent=1).encode() + b"\n"
    atomic_write(path, lambda file: file.write(content))


def result_files(*folders: str, name: str = "*") -> list[Path]:
    """The files of stored results in these folders of results/, in order of their names."""
    paths = [path for folder in folders for path in (RESULTS / folder).glob(f"{name}.json")]
    return sorted(paths, key=lambda path: (path.name, path))


def read_results(*folders: str, name: str = "*") -> list[dict]:
    """The stored results in these folders of results/, in order of their files' names."""
    return [json.loads(path.read_text()) for path in result_files(*folders, name=name)]


def processor() -> str:
    """The name of the processor, as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
