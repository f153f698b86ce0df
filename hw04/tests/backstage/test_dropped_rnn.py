"""backstage/dropped_rnn.py: dropout on the outputs of each layer, locked or not."""

import pytest
import torch
from backstage.dropped_rnn import CELLS, GRAIN, DroppedLSTM
from backstage.packed_rnn import find_places
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

PARENTS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
LENGTHS = [5, 1, 9, 9, 3, 2]


def make_layers(cell: str, p: float, locked: bool, H: int = 2, **switches) -> nn.RNNBase:
    torch.manual_seed(0)
    return CELLS[cell](4, 50, H, p=p, locked=locked, **switches).train()


def make_packed():
    generator = torch.Generator().manual_seed(1)
    sequences = [torch.randn(length, 4, generator=generator) for length in LENGTHS]
    return pack_sequence(sequences, enforce_sorted=False)


def test_locked_dropout_drops_the_same_columns_all_through_a_story():
    layers = make_layers("lstm", 0.5, locked=True)
    packed = make_packed()
    kept = layers.drop(torch.ones(len(packed.data), 50), packed.batch_sizes)
    padded, _ = pad_packed_sequence(packed._replace(data=kept), batch_first=True)
    masks = {tuple(story[0].tolist()) for story in padded}
    for story, length in zip(padded, LENGTHS, strict=True):
        assert all(torch.equal(row, story[0]) for row in story[:length])
    assert len(masks) == len(LENGTHS)
    assert {value for mask in masks for value in mask} == {0.0, 2.0}
    assert torch.equal(layers.eval().drop(kept, packed.batch_sizes), kept)


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_acts_between_layers_and_on_the_last_output(cell, locked):
    """As two layers of torch.nn, with dropout of the same seed on the packed rows of each."""
    layers = make_layers(cell, 0.5, locked)
    packed = make_packed()
    batch_sizes = packed.batch_sizes
    torch.manual_seed(3)
    outputs, _ = layers(packed)
    parents = [PARENTS[cell](size, 50, batch_first=True) for size in (4, 50)]
    for number, parent in enumerate(parents):
        weights = layers.state_dict().items()
        own = {name[:-1] + "0": w for name, w in weights if name.endswith(f"_l{number}")}
        parent.load_state_dict(own)
    torch.manual_seed(3)
    expected = packed
    for parent in parents:
        rows = parent(expected)[0].data
        if locked:
            mask = F.dropout(torch.ones(len(LENGTHS), 50), 0.5)
            rows = rows * mask[find_places(batch_sizes)[1]]
        else:
            rows = F.dropout(rows, 0.5)
        expected = packed._replace(data=rows)
    torch.testing.assert_close(outputs.data, expected.data)


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_without_training_or_chance_nothing_is_dropped(cell, locked):
    packed = make_packed()
    for layers in (make_layers(cell, 0.5, locked).eval(), make_layers(cell, 0.0, locked)):
        parent = PARENTS[cell](4, 50, 2, batch_first=True)
        parent.load_state_dict(layers.state_dict())
        for ours, theirs in zip(layers(packed)[0], parent(packed)[0], strict=True):
            torch.testing.assert_close(ours, theirs)


def test_final_states_are_not_dropped():
    packed = make_packed()
    layers = make_layers("lstm", 0.5, locked=False, H=1)
    outputs, (h, c) = layers(packed)
    assert (outputs.data == 0).any()
    assert (h != 0).all()
    assert (c != 0).all()


def test_a_tensor_is_dropped_too():
    """One story without packing, as a reader may call it."""
    layers = make_layers("lstm", 0.5, locked=False)
    outputs, _ = layers(torch.randn(1, 7, 4))
    assert outputs.shape == (1, 7, 50)
    assert 0.3 < float((outputs == 0).float().mean()) < 0.7


RAGGED = ([1], [8], [9, 8, 7], [24, 17, 16, 15, 8, 1, 1], [3, 3, 2], [40])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("lengths", RAGGED, ids=str)
def test_without_carried_states_outputs_and_gradients_are_the_same(lengths, locked, dtype):
    """Stories made longer on the way: those of a plain nn.LSTM over the stories as they are."""
    layers = make_layers("lstm", 0.0, locked).to(dtype)
    parent = nn.LSTM(4, 50, 2, batch_first=True, dtype=dtype)
    parent.load_state_dict(layers.state_dict())
    layers.carried = False
    generator = torch.Generator().manual_seed(len(lengths))
    stories = [torch.randn(n, 4, generator=generator, dtype=dtype) for n in lengths]
    weights = torch.randn(sum(lengths), 50, generator=generator, dtype=dtype)
    results = []
    for module in (layers, parent):
        packed = pack_sequence([story.clone() for story in stories])
        rows = packed.data.requires_grad_()
        outputs, final = module(packed._replace(data=rows))
        assert torch.equal(outputs.batch_sizes, packed.batch_sizes)
        inputs = [rows, *(weight for layer in module.all_weights for weight in layer)]
        results.append([outputs.data, *torch.autograd.grad((outputs.data * weights).sum(), inputs)])
        assert final == (None, None) if module is layers else torch.is_tensor(final[0])
    assert layers.final is None
    torch.testing.assert_close(*results)


def test_a_layer_meets_few_lengths(monkeypatch):
    """For each of them oneDNN makes code."""
    seen = set()
    run = DroppedLSTM.run

    def recorded(self, rows, states, weights):
        seen.add(rows.shape[0])
        return run(self, rows, states, weights)

    monkeypatch.setattr(DroppedLSTM, "run", recorded)
    layers = make_layers("lstm", 0.0, locked=False)
    for carried in (True, False):
        layers.carried = carried
        seen.clear()
        for n in range(33, 49):
            layers(pack_sequence([torch.zeros(n, 4), torch.zeros(n - 5, 4)]))
        assert len(seen) == (17 if carried else 4)
    assert all(n % GRAIN == 0 for n in seen)
