"""The model, from masks to scores: against plain loops, PyTorch's modules, and cases by hand."""

import math
import random

import pytest
import torch
from hw4lib.model import (
    CausalMask,
    DecoderOnlyTransformer,
    FeedForwardLayer,
    PadMask,
    PositionalEncoding,
    SelfAttentionDecoderLayer,
    SelfAttentionLayer,
    sublayers,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import V, ids, make_model, padded
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

EXACT = {"rtol": 1e-10, "atol": 1e-10}
RAGGED = [5, 1, 9, 9, 3]


# ---- Masks and positions


def test_masks_of_the_handouts_example():
    batch = torch.tensor([[1, 2, 3, 0, 0], [1, 2, 0, 0, 0]])
    assert PadMask(batch, torch.tensor([3, 2])).int().tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]
    assert CausalMask(batch).int().tolist() == [
        [0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0],
    ]  # fmt: skip


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.sampled_from([(), (3,), (2, 3)]),
       st.sampled_from([torch.int32, torch.int64]))  # fmt: skip
def test_masks_are_their_definitions(lengths, more, dtype):
    T = max(lengths) + 1
    batch = torch.zeros(len(lengths), T, *more)
    pad = PadMask(batch, input_lengths=torch.tensor(lengths, dtype=dtype))
    assert pad.dtype == torch.bool and pad.tolist() == [[t >= n for t in range(T)] for n in lengths]
    causal = CausalMask(batch)
    assert causal.dtype == torch.bool
    assert causal.tolist() == [[j > i for j in range(T)] for i in range(T)]


@pytest.mark.parametrize("d", [1, 2, 6, 7])
def test_positions_are_sines_and_cosines(d):
    pe = PositionalEncoding(d, 20).pe
    assert pe.shape == (1, 20, d)
    for t in range(20):
        for i in range(d):
            angle = t / 10000 ** ((i - i % 2) / d)
            assert pe[0, t, i] == pytest.approx(
                math.cos(angle) if i % 2 else math.sin(angle), abs=1e-6
            )


def test_positions_are_a_buffer_and_are_added():
    module, x = PositionalEncoding(6, 10), torch.randn(3, 7, 6)
    assert not list(module.parameters()) and list(module.state_dict()) == ["pe"]
    assert_close(module(x), x + module.pe[:, :7])
    assert_close(module(x, start=3), x + module.pe[:, 3:])
    assert_close(module(torch.randn(2, 10, 6)).shape, torch.Size([2, 10, 6]))


@pytest.mark.parametrize(("T", "start"), [(11, 0), (1, 10), (4, 7)])
def test_a_sequence_over_max_len_is_an_error(T, start):
    with pytest.raises(ValueError, match=r"11 tokens.*max_len is 10"):
        PositionalEncoding(6, 10)(torch.zeros(1, T, 6), start)


# ---- Sublayers and layer


def loop_norm(x, norm):
    """LayerNorm of one vector, by its formula."""
    return (x - x.mean()) / torch.sqrt(
        ((x - x.mean()) ** 2).mean() + norm.eps
    ) * norm.weight + norm.bias


def loop_attention(x, layer, visible):
    """Self-attention of one sequence (T, E), a position and a head at a time.

    Output (T, E), weights (T, T).

    `visible(i, j)` says whether position i may look at position j.
    """
    mha, T, E = layer.mha, *x.shape
    D = E // mha.num_heads
    normed = torch.stack([loop_norm(row, layer.norm) for row in x])
    q, k, v = (normed @ mha.in_proj_weight.T + mha.in_proj_bias).split(E, 1)
    out, mean_weights = torch.zeros_like(x), torch.zeros(T, T, dtype=x.dtype)
    for i in range(T):
        heads = []
        for h in range(mha.num_heads):
            part = slice(h * D, h * D + D)
            seen = [j for j in range(T) if visible(i, j)]
            powers = torch.stack([(q[i, part] @ k[j, part] / math.sqrt(D)).exp() for j in seen])
            weights = powers / powers.sum()
            heads.append(sum(w * v[j, part] for w, j in zip(weights, seen, strict=True)))
            mean_weights[i, seen] += weights / mha.num_heads
        out[i] = x[i] + mha.out_proj.weight @ torch.cat(heads) + mha.out_proj.bias
    return out, mean_weights


