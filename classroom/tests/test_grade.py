"""Grading: the reference gets all points, an empty skeleton none, a block costs its own points."""

import ast
import csv
import io
import json
import re
import shutil
import threading
from pathlib import Path
from unittest import mock

import filling
import grade
import pytest
import skeleton as builder
import textbook
from grader import one_hw4p1
from grader.result import Result, Test, to_csv
from grader.rubric import SHIPPED
from grader.submission import read_submission
from parts import BLOCKS, PARTS, ROOT

CODE = ROOT / "hw04" / "code"
STORED = ROOT / "hw4p1" / "results" / "gutenberg-5k.json"  # a run with a perplexity of 3.17


def points(result: Result) -> dict[str, float]:
    """What each item got."""
    return {test.key: test.score for test in result.tests}


def most(result: Result) -> dict[str, float]:
    """What each item can get."""
    return {test.key: test.max_score for test in result.tests}


def handed_in() -> dict[str, str]:
    """The three result files, with the numbers of a stored run."""
    stored = json.loads(STORED.read_text())
    metrics = {**stored["test"], "test_data": stored["test_data"]}
    text = {"prompt": "[SOS]A", "original": "B", "generated": "C", "score": -1.0}
    return {"handin/test_metrics.json": json.dumps(metrics), "handin/model_arch.txt": "a table",
            "handin/test_generated_results.json": json.dumps([text])}


def reference_hw4p1() -> dict[str, str]:
    """The reference's second assignment."""
    folder = ROOT / "hw4p1"
    return {
        f"hw4p1/{path.relative_to(folder)}": path.read_text()
        for name in ("mytorch", "hw4lib") for path in (folder / name).rglob("*.py")
    }


@pytest.mark.thorough
def test_the_reference_gets_all_points_in_the_first(grader):
    result = grader.grade(read_submission(ROOT / "hw04"))
    assert points(result) == most(result)
    assert (result.score, result.max_score) == (125, 125)
    notes = result.tests[-1].output
    assert "item 1, item 1a, item 2, item 3" in notes
    assert "is the one that comes with the published solution" in notes
    assert "15 points" in notes
    for test in result.tests:
        if test.key.startswith("ex"):
            assert "NO" not in test.output
            assert test.output == "property 0/0"


def test_the_reference_gets_all_points_in_the_second(grader, pack):
    path = pack("reference.zip", reference_hw4p1() | handed_in())
    result = grader.grade(read_submission(path))
    assert points(result) == most(result), [test.output for test in result.tests]
    assert (result.score, result.max_score) == (100, 100)


def test_only_one_thread_parses_programs(grader, pack, monkeypatch):
    """Two at once fail at times in Python 3.11."""
    threads = set()
    parse = ast.parse

    def recorded(*args, **kwargs):
        threads.add(threading.current_thread())
        return parse(*args, **kwargs)

    monkeypatch.setattr(ast, "parse", recorded)
    one_hw4p1.reference_without.cache_clear()
    grader.grade(read_submission(pack("parsed.zip", reference_hw4p1() | handed_in())))
    assert threads == {threading.current_thread()}


def test_points_are_those_of_the_handouts(grader):
    first = grader.rubric.items("hw04")
    section = grader.rubric.section("hw04")
    others = section["model"]["points"] + sum(section["traces"].values())
    assert sum(sum(parts.values()) for parts in first.values()) + others + 15 == 100 + 40
    assert sum(first["1a"].values()) == sum(first["6a"].values()) == 20
    second = {item: sum(parts.values()) for item, parts in grader.rubric.items("hw4p1").items()}
    layers = [second.pop(name) for name in ("linear", "softmax", "attention", "multi_head")]
    assert layers == [5, 5, 10, 10]
    assert sum(second.values()) + grader.rubric.section("hw4p1", "perplexity")["points"] == 70


@pytest.mark.thorough
def test_an_empty_skeleton_gets_nothing(grader, skeleton):
    for name in ("hw04", "hw4p1"):
        result = grader.grade(read_submission(skeleton / name))
        assert result.score == 0
        assert result.max_score == {"hw04": 125, "hw4p1": 100}[name]
        items = [test for test in result.tests if test.key in grader.rubric.items(name)]
        assert {test.output for test in items} == {"not written yet"}


def test_the_textbook_gets_all_points_in_the_first(grader, textbook_hw04, pack):
    result = grader.grade(read_submission(pack("book.zip", {"hw04/code/lstlm.py": textbook_hw04})))
    items = grader.rubric.items("hw04")
    assert {k: p for k, p in points(result).items() if k in items} == {
        item: sum(parts.values()) for item, parts in items.items()
    }
    assert "published solution" not in result.tests[-1].output


