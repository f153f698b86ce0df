"""backstage/packed_rnn.py: the results, gradients and state of its parents in torch.nn."""

import copy
import doctest
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from backstage import packed_rnn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)

SOURCE = Path(packed_rnn.__file__)
KINDS = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "rnn": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu"}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def make_pair(kind, *sizes, **options):
    """Ours and the parent's with the same weights."""
    name, more = KINDS[kind]
    ours = getattr(packed_rnn, name)(*sizes, **more, **options)
    parent = getattr(nn, name)(*sizes, **more, **options)
    parent.load_state_dict(ours.state_dict())
    return ours, parent


def make_sequences(lengths, size=5, dtype=torch.float32):
    return [torch.randn(length, size, dtype=dtype) for length in lengths]


def make_states(module, B):
    """Random initial states: a tuple of one or two."""
    K = module.num_layers * (1 + module.bidirectional)
    dtype = module.weight_ih_l0.dtype
    shapes = [(K, B, module.proj_size or module.hidden_size)]
    if module.mode == "LSTM":
        shapes.append((K, B, module.hidden_size))
    return tuple(torch.randn(shape, dtype=dtype) for shape in shapes)


def autocast(enabled):
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def results(module, sequences, states=None, enforce_sorted=False, low=False):
    """Output rows, final states, and the gradients of rows, initial states and parameters."""
    torch.manual_seed(3)  # of dropout
    packed = pack_sequence(sequences, enforce_sorted)
    rows = packed.data.clone().requires_grad_()
    packed = packed._replace(data=rows)
    before = [state.clone().requires_grad_() for state in states or ()]
    hx = None
    if states:
        hx = tuple(before) if len(before) == 2 else before[0]
    with autocast(low):
        output, after = module(packed, hx)
    assert isinstance(output, PackedSequence)
    assert output.batch_sizes is packed.batch_sizes
    after = after if isinstance(after, tuple) else (after,)
    values = [output.data, *after]
    generator = torch.Generator().manual_seed(4)
    factors = [torch.randn(v.shape, generator=generator, dtype=torch.float64) for v in values]
    loss = sum((f * v).sum() for f, v in zip(factors, values, strict=True))
    return [*values, *torch.autograd.grad(loss, [rows, *before, *module.parameters()])]


def assert_equal(ours, parent, tolerance=None):
    """The same dtypes, shapes and, up to the tolerance, numbers."""
    if tolerance is None:
        tolerance = 1e-10 if parent[0].dtype == torch.float64 else 1e-5
    torch.testing.assert_close(ours, parent, rtol=tolerance, atol=tolerance)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(list(KINDS)),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=7),
    layers=st.integers(1, 3),
    N=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    dropout=st.sampled_from([0.0, 0.5]),
    training=st.booleans(),
    given_states=st.booleans(),
    in_order=st.booleans(),
    onednn=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:TF32")
def test_equals_its_parent(
    kind, lengths, layers, N, dtype, bidirectional, bias, dropout, training, given_states, in_order,
    onednn,
):
    """Outputs, final states and every gradient; the dropout masks are the parent's, too."""
    torch.manual_seed(0)
    dropout = dropout if layers > 1 else 0.0
    options = {"bias": bias, "dropout": dropout, "bidirectional": bidirectional, "dtype": dtype}
    ours, parent = make_pair(kind, 5, N, layers, **options)
    ours.train(training)
    parent.train(training)
    if in_order:
        lengths = sorted(lengths, reverse=True)
    sequences = make_sequences(lengths, dtype=dtype)
    states = make_states(ours, len(lengths)) if given_states else None
    with torch.backends.mkldnn.flags(enabled=onednn):
        a, b = (results(module, sequences, states, in_order) for module in (ours, parent))
    assert_equal(a, b)


@kinds
@pytest.mark.parametrize("lengths", [[1], [150], [150, 1], [1, 1, 1], [60, 2, 60, 31]], ids=str)
def test_extreme_lengths(kind, lengths):
    """Batches of one, single positions, a long run of one sequence."""
    ours, parent = make_pair(kind, 5, 4, 2, bidirectional=True, dtype=torch.float64)
    sequences = make_sequences(lengths, dtype=torch.float64)
    states = make_states(ours, len(lengths))
    assert_equal(results(ours, sequences, states), results(parent, sequences, states))


