"""Points, and how they are written: JSON, CSV, lines as pytest's, Gradescope's results."""

import csv
import io
import json
import unicodedata
from dataclasses import dataclass, field


@dataclass
class Test:
    """An item's points, with the reasons."""

    __test__ = False  # nothing for pytest

    key: str  # of the item, as the rubric has it
    name: str
    score: float
    max_score: float
    output: str
    bonus: bool = False  # counts for the score and not for the maximum


@dataclass
class Result:
    """What a submission got."""

    name: str
    tests: list[Test] = field(default_factory=list)
    failed: bool = False  # the grader, and not the submission

    @property
    def score(self) -> float:
        """The points of all tests."""
        return tidy(sum(test.score for test in self.tests))

    @property
    def max_score(self) -> float:
        """The most that can be had without the bonus."""
        return tidy(sum(test.max_score for test in self.tests if not test.bonus))

    def tree(self) -> dict:
        """As JSON has it."""
        tests = [
            {"name": test.name, "score": tidy(test.score), "max_score": tidy(test.max_score),
             "output": printable(test.output)}
            for test in self.tests
        ]
        return {"score": self.score, "max_score": self.max_score, "tests": tests}

    def gradescope(self, hidden: frozenset[str] = frozenset()) -> dict:
        """As Gradescope's results.json; tests whose key is `hidden` are shown after publishing."""
        tree = self.tree()
        for test, entry in zip(self.tests, tree["tests"], strict=True):
            entry["visibility"] = "after_published" if test.key in hidden else "visible"
        return {**tree, "visibility": "visible", "stdout_visibility": "hidden"}

    def lines(self) -> str:
        """As a person reads it, in the manner of pytest."""
        lines = []
        name = printable(self.name)
        for test in self.tests:
            full = test.score >= test.max_score
            word = "PASSED" if full else "PARTLY" if test.score > 0 else "FAILED"
            points = f"[{tidy(test.score):g}/{tidy(test.max_score):g}]"
            lines.append(f"{name}::{test.name} {word if test.max_score else 'NOTE'} {points}")
            if not full or not test.max_score:
                lines += [f"    {line}" for line in printable(test.output).splitlines()]
        lines.append(f"{name}: {self.score:g} of {self.max_score:g} points")
        return "\n".join(lines)


def tidy(points: float) -> float:
    """Points with at most two decimals, whole numbers as such."""
    points = round(float(points), 2)
    return int(points) if points == int(points) else points


def printable(text: str) -> str:
    """A text without what could change a terminal or a page: it quotes what students wrote."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def to_json(results: list[Result], single: bool) -> str:
    """One object for one submission, a list for several."""
    trees = [result.tree() for result in results]
    return json.dumps(trees[0] if single else trees, indent=1, ensure_ascii=False) + "\n"


def to_gradescope(result: Result, hidden: frozenset[str]) -> str:
    """Gradescope's results.json of one submission."""
    return json.dumps(result.gradescope(hidden), indent=1, ensure_ascii=False) + "\n"


def to_csv(results: list[Result]) -> str:
    """A row for each submission, a column for each item."""
    tests = [test for result in results for test in result.tests if test.key != "notes"]
    keys = list(dict.fromkeys(test.key for test in tests))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["submission", "score", "max_score", *keys])
    for result in results:
        points = {test.key: tidy(test.score) for test in result.tests}
        cells = [safe_cell(result.name), result.score, result.max_score]
        writer.writerow([*cells, *(points.get(key, "") for key in keys)])
    return out.getvalue()


def safe_cell(text: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    text = printable(text)
    return f"'{text}" if text[:1] in "=+-@" else text
