"""All programs alike: one line for a wrong flag or a missing package, and -h says each default."""

import argparse
import runpy
import subprocess
import sys
from pathlib import Path

import lstlm
import pytest

ROOT = Path(lstlm.__file__).parents[2]
FOLDERS = (
    "hw04", "hw04/code", "hw04/data", "hw04/page", "hw04/report", "hw04/report/*", "bench",
    "bench/*",
)
FILES = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.py"))
PARTS = [path for path in FILES if "no program" in path.read_text("utf-8")]
PROGRAMS = [path for path in FILES if path not in PARTS]
# Those that need no package, of which -h works in any Python.
ALONE = ("handin.py", "make_report.py", "make_sample.py", "single.py", "traces.py")


def name_of(path: Path) -> str:
    """`bench/compare.py` and the like."""
    return str(path.relative_to(ROOT))


def test_all_are_here():
    assert len(PROGRAMS) > 20
    assert {path.name for path in PARTS} > {"figures.py", "measuring.py", "runner.py", "store.py"}
    assert all("guarded" in path.read_text("utf-8") or "run_program" in path.read_text("utf-8")
               for path in PROGRAMS)


def without_packages(path: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess:
    """Run a file in a Python that has only its own modules, and does not look beside the file."""
    command = [sys.executable, "-S", "-P", path, *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={})


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_a_missing_package_is_told_in_one_line(path, tmp_path):
    done = without_packages(path, tmp_path, "-h")
    if path.name in ALONE:
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: {path.name}")
        return
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{path.name}: error: this Python has no ")
    assert "pip install" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("path", PARTS, ids=name_of)
def test_what_is_no_program_says_so(path, tmp_path):
    done = without_packages(path, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{path.name}: error: no program; ")
    assert done.stderr.count("\n") == 1
    used_by = done.stderr.split()[-3]
    assert used_by in {program.name for program in PROGRAMS}


@pytest.mark.parametrize("name", ["make_report", "measures/ngram", "extensions/unbiased"])
def test_without_docstrings_there_is_help(name, tmp_path):
    path = ROOT / "hw04" / "report" / f"{name}.py"
    command = [sys.executable, "-OO", "-P", path, "-h"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "-h, --help" in done.stdout


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs a program within this process: its status, output and errors."""

    def call(path: Path, *flags: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(sys, "argv", [str(path), *flags])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(path), run_name="__main__")
        return exit.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_a_wrong_flag_is_told_in_one_line(path, run):
    status, out, err = run(path, "-nope")
    assert (status, out) == (2, "")
    assert err.startswith(f"{path.name}: error: ")
    assert f"{path.name} -h " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_help_says_each_default(path, run, monkeypatch):
    parsers = []
    print_help = argparse.ArgumentParser.print_help

    def noted(parser, file=None):
        parsers.append(parser)
        print_help(parser, file)

    monkeypatch.setattr(argparse.ArgumentParser, "print_help", noted)
    status, out, err = run(path, "-h")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: {path.name}")
    (parser,) = parsers
    modes = {"-train", "-use", "-prompt", "-evaluate"}
    for action in parser._actions:
        needed = action.required and not action.option_strings
        if not needed and modes.isdisjoint(action.option_strings) and action.dest != "help":
            assert "default" in action.help, action.option_strings or action.dest


@pytest.mark.parametrize("name", ["experiments", "tuning", "measures/analysis",
                                  "measures/both_ways", "measures/corpora", "measures/speeds"])
def test_a_folder_of_data_that_is_not_there_is_named(name, run):
    path = ROOT / "hw04" / "report" / f"{name}.py"
    before = {"experiments": ["run", "base"], "tuning": ["lstm"], "measures/analysis": ["strong"]}
    status, out, err = run(path, *before.get(name, []), "-data", "no/such")
    assert (status, out) == (2, "")
    assert "argument -data: no/such: no such folder; give another" in err
    assert err.count("\n") == 1
