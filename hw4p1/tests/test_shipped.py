"""The model that comes with the program: what it is, when it is used, and how it is made."""

import json
from pathlib import Path

import pytest
import run_lm
import ship_model
import torch
from hw4lib.config import load_config
from hw4lib.runs import checkpoint_path
from hw4lib.trainers import LMTrainer
from hw4lib.trainers.checkpoint import read_checkpoint
from tests.tiny import write_data

CARD = run_lm.SHIPPED_MODEL.with_suffix(".json")
METRICS = Path("evaluated") / "shipped" / "test_metrics.json"


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """A current folder with nothing in it; no texts are generated and no pictures drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LMTrainer, "generate_all", lambda self, loader: {})
    monkeypatch.setattr(LMTrainer, "_save_attention_plot", lambda *args: None)
    return tmp_path


def test_generate_answers_before_any_training(empty, says):
    note, text, end = says("generate").splitlines()
    assert note == "note: the shipped model, as there is no run expts/lm; `train` makes it"
    assert len(text.split()) > 8 and "ended by EOS" in end
    _, text, end = says("generate", "The dog was").splitlines()
    assert text.startswith("THE DOG WAS ") and len(text.split()) > 5 and "ended by EOS" in end
    assert list(empty.iterdir()) == []


def test_the_shipped_model_stands_in_for_no_run(empty, fails):
    """One that is named, or has begun, or is to be handed in."""
    words = "no such checkpoint; train first"
    for command in (["generate", "--run", "lm"], ["evaluate", "--run", "shipped"], ["handin"]):
        assert words in fails(*command)
    (empty / "expts" / "lm").mkdir(parents=True)
    for command in ("generate", "evaluate"):
        assert words in fails(command)


@pytest.mark.parametrize("same", [False, True])
def test_evaluate_says_on_what_the_shipped_model_was_measured(empty, says, monkeypatch, same):
    card = json.loads(CARD.read_text())
    data = card["test_data"]
    if same:
        facts = {"transcripts": 1, "sha256": data["sha256"]}
        monkeypatch.setattr(run_lm, "describe_data", lambda loader: facts)
    write_data(empty / "data", (1, 1, 3))
    these = "these" if same else "others than these"
    assert (
        f"measured on {data['transcripts']:,} transcripts of tinystories.test.txt, {these}: "
        f"perplexity_char {card['test']['perplexity_char']:.4f}\n"
    ) in says("evaluate", "--data", "data")
    assert json.loads((empty / METRICS).read_text())["model"]["run"] == "shipped"


@pytest.mark.thorough
def test_evaluate_without_data_takes_the_embedded_stories(empty, says, monkeypatch, sample):
    def find(args, config):
        config["data"]["root"] = str(sample)
        return run_lm.SAMPLE_NOTE

    monkeypatch.setattr(run_lm, "find_data", find)
    assert f"{run_lm.SAMPLE_NOTE}\n" in says("evaluate")  # none of them is too long for the model


def test_the_shipped_file_is_small_and_says_what_it_is():
    assert run_lm.SHIPPED_MODEL.stat().st_size <= 4_000_000
    content, card = read_checkpoint(run_lm.SHIPPED_MODEL), json.loads(CARD.read_text())
    config = content["config"]
    assert content.keys() == {
        "epoch", "model_state_dict", "embedding_scale", "best_metric", "training_history", "config",
    }
    assert card["config"] == config
    assert config["data"]["root"] == load_config()["data"]["root"]  # no folder of a machine
    assert config["model"]["weight_tying"]
    assert content["embedding_scale"] == pytest.approx(config["model"]["d_model"] ** 0.5)
    kinds = {name: tensor.dtype for name, tensor in content["model_state_dict"].items()}
    assert kinds.pop("positional_encoding.pe") == torch.float32
    assert set(kinds.values()) == {torch.float16}
    assert card["trained_on"]["made_of"] == ["tinystories.train.txt"]
    best = min(card["val_perplexity_char_by_epoch"])
    assert card["test"]["perplexity_char"] == pytest.approx(best, rel=0.03)  # of the same kind


def test_a_model_is_shipped_as_it_is_but_for_rounding(empty, begun, says, monkeypatch):
    train = ["train", "--config", "small.yaml", "--data", "data", "--run", "a", "--epochs", "1"]
    says(*train, "--set", "model.weight_tying=True")
    model = empty / "shipped" / "stories.pth"
    monkeypatch.setattr(run_lm, "SHIPPED_MODEL", model)
    assert ship_model.main(["--run", "a", "--data", "data"]) == 0
    best, shipped = map(read_checkpoint, (checkpoint_path("a", "best-metric"), model))
    for name, tensor in best["model_state_dict"].items():
        kept = tensor if name.endswith(".pe") else tensor.half()
        assert torch.equal(shipped["model_state_dict"][name], kept)
    for part in ("embedding_scale", "epoch", "best_metric", "training_history"):
        assert shipped[part] == best[part]
    card = json.loads(model.with_suffix(".json").read_text())
    size = shipped["model_state_dict"]["positional_encoding.pe"].nbytes + 2 * card["parameters"]
    assert size < model.stat().st_size < size + 20_000  # the tied matrix is stored once
    assert "note: the shipped model" in says("generate", "THE")
    assert ", these: perplexity_char" in says("evaluate", "--data", "data")
    numbers = json.loads((empty / METRICS).read_text())
    assert numbers["perplexity_char"] == card["test"]["perplexity_char"]
