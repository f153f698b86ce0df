"""The pieces: exchange, judges, submissions, similarity, the public checks."""

import shutil
import subprocess
import sys

import filling
import mistakes
import numpy as np
import pytest
import textbook
from checks import exchange
from checks.case import Case, Outcome
from checks.judges import judge
from grader import similarity
from grader.submission import notebook_code, source_text
from parts import ROOT

# ---- Exchange


def test_all_comes_back():
    tree = {"a": [1, 2.5, None, True, "x", {"b": np.arange(6).reshape(2, 3)}], "c": np.array(3.0),
            "d": np.zeros((0, 2), bool), "e": b"bytes"}
    back = exchange.load(exchange.dump(tree))
    assert back["a"][:5] == [1, 2.5, None, True, "x"]
    assert (back["a"][5]["b"] == [[0, 1, 2], [3, 4, 5]]).all()
    assert back["a"][5]["b"].dtype == np.int64
    assert (back["c"].shape, float(back["c"])) == ((), 3.0)
    assert (back["d"].shape, back["d"].dtype) == ((0, 2), bool)
    assert back["e"].tobytes() == b"bytes"


@pytest.mark.parametrize("data", [b"", b"12345678", b"\xff" * 64, exchange.dump([1])[:-3],
                                  exchange.dump([1]).replace(b"tree", b"tre_")])
def test_what_is_nothing_is_refused(data):
    with pytest.raises(ValueError, match="not of the kind"):
        exchange.load(data)


@pytest.mark.parametrize("value", ["text", None, object(), np.array(["a"]), np.array([object()]),
                                   [[1], [1, 2]], 1j])
def test_only_numbers_are_results(value):
    with pytest.raises(TypeError):
        exchange.plain(value)


# ---- Judges


def verdict(expected, got, **more) -> str:
    """What is said of one array."""
    case = Case("2", "inputs", "collate", {}, {"x": np.asarray(expected)}, **more)
    return judge(case, Outcome({"x": np.asarray(got)})).message


@pytest.mark.parametrize(("expected", "got", "said"), [
    ([1.0, 2.0], [1.0, 2.0], ""), ([1.0, 2.0], [1.0, 2.00001], ""),
    ([[1, 2]], [[1], [2]], "x: expected shape (1, 2), got (2, 1)\nUsual cause: two dimensions"),
    ([1, 2], [1.0, 2.0], "x: expected whole numbers (int64), got float64"),
    ([1, 2], np.array([1, 2], np.int32), "x: expected whole numbers (int64), got int32"),
    ([1.0, -2.0], [-1.0, 2.0], "the sign is the other way round"),
    ([1.0, 2.0], [3.0, 6.0], "all numbers are 3 times what they should be"),
    ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 3.0], [2.0, 4.0]], "rows and columns are exchanged"),
    ([1.0, 2.0, 4.0], [4.0, 1.0, 2.0], "the right numbers, in another order"),
    ([1.0, 2.0], [float("nan"), 2.0], "some numbers are NaN"),
    ([True, False], [False, True], "the wrong way round"),
])
def test_equal(expected, got, said):
    message = verdict(expected, got)
    assert said in message
    assert bool(message) == bool(said)


def test_known_mistakes_are_named_only_if_they_make_a_difference():
    same, swapped = np.array([1.0, 2.0]), np.array([2.0, 1.0])
    mistakes = [("no difference", {"x": same}), ("swapped", {"x": swapped})]
    assert verdict([1.0, 2.0], [2.0, 1.0], mistakes=mistakes).endswith("Usual cause: swapped")
    assert "no difference" not in verdict([1.0, 2.0], [5.0, 9.0], mistakes=mistakes)


def test_only_some_places_count():
    only = {"x": np.array([True, False])}
    assert verdict([1.0, 2.0], [1.0, 9.0], only=only) == ""
    assert "1 of 2" not in verdict([1.0, 2.0], [0.0, 9.0], only=only)


def test_an_item_that_is_not_written():
    case = Case("2", "inputs", "collate", {}, {"x": np.array(1)})
    mine = judge(case, Outcome(kind="NotImplementedError", message="item 2: collate_stories"))
    other = judge(case, Outcome(kind="NotImplementedError", message="item 1: LSTMLM.forward"))
    assert (mine.message, mine.written) == ("not written yet", False)
    assert other.written
    assert "it calls what is not written yet: item 1" in other.message


# ---- Submissions


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_and_line_ends(encoding):
    text = "x = 'é'\r\n%matplotlib inline\r\n!pip install x\ny = 1\n"
    expected = "x = 'é'\n# %matplotlib inline\n# !pip install x\ny = 1\n"
    assert source_text(text.encode(encoding)) == expected


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"cells": [1]}', b'{"cells": []}'])
def test_no_notebook(content):
    assert notebook_code(content) is None


