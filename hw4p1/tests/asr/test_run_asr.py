"""The command line of the recogniser: its four commands, where data comes from, what is refused."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import run_asr
import run_lm
import torch
import yaml
from hw4lib import speech_loaders
from hw4lib.asr_schema import ASR
from hw4lib.config import load_config
from hw4lib.data import speech
from hw4lib.data.tones import tones
from hw4lib.runs import checkpoint_path
from tests.asr.small import features_of, write_partition

soundfile = pytest.importorskip("soundfile")

SMALL = {
    "tokenization": {"token_type": "char"},
    "data": {"batch_size": 2, "num_feats": 8},
    "model": {
        "input_dim": 8, "reduction_method": "conv", "d_model": 8, "num_encoder_layers": 1,
        "num_decoder_layers": 1, "num_encoder_heads": 2, "num_decoder_heads": 2,
        "d_ff_encoder": 12, "d_ff_decoder": 12,
    },
    "training": {"epochs": 1}, "scheduler": {"warmup": {"enabled": False}, "cosine": {"T_max": 1}},
}  # fmt: skip
TEXTS = ["A CAT SAT", "THE DOG RAN", "OH NO", "IT'S LATE"]
FRAMES = [60, 90, 44, 70]


def write_data(root: Path, test_text: bool = True, bins: int = 8) -> Path:
    write_partition(root, "train-clean-100", TEXTS, features_of(FRAMES, bins))
    write_partition(root, "dev-clean", TEXTS[:2], features_of(FRAMES[:2], bins, seed=1))
    texts = TEXTS[::-1][:3] if test_text else None
    write_partition(root, "test-clean", texts, features_of([50, 80, 65], bins, seed=2))
    return root


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with data and a small configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    write_data(tmp_path / "data")
    return tmp_path


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_data(folder / "data")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_asr.main(TRAIN) == 0
    return folder


@pytest.fixture
def trained(tmp_path, monkeypatch, trained_once):
    """A current folder in which a small model was trained."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ["train", "--config", "small.yaml", "--data", "data", "--device", "cpu"]


@pytest.fixture
def run(capsys):
    """A function that runs a command and gives status, output, errors."""

    def call(*argv) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run_asr.main([str(arg) for arg in argv])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def fails(run):
    """A function that gives the one line with which a command ends."""

    def call(*argv) -> str:
        status, _, err = run(*argv)
        lines = [line for line in err.splitlines() if "error:" in line]
        assert status == 2 and len(lines) == 1 and "Traceback" not in err
        return lines[0]

    return call


# ---- train


def test_a_training_and_what_it_says(here, run):
    status, out, _ = run(*TRAIN)
    assert status == 0
    assert "train: 4 utterances, 0.0 minutes, 34 tokens" in out
    assert re.search(r"best: [0-9.]+ % of characters wrong on val, in .*/expts/asr/", out)
    content = torch.load(checkpoint_path("asr", "best-metric"), weights_only=True)
    config = content["config"]
    assert config["model"]["max_len"] == 90 and config["model"]["num_classes"] == 35
    trained_on = config["trained_on"]
    frames = np.concatenate(features_of(FRAMES), 1).astype(np.float64)
    assert trained_on["mean"] == pytest.approx(frames.mean(1).tolist())
    assert trained_on["std"] == pytest.approx(frames.std(1, ddof=1).tolist())
    assert (trained_on["utterances"], trained_on["frames"]) == (4, sum(FRAMES))
    assert trained_on["longest_text"] == 13 and trained_on["folder"] == "data/train-clean-100"


def test_a_run_with_a_model_is_not_replaced(trained, fails):
    assert "this run has a model; go on with it with --resume" in fails(*TRAIN)


