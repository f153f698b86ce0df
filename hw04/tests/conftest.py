"""Fixtures that the tests share."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import backstage.bookkeeping
import hypothesis
import lstlm
import pytest
import torch
from small import KINDS, ONE_THREAD, RAGGED, SAMPLE, SMALL, make_model, make_stories

# The same examples in each run, and no failure because a machine is busy.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")
torch.set_num_threads(1)  # tensors are tiny, and a second thread would only wait for a busy core


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    """A folder for the caches of all tests and their processes, not the user's."""
    folder = str(tmp_path_factory.mktemp("caches"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setitem(ONE_THREAD, "XDG_CACHE_HOME", folder)
        yield


@pytest.fixture(params=[None, "dot"], ids=["plain", "attention"])
def attention(request):
    """Without and with attention."""
    return request.param


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def model(request):
    """A small float64 model of each kind."""
    return make_model(**request.param)


@pytest.fixture
def stories():
    """Six stories of very different lengths."""
    return make_stories(RAGGED, 40)


@pytest.fixture
def write(tmp_path):
    """A function that writes a file of that name, text or bytes, and returns its path."""

    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


@pytest.fixture
def call(capfd, monkeypatch):
    """A function that runs lstlm.py within this process, with standard input from a text."""

    def run_main(*args, text: str | bytes = "") -> subprocess.CompletedProcess:
        data = text.encode() if isinstance(text, str) else text
        stdin = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", stdin)
        # The picture of a training would take longer than all the rest.
        monkeypatch.setattr(backstage.bookkeeping, "draw_curve", lambda *_: None)
        capfd.readouterr()
        try:
            status = lstlm.main([*map(str, args)])
        except SystemExit as exit:
            status = exit.code
        return subprocess.CompletedProcess(args, status, *capfd.readouterr())

    return run_main


@pytest.fixture
def tiny_flags(tmp_path):
    """A function that gives the flags of the training of a very small model on five stories."""
    corpus = tmp_path / "corpus"
    corpus.write_text("a b c d\nb c d a\nc d a b\nd a b c\na c b d\n")
    corpora = ["-train_corpus", corpus, "-valid_corpus", corpus, "-model", tmp_path / "m.pt"]
    small = ["-H", 1, "-N", 4, "-B", 2]

    def flags(*more, edim=("-EDim", 3)) -> list[str]:
        return [str(flag) for flag in ["-train", *corpora, *small, *edim, *more]]

    return flags


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with a small corpus, and with a model trained on it through the command line."""
    folder = tmp_path_factory.mktemp("trained")
    stories = (SAMPLE / "train.tokens").read_text().splitlines(keepends=True)
    (folder / "train.tokens").write_text("".join(stories[:120]))
    (folder / "valid.tokens").write_text("".join(stories[120:140]))
    flags = [
        "-train", *SMALL, "-train_corpus", folder / "train.tokens", "-valid_corpus",
        folder / "valid.tokens", "-model", folder / "m.pt", "-valid_every", 20, "-trace",
        folder / "trace.txt",
    ]
    flags = [str(flag) for flag in flags]
    done = subprocess.run(
        [sys.executable, lstlm.__file__, *flags], capture_output=True, text=True, env=ONE_THREAD,
    )
    assert done.returncode == 0, done.stderr
    (folder / "train.out").write_text(done.stdout)
    (folder / "train.flags").write_text("\n".join(flags))
    return folder


@pytest.fixture(scope="session")
def bpe_corpus(tmp_path_factory):
    """A small corpus: the first stories of the sample."""
    path = tmp_path_factory.mktemp("bpe") / "corpus"
    stories = (SAMPLE / "valid.tokens").read_text().splitlines(keepends=True)
    path.write_text("".join(stories[:60]))
    return path


@pytest.fixture(scope="session")
def bpe_trained(bpe_corpus):
    """A model of word pieces trained on it, and what its training printed beside it."""
    pytest.importorskip("tokenizers")
    model = bpe_corpus.with_name("m.pt")
    flags = [
        "-train", *SMALL, "-tokenizer", "bpe", "-VSize", 300, "-train_corpus", bpe_corpus,
        "-valid_corpus", bpe_corpus, "-model", model,
    ]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert lstlm.main([str(flag) for flag in flags]) == 0
    model.with_name("train.out").write_text(printed.getvalue())
    return model
