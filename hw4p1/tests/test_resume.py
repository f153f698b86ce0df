"""`train --resume` alone goes on with a run; a run that lacks something says how to mend it."""

import shutil
import signal
from pathlib import Path

import pytest
import run_lm
import torch
import yaml
from hw4lib import preparation, runs
from hw4lib.runs import checkpoint_path
from hw4lib.trainers import LMTrainer

TRAIN = [
    "train", "--config", "small.yaml", "--data", "data", "--set", "model.dropout=0.1",
    "--set", "training.epochs=2", "--seed", "5",
]  # fmt: skip


def saved(run: str, which: str = "last-epoch") -> dict:
    return torch.load(checkpoint_path(run, which), weights_only=True)


@pytest.fixture
def stop(monkeypatch):
    """A function that has a command stopped by a signal after its first steps."""

    def run(command: list[str], steps: int = 2) -> int:
        done = []

        def update(trainer):
            real(trainer)
            done.append(1)
            if len(done) == steps:
                signal.raise_signal(signal.SIGTERM)

        real = LMTrainer._update
        with monkeypatch.context() as patch:
            patch.setattr(LMTrainer, "_update", update)
            return run_lm.main(command)

    return run


# ---- Resuming needs no other flag


def test_resume_alone_ends_as_a_run_that_was_never_stopped(begun, stop, says, capsys):
    assert run_lm.main([*TRAIN, "--run", "whole"]) == 0
    assert stop([*TRAIN, "--run", "broken"]) == 143
    again = "go on with: run_lm.py train --run broken --resume\n"
    assert capsys.readouterr().err.endswith(again)
    assert says("train", "--run", "broken", "--resume").count("epoch 1,") == 1
    whole, broken = saved("whole"), saved("broken")
    assert whole["training_history"] == broken["training_history"]
    assert whole["config"] == broken["config"] and whole["config"]["training"]["seed"] == 5
    for name, weights in whole["model_state_dict"].items():
        assert torch.equal(weights, broken["model_state_dict"][name])


def test_what_it_began_with_may_be_given_again(begun, stop):
    for flags in (TRAIN[1:], ["--config", "small.yaml"], ["--data", "data"], ["--seed", "5"],
                  ["--set", "model.dropout=0.1"], ["--device", "cpu"]):  # fmt: skip
        run = f"run{len(list(Path().iterdir()))}{len(flags)}{flags[0]}"
        assert stop([*TRAIN, "--run", run]) == 143
        assert run_lm.main(["train", "--run", run, "--resume", *flags]) == 0
        assert saved(run)["epoch"] == 2


@pytest.mark.parametrize(("flags", "words"), [
    (["--set", "model.d_ff=48"], "model.d_ff: 32, 48 now"),
    (["--set", "model.dropout=0.0"], "model.dropout: 0.1, 0.0 now"),
    (["--seed", "6"], "training.seed: 5, 6 now"),
    (["--epochs", "8"], "scheduler.cosine.T_max: 1.0, 6.0 now"),
    (["--config", "other.yaml"], "data.batch_size: 16, 4 now"),
    (["--data", "others"], "trained_on.transcripts: 40, 39 now"),
])  # fmt: skip
def test_a_flag_that_disagrees_is_an_error(begun, stop, fails, flags, words):
    assert stop(TRAIN) == 143
    Path("other.yaml").write_text(yaml.safe_dump({"data": {"batch_size": 4}}))
    shutil.copytree("data", "others")
    Path("others/train/000.npy").unlink()
    before = checkpoint_path("lm", "last-epoch").read_bytes()
    assert f"the run began otherwise, {words}; resume it" in fails("train", "--resume", *flags)
    assert checkpoint_path("lm", "last-epoch").read_bytes() == before


def test_a_run_of_an_older_program_is_resumed(begun, stop):
    """Whose configuration has no seed."""
    assert stop([flag for flag in TRAIN if flag not in ("--seed", "5")]) == 143
    content = saved("lm")
    del content["config"]["training"]["seed"]
    torch.save(content, checkpoint_path("lm", "last-epoch"))
    assert run_lm.main(["train", "--resume"]) == 0