def test_a_run_goes_on_as_it_began(trained, run, fails):
    status, out, _ = run("train", "--resume", "--set", "training.epochs=2", "--data", "data")
    assert status == 0
    content = torch.load(checkpoint_path("asr", "last-epoch"), weights_only=True)
    assert content["epoch"] == 2 and len(content["training_history"]) == 2
    line = fails("train", "--resume", "--set", "model.d_model=16")
    assert "the run began otherwise, model.d_model: 8, 16 now" in line
    np.save("data/train-clean-100/fbank/u0.npy", features_of([61])[0])
    line = fails("train", "--resume", "--set", "training.epochs=3")
    assert "the run began otherwise, trained_on" in line


def test_a_stopped_run_ends_as_one_that_was_not(here, run):
    more = ["--set", "training.epochs=2"]
    assert run(*TRAIN, *more, "--run", "whole")[0] == 0
    assert run(*TRAIN, "--run", "parts")[0] == 0
    assert run("train", "--run", "parts", "--resume", *more)[0] == 0
    one, other = (
        torch.load(checkpoint_path(name, "last-epoch"), weights_only=True)
        for name in ("whole", "parts")
    )
    for name, weights in one["model_state_dict"].items():
        assert torch.equal(weights, other["model_state_dict"][name]), name
    assert one["training_history"] == other["training_history"]


def test_the_shipped_configuration_is_the_courses():
    config = load_config(ASR.shipped, schema=ASR)
    assert config["tokenization"]["token_type"] == "5k" and config["loss"]["ctc_weight"] == 0.2
    assert config["model"]["reduction_method"] == "conv" and config["model"]["d_model"] == 256
    assert config["data"]["batch_size"] == 16 and config["optimizer"]["lr"] == 4e-4


@pytest.mark.parametrize(("more", "message"), [
    (["--set", "model.input_dim=9"], "model.input_dim is 9, data.num_feats is 8; set both alike"),
    (["--set", "model.num_encoder_heads=3"], "does not divide into num_heads 3"),
    (["--set", "model.reduction_method=cnn"], "choose one of conv, lstm, both"),
    (["--set", "model.time_reduction=0"], "model.time_reduction is 0; give at least 1"),
    (["--set", "model.num_layers=2"], "there is no setting model.num_layers"),
    (["--set", "loss.ctc_weight=-1"], "loss.ctc_weight is -1"),
    (["--set", "data.norm=mvn"], "data.norm 'mvn': choose one of"),
    (["--set", "data.val_partition=dev"], "data/dev/fbank: no such folder"),
    (["--data", "gone"], "gone: no such folder of data"),
    (["--decoder", "gone.pth"], "--decoder gone.pth: no such checkpoint"),
])  # fmt: skip
def test_what_a_training_refuses(here, fails, more, message):
    assert message in fails(*TRAIN, *more)


def test_val_needs_transcripts(here, fails):
    shutil.rmtree("data/dev-clean/text")
    assert "data/dev-clean/text: no such folder; val needs transcripts" in fails(*TRAIN)


@pytest.mark.parametrize(("array", "message"), [
    (features_of([40])[0].T.copy(), "has time first"),
    (np.full((8, 40), np.nan, np.float32), "bin 0 of frame 0 is nan, no finite number"),
    (features_of([40], 9)[0], "9 bins, but u0.npy has 8"),
    (features_of([4])[0], "4 frames, of which the model's reduction leaves none"),
])  # fmt: skip
def test_bad_features_end_a_training_in_one_line(here, fails, array, message):
    np.save("data/train-clean-100/fbank/u2.npy", array)
    line = fails(*TRAIN)
    assert "u2.npy: " in line and message in line


def test_what_ctc_has_no_room_for_is_said(here, run):
    np.save("data/train-clean-100/fbank/u1.npy", features_of([20])[0])
    _, out, _ = run(*TRAIN)
    assert "note: 1 of 4 utterances of train-clean-100 have fewer encoder frames" in out
    assert "(u1.npy: 7 for 12)" in out


# ---- Speech that is made


