"""The command line where things go wrong around it: output, packages, order of its checks."""

import contextlib
import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import make_data
import numpy as np
import pytest
import run_lm
import torch
import train_tokenizers
import yaml
from hw4lib import preparation
from hw4lib.trainers import BaseTrainer, LMTrainer

HW4P1 = Path(run_lm.__file__).parent
FULL = Path("/dev/full")
SMALL = {
    "data": {"batch_size": 2}, "training": {"epochs": 2},
    "model": {"d_model": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1},
    "scheduler": {"warmup": {"epochs": 1}, "cosine": {"T_max": 1}},
}  # fmt: skip
TRAIN = ["train", "--config", "small.yaml", "--data", "data"]
WORDS = [
    "red", "old", "big", "fat", "thin", "grey", "poor", "rich", "sad", "wild", "tame", "good",
    "bad", "new", "slow", "fast", "hot", "cold", "wet", "dry",
]  # fmt: skip
STORIES = "<|endoftext|>".join(
    f"The {word} cat sat on a mat and saw the dog run away from it, and it slept. " * 3
    for word in WORDS
)
LAST = Path("expts/lm/checkpoints/checkpoint-last-epoch-model.pth")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with a few transcripts and a small configuration; no pictures are drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LMTrainer, "_save_attention_plot", lambda *args: None)
    Path("small.yaml").write_text(yaml.safe_dump(SMALL))
    for partition in ("train", "val", "test"):
        Path("data", partition).mkdir(parents=True)
        texts = ["THE OLD CAT", "A RED MAT SAT", "AND RAN AWAY", "THE CAT SAT"]
        if partition == "test":  # of which nothing is trained on
            texts = ["THE OLD DOG", "A RED CAT SAT", "AND SAT THERE", "ON A MAT"]
        for i, text in enumerate(texts):
            np.save(Path("data", partition, f"{i}.npy"), np.array(text))
    return tmp_path


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Where the run of `trained` is kept from the first to the last test."""
    return tmp_path_factory.mktemp("runs") / "expts"


@pytest.fixture
def trained(here, runs):
    """That folder, with a run in it."""
    if not runs.exists():
        assert run_lm.main(TRAIN) == 0
        shutil.copytree("expts", runs)
    shutil.copytree(runs, "expts", dirs_exist_ok=True)
    return here


def files_of(root: Path) -> dict[Path, tuple[bytes, int]]:
    """What is in all files of a folder, and when it was written."""
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def refused(capsys, arguments: list[str], status: int = 2) -> str:
    """The one line with which a command ends."""
    capsys.readouterr()
    assert run_lm.main(arguments) == status
    out, err = capsys.readouterr()
    assert err.startswith("run_lm.py: error: ") and err.count("\n") == 1, err
    return out + err


def epochs_saved() -> int:
    return torch.load(LAST, weights_only=True)["epoch"]


# ---- Output that nobody takes


@contextlib.contextmanager
def unread(*redirections):
    """Standard streams as a pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    pipe = open(writing, "w", buffering=1)  # noqa: SIM115 - it cannot be closed without an error
    with contextlib.ExitStack() as stack:
        for redirect in redirections or [contextlib.redirect_stdout]:
            stack.enter_context(redirect(pipe))
        yield
    with contextlib.suppress(OSError):
        pipe.close()


@pytest.mark.parametrize("redirections", [
    [contextlib.redirect_stdout], [contextlib.redirect_stdout, contextlib.redirect_stderr],
])  # fmt: skip
def test_a_training_outlives_its_reader(here, redirections):
    with unread(*redirections):
        assert run_lm.main(TRAIN) == 0
    assert epochs_saved() == 2


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_training_whose_log_is_full_is_done_and_says_so(here, capsys):
    with FULL.open("w", buffering=1) as full, contextlib.redirect_stdout(full):
        assert run_lm.main(TRAIN) == 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert epochs_saved() == 2
    error = "run_lm.py: error: [Errno 28] No space left on device\n"
    assert capsys.readouterr().err.endswith(error)


