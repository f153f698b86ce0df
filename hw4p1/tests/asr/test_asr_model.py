"""The encoder-decoder transformer: halves, masks, CTC, cached scores, a decoder from text."""

import warnings
from itertools import product

import pytest
import torch
from hw4lib.model import DecoderOnlyTransformer, EncoderDecoderTransformer, PadMask
from tests.asr.small import BINS, randomised
from torch.nn import functional as F
from torch.testing import assert_close

SIZES = {
    "input_dim": BINS, "time_reduction": 2, "reduction_method": "both", "num_encoder_layers": 2,
    "num_encoder_heads": 2, "d_ff_encoder": 12, "num_decoder_layers": 3, "num_decoder_heads": 4,
    "d_ff_decoder": 20, "d_model": 8, "dropout": 0.0, "max_len": 40, "num_classes": 10,
}  # fmt: skip
FRAMES, LENGTHS = torch.tensor([30, 44, 25]), torch.tensor([4, 6, 3])


def make(**changed) -> EncoderDecoderTransformer:
    torch.manual_seed(2)
    return randomised(EncoderDecoderTransformer(**{**SIZES, **changed}))


def batch():
    """Features and ids with junk in their padding."""
    torch.manual_seed(3)
    feats = torch.randn(3, 44, BINS, dtype=torch.float64)
    tokens = torch.randint(6, 10, (3, 6))
    for row in range(3):
        feats[row, FRAMES[row] :] = 9.0
        tokens[row, LENGTHS[row] :] = 0
    return feats, tokens


def test_what_each_half_gives():
    model, (feats, tokens) = make(), batch()
    logits, maps, ctc = model(feats, tokens, FRAMES, LENGTHS)
    frames = model.source_embedding.calculate_downsampled_length(FRAMES)
    T = int(frames.max())
    assert logits.shape == (3, 6, 10)
    assert list(maps) == [
        *(f"layer{i}_enc_self" for i in (1, 2)),
        *(f"layer{i}_dec_{which}" for i in (1, 2, 3) for which in ("self", "cross")),
    ]
    assert maps["layer1_enc_self"].shape == (3, T, T)
    assert maps["layer3_dec_self"].shape == (3, 6, 6)
    assert maps["layer3_dec_cross"].shape == (3, 6, T)
    assert ctc["log_probs"].shape == (T, 3, 10)
    assert ctc["lengths"].tolist() == frames.tolist() != FRAMES.tolist()
    assert_close(ctc["log_probs"].exp().sum(2), torch.ones(T, 3, dtype=torch.float64))
    x_enc, mask, enc_maps, again = model.encode(feats, FRAMES)
    assert mask.equal(PadMask(x_enc, frames)) and len(enc_maps) == 2
    assert_close(again["log_probs"], ctc["log_probs"])
    assert_close(model.decode(tokens, x_enc, LENGTHS, mask)[0], logits)


def test_the_masks_of_each_attention():
    model, (feats, tokens) = make(), batch()
    _, maps, ctc = model(feats, tokens, FRAMES, LENGTHS)
    frame_pad = PadMask(maps["layer1_enc_self"], ctc["lengths"])[:, None]
    token_pad = PadMask(tokens, LENGTHS)[:, None]
    for name, weights in maps.items():
        pad = token_pad if name.endswith("dec_self") else frame_pad
        hidden = pad.expand_as(weights)
        if name.endswith("dec_self"):
            hidden = hidden | torch.ones(6, 6, dtype=torch.bool).triu(1)
        assert weights.masked_select(hidden).eq(0).all(), name
        assert weights.masked_select(~hidden).gt(0).all(), name


