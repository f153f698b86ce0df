"""The command line.

Its four commands on a tiny configuration, where data comes from, and what is an error.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import run_lm
import torch
import yaml
from hw4lib import config as configuration
from hw4lib import preparation
from hw4lib.config import SHIPPED, load_config
from hw4lib.lock import exclusive
from tests.tiny import SMALL, write_data


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with nothing in it but a small configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a small model was trained."""
    folder = tmp_path_factory.mktemp("trained")
    write_data(folder / "data")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run_lm.main(["train", "--config", "small.yaml", "--data", "data"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def there(trained, monkeypatch):
    """That folder as the current one."""
    monkeypatch.chdir(trained)
    return trained


def saved(run: str) -> dict:
    """The last checkpoint of a run."""
    return torch.load(run_lm.checkpoint_path(run, "last-epoch"), weights_only=True)


def fails(capsys, arguments: list[str]) -> str:
    """The message of a command that ends with status 2: one line."""
    assert run_lm.main(arguments) == 2
    message = capsys.readouterr().err
    last = message.strip().splitlines()[-1]
    assert last.startswith("run_lm.py: error: ") and "Traceback" not in message
    return last


# ---- The commands


def test_train_makes_a_run(there):
    root = there / "expts" / "lm"
    history = saved("lm")["training_history"]
    assert [h["epoch"] for h in history] == [0, 1]
    assert history[1]["val"]["perplexity_char"] < history[0]["val"]["perplexity_char"] < 40
    used = yaml.safe_load((root / "config.yaml").read_text())
    # The second is as shipped.
    assert used["model"]["num_classes"] == 35 and used["model"]["num_heads"] == 2
    assert used["trained_on"]["transcripts"] == 40 and used["trained_on"]["folder"] == "data/train"
    longest = max(len(np.load(path).item()) for path in (there / "data").rglob("*.npy"))
    assert used["model"]["max_len"] == longest + 1


def files_of(root: Path) -> dict[Path, bytes]:
    """What is in all files of a folder."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_evaluate(there, capsys):
    before = files_of(there / "expts")
    assert run_lm.main(["evaluate"]) == 0
    out = there / "evaluated" / "lm"
    numbers = json.loads((out / "test_metrics.json").read_text())
    assert numbers["perplexity_char"] == pytest.approx(np.exp(numbers["ce_loss_char"]))
    assert numbers["test_data"]["transcripts"] == 6 and numbers["model"]["run"] == "lm"
    assert f"{numbers['perplexity_char']:.4f}" in capsys.readouterr().out
    texts = [f"text_test_epoch_2_{name}.json" for name in ("beam", "greedy", "sample")]
    assert sorted(path.name for path in out.iterdir()) == [
        "test_metrics.json", "test_self_attention_epoch2.png", *texts,
    ]  # fmt: skip
    assert [len(json.loads((out / name).read_text())) for name in texts] == [50, 50, 50]
    assert files_of(there / "expts") == before


def test_evaluate_takes_the_best_model_and_not_the_last(there, capsys):
    last = run_lm.checkpoint_path("lm", "last-epoch")
    content = last.read_bytes()
    try:
        last.write_bytes(b"worse")
        assert run_lm.main(["evaluate"]) == 0
    finally:
        last.write_bytes(content)


@pytest.mark.parametrize("arguments", [
    [], ["--prompt", "The old"],
    ["--method", "beam", "--beam-width", "3", "--repeat-penalty", "1.3"],
    [
        "--method", "sample", "--samples", "3", "--top-k", "9", "--top-p", "0.9", "--temperature",
        "0.7", "--seed", "4",
    ],
])  # fmt: skip
def test_generate(there, capsys, arguments):
    texts = []
    for _ in range(2):
        assert run_lm.main(["generate", *arguments]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    count = 3 if "--samples" in arguments else 1
    assert texts[0].count("\n-- ") == texts[0].count(", log-probability -") == count
    assert "[SOS]" not in texts[0]
    if "--prompt" in arguments:
        assert texts[0].startswith("THE OLD")


@pytest.mark.parametrize("way", [["greedy"], ["sample", "--top-k", "5"], ["beam"]])
def test_a_temperature_near_0_gives_the_greedy_text(there, capsys, way):
    start = ["generate", "--prompt", "THE "]
    assert run_lm.main(start) == 0
    greedy = capsys.readouterr().out.splitlines()[0]
    assert len(greedy) > 4
    assert run_lm.main([*start, "--temperature", "1e-39", "--method", *way]) == 0
    told = capsys.readouterr().out
    assert (told.splitlines()[-2], "nan" in told) == (greedy, False)


def test_a_prompt_becomes_what_a_transcript_has(there, capsys):
    texts = set()
    for prompt in ("THE OLD MAN'S", "\ufeff The  óld\u00a0man´s\r\n", "the \udcc3\udcb3ld man's"):
        assert run_lm.main(["generate", "--prompt", prompt]) == 0
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1


def test_handin(there, capsys):
    (SHIPPED.parent / "mytorch" / "__pycache__").mkdir(exist_ok=True)
    assert run_lm.main(["handin", "--out", "h.tar"]) == 0
    with tarfile.open("h.tar", "r:") as tar:  # uncompressed
        names = tar.getnames()
        read = {name: tar.extractfile(f"handin/{name}").read().decode() for name in
                ("test_metrics.json", "test_generated_results.json", "model_arch.txt")}  # fmt: skip
    top = {name.split("/")[1] for name in names}
    assert top == {"mytorch", *read} and {name.split("/")[0] for name in names} == {"handin"}
    assert "handin/mytorch/nn/multi_head_attention.py" in names
    assert not any(
        "__pycache__" in name or name.endswith(".pyc") or ".DS_Store" in name for name in names
    )
    metrics = json.loads(read["test_metrics.json"])
    texts = json.loads(read["test_generated_results.json"])
    assert {
        "ce_loss_token", "ce_loss_char", "perplexity_token", "perplexity_char",
    } <= metrics.keys()
    assert metrics["test_data"]["folder"] == "data/test"
    assert len(metrics["trained_on"]["sha256"]) == 64
    assert len(texts) == 50 and list(texts[0]) == ["prompt", "original", "generated", "score"]
    assert read["model_arch.txt"] == (there / "expts" / "lm" / "model_arch.txt").read_text()
    assert f"{metrics['perplexity_char']:.4f}" in capsys.readouterr().out
    (there / "short" / "test").mkdir(parents=True)
    np.save(there / "short" / "test" / "0.npy", np.array("A CAT"))
    assert "give longer transcripts with --data" in fails(
        capsys, ["handin", "--out", "no.tar", "--data", "short"]
    )


def test_a_stopped_training_says_how_to_go_on(here):
    """In a process of its own, with a real signal."""
    write_data(here / "data", (400, 6, 6))
    command = [
        sys.executable, str(SHIPPED.parent / "run_lm.py"), "train", "--config", "small.yaml",
        "--data", "data",
    ]
    training = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=here,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    for line in training.stdout:
        if " parameters on " in line:
            training.send_signal(signal.SIGINT)
            break
    _, errors = training.communicate(timeout=120)
    assert training.returncode == 130, errors
    assert errors.strip().splitlines()[-1].endswith(
        "stopped and saved; go on with: run_lm.py train --resume")  # fmt: skip
    assert 1 <= saved("lm")["progress"]["batches"] < 25
    assert run_lm.main(["train", "--resume"]) == 0
    assert [h["epoch"] for h in saved("lm")["training_history"]] == [0, 1]


def test_epochs_brings_its_schedule(here, capsys):
    write_data(here / "data")
    command = ["train", "--config", "small.yaml", "--data", "data", "--epochs", "2"]
    assert run_lm.main([*command, "--run", "two"]) == 0
    used = yaml.safe_load((here / "expts" / "two" / "config.yaml").read_text())
    schedule = used["scheduler"]
    assert used["training"]["epochs"] == 2
    assert (schedule["warmup"]["epochs"], schedule["cosine"]["T_max"]) == (0.5, 1.5)
    assert "note: the schedule" not in capsys.readouterr().out
    cold = load_config(settings=["scheduler.warmup.enabled=False"])
    preparation.spread_epochs(cold, 8)
    assert (cold["training"]["epochs"], cold["scheduler"]["cosine"]["T_max"]) == (8, 8)
    words = "--epochs 4 --set scheduler.warmup.epochs=0.1: both set it"
    assert words in fails(
        capsys, ["train", "--epochs", "4", "--set", "scheduler.warmup.epochs=0.1"]
    )


# ---- Where data comes from


def test_without_data_it_is_the_embedded_sample_and_says_so(here, sample, monkeypatch, capsys):
    monkeypatch.setattr(run_lm, "make_sample", lambda root: root.symlink_to(sample))  # is made
    monkeypatch.setattr(run_lm, "HERE", here)  # no data beside the program either
    monkeypatch.setattr(
        run_lm, "locate", lambda path: SHIPPED.parent / path if "json" in path else here / path
    )
    arguments = [
        "train", "--config", "small.yaml", "--set", "data.subset=0.02", "--set",
        "training.epochs=1",
    ]
    assert run_lm.main(arguments) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == lines[-1] == run_lm.SAMPLE_NOTE
    assert (here / "build" / "sample" / "train").is_dir()
    capsys.readouterr()
    config = load_config()
    note = run_lm.find_data(run_lm.parse_args(arguments), config)  # what is there is used
    assert (note, config["data"]["root"]) == (run_lm.SAMPLE_NOTE, str(here / "build" / "sample"))


def test_the_option_comes_before_the_configuration(here):
    config = load_config(settings=["data.root=setting"])
    for name in ("option", "setting"):
        (here / name).mkdir()
    assert run_lm.find_data(run_lm.parse_args(["train"]), config) == ""
    assert config["data"]["root"] == "setting"
    run_lm.find_data(run_lm.parse_args(["train", "--data", "option"]), config)
    assert config["data"]["root"] == "option"


@pytest.mark.parametrize("arguments", [["--data", "nowhere"], ["--set", "data.root=nowhere"]])
def test_data_that_was_named_and_is_missing_is_an_error(here, capsys, arguments):
    assert "nowhere: no such folder" in fails(capsys, ["train", *arguments])


# ---- Errors


@pytest.mark.parametrize(("setting", "words"), [
    (
        "optimizer.lr=1e-4",
        "optimizer.lr is '1e-4', which is text; give a number (YAML takes 1e-4 for text",
    ),
    ("optimizer.lrr=1.0", "no setting optimizer.lrr; did you mean optimizer.lr?"),
    ("model.num_layers=2.5", "model.num_layers is 2.5, which is number; give a whole number"),
    ("model=6", "model is 6, which is whole number; give a section"),
    ("data.batch_size=0", "data.batch_size is 0; give at least 1"),
    (
        "training.use_wandb=1",
        "training.use_wandb is 1, which is whole number; give a True or False",
    ),
    ("num_layers", "--set num_layers: write section.key=value"),
    ("optimizer.name=[", "not YAML"),
    ("tokenization.token_type=word", "choose one of char, 1k, 5k, 10k"),
    ("tokenization.token_map.char=gone.json", "gone.json: no such file"),
    ("model.num_heads=3", "d_model 16 does not divide into num_heads 3"),
    ("optimizer.name=lion", "optimizer.name 'lion': choose one of"),
    ("scheduler.name=steps", "scheduler.name 'steps': choose one of"),
    ("a.b=1", "there is no setting a; there are Name, tokenization, data"),
    ("model.dropout=1.5", "model.dropout is 1.5; give at least 0 and less than 1"),
    ("loss.label_smoothing=-0.1", "loss.label_smoothing is -0.1; give at least 0"),
    ("model.layer_drop_rate=1", "model.layer_drop_rate is 1.0; give"),
    ("optimizer.adam.betas=[0.9]", "optimizer adam: list index out of range; correct it"),
    ("scheduler.cosine.T_max=0.0", "scheduler cosine: T_max is 0.0 epochs, 0 steps; correct it"),
    ("training.gradient_clip=-1", "training.gradient_clip is -1.0; give at least 0"),
    ("training.gradient_clip=1e-1", "training.gradient_clip is '1e-1', which is text; give a"),
    ("scheduler.warmup.epochs=-1", "warmup.epochs is -1.0 epochs, -1 steps; correct it"),
])  # fmt: skip
def test_settings_that_cannot_be_used(here, capsys, setting, words):
    write_data(here / "data", (4, 2, 2))
    assert words in fails(
        capsys, ["train", "--config", "small.yaml", "--data", "data", "--set", setting]
    )


@pytest.mark.parametrize(("text", "words"), [
    ("model:\n  d_model: 8\n bad", "bad.yaml:3: not YAML"),
    ("- 1", "bad.yaml: not a configuration"),
    (
        "model:\n  layers: 2",
        "bad.yaml: there is no setting model.layers; did you mean model.num_layers?",
    ),
    ("optimizer:\n  adam:\n    eps: 1e-8", "bad.yaml: optimizer.adam.eps is '1e-8'"),
])  # fmt: skip
def test_configurations_that_cannot_be_used(here, capsys, text, words):
    (here / "bad.yaml").write_text(text)
    assert words in fails(capsys, ["train", "--config", "bad.yaml"])
    assert "none.yaml: cannot be read" in fails(capsys, ["train", "--config", "none.yaml"])


@pytest.mark.parametrize(("damage", "words"), [
    (lambda path: path.write_bytes(b""), "003.npy"),
    (lambda path: np.save(path, np.array(["A", {}], dtype=object), allow_pickle=True), "003.npy"),
    (lambda path: np.save(path, np.array("the cat")), "003.npy"),
])  # fmt: skip
def test_transcripts_that_cannot_be_used(here, capsys, damage, words):
    write_data(here / "data")
    damage(here / "data" / "val" / "003.npy")
    assert words in fails(capsys, ["train", "--config", "small.yaml", "--data", "data"])


def test_a_run_is_not_replaced_or_resumed_as_another(there, capsys):
    train = ["train", "--config", "small.yaml", "--data", "data"]
    assert "--resume, or name another with --run" in fails(capsys, train)
    words = "the run began otherwise, model.d_ff: 32, 48 now"
    assert words in fails(capsys, [*train, "--resume", "--set", "model.d_ff=48"])
    write_data(there / "others", (41, 6, 6))
    assert "trained_on" in fails(
        capsys, ["train", "--config", "small.yaml", "--data", "others", "--resume"]
    )
    # The best of two epochs is to be that of one set of val.
    shutil.copytree(there / "data", there / "judged")
    shutil.copy(there / "judged" / "val" / "001.npy", there / "judged" / "val" / "003.npy")
    judged = fails(capsys, ["train", "--config", "small.yaml", "--data", "judged", "--resume"])
    assert "the run began otherwise, trained_on.val_sha256" in judged
    words = "training.gradient_accumulation_steps: 1, 2 now"
    assert words in fails(
        capsys, [*train, "--resume", "--set", "training.gradient_accumulation_steps=2"]
    )
    words = "training.gradient_clip: 0.0, 0.5 now"
    assert words in fails(capsys, [*train, "--resume", "--set", "training.gradient_clip=0.5"])
    before = saved("lm")["config"]
    moved = {**before, "data": {**before["data"], "root": "elsewhere"}}
    moved["trained_on"] = {
        **before["trained_on"], "folder": "elsewhere/train", "made_of": ["a.txt"],
    }
    run_lm.check_same_run(moved, before, Path("lm"))  # the same data in another place
    moved["trained_on"]["sha256"] = "0"
    with pytest.raises(run_lm.UserError, match=r"trained_on\.sha256"):
        run_lm.check_same_run(moved, before, Path("lm"))


def test_the_configuration_of_a_run_can_be_given_again(there):
    kept, given = load_config("expts/lm/config.yaml"), load_config("small.yaml")
    assert kept.pop("data") | {"root": ""} == given.pop("data") | {"root": ""}
    assert kept == given


@pytest.mark.parametrize(("change", "words"), [
    (lambda c: c["config"]["model"].update(d_ff=48), "(32,) in the checkpoint, (48,) in the model"),
    (
        lambda c: c["config"]["tokenization"].update(token_type="1k"),
        "made with 35 tokens, but the tokenizer 1k has",
    ),
    (
        lambda c: c["config"]["trained_on"].update(tokenizer_sha256="0"),
        "the tokenizer char is not that of its",
    ),
    (lambda c: c["config"].pop("model"), "its configuration has no model; it is not of run_lm.py"),
    (lambda c: c.update(model_state_dict={}), "nothing in it could be loaded"),
])  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_an_error(there, capsys, change, words):
    content = torch.load(run_lm.checkpoint_path("lm", "best-metric"), weights_only=True)
    change(content)
    odd = run_lm.checkpoint_path("odd", "best-metric")
    odd.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, odd)
    for command in ("generate", "evaluate"):
        assert words in fails(capsys, [command, "--run", "odd"])


def test_a_checkpoint_without_its_history_is_not_evaluated(there, capsys):
    content = torch.load(run_lm.checkpoint_path("lm", "best-metric"), weights_only=True)
    del content["training_history"]
    bare = run_lm.checkpoint_path("bare", "best-metric")
    bare.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, bare)
    del content["config"]["trained_on"]
    torch.save(content, run_lm.checkpoint_path("bare", "last-epoch"))
    assert "no trained_on; it is not of run_lm.py" in fails(
        capsys, ["train", "--config", "small.yaml", "--data", "data", "--run", "bare", "--resume"])
    assert "it has no training_history; it is not of run_lm.py" in fails(
        capsys, ["evaluate", "--run", "bare"]
    )


@pytest.mark.parametrize("name", ["", "..", "../other", "a/b", "/tmp/x", "a\\b", ".lm.lock"])
def test_a_run_stays_in_its_folder(there, capsys, name):
    words = "give a name without slashes or a dot before it: it is a folder in expts/"
    assert words in fails(capsys, ["generate", "--run", name])


@pytest.mark.parametrize("letter", ["a", "\u00e9"])
def test_a_long_name_is_refused_with_the_reason(here, capsys, letter):
    size = len(letter.encode())
    longest = letter * (249 // size)
    with exclusive(here / "expts" / longest, "wait"):  # has room
        pass
    bytes_ = len((longest + letter).encode())
    words = f"it has {bytes_} bytes, and with .NAME.lock beside it a run's name has room for 249"
    assert words in fails(capsys, ["train", "--run", longest + letter])
    assert not (here / "expts").exists() or not list((here / "expts").iterdir())


@pytest.mark.parametrize(("flag", "value", "words"), [
    ("--top-p", "0", "give more than 0 and at most 1"), ("--top-p", "1.5", "at most 1"),
    ("--temperature", "nan", "give a number above 0"), ("--temperature", "inf", "above 0"),
    ("--repeat-penalty", "0", "give a number above 0"),
    ("--beam-width", "0", "from 1 to 1,000,000"), ("--samples", "9" * 5000, "1,000,000"),
    ("--top-k", "-1", "at least 0"),
    ("--seed", "x", "from 0 to 2^63 - 1"), ("--method", "best", "invalid choice: 'best'"),
    ("--nonsense", "1", "--nonsense: no such flag"),
])  # fmt: skip
def test_flags_are_checked_before_anything_is_read(here, capsys, flag, value, words):
    said = fails(capsys, ["generate", flag, value])
    assert words in said and len(said) < 300
    assert said.endswith("-h tells what there is")


def test_other_errors_of_use(there, capsys):
    assert "no such checkpoint; train first" in fails(capsys, ["evaluate", "--run", "never"])
    said = fails(capsys, ["generate", "--prompt", "THE [EOS] CAT"])
    assert "--prompt: it spells the special token [EOS]; take it out" in said
    assert "--prompt is not UTF-8" in fails(capsys, ["generate", "--prompt", "caf\udce9"])
    assert "'5'" in fails(capsys, ["generate", "--prompt", "5 CATS"])
    assert "tokens, more than max_length" in fails(capsys, ["generate", "--prompt", "CAT " * 20])
    assert "gives the same text each time" in fails(capsys, ["generate", "--samples", "3"])
    assert "there is no folder gone" in fails(capsys, ["handin", "--out", "gone/h.tar"])
    if not torch.cuda.is_available():
        assert "PyTorch finds no GPU here" in fails(capsys, ["generate", "--device", "cuda"])
    long = write_data(there / "long", (1, 1, 2))
    np.save(long / "test" / "002.npy", np.array("A" * 200))
    message = fails(capsys, ["evaluate", "--data", "long"])
    assert "long/test/002.npy: 201 tokens" in message and "max_len" in message


# ---- The configuration


def test_the_shipped_configuration_has_the_courses_values():
    config = load_config()
    assert config["model"] == {
        "d_model": 256, "d_ff": 1024, "num_layers": 2, "num_heads": 2, "dropout": 0.0,
        "layer_drop_rate": 0.0,
        "weight_tying": False,
    }  # fmt: skip
    assert config["data"] == {
        "root": "hw4_data/hw4p1_data", "train_partition": "train", "val_partition": "val",
        "test_partition": "test",
        "subset": 1.0, "batch_size": 256, "NUM_WORKERS": 2,
    }  # fmt: skip
    optimizer, schedule = config["optimizer"], config["scheduler"]
    assert (optimizer["name"], optimizer["lr"], schedule["name"]) == ("adam", 5e-4, "cosine")
    assert schedule["warmup"]["epochs"] + schedule["cosine"]["T_max"] == config[
        "training"
    ]["epochs"] == 20
    assert config["training"]["gradient_clip"] == 0
    for path in config["tokenization"]["token_map"].values():
        assert (SHIPPED.parent / path).is_file()


def test_a_configuration_of_its_own_replaces_only_what_it_has(here):
    config = load_config("small.yaml", ["model.d_ff=48", "optimizer.sgd.dampening=0"])
    shipped = load_config()
    assert config["model"] == {**shipped["model"], "d_model": 16, "d_ff": 48, "num_layers": 1}
    assert config["optimizer"]["sgd"]["dampening"] == 0
    assert configuration.first_difference(shipped, load_config()) is None
    assert configuration.first_difference(shipped, config) == "data.batch_size: 256, 16"
