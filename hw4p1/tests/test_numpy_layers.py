"""The NumPy layers: against PyTorch in float64, finite differences, plain loops, and cases by hand.

Every array that goes in is read-only, so a layer that writes to an input, weight or bias fails
everywhere.
"""

import math

import hypothesis.strategies as st
import mytorch
import numpy as np
import pytest
import torch
from hypothesis import given
from mytorch.nn.activation import Softmax
from mytorch.nn.linear import Linear
from mytorch.nn.multi_head_attention import MultiHeadAttention
from mytorch.nn.scaled_dot_product_attention import ScaledDotProductAttention
from torch import nn
from torch.nn import functional as F

EXACT = {"rtol": 1e-10, "atol": 1e-10}
# The dimensions before the last one.
LEADING = [(), (1,), (0,), (5,), (2, 3), (2, 1, 3), (2, 3, 1, 2)]


def draw(*shape: int, seed: int = 0, dtype=np.float64) -> np.ndarray:
    """Read-only normal numbers, which depend on the seed and the shape."""
    array = np.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape), dtype=dtype)
    array.setflags(write=False)
    return array


def leaf(array: np.ndarray) -> torch.Tensor:
    """A tensor that collects its gradient."""
    return torch.tensor(array, requires_grad=True)


def grads(output: torch.Tensor, d_output: np.ndarray, *leaves: torch.Tensor) -> list[np.ndarray]:
    """PyTorch's gradients of <output, d_output>."""
    return [grad.numpy() for grad in torch.autograd.grad(output, leaves, torch.tensor(d_output))]


def slope(function, x: np.ndarray, d_output: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient of <function(x), d_output> by central differences, one number of x at a time."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        moved = np.array(x)
        moved[index] += step
        above = np.sum(function(moved) * d_output)
        moved[index] -= 2 * step
        gradient[index] = (above - np.sum(function(moved) * d_output)) / (2 * step)
    return gradient


def close(ours: np.ndarray, expected: np.ndarray, **tolerance: float) -> None:
    """The same shape and the same numbers."""
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, **(tolerance or EXACT))


def test_the_package_exports_its_four_classes():
    assert mytorch.MultiHeadAttention is mytorch.nn.MultiHeadAttention is MultiHeadAttention
    assert mytorch.Linear is mytorch.nn.Linear is Linear
    assert mytorch.Softmax is mytorch.nn.Softmax is Softmax
    attention = ScaledDotProductAttention
    assert mytorch.ScaledDotProductAttention is attention
    assert mytorch.nn.ScaledDotProductAttention is attention


# ---- Linear
# --------------------------------------------------------------------------------------------------


def make_linear(fan_in: int = 4, fan_out: int = 3, dtype=np.float64) -> Linear:
    layer = Linear(np.int64(fan_in), np.int64(fan_out))
    layer.init_weights(
        draw(fan_out, fan_in, seed=1, dtype=dtype), draw(fan_out, seed=2, dtype=dtype)
    )
    return layer


def test_linear_starts_at_zero_and_keeps_what_it_is_given():
    layer = Linear(4, 3)
    assert (layer.W.shape, layer.b.shape) == ((3, 4), (3,))
    assert not layer.W.any() and not layer.b.any()
    W, b = draw(3, 4), draw(3)
    layer.init_weights(W, b)
    assert layer.W is W and layer.b is b


@pytest.mark.parametrize("leading", LEADING)
def test_linear_is_pytorchs(leading):
    layer, A, dZ = make_linear(), draw(*leading, 4), draw(*leading, 3, seed=3)
    a, w, b = leaf(A), leaf(layer.W), leaf(layer.b)
    z = F.linear(a, w, b)
    close(layer.forward(A), z.detach().numpy())
    dA, dW, db = grads(z, dZ, a, w, b)
    close(layer.backward(dZ), dA)
    close(layer.dLdA, dA)
    close(layer.dLdW, dW)
    close(layer.dLdb, db)
    assert layer.A is A and layer.input_shape == A.shape


def test_linear_gradients_are_those_of_finite_differences():
    layer, A, dZ = make_linear(), draw(2, 3, 4), draw(2, 3, 3, seed=3)
    layer.forward(A)
    dA = layer.backward(dZ)
    close(dA, slope(lambda x: x @ layer.W.T + layer.b, A, dZ), atol=1e-8)
    close(layer.dLdW, slope(lambda x: A @ x.T + layer.b, layer.W, dZ), atol=1e-8)
    close(layer.dLdb, slope(lambda x: A @ layer.W.T + x, layer.b, dZ), atol=1e-8)