@pytest.mark.parametrize("command", [["evaluate"], ["handin"]])
def test_what_a_command_makes_is_made_when_nobody_reads_on(trained, command):
    with unread():
        assert run_lm.main(command) == 0
    if command == ["evaluate"]:
        assert len(list(Path("evaluated/lm").glob("text_test_*.json"))) == 3
    else:
        assert Path("handin.tar").exists()


def test_a_dataset_and_tokenizers_are_made_when_nobody_reads_on(here, monkeypatch):
    Path("t.txt").write_text(STORIES)
    with unread():
        assert make_data.main(["made", "--train", "t.txt"]) == 0
    monkeypatch.setattr(train_tokenizers, "BPE_SIZES", (40,))
    with unread():
        assert train_tokenizers.main(["--train", "t.txt", "-o", "tokens"]) == 0
    assert Path("made/source.json").exists()
    assert len(list(Path("tokens").iterdir())) == 3


def test_generate_ends_with_its_reader(trained):
    with unread():
        assert run_lm.main(["generate"]) == 0


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_disk_that_is_full_ends_a_training_with_status_1_and_what_was_saved(here, capsys):
    """Of the disk itself: the temporary file of each best checkpoint is one that is always full."""
    folder = here / "expts" / "lm" / "checkpoints"
    folder.mkdir(parents=True)
    full = folder / f".checkpoint-best-metric-model.pth.{os.getpid()}.tmp"
    real = Path.unlink
    full.symlink_to(FULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, **more: path == full or real(path, **more))
        assert run_lm.main(TRAIN) == 1
    err = capsys.readouterr().err
    assert err.count("warning: ") == err.count("cannot be written (No space left on device)") == 2
    assert err.splitlines()[-1].startswith("run_lm.py: error: ")
    assert "the best model could not be saved (No space left on device); make room, " in err
    assert epochs_saved() == 2


# ---- Input that can be read once


def piped(content: bytes) -> str:
    """The path of a pipe that gives this, as the shell's `<(...)` makes one."""
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:
        pipe.write(content)
    return f"/dev/fd/{reading}"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd")
def test_texts_and_a_configuration_may_be_pipes(here, monkeypatch):
    text = STORIES.encode()
    assert make_data.main(["made", "--train", piped(text)]) == 0
    source, = json.loads(Path("made/source.json").read_text())["sources"]["train"]
    assert source["sha256"] == hashlib.sha256(text).hexdigest()
    assert source["books_or_stories"] == len(WORDS)
    monkeypatch.setattr(train_tokenizers, "BPE_SIZES", (40,))
    assert train_tokenizers.main(["--train", piped(text), "-o", "tokens"]) == 0
    source, = json.loads(Path("tokens/trained_on.json").read_text())["files"]
    assert source["sha256"] == hashlib.sha256(text).hexdigest()
    config = piped(Path("small.yaml").read_bytes())
    assert run_lm.main(["train", "--config", config, "--data", "data"]) == 0
    assert epochs_saved() == 2


# ---- Signals


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_has_its_status(here, monkeypatch, capsys, number):
    update = LMTrainer._update

    def stopped(trainer):
        update(trainer)
        signal.raise_signal(number)

    monkeypatch.setattr(LMTrainer, "_update", stopped)
    assert run_lm.main(TRAIN) == 128 + number
    err = capsys.readouterr().err
    assert err.endswith("stopped and saved; go on with: run_lm.py train --resume\n")
    assert torch.load(LAST, weights_only=True)["progress"]["batches"] == 1
    monkeypatch.setattr(LMTrainer, "_update", update)
    assert run_lm.main(["train", "--resume"]) == 0
    assert epochs_saved() == 2


def test_a_signal_before_the_training_leaves_nothing_behind(here, monkeypatch, capsys):
    monkeypatch.setattr(run_lm, "make_loader", lambda *args: signal.raise_signal(signal.SIGHUP))
    assert run_lm.main(TRAIN) == 129
    assert capsys.readouterr().err == "\nrun_lm.py: interrupted\n"
    assert not [path for path in here.rglob("*") if path.name.endswith((".tmp", ".lock"))]