def loop_ffn(x, layer):
    """The feed-forward sublayer of one sequence, GELU by its formula."""
    first, last = layer.ffn[0], layer.ffn[3]
    rows = []
    for row in x:
        hidden = first.weight @ loop_norm(row, layer.norm) + first.bias
        gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        rows.append(row + last.weight @ gelu + last.bias)
    return torch.stack(rows)


def loop_logits(tokens, model):
    """What the model has to say of one sequence (T,) without padding, by plain loops: (T, V).

    A tied embedding enters times sqrt(d_model).
    """
    pe, embedding = model.positional_encoding.pe[0], model.target_embedding.weight
    scale = math.sqrt(pe.shape[1]) if embedding is model.final_linear.weight else 1
    x = torch.stack([embedding[token] * scale + pe[t] for t, token in enumerate(tokens)])
    for layer in model.dec_layers:
        x, _ = loop_attention(x, layer.self_attn, lambda i, j: j <= i)
        x = loop_ffn(x, layer.ffn)
    return torch.stack(
        [
            model.final_linear.weight @ loop_norm(row, model.norm) + model.final_linear.bias
            for row in x
        ]
    )


def test_self_attention_is_its_plain_loops():
    layer = make_model().dec_layers[0].self_attn
    x, lengths = torch.randn(5, 9, 8, dtype=torch.float64), torch.tensor(RAGGED)
    out, weights = layer(x, PadMask(x, lengths), CausalMask(x))
    for b, n in enumerate(RAGGED):
        expected, expected_weights = loop_attention(x[b], layer, lambda i, j, n=n: j <= i and j < n)
        assert_close(out[b], expected, **EXACT)
        assert_close(weights[b], expected_weights, **EXACT)


def test_attention_of_a_long_sequence_has_no_matrix_of_its_length(monkeypatch):
    """What autograd keeps of it is proportional to its length."""
    T, sizes, results = sublayers.LONG, [], []
    torch.manual_seed(0)
    drawn = torch.randn(3, 2, T, 4, dtype=torch.float64)
    for long in (T, T + 1):
        monkeypatch.setattr(sublayers, "LONG", long)
        q, k, v = (tensor.requires_grad_() for tensor in drawn.clone().unbind())
        kept = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, kept=kept: (kept.append(tensor.numel()), tensor)[1], lambda x: x
        )
        with hooks:
            heads = sublayers.causal_attention(q, k, v, 0.0)
        results.append((heads, *torch.autograd.grad(heads.square().sum(), (q, k, v))))
        sizes.append(max(kept))
    assert sizes[0] <= 2 * T * 4 and sizes[1] >= 2 * T * T
    for one, other in zip(*results, strict=True):
        assert_close(one, other, **EXACT)


def test_self_attention_without_masks_sees_all():
    layer = make_model().dec_layers[0].self_attn
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    out, weights = layer(x)
    for b in range(2):
        expected, expected_weights = loop_attention(x[b], layer, lambda i, j: True)
        assert_close(out[b], expected, **EXACT)
        assert_close(weights[b], expected_weights, **EXACT)


def test_feed_forward_is_its_plain_loops():
    layer = make_model().dec_layers[0].ffn
    x = torch.randn(2, 4, 8, dtype=torch.float64)
    for b in range(2):
        assert_close(layer(x)[b], loop_ffn(x[b], layer), **EXACT)