def test_linear_by_hand():
    layer = Linear(2, 1)
    layer.init_weights(np.array([[2.0, -1.0]]), np.array([0.5]))
    assert layer.forward(np.array([[3.0, 4.0], [1.0, 0.0]])).tolist() == [[2.5], [2.5]]
    assert layer.backward(np.array([[1.0], [10.0]])).tolist() == [[2.0, -1.0], [20.0, -10.0]]
    assert (layer.dLdW.tolist(), layer.dLdb.tolist()) == ([[13.0, 4.0]], [11.0])


def test_linear_gradients_do_not_accumulate():
    layer, A, dZ = make_linear(), draw(2, 4), draw(2, 3)
    layer.forward(A)
    layer.backward(dZ)
    first = layer.dLdA.copy(), layer.dLdW.copy(), layer.dLdb.copy()
    layer.backward(dZ)
    assert all(
        np.array_equal(x, y)
        for x, y in zip(first, (layer.dLdA, layer.dLdW, layer.dLdb), strict=True)
    )


@pytest.mark.parametrize("shape", [(), (3,), (4, 2), (2, 8)])
def test_linear_names_a_wrong_size(shape):
    with pytest.raises(ValueError, match=r"its last dimension must be 4"):
        make_linear().forward(draw(*shape))


# ---- Softmax
# --------------------------------------------------------------------------------------------------

SHAPE_AND_DIM = [
    (shape, dim)
    for shape in [(5,), (1,), (3, 1), (4, 5), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 2, 2)]
    for dim in range(-len(shape), len(shape))
]


@pytest.mark.parametrize(("shape", "dim"), SHAPE_AND_DIM)
def test_softmax_is_pytorchs(shape, dim):
    layer, Z, dA = Softmax(dim), draw(*shape), draw(*shape, seed=1)
    z = leaf(Z)
    a = torch.softmax(z, dim)
    close(layer.forward(Z), a.detach().numpy())
    kept = layer.A.copy()
    close(layer.backward(dA), grads(a, dA, z)[0])
    assert layer.dim == dim and np.array_equal(layer.A, kept)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_gradient_is_that_of_finite_differences(dim):
    layer, Z, dA = Softmax(dim), draw(2, 3, 4), draw(2, 3, 4, seed=1)
    layer.forward(Z)
    gradient = layer.backward(dA)
    assert np.abs(gradient).max() > 0.01
    close(gradient, slope(Softmax(dim).forward, Z, dA), atol=1e-8)


def test_softmax_by_hand():
    layer = Softmax()
    assert layer.dim == -1
    close(layer.forward(np.log([[1.0, 3.0]])), np.array([[0.25, 0.75]]))
    # A (dA - <a, dA>), <a, dA> = 1.
    close(layer.backward(np.array([[4.0, 0.0]])), np.array([[0.75, -0.75]]))


