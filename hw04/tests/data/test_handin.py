"""traces.py and handin.py with a tiny model: what they write, and what they refuse."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import handin
import lstlm
import pytest
import traces

HERE = Path(handin.__file__).resolve().parent
STORIES = (HERE / "data" / "sample" / "train.tokens").read_text().splitlines(keepends=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder like hw04/ that has all parts: a model of a small data/tiny, the traces of it."""
    folder = tmp_path_factory.mktemp("handin") / "hw04"
    (folder / "code").mkdir(parents=True)
    (folder / "data" / "tiny").mkdir(parents=True)
    for name, part in zip(traces.CORPORA, (slice(10), slice(20, 70), slice(10, 20)), strict=True):
        (folder / "data" / "tiny" / name).write_text("".join(STORIES[part]))
    for name in ("lstlm.py", "fflm.py"):
        shutil.copy(HERE / "code" / name, folder / "code")
    litter = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE / "code" / "backstage", folder / "code" / "backstage", ignore=litter)
    (folder / "report.pdf").write_bytes(b"%PDF-1.7 a report")
    valid, train, _ = (folder / "data" / "tiny" / name for name in traces.CORPORA)
    flags = [
        "-train", "-H", "1", "-N", "16", "-EDim", "8", "-E", "1", "-B", "4",
        "-model", "lm_model.pt", "-trace", "lm_model.train.txt",
        "-train_corpus", train, "-valid_corpus", valid,
    ]  # fmt: skip
    run_here(folder / "code", [*map(str, flags)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "run", run_here)  # the slow test starts a process each time
        assert run_traces(folder) == 0
    return folder


def run_here(code, flags, typed=()):
    """`traces.run` without a process."""
    screen = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(screen):
        patch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
        patch.chdir(code)
        assert lstlm.main([*flags]) == 0


@pytest.fixture
def parts(made, tmp_path):
    """A copy of that folder, to spoil."""
    return shutil.copytree(made, tmp_path / "hw04")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run_traces(folder, *more):
    code = folder / "code"
    flags = ["-model", code / "lm_model.pt", "-data", folder / "data", "-o", code / "traces.txt"]
    return traces.main([*map(str, flags), *more])


def run_handin(folder):
    archive = folder.parent / "build" / "hw04.zip"
    corpus = folder / "data" / "tiny" / "tiny.valid.tokens.200K"
    return handin.main(["-folder", str(folder), "-o", str(archive), "-corpus", str(corpus)])


def refused(capsys, status, *words):
    """One line of error that has all the words."""
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1 and all(word in error for word in words), error


def test_traces_have_the_four_modes_and_no_path_of_this_machine(made):
    text = (made / "code" / "traces.txt").read_text()
    assert traces.made_with(made / "code" / "lm_model.pt") in text.splitlines()
    items = ["8", "9", "10", "10", "10a", "10a", "6a", "6a", "6a", "11"]
    assert re.findall(r"^## (\d+a?)\.", text, re.M) == items
    assert "epoch 1, " in text and "best valid loss" in text
    assert re.findall(r"^words> (.*)", text, re.M) == list(traces.SIX)
    assert text.count("\nnext:   ") == 6
    assert re.findall(r"^-- seed (\d)", text, re.M) == ["1", "2", "3", "4", "5", "6"]
    assert len(re.findall(r"^-- \d+ tokens, ended by ", text, re.M)) == 11
    assert "\n$ python lstlm.py -prompt -greedy -text 'once upon a time' -model lm_model.pt" in text
    rows = re.findall(r"%\s+[\d,]+  (\S+)$", text, re.M)
    assert rows == [f"../data/tiny/{name}" for name in traces.CORPORA]
    assert "-train_corpus tiny/tiny.train.tokens.4M" in text  # it was an absolute path
    assert str(made.parent) not in text and "/tmp" not in text


def test_handin_packs_the_layout_of_the_handout_to_the_same_bytes(parts, capsys):
    (parts / "data" / "more").write_text("data are not packed")
    assert run_handin(parts) == 0
    out = capsys.readouterr().out
    path = parts.parent / "build" / "hw04.zip"
    lines = (
        r"-evaluate: perplexity [\d.]+ on tiny/tiny.valid.tokens.200K", ".*-use: .*",
        ".*-prompt: a story of",
    )
    assert re.search("\n".join(lines), out)
    modules = [f"code/backstage/{path.name}" for path in HERE.glob("code/backstage/*.py")]
    names = sorted({*handin.PARTS, *modules})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"hw04/{name}" for name in names]
        assert all(archive.read(f"hw04/{name}") == (parts / name).read_bytes() for name in names)
    for name in names:  # other times and modes
        os.utime(parts / name, (1e9, 1e9))
        (parts / name).chmod(0o600)
    handin.pack(parts, parts.parent / "again.zip")
    assert (parts.parent / "again.zip").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", handin.PARTS)