def test_without_data_speech_is_made(here, run, monkeypatch):
    monkeypatch.setattr(speech_loaders, "MADE", here / "build" / "speech")
    monkeypatch.setattr(speech, "SIZES", {"train": 3, "val": 2, "test": 2})
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)
    wide = ["--set", "data.num_feats=80", "--set", "model.input_dim=80"]
    status, out, _ = run("train", "--config", "small.yaml", *wide)
    assert status == 0
    assert "no data: making tones and noises, one for each letter, which are no speech" in out
    lines = [line for line in out.splitlines() if line.startswith("note: there is no other data")]
    assert len(lines) == 2 and out.splitlines()[-1] == lines[1] and "no speech" in lines[0]
    content = torch.load(checkpoint_path("asr", "best-metric"), weights_only=True)
    assert "no speech" in content["config"]["trained_on"]["made_of"][0]
    assert run("train", "--resume", "--set", "training.epochs=2")[0] == 0  # with the same
    assert "note: this is tones and noises, one for each letter, which are" in run("evaluate")[1]


# ---- evaluate


def test_evaluation_on_test(trained, run):
    status, out, _ = run("evaluate")
    assert status == 0 and "test-clean, 3 utterances: " in out
    numbers = json.loads(Path("evaluated/asr/metrics.json").read_text())
    texts = json.loads(Path("evaluated/asr/texts.json").read_text())
    assert [text["file"] for text in texts] == ["u0.npy", "u1.npy", "u2.npy"]
    assert [text["target"] for text in texts] == TEXTS[::-1][:3]  # not sorted by length
    assert {"cer", "wer", "word_dist"} <= numbers.keys()
    assert numbers["data"]["utterances"] == 3 and numbers["search"]["beam_width"] == 1


def test_evaluation_where_test_has_no_transcripts(trained, run):
    shutil.rmtree("data/test-clean/text")
    _, out, _ = run("evaluate", "--out", "there", "--beam-width", "3", "--ctc-weight", "0.3")
    assert "note: test-clean has no transcripts; val is evaluated" in out
    assert "dev-clean, 2 utterances: " in out
    assert json.loads(Path("there/metrics.json").read_text())["search"]["ctc_weight"] == 0.3


def test_an_utterance_that_is_longer_than_the_model_takes(trained, fails):
    np.save("data/test-clean/fbank/u1.npy", features_of([91])[0])
    assert "u1.npy: 91 frames, but the model's max_len is 90" in fails("evaluate")


# ---- recognise


def wide_model(run) -> None:
    """Train a model for recordings, which give 80 bins."""
    write_data(Path("wide"), bins=80)
    wide = ["--set", "data.num_feats=80", "--set", "model.input_dim=80", "--run", "asr"]
    assert run("train", "--config", "small.yaml", "--data", "wide", *wide)[0] == 0


def test_recordings_are_recognised(here, run, fails):
    wide_model(run)
    soundfile.write("a.wav", tones("A CAT", "one", 250, 40), 16000)
    soundfile.write("b.flac", np.zeros((44100, 2)), 44100)
    status, out, err = run("recognise", "a.wav")
    assert status == 0 and len(out.splitlines()) == 1
    status, out, err = run("recognise", "a.wav", "b.flac", "--beam-width", "2")
    assert [line.split(":")[0] for line in out.splitlines()] == ["a.wav", "b.flac"]
    assert "note: b.flac: resampled from 44,100 Hz to 16,000" in err
    assert "note: b.flac: silence alone" in err and "the mean of its 2 channels" in err
    Path("c.wav").write_text("no sound")
    assert "c.wav: not a sound file" in fails("recognise", "c.wav")
    status, out, err = run("recognise", ".")
    assert status == 2 and len(out.splitlines()) == 2
    assert "error: c.wav: not a sound file" in err and "1 of 3 recordings could not be read" in err
    assert "gone.wav: no such file" in fails("recognise", "gone.wav")


def test_a_long_recording_is_cut_and_said(here, run):
    wide_model(run)
    soundfile.write("a.wav", tones("SO THE CAT SAT ON THE MAT", "one", 160, 40), 16000)
    _, out, err = run("recognise", "a.wav")
    assert re.search(r"note: a\.wav: cut into [0-9]+ parts of up to 1 s, at pauses or", err)


