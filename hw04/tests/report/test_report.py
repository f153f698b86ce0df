"""The report that is in the tree is made of the results that are in the tree."""

import csv
import json
import shutil

import make_report
import pytest
import store
import trials
from plans import GROUPS, PLANS


def test_the_report_is_made_of_the_results_that_are_there():
    assert make_report.differing() == [], "run make report"


def test_the_log_of_all_trials_has_a_line_for_each_stored_training():
    path = store.REPORT / "trials.csv"
    assert path.read_text() == trials.as_csv(), "run make report"
    rows = list(csv.DictReader(path.open()))
    index = make_report.index()
    searched = sum(len(search["trials"]) for search in store.read_results("searches"))
    assert len(rows) == len(index["runs"]) + len(index["rows"]) + searched
    strong = [row for row in rows if row["name"] == "strong"]
    assert [(row["group"], row["seed"]) for row in strong] == [("main", "0"), ("main", "1")]
    record = json.loads((store.RESULTS / "main" / "strong.1.json").read_text())
    assert float(strong[1]["test_ppl"]) == pytest.approx(record["test"]["ppl"], abs=0.006)
    assert strong[1]["date"] == record["machine"]["date"]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The report's folder in a place where it may be changed."""
    folder = tmp_path / "report"
    shutil.copytree(store.REPORT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(make_report.PDF, tmp_path)
    monkeypatch.setattr(store, "REPORT", folder)
    monkeypatch.setattr(store, "RESULTS", folder / "results")
    monkeypatch.setattr(make_report, "PDF", tmp_path / "report.pdf")
    monkeypatch.setattr(make_report, "MADE_OF", folder / "made_of.txt")
    return folder


@pytest.mark.parametrize(
    "name", ["results/measures/ngram.json", "report.typ", "figures.py", "../report.pdf"]
)
def test_a_change_is_noticed(copy, name, capsys):
    assert make_report.main(["-check"]) == 0
    (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
    assert make_report.differing() == [name.removeprefix("../")]
    assert make_report.main(["-check"]) == 1
    assert "run make report" in capsys.readouterr().err


def test_a_new_and_a_lost_result_are_noticed(copy):
    (copy / "results" / "small" / "new.0.json").write_text("{}")
    (copy / "results" / "measures" / "ngram.json").unlink()
    names = ["results/measures/ngram.json", "results/small/new.0.json"]
    assert make_report.differing() == names


def test_another_plan_is_noticed_as_the_report_says_what_was_not_run(copy, monkeypatch):
    monkeypatch.setattr(make_report, "PLANS", PLANS[1:])
    assert make_report.differing() == ["plans.py"]


def test_a_report_that_is_not_there_is_not_up_to_date(copy):
    make_report.PDF.unlink()
    assert make_report.differing() == ["report.pdf"]


@pytest.mark.parametrize("folder", [*GROUPS, "analysis", "looks"])
def test_all_results_are_json_and_of_their_files_names_and_folders(folder):
    stems = {(plan.name, seed): plan.stem(seed) for plan in PLANS for seed in plan.seeds}
    for path in store.result_files(folder):
        record = json.loads(path.read_text())
        seed = record["configuration"]["seed"] if folder in GROUPS else record["seed"]
        assert path.stem == stems[record["name"], seed]
        assert record.get("group", folder) == folder


def test_the_index_has_all_results_once():
    index = make_report.index()
    kinds = ("runs", "analyses", "looks", "rows", "others")
    names = [f"{name}.json" for kind in kinds for name in index[kind]]
    there = [path.relative_to(store.RESULTS).as_posix() for path in store.RESULTS.rglob("*.*")]
    assert sorted(names) == sorted(there)