def test_the_seed_of_a_flag_is_that_of_the_setting(begun):
    for run, seed in (("flag", ["--seed", "7"]), ("setting", ["--set", "training.seed=7"]),
                      ("other", ["--seed", "8"])):  # fmt: skip
        assert run_lm.main([*TRAIN[:-2], "--set", "data.subset=0.3", *seed, "--run", run]) == 0
    flag, setting, other = (saved(run)["training_history"] for run in ("flag", "setting", "other"))
    assert flag == setting != other


def test_more_epochs_are_all_that_a_finished_run_needs(trained_run, says):
    out = says("train", "--resume")
    assert "all 2 epochs are done; training.epochs can be set to more\n" in out
    says("train", "--resume", "--set", "training.epochs=3")
    assert [h["epoch"] for h in saved("lm")["training_history"]] == [0, 1, 2]


def test_where_it_was_trained_is_where_it_goes_on(monkeypatch):
    monkeypatch.setattr(preparation, "default_device", lambda: "cuda")
    assert preparation.device_of({"surroundings": {"the device": "cpu"}}) == "cpu"
    assert preparation.device_of({"surroundings": {"the device": "NVIDIA H100"}}) == "cuda"
    assert preparation.device_of({}) == preparation.device_of(None) == "cuda"
    monkeypatch.setattr(preparation, "default_device", lambda: "cpu")
    assert preparation.device_of({"surroundings": {"the device": "NVIDIA H100"}}) == "cpu"


def test_the_embedded_sample_is_made_again(begun, monkeypatch):
    monkeypatch.setattr(run_lm, "HERE", begun)
    sample = begun / "build" / "sample"
    config = {"data": {"root": str(sample)}}
    assert run_lm.data_root(run_lm.parse_args(["train"]), config) == sample


def test_a_run_of_which_nothing_is_saved_begins_again_as_it_was(begun, says):
    assert run_lm.main(TRAIN) == 0
    before = saved("lm")
    shutil.rmtree("expts/lm/checkpoints")
    assert says("train", "--resume").startswith(
        "note: nothing of the run is saved yet; it begins again, as expts/lm/config.yaml says\n"
    )
    assert saved("lm")["training_history"] == before["training_history"]
    assert saved("lm")["config"] == before["config"]


def test_a_run_that_is_not_there_begins_with_a_note(begun, says):
    out = says(*TRAIN, "--run", "new", "--resume")
    assert out.startswith("note: there is no run expts/new to go on with; it begins now\n")


# ---- What a run lacks


@pytest.mark.parametrize("command", ["evaluate", "generate", "handin"])
def test_a_run_without_a_complete_epoch_says_so(begun, stop, fails, command):
    assert stop([*TRAIN, "--run", "new"]) == 143
    words = (
        "expts/new: epoch 1 is not complete, 2 batches of it are done; go on with: run_lm.py train "
        "--run new --resume"
    )
    assert fails(command, "--run", "new").endswith(words)
    content = saved("new")
    del content["progress"]
    torch.save(content, checkpoint_path("new", "last-epoch"))
    words = words.replace("2 batches", "0 batches")
    assert fails(command, "--run", "new").endswith(words)
    checkpoint_path("new", "last-epoch").unlink()
    words = (
        "expts/new: epoch 1 is not complete, and nothing of it is saved yet; wait for it, or go on "
        "with: run_lm.py train --run new --resume"
    )
    assert fails(command, "--run", "new").endswith(words)


def test_a_misspelt_run_is_answered_with_the_nearest(trained_run, fails):
    Path("expts/lm").rename("expts/stories")
    assert "no such checkpoint; did you mean --run stories?" in fails("evaluate", "--run", "storys")
    assert "no such checkpoint; train first" in fails("evaluate", "--run", "xyz")


def test_a_damaged_best_checkpoint_names_the_last(trained_run, fails, says):
    best, last = (checkpoint_path("lm", which) for which in ("best-metric", "last-epoch"))
    best.write_bytes(best.read_bytes()[:1000])
    for command in ("evaluate", "generate", "handin"):
        said = fails(command)
        assert f"{best}: not a checkpoint, or a damaged one" in said
        assert said.endswith(f"; train anew, or put {last} in its place, which is whole")
    shutil.copy(last, best)
    assert "perplexity_char" in says("evaluate")
    for path in (best, last):
        path.write_bytes(b"damaged")
    assert fails("evaluate").endswith("; train anew")


