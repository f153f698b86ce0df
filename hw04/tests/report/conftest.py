"""Fixtures that the tests of the report share."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import experiments
import lstlm
import pytest
import runner
import store
from plans import Plan
from runner import Experiment
from small import SAMPLE


def first_lines(corpus: Path, count: int) -> str:
    """The first stories of a corpus file."""
    return "".join(corpus.read_text().splitlines(keepends=True)[:count])


@pytest.fixture(scope="session")
def plan():
    """A plan of a training of two steps."""
    return Plan("small", "a test, of 2", "-H 1 -N 8 -EDim 8 -VSize 60 -E 1 -B 4", 1, stories=(8, 3))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with a few stories under the names of the real files.

    Results and models go to tmp_path too.
    """
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(store, "BUILD", tmp_path / "build")
    (tmp_path / "tiny").mkdir()
    sources = {
        "train.tokens.4M": ("train", 12), "valid.tokens.200K": ("valid", 5),
        "test.tokens.4M": ("test", 5),
    }
    for name, (source, count) in sources.items():
        text = first_lines(SAMPLE / f"{source}.tokens", count)
        (tmp_path / "tiny" / f"tiny.{name}").write_text(text)
    return tmp_path


@pytest.fixture
def in_process(monkeypatch):
    """Programs are called without a process of their own, which takes seconds to begin."""
    def call(self, threads, *flags):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            status = self.program.main([*flags])
        if status:
            raise SystemExit(f"exit status {status}")
        return printed.getvalue()

    monkeypatch.setattr(Experiment, "call", call)


@pytest.fixture
def planned(monkeypatch):
    """Called with plans, lets the programs have these and no others."""
    def call(*plans: Plan) -> None:
        for module in (experiments, runner):
            monkeypatch.setattr(module, "PLANS", plans)

    return call


@pytest.fixture(scope="session")
def small_lm(tmp_path_factory):
    """A trained LSTM model, the flags of its training, and its corpora of the embedded stories."""
    folder = tmp_path_factory.mktemp("small_lm")
    for split, count in (("train", 60), ("valid", 20)):
        (folder / split).write_text(first_lines(SAMPLE / f"{split}.tokens", count))
    train = folder / "train"
    valid = folder / "valid"
    corpora = ["-train_corpus", str(train), "-valid_corpus", str(valid)]
    flags = ["-train", *corpora, "-H", "1", "-N", "8", "-EDim", "6", "-E", "1", "-B", "8"]
    model = folder / "lm.pt"
    assert lstlm.main([*flags, "-model", str(model)]) == 0
    return SimpleNamespace(model=model, flags=flags, corpora=corpora, train=train, valid=valid)
