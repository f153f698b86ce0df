"""What a model was trained on: -evaluate measures that by itself, -train says what it replaces."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import backstage.defaults
import backstage.trained_on
import lstlm
import pytest
from backstage.sealed import seal
from small import SAMPLE, content_of

SHIPPED = Path(lstlm.__file__).with_name("lm_model.pt")
TINY = ["-H", 1, "-N", 4, "-EDim", 3, "-E", 1]


@pytest.fixture
def data(monkeypatch, tmp_path):
    """A folder of data with the embedded sample and nothing else, as in a fresh clone."""
    for module in (backstage.defaults, backstage.trained_on):
        monkeypatch.setattr(module, "DATA", tmp_path / "data")
    shutil.copytree(SAMPLE, tmp_path / "data" / "sample")
    return tmp_path / "data"


@pytest.fixture
def few(trained):
    """Flags that name the smallest corpora: 20 stories."""
    return ["-train_corpus", trained / "valid.tokens", "-valid_corpus", trained / "valid.tokens"]


def test_the_shipped_model_is_not_measured_on_something_else(call, data):
    done = call("-evaluate")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    get = os.path.relpath(data / "get_data.py")
    assert f"{SHIPPED} was trained on tiny/tiny.valid.tokens.200K, which is not here" in line or (
        f"{SHIPPED} was trained on tiny/tiny.train.tokens.4M, which is not here" in line
    )
    assert f"python {get} tiny -same gets it" in line
    assert f"-test_corpus, such as {os.path.relpath(data / 'sample' / 'valid.tokens')}" in line


def test_it_measures_what_the_model_was_trained_and_validated_on(call, trained, data, monkeypatch):
    """Wherever the program is called from: the corpora are beside the model."""
    monkeypatch.chdir("/")
    done = call("-evaluate", "-json", "-model", trained / "m.pt")
    valid, train = map(json.loads, done.stdout.splitlines())
    assert (valid["corpus"], train["corpus"]) == (
        str(trained / "valid.tokens"), str(trained / "train.tokens"),
    )
    saved = content_of(trained / "m.pt")["facts"]["valid_nats"]
    assert valid["nats"] == pytest.approx(saved, abs=1e-6)
    assert "note" not in call("-evaluate", "-model", trained / "m.pt").stdout


def test_a_corpus_that_has_moved_is_asked_for(call, trained, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "m.pt"
    shutil.copy(trained / "m.pt", model)
    done = call("-evaluate", "-model", model)
    name = f"{trained.name}/train.tokens"
    assert done.returncode == 2
    assert f"{model} was trained on {name}, which is not here: give it with -train_corpus" in (
        done.stderr
    )
    for part in ("train", "valid"):
        shutil.copy(trained / f"{part}.tokens", tmp_path)
    assert call("-evaluate", "-model", model).returncode == 0
    (tmp_path / "train.tokens").write_text("other stories\n")
    assert "which is not here" in call("-evaluate", "-model", model).stderr


def test_other_stories_in_the_default_place_are_noted(call, trained, data, tmp_path):
    """As `get_data.py tiny` gets them, without -same."""
    content = content_of(trained / "m.pt")
    content["facts"] |= {
        "train_corpus": "tiny/tiny.train.tokens.4M", "folder": "tiny",
        "valid_corpus": "tiny/tiny.valid.tokens.200K",
    }
    (tmp_path / "m.pt").write_bytes(seal(content))
    (data / "tiny").mkdir()
    shutil.copy(trained / "train.tokens", data / "tiny" / "tiny.train.tokens.4M")
    (data / "tiny" / "tiny.valid.tokens.200K").write_text("once upon a time .\n")
    done = call("-evaluate", "-model", tmp_path / "m.pt")
    assert done.returncode == 0
    (note,) = [line for line in done.stdout.splitlines() if line.startswith("note")]
    assert "tiny.valid.tokens.200K has other stories than the model was trained with" in note
    assert note.endswith("tiny -same -force gets those")


def test_a_model_of_the_sample_is_measured_on_it(call, data, tmp_path):
    for part in ("train", "valid"):
        path = data / "sample" / f"{part}.tokens"
        path.write_text("".join(path.read_text().splitlines(True)[:5]))
    model = ["-model", tmp_path / "m.pt"]
    assert call("-train", *TINY, *model).returncode == 0
    done = call("-evaluate", *model)
    assert done.stdout.startswith("note: on the embedded sample of made-up stories")
    rows = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("  ")][1:]
    assert rows == [str(data / "sample" / f"{part}.tokens") for part in ("valid", "train")]


# ---- -train over a model that is there ----------------------------------------------------------


def test_a_training_says_which_model_it_replaces_and_how_to_have_it_back(
    call, trained, few, tmp_path
):
    model = tmp_path / "m.pt"
    kept = tmp_path / "m.prev.pt"
    shutil.copy(trained / "m.pt", model)
    before = model.read_bytes()
    nats = content_of(model)["facts"]["valid_nats"]
    what = f"trained on {trained.name}/train.tokens, valid loss {nats:.4f} nats"
    lines = call("-train", *TINY, *few, "-model", model).stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("epoch"))
    note = f"note: this training will replace {model}, {what}, with its first save; -model PATH"
    assert any(line.startswith(note) for line in lines[:first])
    back = f"mv {kept} {model}"
    assert f"the model that is in {model} is kept in {kept}; to have it back: {back}" in lines
    assert model.read_bytes() != before
    lines = call("-train", *TINY, *few, "-model", model).stdout.splitlines()  # once more
    assert any(f"kept in {kept}, in place of the one there, {what}; to" in line for line in lines)
    shutil.copy(trained / "m.pt", kept)
    subprocess.run(back.split(), check=True)
    assert model.read_bytes() == before


def test_what_is_no_model_is_replaced_and_kept_too(call, few, tmp_path):
    (tmp_path / "m.pt").write_bytes(b"my letters")
    out = call("-train", *TINY, *few, "-model", tmp_path / "m.pt").stdout
    assert f"replace {tmp_path / 'm.pt'}, damaged or no model of this program, with" in out
    assert (tmp_path / "m.prev.pt").read_bytes() == b"my letters"


# ---- make demo ----------------------------------------------------------------------------------

PROGRAM = """#!/bin/sh
echo "$@" >> calls
[ -e fails ] && { touch build/demo.state.pt; exit 130; }
rm -f build/demo.state.pt
"""


def test_make_demo_goes_on_where_it_was_stopped(tmp_path):
    """With a stand-in for Python, which notes how it is called, and fails where `fails` is."""
    root = Path(lstlm.__file__).parents[2]
    shutil.copy(root / "Makefile", tmp_path)
    for name in ("requirements.txt", "requirements-dev.txt"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "build").mkdir()
    program = tmp_path / ".venv" / "bin" / "python"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    for made in ("made", "program"):
        (tmp_path / ".venv" / made).touch()

    def demo() -> tuple[int, str, list[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        done = subprocess.run(
            ["make", "demo", f"PYTHON={sys.executable}"], cwd=tmp_path, capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, (tmp_path / "calls").read_text().splitlines()

    (tmp_path / "fails").touch()
    assert "-resume" not in demo()[2][0]
    (tmp_path / "fails").unlink()
    status, out, calls = demo()
    assert (status, len(calls)) == (0, 4)
    assert calls[0].endswith("-seed 0 -resume") and "going on where it was stopped" in out
    status, out, calls = demo()
    assert status == 0 and "-resume" not in calls[0] and "going on" not in out
