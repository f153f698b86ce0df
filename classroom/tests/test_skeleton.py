"""What students get: it runs, its parts are empty, and no answer is in it."""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import filling
import pytest
import skeleton as builder
import textbook
from emptied import functions, is_docstring, only_stores
from parts import BLOCKS, OWN, PARTS, ROOT

BACKSTAGE = ROOT / "hw04" / "code" / "backstage"
QUICK = {**os.environ, "OMP_NUM_THREADS": "1"}
SMALL = ["-E", "1", "-N", "8", "-EDim", "4", "-H", "1", "-VSize", "30", "-B", "4"]


def run(folder: Path, *args: str) -> subprocess.CompletedProcess:
    """A program of the skeleton, as a student runs it."""
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=QUICK, capture_output=True, text=True
    )


def texts(folder: Path) -> dict[Path, str]:
    """All text files of a folder."""
    files = [path for path in folder.rglob("*") if path.suffix in (".py", ".md", ".txt", ".yaml")]
    return {path: path.read_text() for path in files}


def bare(text: str) -> list[str]:
    """The lines of code without indentation and comments."""
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def answers() -> list[str]:
    """The code that answers each item."""
    source = (ROOT / "hw04" / "code" / "lstlm.py").read_text()
    bodies = [builder.find_block(source, block.item)[2] for block in BLOCKS]
    for part in PARTS:
        text = (ROOT / "hw4p1" / part.file).read_text()
        for name, node in functions(ast.parse(text)):
            if part.file.startswith(OWN):
                continue
            kept = [s for s in node.body if not is_docstring(s) and not only_stores(s)]
            if name not in part.given and kept:
                begin, end = kept[0].lineno - 1, kept[-1].end_lineno
                bodies.append("\n".join(text.splitlines()[begin:end]))
    return bodies


def test_no_answer_is_in_it(skeleton):
    """No two lines of one that follow each other; single ones are too common to be known by."""
    pairs = {
        "\n".join(pair) for body in answers() for pair in itertools.pairwise(bare(body))
        if len("".join(pair)) > 40
    }
    single = {line for body in answers() for line in bare(body) if len(line) > 50}
    assert len(pairs) > 200
    assert len(single) > 80
    bares = {path: "\n".join(bare(text)) for path, text in texts(skeleton).items()}
    found = [
        (str(path.relative_to(skeleton)), answer) for path, text in bares.items()
        for answer in pairs | single if answer in text
    ]
    assert found == []


def test_it_has_no_history_and_no_model(skeleton):
    names = {path.name for path in skeleton.rglob("*")}
    assert not names & {".git", "lm_model.pt", "fflm.py", "traces.txt", "cached_scorer.py"}
    assert not [path for path in skeleton.rglob("*") if path.is_symlink()]
    assert "classroom" not in {path.name for path in skeleton.iterdir()}


def test_each_item_is_empty_once_with_a_hint(skeleton):
    source = (skeleton / "hw04" / "code" / "lstlm.py").read_text()
    for block in BLOCKS:
        body = builder.find_block(source, block.item)[2]
        assert re.fullmatch(r'(?: +# .*\n)+ +raise NotImplementedError\("item \w+: .*"\)\n', body)
        assert source.count(f'NotImplementedError("item {block.item}: {block.where}")') == 1
    for part in PARTS:
        text = (skeleton / "hw4p1" / part.file).read_text()
        for name in part.write:
            assert text.count(f'NotImplementedError("item {part.item}: {name}")') == 1
        assert {name for name, _ in functions(ast.parse(text))} == {
            *part.write, *part.given, *part.optional
        }


def test_given_code_is_as_it_is_in_the_reference(skeleton):
    names = [f"hw04/code/backstage/{path.name}" for path in BACKSTAGE.glob("*.py")]
    names += ["hw4p1/hw4lib/data/tokenizer.py", "hw4p1/hw4lib/errors.py", "hw4p1/make_data.py"]
    assert len(names) > 30
    for name in names:
        assert (skeleton / name).read_text() == (ROOT / name).read_text()