def test_a_damaged_last_checkpoint_names_the_best(trained_run, fails):
    best, last = (checkpoint_path("lm", which) for which in ("best-metric", "last-epoch"))
    last.write_bytes(b"damaged")
    said = fails("train", "--resume")
    assert f"{last}: not a checkpoint" in said
    assert said.endswith(f"or put {best} in its place, which is whole")
    shutil.copy(best, last)
    assert run_lm.main(["train", "--resume", "--set", "training.epochs=3"]) == 0
    assert saved("lm")["epoch"] == 3


def test_a_checkpoint_that_is_gone_names_the_other(trained_run, fails):
    best, last = (checkpoint_path("lm", which) for which in ("best-metric", "last-epoch"))
    kept = best.read_bytes()
    best.unlink()
    assert f"{best}: is gone; put {last} in its place, or go on with" in fails("evaluate")
    best.write_bytes(kept)
    last.unlink()
    said = fails("train", "--resume")
    assert said.endswith(f"{last}: is gone; put {best} in its place, and go on after its epoch")
    assert "this run has a model" in fails("train")  # which is not replaced
    assert best.read_bytes() == kept


def test_the_epoch_that_is_told_is_that_of_the_model(trained_run, says):
    """Though an earlier epoch, whose checkpoint could not be written, say, was better."""
    content = saved("lm", "best-metric")
    first, second = content["training_history"]
    first["val"]["ce_loss_char"] = second["val"]["ce_loss_char"] / 2
    torch.save(content, checkpoint_path("lm", "best-metric"))
    says("evaluate")
    told = yaml.safe_load(Path("evaluated/lm/test_metrics.json").read_text())["model"]
    assert told["best_epoch"] == 1
    assert told["val_perplexity_char"] == second["val"]["perplexity_char"]


def test_a_disk_without_room_is_told_before_data_is_read(begun, fails, monkeypatch):
    free = shutil.disk_usage(".")._replace(free=100_000)
    monkeypatch.setattr(runs.shutil, "disk_usage", lambda path: free)
    Path("data/train/000.npy").write_bytes(b"damaged")
    said = fails("train", "--config", "small.yaml", "--data", "data")
    assert "0 MB free, but the checkpoints of this run need 0 MB; make room" in said


# ---- Counts for people


def test_epochs_and_batches_are_counted_from_1(begun, stop, says, capsys):
    assert stop([*TRAIN, "--set", "data.subset=0.9"], 1) == 143
    out, err = capsys.readouterr()
    assert "epoch 1:" in err and "epoch 0" not in out + err
    out = says("train", "--resume")
    assert "going on with batch 2 of 3 of epoch 1 of 2\n" in out
    assert [line for line in out.splitlines() if line.startswith("epoch")] == [
        "epoch 1, learning rate 0.0005", "epoch 2, learning rate 1e-08",
    ]
    out = says("evaluate")
    assert "\nepoch 2\n  test\n" in out or "\nepoch 1\n  test\n" in out
    history = saved("lm")["training_history"]  # and the course's files count from 0
    assert [h["epoch"] for h in history] == [0, 1]
    assert Path("expts/lm/text/text_val_epoch_0.json").is_file()


def test_printed_texts_have_no_special_tokens(trained_run, says):
    special = ("[PAD]", "[UNK]", "[MASK]", "[SOS]", "[EOS]", "[BLANK]")
    out = says("evaluate")
    lines = [line for line in out.splitlines() if line.startswith(("greedy: ", "beam: "))]
    assert len(lines) == 2 and " ... " in lines[0]
    sample = says("generate", "--method", "sample", "--samples", "50", "--temperature", "5")
    written = Path("evaluated/lm/text_test_epoch_2_sample.json").read_text()
    assert any(token in written for token in special)  # as the course has them
    assert not any(token in out + sample for token in special)
