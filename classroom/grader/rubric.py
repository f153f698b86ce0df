"""The rubric: points and limits, read from a YAML file and checked."""

from dataclasses import fields
from pathlib import Path

import yaml
from backstage.errors import UserError
from checks.case import Case

from grader.sandbox import Limits

HERE = Path(__file__).resolve().parent.parent
SHIPPED = HERE / "rubric.yaml"


class Rubric:
    """Points of an assignment's items and parts, and how much a process may use."""

    def __init__(self, path: Path = SHIPPED):
        self.path = path
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            where = getattr(error, "problem_mark", None)
            line = f":{where.line + 1}" if where else ""
            raise UserError(f"{path}{line}: not YAML; mend it") from None
        self.tree = tree if isinstance(tree, dict) else {}
        limits = dict(self.section("limits"))
        self.submission_seconds = float(limits.pop("submission_seconds", 45))
        known = {field.name for field in fields(Limits)}
        unknown = limits.keys() - known
        if unknown:
            raise UserError(f"{path}: there is no limit {min(unknown)}")
        self.limits = Limits(**limits)

    def section(self, *names: str) -> dict:
        """A section, by the names that lead to it. UserError if there is none."""
        tree = self.tree
        for name in names:
            tree = tree.get(name) if isinstance(tree, dict) else None
        if not isinstance(tree, dict):
            raise UserError(f"{self.path}: there is no section {'.'.join(names)}")
        return tree

    def option(self, default, *names: str):
        """What stands at a place, or a default."""
        tree = self.tree
        for name in names:
            if not isinstance(tree, dict) or name not in tree:
                return default
            tree = tree[name]
        return tree

    def hidden(self) -> frozenset[str]:
        """The items that students see only when grades are published."""
        names = [self.option([], assignment, "hidden") or [] for assignment in ("hw04", "hw4p1")]
        return frozenset(str(name) for each in names for name in each)

    def items(self, assignment: str) -> dict[str, dict[str, float]]:
        """The points of each part of each item."""
        found = {}
        for item, parts in self.section(assignment, "items").items():
            if not isinstance(parts, dict):
                where = f"{assignment}.items.{item}"
                raise UserError(f"{self.path}: {where}: give its parts with points")
            found[str(item)] = {
                str(part): self.points(value, assignment, str(item), str(part))
                for part, value in parts.items()
            }
        return found

    def points(self, value, *place: str) -> float:
        """A number of points. UserError if it is none."""
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise UserError(f"{self.path}: {'.'.join(place)} is {value!r}; give points")
        return value

    def check(self, assignment: str, cases: list[Case]) -> None:
        """UserError if an item or a part is not one that is graded."""
        known: dict[str, set[str]] = {}
        for case in cases:
            known.setdefault(case.item, set()).add(case.part)
        for item, parts in self.items(assignment).items():
            if item not in known:
                there = ", ".join(known)
                raise UserError(f"{self.path}: no item {item} is graded; there are {there}")
            for part in parts:
                if part not in known[item]:
                    there = ", ".join(sorted(known[item]))
                    raise UserError(
                        f"{self.path}: item {item} has no part {part}; there are {there}"
                    )