def test_parts_of_the_sublayers():
    attention, ffn = SelfAttentionLayer(8, 2, 0.3), FeedForwardLayer(8, 20, 0.3)
    assert isinstance(attention.mha, nn.MultiheadAttention) and attention.mha.batch_first
    assert (attention.mha.embed_dim, attention.mha.num_heads, attention.mha.dropout) == (8, 2, 0.3)
    assert [type(part) for part in ffn.ffn] == [nn.Linear, nn.GELU, nn.Dropout, nn.Linear]
    assert (ffn.ffn[0].out_features, ffn.ffn[2].p) == (20, 0.3)
    for layer in (attention, ffn):
        assert layer.norm.normalized_shape == (8,) and layer.dropout.p == 0.3
    assert SelfAttentionLayer(8, 2).dropout.p == FeedForwardLayer(8, 20).dropout.p == 0.0
    assert SelfAttentionDecoderLayer(8, 2, 20).ffn.dropout.p == 0.1


@pytest.mark.parametrize("fast", [False, True])
def test_dropout_acts_on_what_is_added_to_the_residual(fast):
    model = make_model(dropout=1.0)
    layer, x = model.dec_layers[0].train(), torch.randn(2, 5, 8, dtype=torch.float64)
    out = layer.causal(x) if fast else layer(x, attn_mask=CausalMask(x))[0]
    assert torch.equal(out, x)  # all that is added is dropped, the biases too


@pytest.mark.parametrize("fast", [False, True])
def test_dropout_acts_on_attention_weights_and_inside_the_feed_forward_network(fast):
    model = make_model(dropout=1.0)
    layer, x = model.dec_layers[0].train(), torch.randn(2, 5, 8, dtype=torch.float64)
    layer.self_attn.dropout.p = layer.ffn.dropout.p = 0.0
    after_attention = x + layer.self_attn.mha.out_proj.bias
    out = layer.causal(x) if fast else layer(x, attn_mask=CausalMask(x))[0]
    assert_close(out, after_attention + layer.ffn.ffn[3].bias, **EXACT)


def test_the_layer_calls_attention_then_ffn_and_returns_what_ffn_gave():
    layer, calls = SelfAttentionDecoderLayer(8, 2, 12), []
    for name in ("self_attn", "self_attn.norm", "self_attn.mha", "ffn", "ffn.norm", "ffn.ffn"):
        layer.get_submodule(name).register_forward_hook(
            lambda m, i, out, name=name: calls.append((name, out))
        )
    out, weights = layer(torch.randn(2, 5, 8))
    assert [name for name, _ in calls] == [
        "self_attn.norm", "self_attn.mha", "self_attn", "ffn.norm", "ffn.ffn", "ffn",
    ]
    assert out is calls[-1][1] and weights is calls[2][1][1]


def test_masks_of_numbers_are_added_to_the_scores():
    layer, x = make_model().dec_layers[0], torch.randn(2, 5, 8, dtype=torch.float64)
    pad, causal = torch.ones(2, 5, dtype=torch.float64), torch.ones(5, 5, dtype=torch.float64)
    # The same number everywhere changes nothing.
    assert_close(layer(x, pad, causal)[0], layer(x)[0], **EXACT)


@pytest.mark.parametrize(("d_model", "heads"), [(10, 3), (8, 0), (4, 8)])
def test_heads_that_do_not_divide_the_model_are_an_error(d_model, heads):
    with pytest.raises(ValueError, match=f"d_model {d_model}.*num_heads {heads}"):
        SelfAttentionLayer(d_model, heads)


# ---- The transformer


@pytest.mark.parametrize(
    "options", [{}, {"weight_tying": True}, {"num_layers": 1, "num_heads": 1}, {"num_layers": 3}]
)
@pytest.mark.parametrize("need_weights", [True, False])
def test_logits_of_a_ragged_batch_are_those_of_plain_loops(options, need_weights):
    model = make_model(**options)
    batch, lengths = padded(RAGGED)
    logits, _ = model(batch, lengths, need_weights)
    assert logits.shape == (5, 9, V)
    for b, n in enumerate(RAGGED):
        assert_close(logits[b, :n], loop_logits(batch[b, :n], model), **EXACT)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 9))
