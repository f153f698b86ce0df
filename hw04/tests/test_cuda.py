"""On a GPU, where there is one: the same losses, gradients and text as on the CPU."""

import json

import lstlm
import pytest
import torch
from lstlm import Memory, collate_stories, compute_loss, generate_next_token, summed_nats
from small import make_model, make_stories
from test_resume import flags, folder, stop_at  # noqa: F401 - a fixture

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


V = 43  # not a multiple of 8


def loss_and_gradients(model, stories):
    nats, _ = summed_nats(model, *collate_stories(stories))
    gradients = torch.autograd.grad(nats, list(model.parameters()))
    return nats.item(), [gradient.cpu() for gradient in gradients]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_float32_on_both_is_the_same(attention, cell, stories):
    model = make_model(attention, V, dtype=torch.float32, cell=cell)
    nats, gradients = loss_and_gradients(model, stories)
    other_nats, other_gradients = loss_and_gradients(model.cuda(), stories)
    assert other_nats == pytest.approx(nats, rel=1e-4)
    torch.testing.assert_close(other_gradients, gradients, rtol=1e-3, atol=1e-4)
    assert compute_loss(model, stories, 4) == pytest.approx(compute_loss(model.cpu(), stories, 4), rel=1e-5)


def test_bfloat16_is_close(attention, stories):
    model = make_model(attention, V, dtype=torch.float32)
    nats, gradients = loss_and_gradients(model, stories)
    model.precision = torch.bfloat16
    other_nats, other_gradients = loss_and_gradients(model.cuda(), stories)
    assert other_nats == pytest.approx(nats, rel=0.01)
    for a, b in zip(gradients, other_gradients, strict=True):
        assert torch.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.99


def test_greedy_text_is_the_same(attention):
    model = make_model(attention, V, dtype=torch.float32).eval()
    texts = []
    for device in ("cpu", "cuda"):
        ids, memory = make_stories([3], 40)[0][:-1], Memory()
        for _ in range(20):
            ids.append(generate_next_token(model.to(device), ids, greedy=True, state=memory))
        texts.append(ids)
    assert texts[0] == texts[1]


def test_a_training_is_stopped_and_goes_on(folder, monkeypatch, capsys):  # noqa: F811
    more = ["-device", "cuda", "-B", "8"]
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert lstlm.main([*flags(folder, "gpu"), *more]) == 130
    assert lstlm.main([*flags(folder, "gpu"), *more, "-resume"]) == 0
    assert "going on after step 3" in capsys.readouterr().out
    assert lstlm.main([*flags(folder, "cpu"), "-device", "cpu", "-B", "8"]) == 0
    sizes = [(folder / f"{name}.pt").stat().st_size for name in ("gpu", "cpu")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)  # tied weights are stored once
    for device in ("cpu", "cuda"):
        assert lstlm.main(["-evaluate", "-model", str(folder / "gpu.pt"), "-device", device, "-json",
                           "-test_corpus", str(folder / "corpus")]) == 0
    losses = [json.loads(line)["nats"] for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
