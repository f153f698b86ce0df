"""backstage/one_step.py: one token at a time gives what the layers of torch.nn give."""

import backstage.reading
import pytest
import torch
from backstage.one_step import Int8Weight, OneStep, gru_cell, lstm_cell, rnn_cell
from backstage.reading import next_logits
from backstage.state import State
from small import make_model, make_stories
from torch import nn


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_cells_are_those_of_torch(cell):
    torch.manual_seed(0)
    model = make_model(cell=cell, H=1)
    parent = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}[cell](8, 12).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for name, weight in zip(names, model.layer_weights()[0], strict=True):
        nn.init.normal_(weight, std=0.5)
        getattr(parent, name).data.copy_(weight)
    x = torch.randn(5, 8, dtype=torch.float64)
    h, c = torch.randn(2, 5, 12, dtype=torch.float64)
    weight, bias = OneStep(model).side_by_side(*model.layer_weights()[0])
    sums = torch.cat([x, h], 1) @ weight.t() + bias
    if cell == "lstm":
        torch.testing.assert_close(lstm_cell(sums, h, c), parent(x, (h, c)))
    else:
        ours = {"gru": gru_cell, "rnn": rnn_cell}[cell](sums, h, h)
        torch.testing.assert_close(ours, (parent(x, h), parent(x, h)))


def test_a_batch_of_stories_is_each_of_them(model):
    stories = [story[:-1] for story in make_stories([6, 6, 6], 40)]
    together = State()
    next_logits(model, [story[:3] for story in stories], together)
    for end in range(4, 8):
        logits = next_logits(model, [story[:end] for story in stories], together)
        for row, story in zip(logits, stories, strict=True):
            alone = next_logits(model, [story[:end]], State())[0]
            torch.testing.assert_close(row, alone, rtol=0, atol=1e-12)


def test_a_prompt_gets_the_logits_of_its_last_position_alone(model, monkeypatch):
    monkeypatch.setattr(backstage.reading, "ROWS", 4)  # two positions of both stories at a time
    stories = [story[:-1] for story in make_stories([9, 9], 40)]  # of 10 ids
    sizes = []
    state = State()
    counted = model.output.register_forward_hook(lambda *given: sizes.append(given[2].shape[1]))
    with counted:
        logits = next_logits(model, stories, state)  # (2, V)
    assert sizes == [1] * 5
    expected = model(torch.tensor(stories), torch.full((2,), 10))  # (2, 10, V)
    torch.testing.assert_close(logits, expected[:, -1], rtol=0, atol=1e-12)


def test_it_is_made_anew_when_weights_or_precision_change():
    model = make_model(dtype=torch.float32)
    story = [1, 5, 6, 7]

    def stepped() -> torch.Tensor:
        state = State()
        next_logits(model, [story[:-1]], state)
        return next_logits(model, [story], state)

    before = stepped()
    first = OneStep.of(model)
    assert OneStep.of(model) is first
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(stepped(), next_logits(model, [story], State()))
    assert not torch.equal(stepped(), before)
    second = OneStep.of(model)
    assert second is not first
    model.precision = torch.bfloat16
    assert OneStep.of(model) is not second


def test_a_weight_of_whole_numbers_is_near():
    torch.manual_seed(0)
    weight, bias, x = torch.randn(30, 50), torch.randn(30), torch.randn(4, 50)
    weight[3] = 0  # its scale must not be 0
    small = Int8Weight(weight)
    assert small.whole.dtype == torch.int8
    assert int(small.whole.abs().max()) == 127
    exact = x @ weight.t() + bias
    found = small.product(x, bias)
    assert float((found - exact).norm() / exact.norm()) < 0.02
    torch.testing.assert_close(found[:, 3], exact[:, 3])


def test_the_best_words_of_int8_are_computed_again_in_float32():
    model = make_model(V=100, N=50, dtype=torch.float32).eval()
    model.precision = torch.int8
    step = OneStep.of(model)
    features, rough = torch.randn(2, 50), torch.randn(2, 100)
    with torch.no_grad():
        exact = model.output(features)
        logits = step.corrected(rough, features)
    best = rough.topk(32).indices
    torch.testing.assert_close(logits.gather(1, best), exact.gather(1, best))
    others = torch.ones(2, 100, dtype=torch.bool).scatter(1, best, False)
    assert torch.equal(logits[others], rough[others])