# ---- Similarity


def test_a_copy_is_alike_and_another_answer_is_not(textbook_hw04):
    from grader.one_hw04 import CODE

    ours = similarity.marked((CODE / "lstlm.py").read_text(), "1a")
    renamed = ours.replace("earlier", "mask").replace("  # ", "   # my own: ")
    assert similarity.alike(renamed, ours)
    assert not similarity.alike(similarity.marked(textbook_hw04, "1a"), ours)
    assert not similarity.alike(ours, "x = 1")
    assert similarity.function("def f():\n    '''doc'''\n    return 1\n", "f") == "    return 1"
    assert similarity.function("def f(:", "f") == ""


# ---- check.py


def run_check(folder, *items: str) -> subprocess.CompletedProcess:
    """check.py, as a student runs it."""
    return subprocess.run([sys.executable, "check.py", *items], cwd=folder, text=True,
                          capture_output=True)


def test_check_of_numpy_layers(skeleton, tmp_path):
    folder = tmp_path / "hw4p1"
    shutil.copytree(skeleton / "hw4p1", folder)
    answers = {name: text for name, text in textbook.FUNCTIONS.items() if "Softmax" in name}
    answers["Softmax.backward"] = answers["Softmax.backward"].replace("np.outer(a[i], a[i])", "0")
    filling.fill_folder(folder, answers)
    done = run_check(folder, "linear", "softmax")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Linear: not written yet"
    assert "  forward: ok" in lines
    assert "  backward: NO" in lines
    assert any("Usual cause: the sum is missing" in line for line in lines)
    assert lines[-1] == "1 wrong, 1 not written yet"


@pytest.mark.thorough
@pytest.mark.parametrize("assignment", ["hw04", "hw4p1"])
def test_check_of_the_textbook_and_of_nothing(skeleton, tmp_path, assignment):
    folder = tmp_path / assignment
    shutil.copytree(skeleton / assignment, folder)
    done = run_check(folder)
    count = {"hw04": 9, "hw4p1": 12}[assignment]
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{count} not written yet")
    if assignment == "hw04":
        path = folder / "code" / "lstlm.py"
        path.write_text(filling.fill_hw04(path.read_text(), textbook.BLOCKS))
    else:
        filling.fill_folder(folder, textbook.FUNCTIONS)
    done = run_check(folder)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{count} right"), done.stdout


@pytest.mark.thorough
def test_each_item_is_checked_without_the_others(skeleton, tmp_path):
    folder = tmp_path / "hw04"
    shutil.copytree(skeleton / "hw04", folder)
    empty = (folder / "code" / "lstlm.py").read_text()
    for item in textbook.BLOCKS:
        source = filling.fill_hw04(empty, {item: textbook.BLOCKS[item]})
        (folder / "code" / "lstlm.py").write_text(source)
        done = run_check(folder, item)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 right"), done.stdout


@pytest.mark.thorough
def test_exercises_are_checked(skeleton, tmp_path):
    folder = tmp_path / "hw04"
    shutil.copytree(skeleton / "hw04", folder)
    path = folder / "code" / "lstlm.py"
    path.write_text(filling.fill_hw04(path.read_text(), textbook.BLOCKS))
    done = run_check(folder, *(f"ex{i}" for i in range(1, 10)))
    assert done.stdout.splitlines()[-1] == "8 right, 1 not written yet", done.stdout
    assert "exercise 1 feed-forward model: not written yet" in done.stdout
    text = path.read_text()
    path.write_text(text.replace("if self.positions:\n            T", "if False:\n            T"))
    done = run_check(folder, "ex8")
    assert done.returncode == 1
    assert "nothing is added to the word vectors" in done.stdout


def test_an_item_that_there_is_not(skeleton):
    done = run_check(skeleton / "hw4p1", "nine")
    assert done.returncode == 2
    assert "there is no item nine" in done.stdout
    assert "Items: linear softmax" in done.stdout


# ---- docs/teaching.md


def test_the_page_has_each_mistake_and_what_is_said():
    page = (ROOT / "docs" / "teaching.md").read_text()
    rows = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if len(cells) == 4:
            rows[cells[0].removeprefix("| "), cells[1]] = cells
    for mistake in mistakes.HW04 + mistakes.HW4P1:
        _, _, lost, said = rows[mistake.item, mistake.name]
        assert set(lost.split(", ")) == set(mistake.lost)
        assert mistake.said in said
