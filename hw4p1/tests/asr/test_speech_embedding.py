"""The parts before the encoder: sizes, lengths, and that padding changes nothing."""

import copy
from pathlib import Path

import pytest
import torch
from hw4lib.model import packed_rnn
from hw4lib.model.speech_embedding import (
    Conv2DSubsampling,
    SpeechEmbedding,
    StackedBLSTMEmbedding,
    factors,
)
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

FRAMES = torch.tensor([5, 12, 100, 732, 2047])
EXPECTED = {  # counted by another program
    ("conv", 2): [0, 3, 47, 363, 1021], ("lstm", 2): [2, 6, 50, 366, 1023],
    ("both", 2): [0, 4, 48, 364, 1021], ("conv", 4): [0, 2, 24, 182, 511],
    ("lstm", 4): [1, 3, 25, 183, 511], ("both", 4): [0, 1, 23, 181, 510],
    ("conv", 6): [0, 1, 16, 121, 340], ("lstm", 6): [0, 2, 16, 122, 341],
    ("both", 6): [0, 1, 15, 121, 340], ("conv", 8): [0, 1, 12, 91, 255],
    ("lstm", 8): [0, 1, 12, 91, 255], ("both", 8): [0, 0, 11, 90, 255],
}  # fmt: skip


def test_factors_are_close_and_the_larger_is_first():
    found = [factors(n) for n in (1, 2, 4, 6, 7, 8, 12, 36)]
    assert found == [(1, 1), (2, 1), (2, 2), (3, 2), (7, 1), (4, 2), (4, 3), (6, 6)]


@pytest.mark.parametrize("method", ["conv", "lstm", "both"])
@pytest.mark.parametrize("reduction", [2, 4, 6, 8])
def test_lengths(method, reduction):
    module = SpeechEmbedding(8, 4, reduction, method)
    for dtype in (torch.int32, torch.int64):
        lengths = module.calculate_downsampled_length(FRAMES.to(dtype))
        assert lengths.dtype == dtype
        assert lengths.tolist() == EXPECTED[method, reduction]


@pytest.mark.parametrize("method", ["conv", "lstm", "both"])
@pytest.mark.parametrize("reduction", [1, 2, 6])
def test_an_utterance_is_the_same_alone_and_padded_with_anything(method, reduction):
    torch.manual_seed(0)
    module = SpeechEmbedding(8, 6, reduction, method).double().eval()
    lengths = torch.tensor([23, 40, 31])
    feats = torch.randn(3, 40, 8, dtype=torch.float64)
    for row, T in enumerate(lengths.tolist()):
        feats[row, T:] = 7.0
    out, new = module(feats, lengths)
    assert out.shape[1] == int(new[1]) == int(module.calculate_downsampled_length(lengths)[1])
    for row, T in enumerate(lengths.tolist()):
        alone, n = module(feats[row : row + 1, :T], lengths[row : row + 1])
        assert n[0] == new[row] == alone.shape[1]
        assert_close(out[row, : n[0]], alone[0])


def test_convolutions_by_hand():
    module = Conv2DSubsampling(8, 3, time_reduction=6).double().eval()
    x = torch.randn(2, 30, 8, dtype=torch.float64)
    out, lengths = module(x, torch.tensor([30, 20]))
    first = F.gelu(F.conv2d(x[:, None], module.conv[0].weight, module.conv[0].bias, (3, 1)))
    second = F.gelu(F.conv2d(first, module.conv[2].weight, module.conv[2].bias, (2, 1)))
    rows = [module.linear_out(second[:, :, t].flatten(1)) for t in range(second.shape[2])]
    assert_close(out, torch.stack(rows, 1))
    assert lengths.tolist() == [4, 2] and out.shape == (2, 4, 3)
    assert (module.time_stride1, module.time_stride2, module.kernel_size) == (3, 2, 3)