def test_the_textbook_gets_all_points_in_the_second(grader, textbook_hw4p1, pack):
    result = grader.grade(read_submission(pack("book.zip", textbook_hw4p1 | handed_in())))
    assert points(result) == most(result)
    assert "published solution" not in result.tests[-1].output


@pytest.mark.thorough
@pytest.mark.parametrize("item", [block.item for block in BLOCKS])
def test_a_block_costs_its_own_points(grader, textbook_hw04, pack, item):
    source = builder.without_answers(textbook_hw04, (item,))
    result = grader.grade(read_submission(pack("one.zip", {"lstlm.py": source})))
    for key, parts in grader.rubric.items("hw04").items():
        assert points(result)[key] == (0 if key == item else sum(parts.values()))


@pytest.mark.thorough
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.item)
def test_a_part_costs_its_own_points(grader, skeleton, textbook_hw4p1, pack, part):
    empty = (skeleton / "hw4p1" / part.file).read_text()
    result = grader.grade(read_submission(pack("one.zip", textbook_hw4p1 | {part.file: empty})))
    for key, parts in grader.rubric.items("hw4p1").items():
        assert points(result)[key] == (0 if key == part.item else sum(parts.values()))


# ---- What is accepted


def nine_items(grader, path: Path) -> float:
    """The points of the nine items of a submission."""
    result = grader.grade(read_submission(path))
    return sum(p for key, p in points(result).items() if key in grader.rubric.items("hw04"))


FULL = 110


@pytest.mark.thorough
def test_a_lone_file_with_windows_line_ends(grader, textbook_hw04, tmp_path):
    path = tmp_path / "my lstlm.py"
    path = tmp_path / "lstlm.py"
    path.write_bytes(b"\xef\xbb\xbf" + textbook_hw04.replace("\n", "\r\n").encode())
    assert nine_items(grader, path) == FULL


@pytest.mark.thorough
def test_a_tar_in_a_wrong_folder_with_spaces_and_litter(grader, textbook_hw04, tmp_path):
    folder = tmp_path / "my home work (final)" / "hw 4"
    folder.mkdir(parents=True)
    (folder / "lstlm.py").write_text(textbook_hw04)
    (folder / "._lstlm.py").write_bytes(b"\0\5litter")
    shutil.make_archive(str(tmp_path / "ada lovelace"), "gztar", tmp_path, folder.parent.name)
    assert nine_items(grader, tmp_path / "ada lovelace.tar.gz") == FULL


@pytest.mark.thorough
def test_the_single_file(grader, tmp_path):
    import single

    (tmp_path / "lstlm.py").write_text(single.joined())
    assert nine_items(grader, tmp_path / "lstlm.py") == FULL


@pytest.mark.thorough
def test_a_jupyter_export_with_plots(grader, textbook_hw04, tmp_path):
    head = ("# In[1]:\n\nget_ipython().run_line_magic('matplotlib', 'inline')\n%pylab\n!pip list\n"
            "import seaborn as sns\nimport plotly.express as px\nsns.set_theme()\n"
            "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n")
    (tmp_path / "lstlm.py").write_text(head + textbook_hw04)
    assert nine_items(grader, tmp_path / "lstlm.py") == FULL


@pytest.mark.thorough
def test_a_notebook(grader, textbook_hw04, tmp_path):
    cells = [{"cell_type": "markdown", "source": ["# mine"]},
             {"cell_type": "code", "source": textbook_hw04.splitlines(keepends=True)}]
    (tmp_path / "hw.ipynb").write_text(json.dumps({"cells": cells}))
    assert nine_items(grader, tmp_path / "hw.ipynb") == FULL


@pytest.mark.thorough
def test_a_changed_backstage_is_replaced_and_told(grader, textbook_hw04, pack):
    files = {"code/lstlm.py": textbook_hw04, "code/backstage/state.py": "raise SystemExit",
             "code/backstage/words.py": (CODE / "backstage" / "words.py").read_text()}
    result = grader.grade(read_submission(pack("changed.zip", files)))
    assert points(result)["2"] == 10
    assert "backstage/ is not the course's (state.py)" in result.tests[-1].output


@pytest.mark.parametrize(("source", "said"), [
    ("def f(:\n", "SyntaxError"), ("import lightning\n", "No module named 'lightning'"),
    ("open('data/my.txt')\n", "my.txt"), ("\0", "collate_stories"),
])
def test_a_file_that_cannot_be_imported(grader, pack, source, said):
    result = grader.grade(read_submission(pack("bad.zip", {"lstlm.py": source})))
    assert result.score == 0
    by_key = {test.key: test.output for test in result.tests}
    assert said in by_key["2"]