def test_an_utterance_is_the_same_alone_and_in_a_batch():
    for method in ("conv", "lstm", "both"):
        model, (feats, tokens) = make(reduction_method=method), batch()
        logits, _, ctc = model(feats, tokens, FRAMES, LENGTHS)
        for row in range(3):
            T, L = FRAMES[row], LENGTHS[row]
            alone, _, own = model(
                feats[row : row + 1, :T], tokens[row : row + 1, :L], FRAMES[row : row + 1],
                LENGTHS[row : row + 1],
            )
            assert_close(logits[row, :L], alone[0])
            assert_close(ctc["log_probs"][: own["lengths"][0], row], own["log_probs"][:, 0])


@pytest.mark.parametrize("method", ["conv", "lstm", "both"])
def test_without_weights_the_result_is_the_same(method):
    model, (feats, tokens) = make(reduction_method=method), batch()
    with_weights = model(feats, tokens, FRAMES, LENGTHS)
    logits, maps, ctc = model(feats, tokens, FRAMES, LENGTHS, need_weights=False)
    assert maps == {}
    for row, (T, L) in enumerate(zip(ctc["lengths"], LENGTHS, strict=True)):
        assert_close(logits[row, :L], with_weights[0][row, :L])
        assert_close(ctc["log_probs"][:T, row], with_weights[2]["log_probs"][:T, row])


@pytest.mark.parametrize("fast", [False, True])
def test_the_order_of_modules(fast):
    """Embedding, positions, dropout, layers, norm, head; the shared ones once a half."""
    model, (feats, tokens) = make(), batch()
    called = []
    for name, module in model.named_modules():
        if name and "." not in name.replace("_layers.", "_"):
            module.register_forward_hook(lambda m, args, out, name=name: called.append(name))
    model(feats, tokens, FRAMES, LENGTHS, need_weights=not fast)
    layers = [] if fast else ["enc_layers.0", "enc_layers.1"]
    decoder = [] if fast else ["dec_layers.0", "dec_layers.1", "dec_layers.2"]
    assert called == [
        "source_embedding", "positional_encoding", "dropout", *layers, "encoder_norm", "ctc_head",
        "target_embedding", "positional_encoding", "dropout", *decoder, "decoder_norm",
        "final_linear",
    ]


def test_positions_can_be_left_out():
    feats, tokens = batch()
    for half, name in (("encode", "skip_encoder_pe"), ("decode", "skip_decoder_pe")):
        model, calls = make(**{name: True}), []
        model.positional_encoding.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        x_enc, mask, *_ = model.encode(feats, FRAMES)
        model.decode(tokens, x_enc, LENGTHS, mask)
        assert len(calls) == 1
        with torch.no_grad():
            model.positional_encoding.pe += 1.0
        changed = model.encode(feats, FRAMES)[0]
        assert changed.equal(x_enc) == (half == "encode")


def brute_force_ctc(log_probs, target) -> torch.Tensor:
    """-log of the summed probability of all alignments (T, V) that collapse to a target."""
    T, V = log_probs.shape
    paths = []
    for path in product(range(V), repeat=T):
        kept = [c for i, c in enumerate(path) if c != 0 and (i == 0 or path[i - 1] != c)]
        if kept == target:
            paths.append(sum(log_probs[t, c] for t, c in enumerate(path)))
    return -torch.stack(paths).logsumexp(0)