@pytest.mark.parametrize(("folder", "program", "flag"), [
    ("hw04", "code/lstlm.py", "-fpenalty"), ("hw4p1", "run_lm.py", "handin"),
    pytest.param("hw4p1", "train_tokenizers.py", "--train", marks=pytest.mark.thorough),
])
def test_help_works_without_any_answer(skeleton, folder, program, flag):
    done = run(skeleton / folder, program, "-h")
    assert done.returncode == 0, done.stderr
    assert flag in done.stdout


@pytest.mark.parametrize("program", [
    "hw04/check.py", "hw4p1/check.py", "hw4p1/run_lm.py", "grade.py", "skeleton.py",
])
def test_a_python_without_packages_is_told_in_one_line(skeleton, program):
    path = ROOT / "classroom" / program if "/" not in program else skeleton / program
    # -S: without the folder where packages are installed
    done = run(skeleton, "-S", str(path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "requirements" in done.stderr


@pytest.mark.thorough
def test_what_needs_no_item_works(skeleton, tmp_path):
    done = run(skeleton / "hw4p1", "make_data.py", str(tmp_path / "data"), "--sample")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "data" / "train").glob("*.npy"))) > 1000


def test_a_training_says_which_item_is_missing(skeleton, tmp_path):
    done = run(skeleton / "hw04", "code/lstlm.py", "-train", *SMALL, "-model", str(tmp_path / "m"))
    assert "item 2: collate_stories" in done.stderr


def test_no_folder_of_another_is_replaced(tmp_path):
    (tmp_path / "hw04").mkdir()
    (tmp_path / "hw04" / "mine.py").write_text("mine")
    assert builder.main(["-o", str(tmp_path)]) == 2
    assert (tmp_path / "hw04" / "mine.py").read_text() == "mine"


def test_an_earlier_skeleton_is_replaced(tmp_path):
    builder.write_skeleton(tmp_path)
    (tmp_path / "hw04" / "old").write_text("")
    builder.write_skeleton(tmp_path)
    assert not (tmp_path / "hw04" / "old").exists()


@pytest.mark.thorough
def test_the_textbook_trains_in_it(skeleton, tmp_path):
    folder = tmp_path / "hw04"
    shutil.copytree(skeleton / "hw04", folder)
    program = folder / "code" / "lstlm.py"
    program.write_text(filling.fill_hw04(program.read_text(), textbook.BLOCKS))
    corpora = []
    for name, size in (("train", 40), ("valid", 10)):
        lines = (folder / "data" / "sample" / f"{name}.tokens").read_text().splitlines(True)
        (tmp_path / name).write_text("".join(lines[:size]))
        corpora += [f"-{name}_corpus", str(tmp_path / name)]
    done = run(folder, "code/lstlm.py", "-train", *corpora, *SMALL, "-a")
    assert done.returncode == 0, done.stderr
    assert "best valid loss" in done.stdout
    text = ["-text", "the"]
    prompt = ["-prompt", "-fpenalty", "0.5"]
    for flags in (["-use", *text], [*prompt, *text], ["-evaluate", *corpora]):
        done = run(folder, "code/lstlm.py", *flags)
        assert done.returncode == 0, done.stderr


@pytest.mark.thorough
def test_the_textbook_trains_in_the_second(skeleton, tmp_path):
    folder = tmp_path / "hw4p1"
    shutil.copytree(skeleton / "hw4p1", folder)
    filling.fill_folder(folder, textbook.FUNCTIONS)
    small = [f"--set={setting}" for setting in (
        "model.d_model=16", "model.d_ff=16", "data.subset=0.05", "data.batch_size=8",
        "tokenization.token_type=1k",
    )]
    done = run(folder, "run_lm.py", "train", "--epochs", "1", *small)
    assert done.returncode == 0, done.stderr
    done = run(folder, "run_lm.py", "handin")
    assert done.returncode == 0, done.stderr
    assert "perplexity_char" in done.stdout