@pytest.mark.parametrize("given_states", [True, False])
@pytest.mark.parametrize("low", [True, False])
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections(given_states, low):
    """In float32 under autocast, too, as oneDNN has none."""
    ours, parent = make_pair("lstm", 5, 6, 2, proj_size=3, bidirectional=True)
    sequences = make_sequences([4, 7, 2])
    states = make_states(ours, 3) if given_states else None
    expected = results(parent, sequences, states)
    assert_equal(results(ours, sequences, states, low=low), expected)


@kinds
def test_tensors_go_to_the_parent(kind):
    """A padded batch, and one sequence without a batch dimension; batch_first too."""
    ours, parent = make_pair(kind, 5, 4, 2, batch_first=True)
    for x in (torch.randn(3, 7, 5), torch.randn(7, 5)):
        assert torch.equal(ours(x)[0], parent(x)[0])


@kinds
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(kind, mode):
    ours, parent = make_pair(kind, 5, 4, 2)
    packed = pack_sequence(make_sequences([4, 4, 2, 1]))
    with mode():
        output = ours(packed)[0].data
        torch.testing.assert_close(output, parent(packed)[0].data, rtol=1e-5, atol=1e-5)
    assert not output.requires_grad


@kinds
def test_is_its_parent_to_other_code(kind):
    """state_dict, repr and pickled attributes; a copy computes the same; dtypes convert."""
    ours, parent = make_pair(kind, 5, 4, 2, dropout=0.1, bidirectional=True)
    assert list(ours.state_dict()) == list(parent.state_dict())
    assert repr(ours) == repr(parent)
    assert isinstance(ours, type(parent))
    packed = pack_sequence(make_sequences([4, 2]))
    twin = copy.deepcopy(ours).eval()
    assert torch.equal(twin(packed)[0].data, ours.eval()(packed)[0].data)
    assert ours.double()(packed.to(torch.float64))[0].data.dtype == torch.float64


@kinds
def test_functional_call(kind):
    """Other weights than the module's own."""
    ours, parent = make_pair(kind, 5, 4, 2)
    weights = {name: weight * 2 for name, weight in parent.state_dict().items()}
    parent.load_state_dict(weights)
    packed = pack_sequence(make_sequences([4, 2]))
    output = torch.func.functional_call(ours, weights, (packed,))[0].data
    torch.testing.assert_close(output, parent(packed)[0].data, rtol=1e-5, atol=1e-5)


@kinds
@pytest.mark.parametrize("wrong", ["size", "dtype", "states"])
def test_refuses_wrong_input(kind, wrong):
    """Before it computes anything."""
    module = make_pair(kind, 5, 4)[0]
    size = 6 if wrong == "size" else 5
    dtype = torch.float64 if wrong == "dtype" else torch.float32
    packed = pack_sequence(make_sequences([4, 2], size, dtype))
    states = make_states(module, 3 if wrong == "states" else 2)
    with pytest.raises((ValueError, RuntimeError), match="size|dtype"):
        module(packed, states if len(states) == 2 else states[0])


def test_drop_is_a_seam():
    """A subclass has the packed rows of each layer but the last, and their batch sizes."""
    seen = []

    class Seen(packed_rnn.LSTM):
        def drop(self, rows, batch_sizes):
            seen.append((rows.shape, batch_sizes.tolist()))
            return rows * 0

    module = Seen(5, 4, 3)
    output = module(pack_sequence(make_sequences([3, 1])))[0].data
    assert seen == [((4, 4), [2, 1, 1])] * 2
    other = module(pack_sequence(make_sequences([3, 1])))[0].data
    assert torch.equal(output, other)


# ---- bfloat16


@kinds
@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.filterwarnings("ignore:TF32")
def test_dtypes_under_autocast(kind, onednn):
    """An LSTM's rows are bfloat16 where oneDNN has that; states and gradients are float32."""
    module = make_pair(kind, 5, 4, 2, bidirectional=True)[0]
    with torch.backends.mkldnn.flags(enabled=onednn):
        low = kind == "lstm" and packed_rnn.onednn_has_bfloat16()
        rows, *rest = results(module, make_sequences([4, 2, 2]), make_states(module, 3), low=True)
    assert rows.dtype == (torch.bfloat16 if low else torch.float32)
    assert {x.dtype for x in rest} == {torch.float32}
    assert not low or onednn


@kinds
def test_autocast_leaves_float64(kind):
    ours, _ = make_pair(kind, 5, 4, dtype=torch.float64)
    sequences = make_sequences([4, 2], dtype=torch.float64)
    assert_equal(results(ours, sequences, low=True), results(ours, sequences))