@pytest.mark.parametrize("target", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_ctc_of_the_head_is_the_sum_over_alignments(target):
    model = make(num_classes=3, time_reduction=4)
    feats = torch.randn(2, 28, BINS, dtype=torch.float64)
    *_, ctc = model.encode(feats, torch.tensor([24, 28]))
    frames = int(ctc["lengths"][0])
    assert frames == 4
    loss = F.ctc_loss(
        ctc["log_probs"], torch.tensor([target, target]), ctc["lengths"],
        torch.tensor([len(target)] * 2), blank=0, reduction="none",
    )
    assert_close(loss[0], brute_force_ctc(ctc["log_probs"][:frames, 0], target))


def test_scores_are_those_of_decode():
    model, (feats, tokens) = make(), batch()
    x_enc, mask, *_ = model.encode(feats, FRAMES)
    for L in (1, 3):
        expected = model.decode(tokens[:, :L], x_enc, None, mask)[0][:, -1]
        assert_close(model.score(tokens[:, :L], x_enc, mask), expected)
    with pytest.raises(ValueError, match=r"call model\.eval"):
        model.train().score(tokens, x_enc, mask)


def test_lengths_are_needed_in_training():
    model, (feats, tokens) = make(), batch()
    model.train()
    for lengths in ((None, LENGTHS), (FRAMES, None)):
        with pytest.raises(ValueError, match="both have to be known"):
            model(feats, tokens, *lengths)
    x_enc, mask, *_ = model.encode(feats, FRAMES)
    with pytest.warns(UserWarning, match="without target_lengths"):
        model.decode(tokens, x_enc, None, mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.decode(tokens, x_enc, LENGTHS, mask)
    model.eval()
    assert model(feats, tokens)[0].shape == (3, 6, 10)


def test_layers_are_dropped_in_training_only():
    model, (feats, tokens) = make(layer_drop_rate=0.5), batch()
    assert len(model(feats, tokens, FRAMES, LENGTHS)[1]) == 8
    model.train()
    numbers = [len(model(feats, tokens, FRAMES, LENGTHS)[1]) for _ in range(30)]
    assert len(set(numbers)) > 3 and max(numbers) <= 8


def test_tied_weights_are_scaled():
    model, (_, tokens) = make(weight_tying=True, skip_decoder_pe=True), batch()
    assert model.target_embedding.weight is model.final_linear.weight
    assert model.ctc_head[0].weight is not model.final_linear.weight
    assert_close(model.embed(tokens), model.final_linear.weight[tokens] * 8**0.5)
    assert_close(make(skip_decoder_pe=True).embed(tokens), make().target_embedding(tokens))


@pytest.mark.parametrize(("classes", "tied", "size"), [
    (35, False, 9_288_006), (1000, False, 10_031_056), (10_000, False, 16_961_056),
    (35, True, 9_279_046), (10_000, True, 14_401_056),
])  # fmt: skip
def test_the_number_of_parameters_is_the_courses(classes, tied, size):
    with torch.device("meta"):
        model = EncoderDecoderTransformer(
            80, 2, "conv", 2, 4, 1024, 2, 4, 1024, 256, 0.0, 2047, classes, weight_tying=tied
        )
    assert sum(p.numel() for p in model.parameters()) == size


def test_names_of_the_weights():
    names = set(make().state_dict())
    for name in (
        "source_embedding.cnn.conv.0.weight", "source_embedding.cnn.conv.2.bias",
        "source_embedding.cnn.linear_out.weight", "source_embedding.blstm.linear_embed.bias",
        "source_embedding.blstm.blstm2.weight_ih_l0_reverse", "enc_layers.1.self_attn.mha.in_proj_"
        "weight", "dec_layers.2.cross_attn.norm.weight", "dec_layers.0.ffn.ffn.3.bias",
        "target_embedding.weight", "positional_encoding.pe", "encoder_norm.bias",
        "decoder_norm.weight", "final_linear.bias", "ctc_head.0.weight",
    ):
        assert name in names


def test_reduced_precision_leaves_the_ctc_head_alone():
    model, (feats, _) = make().float(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        x_enc, *_, ctc = model.encode(feats.float(), FRAMES)
    assert ctc["log_probs"].dtype == torch.float32
    assert_close(ctc["log_probs"].exp().sum(2), torch.ones(ctc["log_probs"].shape[:2]))


# ---- A decoder from text


def text_model(path, num_layers=3, num_heads=4, **changed):
    sizes = {
        "num_layers": num_layers, "d_model": 8, "num_heads": num_heads, "d_ff": 20, "dropout": 0.0,
        "max_len": 9, "num_classes": 10, **changed,
    }  # fmt: skip
    torch.manual_seed(8)
    model = randomised(DecoderOnlyTransformer(**sizes)).float()
    torch.save({"model_state_dict": model.state_dict(), "config": {"model": sizes}}, path)
    return model


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_a_decoder_begins_as_it_was_trained_on_text(tmp_path, layers):
    text = text_model(tmp_path / "lm.pth", layers)
    model, groups = EncoderDecoderTransformer.from_pretrained_decoder(tmp_path / "lm.pth", SIZES)
    state, theirs = model.state_dict(), text.state_dict()
    for i in range(min(3, layers)):
        for part in ("self_attn.mha.in_proj_weight", "self_attn.norm.bias", "ffn.ffn.3.weight"):
            assert_close(state[f"dec_layers.{i}.{part}"], theirs[f"dec_layers.{i}.{part}"])
    assert_close(state["decoder_norm.weight"], theirs["norm.weight"])
    assert_close(state["target_embedding.weight"], theirs["target_embedding.weight"])
    assert_close(state["final_linear.bias"], theirs["final_linear.bias"])
    names = {key: [name for name, _ in group] for key, group in groups.items()}
    parameters = dict(model.named_parameters())
    assert sorted(names["transferred"] + names["new"]) == sorted(parameters)
    assert all(parameters[name] is p for group in groups.values() for name, p in group)
    assert {"decoder_norm.weight", "decoder_norm.bias"} <= set(names["transferred"])
    assert "dec_layers.0.cross_attn.norm.weight" in names["new"]
    assert ("dec_layers.2.ffn.norm.bias" in names["new"]) == (layers < 3)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("tied", [False, True])
def test_a_tied_embedding_enters_as_it_was_trained(tmp_path, tied, scale):
    text = text_model(tmp_path / "lm.pth", weight_tying=True)
    content = torch.load(tmp_path / "lm.pth")
    torch.save({**content, "embedding_scale": scale}, tmp_path / "lm.pth")
    sizes = {**SIZES, "weight_tying": tied, "skip_decoder_pe": True}
    model, _ = EncoderDecoderTransformer.from_pretrained_decoder(tmp_path / "lm.pth", sizes)
    tokens = torch.tensor([[6, 7, 8]])
    assert_close(model.embed(tokens), scale * text.target_embedding.weight[tokens])
    assert_close(model.final_linear.weight, text.final_linear.weight)


def test_an_embedding_that_is_not_tied_is_not_taken_for_one_that_is(tmp_path):
    text_model(tmp_path / "lm.pth")
    with pytest.raises(ValueError, match=r"lm\.pth: its embedding is not tied"):
        EncoderDecoderTransformer.from_pretrained_decoder(
            tmp_path / "lm.pth", {**SIZES, "weight_tying": True}
        )


@pytest.mark.parametrize(("changed", "message"), [
    ({"num_heads": 2}, r"lm\.pth: 2 heads, but model\.num_decoder_heads is 4"),
    ({"d_ff": 12}, r"lm\.pth: does not fit: dec_layers\.0\.ffn"),
    ({"d_model": 16}, r"lm\.pth: does not fit: target_embedding\.weight is \(10, 16\) in it"),
    ({"num_classes": 11}, r"lm\.pth: does not fit: target_embedding"),
])  # fmt: skip
def test_a_text_model_that_does_not_fit(tmp_path, changed, message):
    text_model(tmp_path / "lm.pth", **changed)
    with pytest.raises(ValueError, match=message):
        EncoderDecoderTransformer.from_pretrained_decoder(tmp_path / "lm.pth", SIZES)


def test_a_text_model_that_is_none(tmp_path):
    (tmp_path / "lm.pth").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"lm\.pth: not a checkpoint"):
        EncoderDecoderTransformer.from_pretrained_decoder(tmp_path / "lm.pth", SIZES)
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        EncoderDecoderTransformer.from_pretrained_decoder(tmp_path / "gone.pth", SIZES)