def test_a_training_in_another_thread(here):
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(run_lm.main(TRAIN)))
    thread.start()
    thread.join()
    assert statuses == [0] and epochs_saved() == 2


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
LONG = [
    sys.executable, str(HW4P1 / "run_lm.py"), *TRAIN, "--set", "training.epochs=100000",
]  # fmt: skip


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.thorough
def test_a_closed_terminal_saves_a_training(here):
    """SIGHUP comes, and the terminal takes nothing that is printed."""
    child, terminal = pty.fork()
    if not child:
        os.execve(LONG[0], LONG, ENVIRONMENT)
    while not LAST.exists():
        assert os.read(terminal, 10_000)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert torch.load(LAST, weights_only=True)["epoch"] >= 1
    assert run_lm.main([*TRAIN, "--resume", "--set", "training.epochs=1"]) == 0


@pytest.mark.thorough
def test_with_nohup_a_training_goes_on(here):
    with open("log", "w") as log:
        training = subprocess.Popen(
            ["nohup", *LONG], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT
        )
    try:
        wait_for(LAST.exists)
        training.send_signal(signal.SIGHUP)
        before = epochs_saved()
        wait_for(lambda: epochs_saved() > before + 2)
        training.terminate()
        assert training.wait(60) == 143
    finally:
        training.kill()


# ---- What is checked first


def test_settings_are_checked_before_data_is_read(here, capsys):
    Path("data/train/0.npy").write_bytes(b"damaged")
    for setting, words in (
        ("optimizer.name=lion", "optimizer.name 'lion'"),
        ("optimizer.adam.betas=[0.9]", "optimizer adam"), ("model.num_heads=3", "num_heads 3"),
        ("scheduler.name=steps", "scheduler.name 'steps'"),
        ("scheduler.cosine.T_max=0.0", "T_max is 0.0 epochs"),
        ("tokenization.token_type=word", "choose one of char"),
        ("data.val_partition=gone", "data/gone: no such folder"),
    ):  # fmt: skip
        said = refused(capsys, [*TRAIN, "--set", setting])
        assert words in said and "loading" not in said and "optimizer " + "Adam" not in said
    assert "0.npy" in refused(capsys, TRAIN)


def test_a_run_that_began_otherwise_is_told_before_data_is_read(trained, capsys):
    Path("data/train/0.npy").write_bytes(b"damaged")
    for setting, words in (
        ("optimizer.lr=0.5", "optimizer.lr: 0.0005, 0.5 now"),
        ("tokenization.token_type=1k", "tokenization.token_type: 'char', '1k' now"),
    ):  # fmt: skip
        said = refused(capsys, [*TRAIN, "--resume", "--set", setting])
        assert words in said and "loading" not in said
    assert "0.npy" in refused(capsys, [*TRAIN, "--resume"])


def test_a_model_larger_than_the_memory_is_told_before_data_is_read(here, capsys, monkeypatch):
    assert 0.1 < preparation.memory() < 1e6
    monkeypatch.setattr(preparation, "memory", lambda: 1e-5)
    said = refused(capsys, TRAIN)
    assert " parameters take " in said and "loading" not in said


