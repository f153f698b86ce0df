"""The archive for Gradescope, run in its layout under a temporary root."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import autograder
import pytest


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The archive."""
    path = tmp_path_factory.mktemp("autograder") / "autograder.zip"
    assert autograder.main(["-o", str(path)]) == 0
    return path


def test_its_layout(archive):
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
        assert {"setup.sh", "run_autograder", "classroom/rubric.yaml"} <= {*names}
        for name in ("setup.sh", "run_autograder"):
            assert packed.getinfo(name).external_attr >> 16 == 0o755
            assert packed.read(name).startswith(b"#!/usr/bin/env bash\n")
        assert not [name for name in names if "tests/" in name or "lm_model" in name]
        assert b"torch==" in packed.read("requirements.txt")


def test_the_same_files_give_the_same_bytes(archive, tmp_path):
    assert autograder.main(["-o", str(tmp_path / "again.zip")]) == 0
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def run_in_layout(archive, root, files: dict[str, str]) -> dict:
    """What Gradescope would get for a submission of these files."""
    shutil.unpack_archive(archive, root / "source")
    (root / "submission").mkdir()
    for name, text in files.items():
        (root / "submission" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "submission" / name).write_text(text)
    environment = {**os.environ, "AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", str(root / "source" / "run_autograder")], env=environment, text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((root / "results" / "results.json").read_text())


def test_it_grades_numpy_layers(archive, textbook_hw4p1, tmp_path):
    files = {name: text for name, text in textbook_hw4p1.items() if name.startswith("mytorch")}
    results = run_in_layout(archive, tmp_path, files)
    assert results["score"] == 30
    assert results["max_score"] == 100
    by_name = {test["name"]: test for test in results["tests"]}
    assert by_name["Softmax"]["score"] == by_name["Softmax"]["max_score"] == 5
    assert {test["visibility"] for test in results["tests"]} == {"visible"}
    assert results["visibility"] == "visible"
    assert results["stdout_visibility"] == "hidden"


@pytest.mark.thorough
def test_it_grades_the_first_assignment(archive, textbook_hw04, tmp_path):
    rubric = tmp_path / "source" / "classroom" / "rubric.yaml"
    shutil.unpack_archive(archive, tmp_path / "source")
    text = rubric.read_text().replace("hidden: []  ", 'hidden: ["6a"]  ')
    results = run_in_layout(archive, tmp_path / "plain", {"my code/lstlm.py": textbook_hw04})
    assert results["score"] == 110
    autograder.main(["-o", str(tmp_path / "h.zip"), "--rubric", str(write(tmp_path, text))])
    results = run_in_layout(tmp_path / "h.zip", tmp_path / "hidden", {"lstlm.py": "x = 1"})
    hidden = [t["name"] for t in results["tests"] if t["visibility"] == "after_published"]
    assert hidden == ["6a frequency penalty (*)"]


def write(folder, text: str):
    """A rubric of this text."""
    path = folder / "rubric.yaml"
    path.write_text(text)
    return path


def test_a_failing_grader_is_no_students_fault(archive, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("hw04: [")
    autograder.main(["-o", str(tmp_path / "b.zip"), "--rubric", str(broken)])
    results = run_in_layout(tmp_path / "b.zip", tmp_path / "root", {"lstlm.py": "x = 1"})
    assert results["score"] == 0
    assert "no fault of yours" in results["output"]