@pytest.mark.parametrize("name", ["empty.zip", "letter.txt", "broken.zip", "broken.tar"])
def test_nothing_to_grade(grader, tmp_path, pack, name):
    path = pack(name, {}) if name == "empty.zip" else tmp_path / name
    if name != "empty.zip":
        path.write_bytes(b"PK\3\4 no archive" if "zip" in name else b"Dear teacher")
    result = grader.grade(read_submission(path))
    assert result.score == 0
    assert result.max_score > 0
    assert "neither lstlm.py nor" in result.tests[0].output


# ---- Models, results, points


def small_model(grader) -> bytes:
    """A model file that the reference made."""
    grader.cases("hw04")
    from grader.prepared import prepared

    return prepared(grader.seed)["model"].tobytes()


@pytest.mark.thorough
def test_a_model_of_a_small_vocabulary_gets_nothing(grader, pack):
    files = {"lstlm.py": "x = 1", "lm_model.pt": small_model(grader)}
    result = grader.grade(read_submission(pack("small.zip", files)))
    (test,) = [test for test in result.tests if test.key == "model"]
    assert test.score == 0
    assert "the vocabulary is too small" in test.output


@pytest.mark.thorough
def test_the_perplexity_is_judged_by_the_rubric(grader, pack, monkeypatch):
    corpora = [{"file": "hw04/data/sample/test.tokens", "stories": 2, "full": 50, "none": 400}]
    settings = {"points": 10, "unknown": 1.0, "corpora": corpora}
    monkeypatch.setitem(grader.rubric.tree["hw04"], "model", settings)
    files = {"lstlm.py": "x = 1", "my_model.pt": small_model(grader)}
    result = grader.grade(read_submission(pack("small.zip", files)))
    (test,) = [test for test in result.tests if test.key == "model"]
    perplexity = float(re.search(r"perplexity ([\d.]+)", test.output)[1])
    assert test.score == pytest.approx(10 * (400 - perplexity) / 350, abs=0.02)
    assert 0 < test.score < 10


@pytest.mark.parametrize(("change", "said", "got"), [
    ({}, "3.1701", 70), ({"perplexity_char": 3.0}, "not e to the power", 0),
    ({"ce_loss_token": 1.0}, "characters per token", 0),
    ({"perplexity_char": "nan", "ce_loss_char": "nan"}, "positive and finite", 0),
    ({"perplexity_char": 4.0, "ce_loss_char": 1.3862943611, "ce_loss_token": 5.7333}, "at most 3.5",
     0),
    ({"test_data": {"made_of": ["test.tokens"]}}, "embedded sample", 0),
])
def test_the_results_of_the_second_alone(grader, pack, change, said, got):
    files = handed_in()
    metrics = json.loads(files["handin/test_metrics.json"])
    files["handin/test_metrics.json"] = json.dumps(metrics | change)
    result = grader.grade(read_submission(pack("handin.zip", files)))
    (test,) = [test for test in result.tests if test.key == "perplexity"]
    assert test.score == got
    assert test.max_score == 70
    assert said in test.output


def test_the_digest_of_the_test_data(grader, pack, monkeypatch):
    settings = grader.rubric.tree["hw4p1"]["perplexity"]
    for digests, got in ((["0" * 64], 0), ([json.loads(STORED.read_text())["test_data"]["sha256"]],
                                          70)):
        monkeypatch.setitem(settings, "digests", digests)
        result = grader.grade(read_submission(pack("handin.zip", handed_in())))
        assert points(result)["perplexity"] == got


# ---- The command line


@pytest.fixture
def rubric(tmp_path) -> Path:
    """A rubric in which the report of ada has points."""
    path = tmp_path / "rubric.yaml"
    path.write_text(SHIPPED.read_text().replace("given: {}}", "given: {ada: 13}}"))
    return path


@pytest.mark.thorough
def test_a_folder_of_many(tmp_path, textbook_hw04, skeleton, rubric, capsys):
    folder = tmp_path / "class"
    (folder / "ada").mkdir(parents=True)
    (folder / "ada" / "lstlm.py").write_text(textbook_hw04)
    (folder / "bob").mkdir()
    (folder / "bob" / "lstlm.py").write_text((skeleton / "hw04/code/lstlm.py").read_text())
    outs = [tmp_path / "r.json", tmp_path / "r.csv"]
    flags = [str(folder), "--json", str(outs[0]), "--csv", str(outs[1]), "--seed", "3"]
    assert grade.main([*flags, "--rubric", str(rubric)]) == 0
    results = json.loads(outs[0].read_text())
    assert [sorted(each) for each in results] == [["max_score", "score", "tests"]] * 2
    for each in results:
        for test in each["tests"]:
            assert sorted(test) == ["max_score", "name", "output", "score"]
        assert each["score"] == sum(test["score"] for test in each["tests"])
    assert [each["score"] for each in results] == [FULL + 13, 0]
    assert [each["max_score"] for each in results] == [140, 125]
    rows = list(csv.DictReader(io.StringIO(outs[1].read_text())))
    assert [(row["submission"], row["1a"], row["report"]) for row in rows] == [
        ("ada", "20", "13"), ("bob", "0", ""),
    ]
    printed = capsys.readouterr().out
    assert "ada::1a dot-product attention (*) PASSED [20/20]" in printed
    assert "bob::2 minibatches FAILED [0/10]" in printed


