"""Fixtures that the classroom's tests share."""

import zipfile
from pathlib import Path

import filling
import pytest
import skeleton as builder
import textbook
from grader.grading import Grader
from grader.public import SEED
from grader.rubric import Rubric
from grader.sandbox import Sandbox


@pytest.fixture(scope="session")
def skeleton(tmp_path_factory) -> Path:
    """A folder with what students get; not to be changed."""
    out = tmp_path_factory.mktemp("skeleton")
    builder.write_skeleton(out)
    return out


@pytest.fixture(scope="session")
def grader():
    """A grader with the shipped rubric, whose numbers are drawn once for all tests."""
    rubric = Rubric()
    with Sandbox(rubric.limits) as sandbox:
        yield Grader(rubric, sandbox, SEED)


@pytest.fixture(scope="session")
def textbook_hw04(skeleton) -> str:
    """The textbook's lstlm.py."""
    source = (skeleton / "hw04" / "code" / "lstlm.py").read_text()
    return filling.fill_hw04(source, textbook.BLOCKS)


@pytest.fixture(scope="session")
def textbook_hw4p1(skeleton) -> dict[str, str]:
    """The files of the textbook's hw4p1, by their path."""
    folder = skeleton / "hw4p1"
    files = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.py")}
    files = {name: text for name, text in files.items() if name.startswith(("mytorch", "hw4lib"))}
    return files | filling.filled_hw4p1(files.__getitem__, textbook.FUNCTIONS)


@pytest.fixture
def pack(tmp_path):
    """A function that makes a zip archive of texts or bytes by their path."""

    def make(name: str, files: dict[str, str | bytes]) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            for inner, content in files.items():
                archive.writestr(inner, content)
        return path

    return make