def test_maps_do_not_change_logits_or_gradients(lengths, seed):
    model = make_model().train()
    batch, lengths = padded(lengths, seed)
    results = []
    for need_weights in (True, False):
        model.zero_grad()
        logits, _ = model(batch, lengths, need_weights)
        logits[~PadMask(batch, lengths)].square().sum().backward()
        results.append([p.grad for p in model.parameters()])
    for one, other in zip(*results, strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_maps_hide_the_future_and_the_padding():
    model = make_model(num_layers=3)
    batch, lengths = padded(RAGGED)
    for training in (False, True):
        _, maps = model.train(training)(batch, lengths)
        assert list(maps) == ["layer1_dec_self", "layer2_dec_self", "layer3_dec_self"]
        for weights in maps.values():
            assert_close(weights.sum(2), torch.ones(5, 9, dtype=torch.float64))
            hidden = CausalMask(batch) | PadMask(batch, lengths)[:, None]
            assert torch.equal(weights == 0, hidden)
    assert model(batch, lengths, need_weights=False)[1] == {}


def test_a_later_token_changes_nothing_before_it():
    model, batch = make_model(), ids(1, 9)
    other = batch.clone()
    other[0, 5] = (other[0, 5] - 5) % 5 + 6
    before, after = (model(x)[0][0] for x in (batch, other))
    assert torch.equal(before[:5], after[:5])
    assert (before[5:] != after[5:]).all()


def test_modules_are_called_in_order_once_each():
    model, calls = make_model(), []
    first = ["target_embedding", "positional_encoding", "dropout"]
    names = [*first, "dec_layers.0", "dec_layers.1", "norm", "final_linear"]
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda m, i, out, name=name: calls.append(name)
        )
    model(ids(2, 5), torch.tensor([5, 2]))
    assert calls == names


def test_parts_and_sizes_of_the_transformer():
    model = DecoderOnlyTransformer(2, 8, 2, 12, 0.3, 16, V, layer_drop_rate=0.2)
    assert (model.max_len, model.num_classes, model.num_layers) == (16, V, 2)
    assert model.layer_drop_rate == 0.2
    assert model.target_embedding.padding_idx is None and model.dropout.p == 0.3
    names = set(model.state_dict())
    assert {
        "positional_encoding.pe", "target_embedding.weight", "final_linear.bias", "norm.weight",
    } < names
    layer = {
        name.removeprefix("dec_layers.1.") for name in names if name.startswith("dec_layers.1.")
    }
    mha = {
        f"self_attn.mha.{n}"
        for n in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    }
    ffn = {f"ffn.ffn.{n}" for n in ("0.weight", "0.bias", "3.weight", "3.bias")}
    assert layer == mha | ffn | {
        f"{n}.norm.{p}" for n in ("self_attn", "ffn") for p in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("arguments", "options", "count"),
    [
        ((2, 256, 2, 1024, 0.0, 260, 35), {}, 1_597_987),
        ((2, 256, 2, 1024, 0.0, 260, 35), {"weight_tying": True}, 1_589_027),
        ((6, 256, 4, 2048, 0.0, 192, 1000), {}, 8_403_944),
    ],
)
def test_number_of_parameters(arguments, options, count):
    with torch.device("meta"):
        model = DecoderOnlyTransformer(*arguments, **options)
    assert sum(p.numel() for p in model.parameters()) == count


def test_weight_tying_is_one_parameter():
    tied, untied = make_model(weight_tying=True), make_model()
    assert tied.target_embedding.weight is tied.final_linear.weight
    assert untied.target_embedding.weight is not untied.final_linear.weight
    before = tied.final_linear.weight.detach().clone()
    tied(ids(2, 5))[0].sum().backward()
    torch.optim.SGD(tied.parameters(), lr=0.1).step()
    assert not torch.equal(tied.target_embedding.weight, before)
    assert torch.equal(tied.target_embedding.weight, tied.final_linear.weight)