def test_one_that_cannot_be_graded_ends_no_class(tmp_path, capsys):
    """Both assignments in one, nothing at all, and one on which the grader itself fails."""
    metrics = json.loads(handed_in()["handin/test_metrics.json"])
    for name, files in (("ada", {"lstlm.py": "", "test_metrics.json": "{}"}), ("bob", {"x": ""}),
                        ("cyd", {"test_metrics.json": json.dumps(metrics)})):
        for inner, text in files.items():
            (tmp_path / "class" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "class" / name / inner).write_text(text)
    out = tmp_path / "r.json"
    with mock.patch.object(one_hw4p1, "read_results", side_effect=KeyError("odd")):
        assert grade.main([str(tmp_path / "class"), "--json", str(out)]) == 1
    said = [each["tests"][0]["output"] for each in json.loads(out.read_text())]
    assert "both assignments are in it: grade it with --assignment" in said[0]
    assert "neither lstlm.py nor" in said[1]
    assert "the grader failed, grade this by hand" in said[2]
    assert "cyd: 0 of" in capsys.readouterr().out


@pytest.mark.thorough
def test_one_file_gives_one_object(tmp_path, skeleton):
    out = tmp_path / "r.json"
    (tmp_path / "lstlm.py").write_text("x = 1\n")
    assert grade.main([str(tmp_path / "lstlm.py"), "--json", str(out), "--seed", "3"]) == 0
    assert json.loads(out.read_text())["max_score"] == 125


@pytest.mark.parametrize(("flags", "said"), [
    ([], "name at least one"), (["none.zip"], "no such file"),
    (["--rubric", "none.yaml", "."], "none.yaml: cannot be read"),
    (["--nope"], "no such flag (grade.py -h lists the flags)"),
])
def test_a_wrong_command_line_is_one_line(flags, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").touch()
    assert grade.main(flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize(("old", "new", "said"), [
    ("stable: 1,", "steady: 1,", "item softmax has no part steady; there are any dimension,"),
    ("stable: 1,", "stable: -1,", "hw4p1.softmax.stable is -1; give points"),
    ("stable: 1,", "stable: [,", "not YAML"), ("softmax: {f", "soft: {f", "no item soft is graded"),
    ("item_seconds: 10 ", "second: 10 ", "there is no limit second"),
])
def test_a_wrong_rubric_is_one_line(old, new, said, tmp_path, capsys):
    text = SHIPPED.read_text()
    assert old in text
    (tmp_path / "r.yaml").write_text(text.replace(old, new, 1))
    (tmp_path / "test_metrics.json").write_text("{}")
    flags = [str(tmp_path / "test_metrics.json"), "--rubric", str(tmp_path / "r.yaml")]
    assert grade.main(flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.thorough
def test_bonus_items_are_above_the_maximum(grader, textbook_hw04, pack, monkeypatch):
    monkeypatch.setitem(grader.rubric.tree["hw04"], "bonus", ["1a", "6a"])
    result = grader.grade(read_submission(pack("b.zip", {"lstlm.py": textbook_hw04})))
    assert (result.score, result.max_score) == (FULL, 85)


def test_names_are_no_formulas_and_outputs_no_codes():
    test = Test("1", "1", 0, 5, "\x1b[31mred\x07")
    assert to_csv([Result("=cmd()", [test])]).splitlines()[1].startswith("'=cmd()")
    assert "\x1b" not in Result("x", [test]).lines()
    assert "\x1b" not in json.dumps(Result("x", [test]).tree(), ensure_ascii=False)


def test_functions_fill(skeleton):
    assert set(textbook.FUNCTIONS) == {name for part in PARTS for name in part.write}
    assert set(textbook.BLOCKS) == {block.item for block in BLOCKS}
    assert "YOUR CODE HERE" not in filling.fill_function(
        (skeleton / "hw4p1/hw4lib/model/masks.py").read_text(), "PadMask",
        textbook.FUNCTIONS["PadMask"],
    ).split("def CausalMask")[0]