def test_a_missing_package_is_told_before_data_is_read(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchinfo", None)
    said = refused(capsys, TRAIN)
    assert "this Python has no torchinfo; pip install -r " in said and "loading" not in said


def test_a_package_for_pictures_may_be_missing_and_that_is_told_first(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(LMTrainer, "_save_attention_plot", BaseTrainer._save_attention_plot)
    assert run_lm.main(TRAIN) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("note: no pictures of attention, as this Python has no matplotlib")
    assert epochs_saved() == 2 and not list(Path("expts/lm/attn").iterdir())
    assert run_lm.main(["evaluate"]) == 0
    assert Path("evaluated/lm/test_metrics.json").exists()


def test_a_best_checkpoint_that_is_gone_is_not_promised(trained, capsys):
    best = run_lm.checkpoint_path("lm", "best-metric")
    best.unlink()
    assert "is gone; put it back" in refused(capsys, [*TRAIN, "--resume"])
    more = ["--resume", "--set", "training.epochs=3"]
    assert run_lm.main([*TRAIN, *more]) == 0
    out = capsys.readouterr().out
    assert "is gone; the best one from now on is kept there" in out
    assert torch.load(best, weights_only=True)["epoch"] == 3


def test_where_data_and_tokenizers_go_is_checked_before_texts_are_read(here, capsys):
    assert make_data.main(["data", "--train", "gone.txt"]) == 2
    assert "data: is there already" in capsys.readouterr().err
    assert make_data.main(["new", "--sample", "--val", "gone.txt"]) == 2
    assert "--sample has stories for --val and --test too" in capsys.readouterr().err
    for folder in ("small.yaml", "small.yaml/deeper"):
        assert train_tokenizers.main(["--train", "gone.txt", "-o", folder]) == 2
        assert "small.yaml is there, and no folder; give another" in capsys.readouterr().err


# ---- Reading commands


@pytest.mark.parametrize("command", [["generate"], ["evaluate"], ["handin"]])
def test_reading_commands_write_nothing_into_a_run(trained, monkeypatch, command):
    before = files_of(trained / "expts")
    folders = {path for path in (trained / "expts").rglob("*") if path.is_dir()}
    monkeypatch.setitem(sys.modules, "torchinfo", None)  # which only a training needs
    assert run_lm.main(command) == 0
    assert files_of(trained / "expts") == before
    assert {path for path in (trained / "expts").rglob("*") if path.is_dir()} == folders


def test_metrics_are_written_before_the_texts(trained, monkeypatch):
    def killed(*args):
        raise MemoryError

    monkeypatch.setattr(LMTrainer, "generate", killed)
    assert run_lm.main(["evaluate"]) == 1
    metrics = json.loads(Path("evaluated/lm/test_metrics.json").read_text())
    assert metrics["perplexity_char"] > 1 and metrics["model"]["run"] == "lm"


def test_where_results_go_is_checked_before_the_work(trained, capsys, monkeypatch):
    load = run_lm.load_best
    monkeypatch.setattr(run_lm, "load_best", lambda args, path: pytest.fail("loaded"))
    best = "expts/lm/checkpoints/checkpoint-best-metric-model.pth"
    for out in ("data", best, "small.yaml"):
        assert "is there, and no handin.tar" in refused(capsys, ["handin", "--out", out])
    for out in ("expts", "expts/lm", "expts/other"):
        assert "that is where runs are" in refused(capsys, ["evaluate", "--out", out])
    assert "is there, and no folder" in refused(capsys, ["evaluate", "--out", "small.yaml"])
    Path("expts/lm/model_arch.txt").unlink()
    monkeypatch.setattr(run_lm, "load_best", load)
    assert "model_arch.txt: it is handed in" in refused(capsys, ["handin"])


def test_a_prompt_of_a_million_tokens_is_refused_at_once(trained, capsys):
    started = time.perf_counter()
    said = refused(capsys, ["generate", "--prompt", "CAT " * 250_000, "--samples", "1000000",
                            "--method", "sample"])  # fmt: skip
    assert "--prompt: 1,000,000 characters, and the model takes 14 tokens; cut it" in said
    assert time.perf_counter() - started < 2


def test_what_torchrun_left_behind_means_nothing(trained, monkeypatch, capsys):
    assert run_lm.main(["generate"]) == 0
    alone = capsys.readouterr().out
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "x")):
        monkeypatch.setenv(name, value)
    assert run_lm.main(["generate"]) == 0
    assert capsys.readouterr().out == alone
    assert run_lm.main([*TRAIN, "--run", "ranked"]) == 0


def test_a_name_that_the_locale_cannot_write(here, monkeypatch):
    """As `caf\u00e9` in Latin-1 is for a system of UTF-8, or any letter for one of ASCII."""
    odd = os.fsdecode(b"caf\xe9")
    Path("data").rename(odd)
    Path(odd, "train", "0.npy").rename(Path(odd, "train", f"{odd}.npy"))
    command = [*TRAIN, "--data", odd, "--run", odd]
    assert run_lm.main(command) == 0
    assert run_lm.main(["generate", "--run", odd]) == 0
    assert run_lm.main([*command, "--resume", "--set", "training.epochs=3"]) == 0
    assert run_lm.main(["handin", "--run", odd]) == 0