def test_handin_refuses_when_a_part_is_missing(parts, capsys, name):
    (parts / name).unlink()
    refused(capsys, run_handin(parts), f"{parts / name}: no such file; {handin.PARTS[name]}")
    assert not (parts.parent / "build").exists()


def test_handin_refuses_parts_that_do_not_fit(parts, capsys):
    (parts / "report.pdf").write_text("a draft")
    refused(capsys, run_handin(parts), "report.pdf: no PDF file; make report")
    (parts / "report.pdf").write_bytes(b"%PDF-1.7")
    (parts / "code/traces.txt").write_bytes(b"\xff\xfe")
    refused(capsys, run_handin(parts), "traces.txt: not UTF-8 text; make traces")
    (parts / "code/traces.txt").write_text("of another model")
    refused(capsys, run_handin(parts), "traces.txt: not made with this lm_model.pt; make traces")


def test_handin_leaves_the_old_archive_when_the_new_one_does_not_run(parts, capsys):
    path = parts.parent / "build" / "hw04.zip"
    path.parent.mkdir()
    path.write_text("old")
    (parts / "code/lm_model.pt").write_bytes(b"no model")
    (parts / "code/traces.txt").write_text(traces.made_with(parts / "code/lm_model.pt"))
    refused(capsys, run_handin(parts), "-evaluate", "status 2", "lm_model.pt")
    (parts / "code/lstlm.py").write_text("import small")  # a file that is not packed
    refused(capsys, run_handin(parts), "-evaluate", "status 1", "No module named 'small'")
    assert path.read_text() == "old" and [*path.parent.iterdir()] == [path]


def test_traces_refuse_what_is_missing(parts, capsys):
    (parts / "code/traces.txt").write_text("old")
    (parts / "code/part.txt").write_text("$ python lstlm.py -train\nepoch 1")
    for flag, value, *words in (
        ("-train_log", parts / "code/part.txt", "part.txt: not the trace", "-trace"),
        ("-train_log", parts / "no.txt", "no.txt: no such file", "-train_log"),
        ("-data", parts, "tiny.valid.tokens.200K: no such file", "tiny -same"),
        ("-model", parts / "no.pt", "no.pt: no such file", "-train"),
        ("-o", parts / "no" / "traces.txt", "traces.txt: its folder is missing"),
    ):
        refused(capsys, run_traces(parts, flag, str(value)), *words)
    assert (parts / "code/traces.txt").read_text() == "old"


def test_without_the_stories_the_evaluation_of_the_same_model_is_kept(parts, capsys, monkeypatch):
    """As in a fresh clone, where all other traces are made anew."""
    monkeypatch.setattr(traces, "run", run_here)
    path = parts / "code" / "traces.txt"
    before = path.read_text()
    shutil.rmtree(parts / "data" / "tiny")
    path.write_text(before.replace("\nnext:   ", "\nold:   "))
    assert run_traces(parts) == 0
    assert path.read_text() == before
    assert f"as it was, since {parts / 'data' / 'tiny'} is not there" in capsys.readouterr().out
    path.write_text(before.replace("SHA-256 ", "SHA-256 0"))  # of another model
    refused(capsys, run_traces(parts), "tiny.valid.tokens.200K: no such file", "tiny -same")


def test_the_trace_of_another_training_is_refused(parts, capsys):
    log = parts / "code" / "lm_model.train.txt"
    log.write_text(re.sub(r"(best valid loss) [\d.]+", r"\1 1.2345", log.read_text()))
    refused(capsys, run_traces(parts), "lm_model.train.txt: not the trace of the training of")


def test_the_shipped_model_has_the_trace_of_its_training():
    model = HERE / "code" / "lm_model.pt"
    log = traces.read_train_log(model.with_suffix(".train.txt"))
    traces.check_train_log(model.with_suffix(".train.txt"), log, model)
    text = (HERE / "code" / "traces.txt").read_text()
    assert traces.made_with(model) in text.splitlines() and log in text


def test_paths_of_a_train_log_are_cut(tmp_path):
    log = tmp_path / "log"
    text = "-model {0}b/lm.pt -x ../c/d 3 bits/char '/a b/c/d' /e\nbest valid loss 1 in {0}b/l\n"
    log.write_text(text.format("/a/"))
    assert traces.read_train_log(log) == text.format("")


@pytest.mark.slow
def test_both_as_processes(parts, tmp_path):
    code, archive = parts / "code", tmp_path / "hw04.zip"
    before = (code / "traces.txt").read_text()
    flags = ["-model", code / "lm_model.pt", "-data", parts / "data", "-o", code / "traces.txt"]
    subprocess.run([sys.executable, HERE / "traces.py", *flags], cwd=tmp_path, check=True)
    after = (code / "traces.txt").read_text()
    without_speed = [re.sub(r" +[\d,]+  \.\./", " ../", text) for text in (before, after)]
    assert without_speed[0] == without_speed[1]
    command = [sys.executable, HERE / "handin.py", "-folder", parts, "-o", archive]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert zipfile.is_zipfile(archive)
