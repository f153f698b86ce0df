"""The loss with the last k tokens alone: beside two loops over stories and places."""

import json
from dataclasses import replace

import lstlm
import numpy as np
import pytest
import rates
import runner
import store
import torch
from extensions.transformer import TransformerLM
from measures import context
from measures.scoring import nats_by_position
from small import make_stories
from torch.nn import functional as F

STORIES = make_stories([5, 1, 9, 9, 3, 14], 40)


def make(kind: str) -> torch.nn.Module:
    """A small float64 model with random weights."""
    torch.manual_seed(1)
    if kind == "transformer":
        return TransformerLM(torch.zeros(40, 8), 12, 2, tie=True).double()
    attention = None if kind == "lstm" else kind
    return lstlm.LSTMLM(torch.randn(40, 8), 12, 2, attention).double()


@pytest.mark.parametrize("kind", ["lstm", "dot", "additive", "transformer"])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_the_losses_are_those_of_two_loops(kind, k, monkeypatch):
    monkeypatch.setattr(context, "AT_ONCE", 30)  # several windows, several times
    model = make(kind)
    nats = context.windowed_nats(model, STORIES, k)
    model.eval()
    for story, ours in zip(STORIES, nats, strict=True):
        expected = []
        for i in range(1, len(story)):
            window = story[max(0, i - k) : i]
            logits = model(torch.tensor([window]), torch.tensor([len(window)]))[0, -1]
            expected.append(float(F.cross_entropy(logits, torch.tensor(story[i])).detach()))
        np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_all_that_is_seen_is_the_plain_loss():
    model = make("lstm")
    for ours, plain in zip(
        context.windowed_nats(model, STORIES, 15), nats_by_position(model, STORIES), strict=True
    ):
        np.testing.assert_array_equal(ours, plain)
    assert any(
        not np.allclose(ours, plain) for ours, plain in zip(
            context.windowed_nats(model, STORIES, 2), nats_by_position(model, STORIES), strict=True
        )
    )


def test_a_row_is_measured_beside_the_5_gram(data, plan, in_process, monkeypatch, capsys):
    row = replace(plan, group="rates", name="a row", seeds=(0,), stories=(12, 3))
    for module in (context, rates):
        monkeypatch.setattr(module, "ROWS", [row])
    monkeypatch.setattr(rates, "FIRST", (0.01, 0.02, 0.04))
    monkeypatch.setattr(context, "ROW_CUT", (12, 3))
    monkeypatch.setattr(context, "SEEN", (2, 500))
    assert context.main(["-data", str(data), "-stories", "4"]) == 0
    assert "a row: no trained model yet; rates.py trains it" in capsys.readouterr().out
    monkeypatch.setattr(rates.Row, "known", lambda self: {0.01: 3, 0.02: 2, 0.04: 3})
    one = rates.Row(row, data).best()[0]
    assert isinstance(one, runner.Experiment)
    one.run(1)
    assert context.main(["-data", str(data), "-stories", "4", "a row"]) == 0
    record = json.loads((store.RESULTS / "measures" / "context.json").read_text())
    assert {*record["models"]} == {"5-gram", "a row"}
    seen = record["models"]["a row"]["seen"]
    assert [*seen] == ["2", "500", "all"]
    assert seen["500"] == seen["all"] != seen["2"]
    total = sum(kind["tokens"] for name, kind in seen["all"].items() if name != "nats")
    mean = sum(
        kind["tokens"] * kind["nats"] for name, kind in seen["all"].items() if name != "nats"
    ) / total
    assert mean == pytest.approx(seen["all"]["nats"])
    stories = (data / "tiny" / "tiny.test.tokens.4M").read_text().splitlines()[:4]
    assert total == sum(len(story.split()) + 1 for story in stories)
    places = record["models"]["a row"]["by_position"]
    assert sum(place["tokens"] for place in places) == total
    assert record["models"]["5-gram"]["seen"]["4"]["nats"] > 0
    assert context.main(["-data", str(data), "no row"]) == 2