def test_pools_take_the_maximum_of_neighbours():
    module = StackedBLSTMEmbedding(8, 6, 5, time_reduction=6).double().eval()
    x = torch.randn(1, 13, 8, dtype=torch.float64)
    out, lengths = module(x, torch.tensor([13]))
    states = module.blstm1(x)[0][0]
    halfway = torch.stack([states[i : i + 3].amax(0) for i in range(0, 12, 3)])
    states = module.blstm2(halfway[None])[0][0]
    pooled = torch.stack([states[i : i + 2].amax(0) for i in range(0, 4, 2)])
    assert_close(out[0], module.linear_embed(pooled))
    assert lengths.tolist() == [2]


def test_the_parts_of_each_method():
    both = SpeechEmbedding(80, 16, 8, "both")
    assert (both.blstm.stride1, both.blstm.stride2) == (2, 2)
    assert (both.cnn.time_stride1, both.cnn.time_stride2) == (2, 1)
    assert both.blstm.blstm1.input_size == 16 and both.embedding_dim == 16
    assert SpeechEmbedding(80, 16, 2, "conv").blstm is None
    assert SpeechEmbedding(80, 16, 2, "lstm").cnn is None


def test_the_number_of_parameters_is_the_courses():
    sizes = [
        sum(p.numel() for p in module.parameters())
        for module in (Conv2DSubsampling(80, 256), StackedBLSTMEmbedding(80, 256, 256))
    ]
    assert sizes == [5_573_632, 676_096]


def test_dropout_reaches_the_parts():
    module = SpeechEmbedding(8, 4, 2, "both", dropout=0.3)
    assert module.cnn.dropout.p == module.blstm.dropout.p == 0.3


def test_an_utterance_of_which_nothing_is_left_is_named():
    for method, reduction, frames in (("conv", 3, 5), ("lstm", 6, 5), ("both", 8, 12)):
        module = SpeechEmbedding(8, 4, reduction, method)
        with pytest.raises(ValueError, match=f"utterance 1 of the batch has {frames} frames"):
            module(torch.zeros(2, 40, 8), torch.tensor([40, frames]))


@pytest.mark.parametrize(("changed", "message"), [
    ({"reduction_method": "cnn"}, "choose one of conv, lstm, both"), ({"input_dim": 0}, "input_d"),
    ({"output_dim": -1}, "output_dim is -1"), ({"time_reduction": 0}, "time_reduction is 0"),
    ({"dropout": 1.0}, "dropout is 1.0"), ({"output_dim": 5}, "hidden_dim is 5"),
    ({"input_dim": 4, "reduction_method": "conv"}, "two convolutions leave no bin"),
])  # fmt: skip
def test_what_is_refused(changed, message):
    options = {"input_dim": 8, "output_dim": 4, "time_reduction": 2, "reduction_method": "lstm"}
    with pytest.raises(ValueError, match=message):
        SpeechEmbedding(**{**options, **changed})


def test_the_lstms_are_pytorchs_and_those_of_the_first_assignment():
    """One module in two places, which has its own tests there: fast for a PackedSequence."""
    here = Path(packed_rnn.__file__)
    there = here.parents[3] / "hw04" / "code" / "backstage" / "packed_rnn.py"
    assert here.read_bytes() == there.read_bytes()
    module = StackedBLSTMEmbedding(8, 6, 5).double()
    theirs = copy.deepcopy(module)
    theirs.blstm1, theirs.blstm2 = (
        nn.LSTM(n, 3, batch_first=True, bidirectional=True).double() for n in (8, 6)
    )
    theirs.load_state_dict(module.state_dict())
    feats, lengths = torch.randn(3, 20, 8, dtype=torch.float64), torch.tensor([20, 9, 14])
    for one in (module.eval(), theirs.eval()):
        one(feats, lengths)[0].square().sum().backward()
    assert_close(module(feats, lengths)[0], theirs(feats, lengths)[0])
    for ours, other in zip(module.parameters(), theirs.parameters(), strict=True):
        assert_close(ours.grad, other.grad)
