"""On a GPU, where there is one: the same losses, gradients and text as on the CPU."""

import pytest
import torch
from lstlm import Memory, collate_stories, generate_next_token, summed_nats
from small import make_model, make_stories

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


def loss_and_gradients(model, stories):
    nats, _ = summed_nats(model, *collate_stories(stories))
    gradients = torch.autograd.grad(nats, list(model.parameters()))
    return nats.item(), [gradient.cpu() for gradient in gradients]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_float32_on_both_is_the_same(attention, cell, stories):
    model = make_model(attention, dtype=torch.float32, cell=cell)
    nats, gradients = loss_and_gradients(model, stories)
    other_nats, other_gradients = loss_and_gradients(model.cuda(), stories)
    assert other_nats == pytest.approx(nats, rel=1e-4)
    torch.testing.assert_close(other_gradients, gradients, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_close(attention, stories):
    model = make_model(attention, dtype=torch.float32)
    nats, gradients = loss_and_gradients(model, stories)
    model.precision = torch.bfloat16
    other_nats, other_gradients = loss_and_gradients(model.cuda(), stories)
    assert other_nats == pytest.approx(nats, rel=0.01)
    for a, b in zip(gradients, other_gradients, strict=True):
        assert torch.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.99


def test_greedy_text_is_the_same(attention):
    model = make_model(attention, dtype=torch.float32).eval()
    texts = []
    for device in ("cpu", "cuda"):
        ids, memory = make_stories([3], 40)[0][:-1], Memory()
        for _ in range(20):
            ids.append(generate_next_token(model.to(device), ids, greedy=True, state=memory))
        texts.append(ids)
    assert texts[0] == texts[1]