def test_bfloat16_is_as_near_as_a_padded_call():
    """30 runs over 1000 positions, against the parent's one call for the padded batch."""
    if not packed_rnn.onednn_has_bfloat16():
        pytest.skip("this CPU or PyTorch has no LSTM in bfloat16")
    torch.manual_seed(0)
    lengths = [1000 - 33 * i for i in range(30)]
    ours, parent = make_pair("lstm", 16, 16, 2)
    x, factor = torch.randn(2, 1000, 30, 16)
    full, low, padded = (
        computed(*case, x, factor, lengths)
        for case in ((ours, True, False), (ours, True, True), (parent, False, True))
    )
    for name, exact in full.items():
        near, padded_near = ((v[name] - exact).norm() for v in (low, padded))
        assert near <= 1.25 * padded_near, name


def computed(module, packed, low, x, factor, lengths):
    """Output rows and gradients of the module, for packed rows or a padded batch."""
    x = x.clone().requires_grad_()
    with autocast(low):
        if packed:
            output = module(pack_padded_sequence(x, lengths))[0].data
        else:
            output = pack_padded_sequence(module(x)[0], lengths).data
    weights = list(module.named_parameters())
    loss = (output.float() * pack_padded_sequence(factor, lengths).data).sum()
    grads = torch.autograd.grad(loss, [x, *(weight for _, weight in weights)])
    names = ["input", *(name for name, _ in weights)]
    return {"output": output.detach().float(), **dict(zip(names, grads, strict=True))}


def test_final_states_in_bfloat16_are_as_near_as_a_padded_call():
    """With 30 runs: the padded calls are one for each sequence, cut to its length."""
    if not packed_rnn.onednn_has_bfloat16():
        pytest.skip("this CPU or PyTorch has no LSTM in bfloat16")
    torch.manual_seed(0)
    lengths = [1000 - 33 * i for i in range(30)]
    ours, parent = make_pair("lstm", 16, 16, 2)
    sequences = make_sequences(lengths, 16)
    with torch.no_grad():
        exact = ours(pack_sequence(sequences))[1]
        with autocast(True):
            low = ours(pack_sequence(sequences))[1]
            alone = [parent(x)[1] for x in sequences]
    alone = [torch.stack([state[i] for state in alone], 1).float() for i in range(2)]
    for ours_low, padded_low, full in zip(low, alone, exact, strict=True):
        assert (ours_low - full).norm() <= 1.1 * (padded_low - full).norm()
    cell = low[1]
    assert not torch.equal(cell, cell.bfloat16().float())  # it has more bits than that


# ---- pad_packed_sequence


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    in_order=st.booleans(),
    batch_first=st.booleans(),
    more=st.sampled_from([None, 0, 3]),
    shape=st.sampled_from([(), (2,), (2, 3)]),
)
def test_pad_packed_sequence(lengths, in_order, batch_first, more, shape):
    """PyTorch's padded batch, lengths and gradient."""
    if in_order:
        lengths = sorted(lengths, reverse=True)
    packed = pack_sequence([torch.randn(length, *shape) for length in lengths], in_order)
    total = None if more is None else max(lengths) + more
    pairs = []
    for pad in (packed_rnn.pad_packed_sequence, pad_packed_sequence):
        rows = packed.data.clone().requires_grad_()
        padded, found = pad(packed._replace(data=rows), batch_first, -2.5, total)
        grad = torch.autograd.grad(padded.square().sum(), rows)[0]
        pairs.append((padded, found, grad))
    for ours, theirs in zip(*pairs, strict=True):
        assert torch.equal(ours, theirs)


def test_pad_packed_sequence_keeps_ids():
    packed = pack_sequence([torch.tensor([5, 6, 7]), torch.tensor([8])])
    padded = packed_rnn.pad_packed_sequence(packed)[0]
    assert padded.tolist() == [[5, 8], [6, 0], [7, 0]]


def test_pad_packed_sequence_refuses_too_short_a_length():
    with pytest.raises(ValueError, match="total_length"):
        packed_rnn.pad_packed_sequence(pack_sequence([torch.zeros(3)]), total_length=2)


# ---- The file


def test_the_example_in_its_docstring():
    assert doctest.testmod(packed_rnn).failed == 0


def test_works_alone_in_another_folder(tmp_path):
    """It needs PyTorch and no other file."""
    shutil.copy(SOURCE, tmp_path)
    env = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, "-m", "doctest", "packed_rnn.py"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, timeout=60)
