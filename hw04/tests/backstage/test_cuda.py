"""On a GPU, where there is one: the same losses, gradients and text as on the CPU."""

import json

import backstage.bookkeeping
import lstlm
import pytest
import torch
from backstage.state import State
from lstlm import collate_stories, compute_loss, generate_next_token
from small import make_model, make_stories
from stopping import flags, stop_at, write_corpus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


V = 43  # not a multiple of 8


def loss_and_gradients(model, stories):
    inputs, targets, lengths = collate_stories(stories)
    device = model.output.weight.device
    nats = int(lengths.sum()) * model(inputs.to(device), lengths, targets.to(device))
    gradients = torch.autograd.grad(nats, list(model.parameters()))
    return nats.item(), [gradient.cpu() for gradient in gradients]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_float32_on_both_is_the_same(attention, cell, stories):
    model = make_model(attention, V, dtype=torch.float32, cell=cell)
    nats, gradients = loss_and_gradients(model, stories)
    other_nats, other_gradients = loss_and_gradients(model.cuda(), stories)
    assert other_nats == pytest.approx(nats, rel=1e-4)
    torch.testing.assert_close(other_gradients, gradients, rtol=1e-3, atol=1e-4)
    there = compute_loss(model, stories, 4)
    assert there == pytest.approx(compute_loss(model.cpu(), stories, 4), rel=1e-5)


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
        ids = make_stories([3], 40)[0][:-1]
        state = State()
        for _ in range(20):
            token = generate_next_token(model.to(device), ids, greedy=True, state=state)
            ids.append(token)
        texts.append(ids)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("locked", [False, True])
def test_dropout_on_the_outputs_of_all_layers(locked, stories):
    """cuDNN's between layers, ours behind the last; evaluation drops nothing."""
    model = make_model(dtype=torch.float32, dropout=0.5, locked=locked, V=V).cuda().train()
    losses = {loss_and_gradients(model, stories)[0] for _ in range(3)}
    assert len(losses) == 3
    nats, _ = loss_and_gradients(model.eval(), stories)
    assert nats == pytest.approx(loss_and_gradients(model.cpu(), stories)[0], rel=1e-4)


def test_a_training_is_stopped_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backstage.bookkeeping, "draw_curve", lambda *_: None)
    write_corpus(tmp_path / "corpus")
    on_gpu = [*flags(tmp_path, "gpu"), "-device", "cuda", "-B", "8"]
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert lstlm.main(on_gpu) == 130
    assert lstlm.main([*on_gpu, "-resume"]) == 0
    assert "going on after step 3" in capsys.readouterr().out
    assert lstlm.main([*flags(tmp_path, "cpu"), "-device", "cpu", "-B", "8"]) == 0
    sizes = [(tmp_path / f"{name}.pt").stat().st_size for name in ("gpu", "cpu")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)  # tied weights are stored once
    evaluate = ["-evaluate", "-model", str(tmp_path / "gpu.pt"), "-json"]
    for device in ("cpu", "cuda"):
        corpus = ["-test_corpus", str(tmp_path / "corpus")]
        assert lstlm.main([*evaluate, "-device", device, *corpus]) == 0
    lines = capsys.readouterr().out.splitlines()
    losses = [json.loads(line)["nats"] for line in lines if line.startswith("{")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
