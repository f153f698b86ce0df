"""Contestants that take turns: processes that measure themselves when it is their turn.

Machines drift, so figures that are minutes apart say little. Here all rows of a table are processes
that have been started, have read their data and have warmed up; then each measures itself once in a
round, one after the other, forwards in one round and backwards in the next. A ratio is that of two
figures of the same round. What a table says is the median of the rounds, with the smallest and the
largest.
"""

import sys

if __name__ == "__main__":
    print("harness.py: error: no program; compare.py uses it", file=sys.stderr)
    sys.exit(2)

import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from backstage.errors import UserError
from tqdm import tqdm

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Contest:
    """A table: its rows are programs of this folder with their arguments.

    figure    the key of what a row measures in the record that it prints
    unit      what is measured
    bases     the rows to which all others are compared
    slow      rows that are measured in the first round alone
    """

    title: str
    rows: dict[str, list[str]]
    bases: tuple[str, ...]
    figure: str = "tokens_per_s"
    unit: str = "tokens/s"
    slow: tuple[str, ...] = ()
    columns: tuple[str, ...] = field(default=())  # other keys of the records, shown as they are


class Contestant:
    """A row's process, which measures whenever it gets a line and prints a record."""

    def __init__(self, name: str, program: str, arguments: list[str]):
        turns = "--turns" if program.startswith("transformer/") else "-turns"
        self.what = " ".join([program, *arguments])
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / program), *arguments, turns],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )

    def measure(self) -> dict:
        """The record of one turn; the first one comes when the process is ready."""
        with contextlib.suppress(BrokenPipeError):
            print(file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        try:
            return json.loads(line)
        except ValueError:
            why = "printed no line of JSON; try it by itself"
            raise UserError(f"{self.what}: {why}") from None

    def end(self) -> None:
        """Let the process end: there are no more turns."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@contextlib.contextmanager
def contestants(contest: Contest) -> Iterator[dict[str, Contestant]]:
    """The processes of all rows, each ready before the next one begins."""
    running = {}
    try:
        for name, (program, *arguments) in contest.rows.items():
            running[name] = Contestant(name, program, arguments)
            running[name].measure()  # a turn to warm up
        yield running
    finally:
        for contestant in running.values():
            contestant.end()


def measure(contest: Contest, rounds: int) -> dict[str, list[dict]]:
    """The records of each row, one a round."""
    records = {name: [] for name in contest.rows}
    bar = tqdm(desc=contest.title, total=rounds * len(records), leave=False)
    with contestants(contest) as running, bar:
        for turn in range(rounds):
            order = [*running.items()]
            if turn % 2:
                order.reverse()
            for name, contestant in order:
                if turn == 0 or name not in contest.slow:
                    records[name].append(contestant.measure())
                bar.update()
    return records


def ratios(values: list[float], bases: list[float]) -> list[float]:
    """Round by round; a slow row's single figure is compared in the first round."""
    return [value / base for value, base in zip(values, bases, strict=False)]


def described(values: list[float]) -> str:
    """A ratio's median and range; where rounds disagree on which is faster, that neither is."""
    middle = statistics.median(values)
    if len(values) == 1:
        return f"{middle:.2f}"
    low, high = min(values), max(values)
    if low <= 1 <= high:
        return f"no difference ({low:.2f}–{high:.2f})"
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def spread(values: list[float]) -> str:
    """A figure's median, and its range in per cent of it."""
    middle = statistics.median(values)
    shown = f"{middle:,.0f}" if middle >= 100 else f"{middle:.2f}"
    if len(values) == 1:
        return shown
    return f"{shown} ± {(max(values) - min(values)) / middle / 2:.0%}"


def table(stored: dict) -> str:
    """A contest as it is stored -> a table in Markdown."""
    figures = {
        name: [record[stored["figure"]] for record in records]
        for name, records in stored["records"].items()
    }
    head = [stored["title"], stored["unit"], *(f"over {base}" for base in stored["bases"])]
    lines = [[*head, *stored["columns"]], ["---"] * (len(head) + len(stored["columns"]))]
    for name, values in figures.items():
        row = [name, spread(values)]
        row += [
            "1" if name == base else described(ratios(values, figures[base]))
            for base in stored["bases"]
        ]
        for column in stored["columns"]:
            found = [record[column] for record in stored["records"][name] if column in record]
            row.append(f"{statistics.median(found):,.4g}" if found else "")
        lines.append(row)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> dict[str, str | int]:
    """Where figures come from."""
    about = torch.cpu.get_capabilities()
    return {
        "processor": str(about.get("cpu_name") or platform.processor() or platform.machine()),
        "units": ", ".join(units(about)),
        "cores": len(os.sched_getaffinity(0)), "threads": torch.get_num_threads(),
        "system": platform.system(), "python": platform.python_version(),
        "torch": str(torch.__version__), "date": str(datetime.date.today()),
    }


def units(about: dict) -> list[str]:
    """The processor's units for matrix products, of those that matter here."""
    known = ("amx_bf16", "avx512_bf16", "avx512_f", "avx512_vnni", "avx2")
    return [name for name in known if about.get(name)]