@pytest.mark.parametrize("tied", [False, True])
def test_what_enters_the_layers_and_what_leaves_them(tied):
    """Inputs sqrt(d_model) * E if tied, else E; scores H E^T + b."""
    model, batch = make_model(weight_tying=tied), ids(3, 7)
    seen = {}
    model.positional_encoding.register_forward_hook(lambda m, i, out: seen.update(inputs=i[0]))
    model.norm.register_forward_hook(lambda m, i, out: seen.update(hidden=out))
    logits, _ = model(batch)
    E, W = model.target_embedding.weight, model.final_linear.weight
    assert (E is W) == tied
    assert_close(seen["inputs"], E[batch] * (8**0.5 if tied else 1), **EXACT)
    assert_close(logits, seen["hidden"] @ W.T + model.final_linear.bias, **EXACT)


def loss_after(steps: int, tied: bool) -> float:
    """The loss of a model that has read texts in which two tokens may follow on each."""
    draw = torch.Generator().manual_seed(1)
    followers = torch.randint(40, (40, 2), generator=draw)
    texts = [torch.randint(40, (steps, 16), generator=draw)]
    for _ in range(31):
        which = torch.randint(2, (steps, 16), generator=draw)
        texts.append(followers[texts[-1], which])
    torch.manual_seed(0)
    model = DecoderOnlyTransformer(2, 64, 2, 128, 0.0, 32, 40, weight_tying=tied).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    lengths = torch.full((16,), 31)
    for batch in torch.stack(texts, 2):  # (16, 32)
        optimizer.zero_grad()
        logits, _ = model(batch[:, :-1], lengths, need_weights=False)
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
    return loss.item()


def test_a_tied_model_learns_as_fast_as_an_untied_one():
    """Without the factor it is at twice the loss here."""
    tied, untied = (loss_after(60, tied) for tied in (True, False))
    assert math.log(2) < untied < 1 and tied < 1.1 * untied


def test_all_layers_dropped():
    model = make_model(layer_drop_rate=1.0).train()
    batch, lengths = padded(RAGGED)
    logits, maps = model(batch, lengths)
    assert maps == {}
    assert_close(logits, model.final_linear(model.norm(model.embed(batch))), **EXACT)
    assert len(model.eval()(batch, lengths)[1]) == 2  # in evaluation none is dropped


@pytest.mark.parametrize("need_weights", [True, False])
def test_layers_are_dropped_at_the_rate(need_weights):
    model = make_model(num_layers=4, layer_drop_rate=0.3).train()
    batch, lengths = padded([3, 2])
    for seed in range(30):
        draw = random.Random(seed)
        kept = [number for number in range(1, 5) if draw.random() >= 0.3]
        random.seed(seed)
        logits, maps = model(batch, lengths, need_weights)
        if need_weights:
            assert list(maps) == [f"layer{number}_dec_self" for number in kept]
        x = model.embed(batch)
        for number in kept:
            x = model.dec_layers[number - 1].causal(x)
        assert_close(logits[0], model.final_linear(model.norm(x))[0], **EXACT)


def test_training_needs_lengths_and_scores_need_evaluation():
    model = make_model().train()
    with pytest.raises(ValueError, match="target_lengths"):
        model(ids(2, 5))
    with pytest.raises(ValueError, match="eval"):
        model.score(ids(2, 5))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("B", "L"), [(1, 1), (4, 1), (1, 16), (3, 7)])
def test_score_is_the_last_row_of_the_logits(B, L, tied):
    model, prompts = make_model(weight_tying=tied), ids(B, L)
    assert_close(model.score(prompts), model(prompts)[0][:, -1], **EXACT)
    assert_close(
        model.score(prompts), torch.stack([loop_logits(prompt, model)[-1] for prompt in prompts]),
        **EXACT,
    )


def test_too_long_for_the_model():
    with pytest.raises(ValueError, match=r"17 tokens.*max_len is 16"):
        make_model()(ids(1, 17), torch.tensor([17]))
    with pytest.raises(ValueError, match="max_len"):
        make_model().score(ids(1, 17))