def test_recordings_have_80_bins(here, run, fails):
    write_data(Path("wide"), bins=96)
    wide = ["--set", "data.num_feats=96", "--set", "model.input_dim=96"]
    assert run("train", "--config", "small.yaml", "--data", "wide", *wide)[0] == 0
    soundfile.write("a.wav", tones("A", "one", 160, 40), 16000)
    assert "the model wants 96 bins, and recordings give 80" in fails("recognise", "a.wav")


# ---- handin


def test_what_is_handed_in(trained, run):
    shutil.rmtree("data/test-clean/text")
    status, out, _ = run("handin")
    assert status == 0 and "submission.csv: 3 texts" in out
    with open("submission.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "transcription"] and [row[0] for row in rows[1:]] == ["0", "1", "2"]
    run("evaluate")
    for place, name in enumerate(("u0", "u1", "u2")):  # each by itself is the same
        for other in {"u0", "u1", "u2"} - {name}:
            Path(f"data/test-clean/fbank/{other}.npy").rename(f"{other}.kept")
        run("handin", "--out", "one.csv")
        with open("one.csv", newline="") as file:
            assert list(csv.reader(file))[1][1] == rows[place + 1][1]
        for other in {"u0", "u1", "u2"} - {name}:
            Path(f"{other}.kept").rename(f"data/test-clean/fbank/{other}.npy")


@pytest.mark.parametrize(("argv", "message"), [
    (["handin", "--out", "no/where.csv"], "no file can be there"),
    (["evaluate", "--out", "expts/x"], "that is where runs are"),
    (["evaluate", "--run", "other"], "no such checkpoint"),
    (["evaluate", "--lm-weight", "1"], "--lm-weight 1.0: there is no --lm"),
    (["evaluate", "--ctc-weight", "2"], "give a number from 0 to 1"),
    (["evaluate", "--lm", "gone.pth"], "gone.pth: no such checkpoint"),
    (["evaluate", "--lm", "expts/asr/config.yaml"], "not a checkpoint"),
])  # fmt: skip
def test_what_is_refused(trained, fails, argv, message):
    assert message in fails(*argv)


# ---- A language model


@pytest.fixture
def text_model(trained, capsys):
    """The checkpoint of a language model, by options for its training."""

    def make(name="lm", **changed):
        for partition in ("train", "val", "test"):
            folder = Path("text") / partition
            folder.mkdir(parents=True, exist_ok=True)
            for i, text in enumerate([*TEXTS, "THE OLD CAT SAT ON THE MAT AND THE DOG RAN AWAY"]):
                np.save(folder / f"{i}.npy", np.array(text))
        sizes = {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_ff": 12, **changed}
        sets = [f"model.{key}={value}" for key, value in sizes.items() if key != "token_type"]
        token_type = changed.get("token_type", "char")
        sets += ["training.epochs=1", f"tokenization.token_type={token_type}"]
        flags = [part for one in sets for part in ("--set", one)]
        command = ["train", "--run", name, "--data", "text", "--device", "cpu", *flags]
        assert run_lm.main(command) == 0
        capsys.readouterr()
        return checkpoint_path(name, "best-metric")

    return make


def test_a_language_model_is_asked_too(trained, run, text_model):
    path = text_model()
    status, out, _ = run("evaluate", "--lm", path, "--lm-weight", "0.5", "--beam-width", "2")
    assert status == 0
    search = json.loads(Path("evaluated/asr/metrics.json").read_text())["search"]
    assert search["lm"] == path.name and search["lm_weight"] == 0.5


def test_a_decoder_begins_as_a_language_model(trained, run, text_model):
    path = text_model()
    more = ["--run", "begun", "--decoder", path, "--set", "optimizer.lr=1.0e-12"]
    status, out, _ = run(*TRAIN, *more)
    assert status == 0 and re.search(r"the decoder begins with [0-9,]+ parameters of ", out)
    ours, theirs = (
        torch.load(file, weights_only=True)["model_state_dict"]
        for file in (checkpoint_path("begun", "last-epoch"), path)
    )
    name = "dec_layers.0.self_attn.mha.in_proj_weight"
    torch.testing.assert_close(ours[name], theirs[name])


@pytest.mark.parametrize(("changed", "message"), [
    ({"token_type": "1k"}, "its tokens are those of 1k, not the recogniser's (char)"),
    ({"d_ff": 16}, "does not fit: dec_layers.0.ffn"),
    ({"num_heads": 4}, "4 heads, but model.num_decoder_heads is 2"),
])  # fmt: skip
def test_a_language_model_that_does_not_fit(trained, fails, text_model, changed, message):
    path = text_model(**changed)
    assert message in fails(*TRAIN, "--run", "begun", "--decoder", path)
    if "token_type" in changed:
        assert message in fails("evaluate", "--lm", path)


def test_a_recogniser_is_no_language_model(trained, fails):
    path = checkpoint_path("asr", "best-metric")
    assert "it is not of run_lm.py, train anew" in fails("evaluate", "--lm", path)


# ---- A checkpoint from a stranger


def changed(content: dict, place: str, value) -> None:
    *sections, key = place.split(".")
    for section in sections:
        content = content[section]
    content[key] = value


@pytest.mark.parametrize(("place", "value", "message"), [
    ("config.trained_on.mean", [1.0], "its mean and std are not 8 numbers each"),
    ("config.trained_on.std", ["1"] * 8, "its mean and std are not 8 numbers each"),
    ("config.trained_on.std", [float("nan")] * 8, "give a finite number"),
    ("config.trained_on.other", 3, "a model of another kind"),
    ("config.trained_on", {}, "its mean and std are not"),
    ("config.model.num_encoder_layers", 500, "1 layers in the checkpoint, but 500"),
    ("config.model.num_decoder_layers", 2, "1 layers in the checkpoint, but 2"),
    ("config.model.max_len", 10**9, "positional_encoding.pe is (1, 90, 8) in the checkpoint"),
    ("config.model.d_model", 10**5, "in the checkpoint"),
    ("config.model.time_reduction", 10**6, "of which the reduction leaves none"),
    ("config.model.reduction_method", "lstm", "source_embedding"),
    ("config.data.num_feats", 5, "model.input_dim is 8, data.num_feats is 5"),
    ("config.data.norm", "mvn", "data.norm 'mvn'"), ("epoch", -1, "a damaged one"),
    ("model_state_dict", {}, "nothing in it could be loaded"), ("config.data", 3, "data is 3"),
])  # fmt: skip
def test_a_checkpoint_that_is_none_is_one_line(trained, fails, place, value, message):
    for which in ("best-metric", "last-epoch"):
        path = checkpoint_path("asr", which)
        content = torch.load(path, weights_only=True)
        changed(content, place, value)
        torch.save(content, path)
    assert message in fails("evaluate")


# ---- SPEECH.md

FLAGS = {
    "--data", "--beam-width", "--ctc-weight", "--lm", "--lm-weight", "--resume", "--decoder",
    "--train",
}  # fmt: skip


def test_the_commands_of_its_page_are_understood():
    page = (Path(run_asr.__file__).parent / "SPEECH.md").read_text("utf-8")
    lines = [line for block in re.findall(r"(?ms)^```\n(.*?)^```$", page)
             for line in block.splitlines() if line.startswith("python run_asr.py")]  # fmt: skip
    assert len(lines) == 4
    for line in lines:
        run_asr.parse_args(shlex.split(line, comments=True)[2:])
    for flag in re.findall(r"`(--[a-z-]+)", page):
        assert flag in FLAGS, flag
    for file in re.findall(r"`((?:hw4lib|results|tests)/[\w/.]+)`", page):
        assert (Path(run_asr.__file__).parent / file).exists(), file
