"""Sublayers and layers of the encoder and decoder, against PyTorch's own."""

import copy

import pytest
import torch
from hw4lib.model import (
    CausalMask,
    CrossAttentionDecoderLayer,
    CrossAttentionLayer,
    PadMask,
    SelfAttentionEncoderLayer,
)
from tests.asr.small import randomised
from torch import nn
from torch.testing import assert_close

D, H, FF, B, L, T = 8, 2, 12, 3, 5, 7
LENGTHS = torch.tensor([7, 4, 2])


def batch(seed: int = 0):
    """Targets (B, L, D), frames (B, T, D) with a pad mask and junk in the padding."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(B, n, D, generator=generator, dtype=torch.float64) for n in (L, T))
    mask = PadMask(y, LENGTHS)
    return x, y.masked_fill(mask[:, :, None], 1e3), mask


def copy_sublayer(mha_to, norm_to, sublayer) -> None:
    mha_to.load_state_dict(sublayer.mha.state_dict())
    norm_to.load_state_dict(sublayer.norm.state_dict())


def copy_ffn(theirs, norm, ffn) -> None:
    theirs.linear1.load_state_dict(ffn.ffn[0].state_dict())
    theirs.linear2.load_state_dict(ffn.ffn[3].state_dict())
    norm.load_state_dict(ffn.norm.state_dict())


def test_cross_attention_is_its_definition():
    layer = randomised(CrossAttentionLayer(D, H))
    x, y, mask = batch()
    out, weights = layer(x, y, mask)
    expected, maps = layer.mha(layer.norm(x), y, y, key_padding_mask=mask)
    assert_close(out, x + expected)
    assert_close(weights, maps)
    assert weights.shape == (B, L, T)
    assert (weights.masked_select(mask[:, None].expand_as(weights)) == 0).all()
    assert_close(weights.sum(2), torch.ones(B, L, dtype=torch.float64))
    zeros = torch.zeros(B, T, dtype=torch.float64)
    assert_close(layer(x, y, zeros)[0], layer(x, y)[0])
    attn_mask = torch.zeros(L, T, dtype=torch.bool)
    attn_mask[:, 3:] = True
    assert (layer(x, y, None, attn_mask)[1][:, :, 3:] == 0).all()
    assert [type(part) for part in (layer.mha, layer.norm, layer.dropout)] == [
        nn.MultiheadAttention, nn.LayerNorm, nn.Dropout,
    ]


def test_cross_attention_norms_the_targets_and_not_the_frames():
    layer = randomised(CrossAttentionLayer(D, H))
    x, y, mask = batch()
    seen = {}
    layer.mha.register_forward_hook(lambda m, args, out: seen.update(q=args[0], k=args[1]))
    layer(x, y, mask)
    assert_close(seen["q"], layer.norm(x))
    assert seen["k"] is y


def test_the_dropouts_of_cross_attention():
    layer = CrossAttentionLayer(D, H, dropout=0.5).double().train()
    assert layer.dropout.p == layer.mha.dropout == 0.5
    x, y, mask = batch()
    layer.mha.dropout = 0.0
    kept = layer.eval()(x, y, mask)[0] - x
    torch.manual_seed(0)
    dropped = layer.train()(x, y, mask)[0] - x
    assert ((dropped - 2 * kept).abs() < 1e-9).logical_or(dropped == 0).all()
    assert 20 < int((dropped == 0).sum()) < 100  # of 120


@pytest.mark.parametrize("masked", [True, False])
def test_an_encoder_layer_is_pytorchs(masked):
    ours = randomised(SelfAttentionEncoderLayer(D, H, FF, 0.0))
    theirs = nn.TransformerEncoderLayer(
        D, H, FF, 0.0, "gelu", batch_first=True, norm_first=True
    ).double().eval()
    copy_sublayer(theirs.self_attn, theirs.norm1, ours.self_attn)
    copy_ffn(theirs, theirs.norm2, ours.ffn)
    _, y, mask = batch()
    mask = mask if masked else None
    out, weights = ours(y, mask)
    real = ~mask if masked else torch.ones(B, T, dtype=torch.bool)
    assert_close(out[real], theirs(y, src_key_padding_mask=mask)[real])
    assert_close(ours.fast(y, mask)[real], out[real])
    assert_close(weights.sum(2), torch.ones(B, T, dtype=torch.float64))
    if masked:
        assert (weights.masked_select(mask[:, None].expand_as(weights)) == 0).all()
    else:
        assert (weights > 0).all()  # nothing causal


@pytest.mark.parametrize("masked", [True, False])
def test_a_decoder_layer_is_pytorchs(masked):
    ours = randomised(CrossAttentionDecoderLayer(D, H, FF, 0.0))
    theirs = nn.TransformerDecoderLayer(
        D, H, FF, 0.0, "gelu", batch_first=True, norm_first=True
    ).double().eval()
    copy_sublayer(theirs.self_attn, theirs.norm1, ours.self_attn)
    copy_sublayer(theirs.multihead_attn, theirs.norm2, ours.cross_attn)
    copy_ffn(theirs, theirs.norm3, ours.ffn)
    x, y, mask = batch()
    causal, pad = CausalMask(x), PadMask(x, torch.tensor([5, 3, 1]))
    masks = (pad, mask, causal) if masked else (None, None, None)
    out, self_weights, cross_weights = ours(x, y, *masks)
    expected = theirs(
        x, y, masks[2], None, tgt_key_padding_mask=masks[0], memory_key_padding_mask=masks[1]
    )
    assert_close(out, expected)
    assert self_weights.shape == (B, L, L) and cross_weights.shape == (B, L, T)
    if masked:
        assert (self_weights.masked_select(causal.expand_as(self_weights)) == 0).all()
        assert (self_weights.masked_select(pad[:, None].expand_as(self_weights)) == 0).all()
        assert (cross_weights[:, 0] > 0).equal(~mask)  # the causal mask does not reach it


def test_a_decoder_layer_without_weights_is_the_same():
    layer = randomised(CrossAttentionDecoderLayer(D, H, FF, 0.0))
    x, y, mask = batch()
    expected, *_ = layer(x, y, None, mask, CausalMask(x))
    memory = layer.cross_attn.keys_values(y)
    assert_close(layer.causal(x, memory, mask), expected)
    several = x.repeat_interleave(4, 0) + torch.arange(4.0).repeat(B)[:, None, None]
    alone, *_ = layer(
        several, y.repeat_interleave(4, 0), None, mask.repeat_interleave(4, 0), CausalMask(several)
    )
    assert_close(layer.causal(several, memory, mask), alone)


@pytest.mark.parametrize("kind", [SelfAttentionEncoderLayer, CrossAttentionDecoderLayer])
def test_masks_of_floats_are_not_touched(kind):
    """They are added to the scores, as PyTorch has it: ones shift all alike."""
    layer = randomised(kind(D, H, FF, 0.0))
    x, y, _ = batch()
    ones = [torch.ones(shape, dtype=torch.float64) for shape in ((B, L), (B, T), (L, L))]
    if kind is SelfAttentionEncoderLayer:
        assert_close(layer(x, ones[0])[0], layer(x)[0])
    else:
        assert_close(layer(x, y, *ones)[0], layer(x, y)[0])


@pytest.mark.parametrize("kind", [SelfAttentionEncoderLayer, CrossAttentionDecoderLayer])
def test_a_layers_output_is_that_of_its_ffn(kind):
    layer, called = kind(D, H, FF).double(), []
    x, y, _ = batch()
    for name, module in layer.named_children():
        module.register_forward_hook(lambda m, args, out, name=name: called.append((name, out)))
    out, *_ = layer(x) if kind is SelfAttentionEncoderLayer else layer(x, y)
    assert [name for name, _ in called] == list(dict(layer.named_children()))
    assert list(dict(layer.named_children()))[-1] == "ffn" and called[-1][1] is out


def test_heads_that_do_not_divide_the_model_are_refused():
    for num_heads in (3, 0):
        with pytest.raises(ValueError, match="does not divide into num_heads"):
            CrossAttentionLayer(D, num_heads)


def test_gradients_without_weights_are_those_with_them():
    x, y, mask = batch()
    grads = []
    for fast in (False, True):
        layer = randomised(copy.deepcopy(CrossAttentionDecoderLayer(D, H, FF, 0.0)), 0.0)
        torch.manual_seed(4)
        with torch.no_grad():
            for p in layer.parameters():
                p.normal_(std=0.4)
        if fast:
            out = layer.causal(x, layer.cross_attn.keys_values(y), mask)
        else:
            out, *_ = layer(x, y, None, mask, CausalMask(x))
        out.square().sum().backward()
        grads.append([p.grad for p in layer.parameters()])
    for one, other in zip(*grads, strict=True):
        assert_close(one, other)