@pytest.mark.parametrize("shift", [1e4, -1e4, 1e10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_neither_overflows_nor_underflows(shift, dtype):
    Z = np.array([[0.0, 1024.0, -2048.0]]) + shift  # exact in float32 too
    close(Softmax().forward(Z.astype(dtype)), np.array([[0.0, 1.0, 0.0]]))


def test_softmax_shows_nan_in_its_slice_alone():
    A = Softmax().forward(np.array([[0.0, np.nan, 1.0], [0.0, 0.0, -np.inf]]))
    assert np.isnan(A[0]).all() and A[1].tolist() == [0.5, 0.5, 0.0]


def test_softmax_of_integers():
    close(Softmax().forward(np.array([[0, 0], [3, 3]])), np.full((2, 2), 0.5))


@pytest.mark.parametrize("dim", [2, 3, -3])
def test_softmax_refuses_a_dimension_that_is_not_there(dim):
    with pytest.raises(ValueError, match=f"no dimension {dim} .* shape \\(2, 3\\)"):
        Softmax(dim).forward(draw(2, 3))


# ---- Scaled dot-product attention
# -----------------------------------------------------------------------------------

SIZES = [  # leading dimensions, L, S, E, Ev
    ((2, 3), 4, 4, 5, 5),
    ((2, 3), 4, 7, 5, 3),
    ((2, 3), 6, 1, 1, 4),
    ((1, 1), 1, 1, 1, 1),
    ((), 3, 2, 4, 4),
    ((3,), 3, 4, 2, 6),
    ((2, 1, 3), 4, 5, 6, 2),
    ((0, 3), 4, 5, 6, 2),
]


def make_qkv(leading, L, S, E, Ev, dtype=np.float64):
    """Q, K, V and the gradient of the output."""
    shapes = [(L, E), (S, E), (S, Ev), (L, Ev)]
    return [draw(*leading, *shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]


def random_mask(*shape: int) -> np.ndarray:
    """About half True; the first key visible in every row, as PyTorch gives NaN where none is."""
    mask = np.random.default_rng(9).random(shape) < 0.5
    mask[..., 0] = False
    mask.setflags(write=False)
    return mask


def masks_of(leading, L, S) -> dict[str, np.ndarray | None]:
    """Each kind of mask that is allowed."""
    whole = random_mask(*leading, L, S)
    return {
        "none": None,
        "whole": whole,
        "0/1": whole.astype(np.int64),
        "causal": np.triu(np.ones((L, S), bool), 1),
        "one row": random_mask(*leading, 1, S),
    }


def loops(Q, K, V, mask=None) -> np.ndarray:
    """The definition, one query and one key at a time."""
    output = np.zeros((*Q.shape[:-1], V.shape[-1]))
    mask = np.broadcast_to(False if mask is None else mask, (*Q.shape[:-1], K.shape[-2]))
    for *n, i in np.ndindex(*Q.shape[:-1]):
        n = tuple(n)
        scores = [
            math.fsum(Q[(*n, i)] * K[(*n, j)]) / math.sqrt(Q.shape[-1]) for j in range(K.shape[-2])
        ]
        weights = [0.0 if mask[(*n, i, j)] else math.exp(score) for j, score in enumerate(scores)]
        output[(*n, i)] = sum(w * V[(*n, j)] for j, w in enumerate(weights)) / math.fsum(weights)
    return output


@pytest.mark.parametrize("kind", ["none", "whole", "0/1", "causal", "one row"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_attention_is_pytorchs_and_the_loops(sizes, kind):
    Q, K, V, dO = make_qkv(*sizes)
    mask = masks_of(*sizes[:3])[kind]
    layer = ScaledDotProductAttention()
    output = layer.forward(Q, K, V, mask)
    close(output, loops(Q, K, V, mask))
    q, k, v = leaf(Q), leaf(K), leaf(V)
    keep = None if mask is None else torch.tensor(mask == 0)
    expected = F.scaled_dot_product_attention(q, k, v, keep)
    close(output, expected.detach().numpy())
    for ours, theirs in zip(layer.backward(dO), grads(expected, dO, q, k, v), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("kind", ["none", "whole"])
def test_attention_gradients_are_those_of_finite_differences(kind):
    sizes = (2, 1), 3, 4, 2, 3
    Q, K, V, dO = make_qkv(*sizes)
    mask = masks_of(*sizes[:3])[kind]
    layer = ScaledDotProductAttention()
    layer.forward(Q, K, V, mask)
    dQ, dK, dV = layer.backward(dO)
    attend = ScaledDotProductAttention().forward
    close(dQ, slope(lambda x: attend(x, K, V, mask), Q, dO), atol=1e-8)
    close(dK, slope(lambda x: attend(Q, x, V, mask), K, dO), atol=1e-8)
    close(dV, slope(lambda x: attend(Q, K, x, mask), V, dO), atol=1e-8)


def test_attention_keeps_its_weights():
    layer = ScaledDotProductAttention()
    assert layer.eps == 1e10 and layer.softmax.dim == -1
    Q, K, V, _ = make_qkv((2, 3), 4, 6, 5, 5)
    mask = random_mask(2, 3, 4, 6)
    layer.forward(Q, K, V, mask)
    assert layer.attention_scores.shape == (2, 3, 4, 6)
    close(layer.attention_scores.sum(axis=-1), np.ones((2, 3, 4)))
    assert not layer.attention_scores[mask].any() and layer.attention_scores[~mask].all()


def test_a_masked_key_changes_nothing_and_gets_no_gradient():
    Q, K, V, dO = make_qkv((2, 2), 3, 4, 5, 5)
    mask = np.array([False, True, False, True])
    other_K, other_V = np.where(mask[:, None], 7.0, K), np.where(mask[:, None], -7.0, V)
    layer = ScaledDotProductAttention()
    output = layer.forward(Q, K, V, mask)
    _, dK, dV = layer.backward(dO)
    assert not dK[..., mask, :].any() and not dV[..., mask, :].any()
    assert np.array_equal(output, ScaledDotProductAttention().forward(Q, other_K, other_V, mask))
    assert not np.allclose(output, ScaledDotProductAttention().forward(Q, K, V))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_without_any_key_is_a_mean_and_not_nan(dtype):
    Q, K, V, dO = make_qkv((2, 2), 3, 4, 5, 5, dtype)
    layer = ScaledDotProductAttention()
    output = layer.forward(Q, K, V, np.ones((3, 4), bool))
    assert np.isfinite(output).all()
    assert np.isfinite(np.concatenate(layer.backward(dO), axis=-2)).all()
    if dtype == np.float32:  # 1e10 swallows the scores
        close(output, np.repeat(V.mean(axis=-2, keepdims=True), 3, axis=-2), rtol=1e-5, atol=1e-6)


@given(
    leading=st.lists(st.integers(1, 3), max_size=3), L=st.integers(1, 6), S=st.integers(1, 6),
    E=st.integers(1, 5), Ev=st.integers(1, 5), masked=st.booleans(),
)
def test_attention_of_any_size(leading, L, S, E, Ev, masked):
    Q, K, V, dO = make_qkv(tuple(leading), L, S, E, Ev)
    mask = random_mask(*leading, L, S) if masked else None
    layer = ScaledDotProductAttention()
    close(layer.forward(Q, K, V, mask), loops(Q, K, V, mask))
    assert [d.shape for d in layer.backward(dO)] == [Q.shape, K.shape, V.shape]


# ---- Multi-head attention
# -------------------------------------------------------------------------------------------


def make_pair(
    E: int, H: int, dtype=torch.float64
) -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    """Ours and PyTorch's with the same weights and biases, all of them random."""
    torch.manual_seed(E * 10 + H)
    theirs = nn.MultiheadAttention(E, H, batch_first=True, dtype=dtype)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    W, b = theirs.in_proj_weight.detach().numpy(), theirs.in_proj_bias.detach().numpy()
    output = theirs.out_proj.weight.detach().numpy(), theirs.out_proj.bias.detach().numpy()
    weights = [x for pair in zip(np.split(W, 3), np.split(b, 3), strict=True) for x in pair]
    for array in (*weights, *output):
        array.setflags(write=False)
    ours = MultiHeadAttention(np.int64(E), np.int64(H))
    ours.init_weights(*weights, *output)
    return ours, theirs


def mha_masks(N: int, L: int, S: int, which: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(key_padding_mask, attn_mask) with the first key always visible."""
    padding = np.arange(S) >= np.random.default_rng(3).integers(1, S + 1, (N, 1))
    return (padding if "padding" in which else None, random_mask(L, S) if "attn" in which else None)


def tensor_or_none(mask: np.ndarray | None) -> torch.Tensor | None:
    return None if mask is None else torch.tensor(mask)


@pytest.mark.parametrize("which", ["none", "padding", "attn", "padding+attn"])
@pytest.mark.parametrize(
    "sizes", [(3, 5, 5, 8, 2), (2, 4, 7, 6, 6), (1, 1, 1, 4, 1), (4, 6, 2, 6, 3)], ids=str
)
def test_mha_is_pytorchs(sizes, which):
    N, L, S, E, H = sizes
    ours, theirs = make_pair(E, H)
    query = draw(N, L, E)
    key = draw(N, S, E, seed=1)
    value = draw(N, S, E, seed=2)
    dO = draw(N, L, E, seed=3)
    padding, attn = mha_masks(N, L, S, which)
    q, k, v = leaf(query), leaf(key), leaf(value)
    expected, _ = theirs(q, k, v, tensor_or_none(padding), attn_mask=tensor_or_none(attn))
    close(ours.forward(query, key, value, padding, attn), expected.detach().numpy())
    assert (ours.N, ours.L, ours.S, ours.E) == (N, L, S, E)
    out = theirs.out_proj
    parameters = theirs.in_proj_weight, theirs.in_proj_bias, out.weight, out.bias
    *d_inputs, dW, db, dWo, dbo = grads(expected, dO, q, k, v, *parameters)
    for d, d_expected in zip(ours.backward(dO), d_inputs, strict=True):
        close(d, d_expected)
    projections = ours.q_proj, ours.k_proj, ours.v_proj
    close(np.concatenate([p.dLdW for p in projections]), dW)
    close(np.concatenate([p.dLdb for p in projections]), db)
    close(ours.out_proj.dLdW, dWo)
    close(ours.out_proj.dLdb, dbo)


def test_mha_gradients_are_those_of_finite_differences():
    ours, _ = make_pair(4, 2)
    query = draw(2, 3, 4)
    key = draw(2, 2, 4, seed=1)
    value = draw(2, 2, 4, seed=2)
    dO = draw(2, 3, 4, seed=3)
    masks = np.array([[False, False], [False, True]]), np.array(
        [[False, True], [False, False], [False, False]]
    )
    ours.forward(query, key, value, *masks)
    d_query, d_key, d_value = ours.backward(dO)
    again, _ = make_pair(4, 2)
    close(d_query, slope(lambda x: again.forward(x, key, value, *masks), query, dO), atol=1e-8)
    close(d_key, slope(lambda x: again.forward(query, x, value, *masks), key, dO), atol=1e-8)
    close(d_value, slope(lambda x: again.forward(query, key, x, *masks), value, dO), atol=1e-8)


def test_mha_ignores_masked_keys():
    ours, _ = make_pair(8, 2)
    x = draw(2, 5, 8)
    padding = np.arange(5) >= np.array([[5], [3]])
    changed = np.where(padding[:, :, None], 9.0, x)
    output = ours.forward(x, x, x, padding)
    assert np.array_equal(output, ours.forward(x, changed, changed, padding))
    assert not np.allclose(output, ours.forward(x, x, x))
    causal = np.triu(np.ones((5, 5), bool), 1)
    later = np.array(x)
    later[:, 3:] += 1
    before, after = (ours.forward(y, y, y, None, causal) for y in (x, later))
    assert np.array_equal(before[:, :3], after[:, :3])
    assert not np.allclose(before[:, 3:], after[:, 3:])


def test_mha_merges_masks_by_hand():
    ours = MultiHeadAttention(4, 2)
    ours.N, ours.L, ours.S = 2, 2, 3
    padding = np.array([[False, False, True], [False, False, False]])
    attn = np.array([[False, True, True], [False, False, True]])
    merged = ours._merge_masks(padding, attn)
    assert merged.shape == (2, 2, 2, 3) and merged.dtype == bool
    assert merged[0, 0].tolist() == merged[1, 1].tolist() == attn.tolist()
    assert ours._merge_masks(padding, None)[0, 1].tolist() == [[False, False, True]] * 2
    assert ours._merge_masks(padding, None)[1].any() == np.False_
    assert ours._merge_masks(None, attn.astype(int))[1, 1].tolist() == attn.tolist()
    assert ours._merge_masks(None, None) is None


def test_mha_splits_and_concatenates_heads():
    ours, x = MultiHeadAttention(6, 3), draw(2, 4, 6)
    heads = ours._split_heads(x)
    assert heads.shape == (2, 3, 4, 2)
    assert np.array_equal(heads[1, 2, 3], x[1, 3, 4:6])
    assert np.array_equal(ours._concat_heads(heads), x)


@pytest.mark.parametrize(("E", "H"), [(8, 3), (2, 4), (4, 0)])
def test_mha_refuses_heads_that_do_not_divide(E, H):
    with pytest.raises(ValueError, match=f"embed_dim {E} cannot be divided into {H}"):
        MultiHeadAttention(E, H)


# ---- Data types
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_data_type_is_kept(dtype):
    linear = make_linear(dtype=dtype)
    arrays = [linear.forward(draw(2, 4, dtype=dtype)), linear.backward(draw(2, 3, dtype=dtype))]
    arrays += [linear.dLdW, linear.dLdb]
    softmax = Softmax()
    arrays += [softmax.forward(draw(2, 3, dtype=dtype)), softmax.backward(draw(2, 3, dtype=dtype))]
    Q, K, V, dO = make_qkv((2,), 3, 3, 4, 4, dtype)
    attention = ScaledDotProductAttention()
    arrays += [attention.forward(Q, K, V, random_mask(3, 3)), *attention.backward(dO)]
    mha, _ = make_pair(4, 2, torch.float32 if dtype == np.float32 else torch.float64)
    arrays += [mha.forward(Q, K, V, None, random_mask(3, 3)), *mha.backward(dO), mha.k_proj.dLdW]
    assert [array.dtype for array in arrays] == [dtype] * len(arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_new_layer_keeps_the_data_type(dtype):
    assert Linear(4, 3).forward(draw(2, 4, dtype=dtype)).dtype == dtype


def test_an_upstream_gradient_may_have_another_type():
    Q, K, V, dO = make_qkv((2,), 3, 4, 5, 5)
    single = [x.astype(np.float32) for x in (Q, K, V)]
    attention = ScaledDotProductAttention()
    attention.forward(*single)
    mixed = attention.backward(dO)
    pure = attention.backward(dO.astype(np.float32))
    for ours, expected in zip(mixed, pure, strict=True):
        close(ours, expected, rtol=1e-4, atol=1e-5)
