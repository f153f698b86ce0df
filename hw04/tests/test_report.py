"""The report that is in the tree is made of the results that are in the tree."""

import json
import shutil
from pathlib import Path

import experiments
import make_report
import pytest


def test_the_report_is_made_of_the_results_that_are_there():
    assert make_report.differing() == [], "run make report"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The report's folder in a place where it may be changed."""
    shutil.copytree(make_report.REPORT, folder := tmp_path / "report", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(make_report.PDF, tmp_path)
    for name, value in (("REPORT", folder), ("PDF", tmp_path / "report.pdf"), ("MADE_OF", folder / "made_of.txt")):
        monkeypatch.setattr(make_report, name, value)
    return folder


@pytest.mark.parametrize("name", ["results/ngram.json", "report.typ", "figures.py", "../report.pdf"])
def test_a_change_is_noticed(copy, name):
    assert make_report.differing() == []
    (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
    assert make_report.differing() == [Path(name).name]


def test_a_new_and_a_lost_result_are_noticed(copy):
    (copy / "results" / "new.0.json").write_text("{}")
    (copy / "results" / "ngram.json").unlink()
    assert make_report.differing() == ["new.0.json", "ngram.json"]


def test_another_plan_is_noticed_as_the_report_says_what_was_not_run(copy, monkeypatch):
    monkeypatch.setattr(experiments, "PLANS", experiments.PLANS[1:])
    assert make_report.differing() == ["experiments.py"]


def test_all_results_are_json_and_of_their_files_names():
    for path in (make_report.REPORT / "results").glob("*.[0-9].json"):
        record = json.loads(path.read_text())
        stem = record["name"].replace(",", "").replace(" ", "-")
        seed = record["configuration"]["seed"] if "configuration" in record else record["seed"]
        assert path.name in [f"{kind}{stem}.{seed}.json" for kind in ("", "analysis.", "looks.")]
