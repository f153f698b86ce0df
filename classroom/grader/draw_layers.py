"""The second assignment's NumPy layers: cases with numbers drawn anew, and usual mistakes."""

import math

import numpy as np
from checks.case import Case

from grader import oracles

Array = np.ndarray


def normal(rng: np.random.Generator, *shape: int, dtype=np.float64) -> Array:
    """Random numbers of a shape."""
    return rng.normal(size=shape).astype(dtype)


# ---- Linear


LINEAR = "the number of dimensions of the input can be arbitrary"


def linear(rng: np.random.Generator) -> list[Case]:
    """Two, three and more dimensions; a second backward; what was given."""
    cases = []
    for shape in ((4,), (3, 2), (2, 1, 3, 2), ()):
        part = "two dimensions" if len(shape) == 1 else "any dimensions"
        cases.append(linear_case(rng, part, shape, 1))
        if len(shape) < 2:
            cases.append(linear_forward(rng, shape))
    cases += [linear_case(rng, "kept", (5,), 2), linear_case(rng, "kept", (2, 3), 3)]
    return [*cases, linear_kept(rng)]


def linear_forward(rng: np.random.Generator, shape: tuple) -> Case:
    """Forward alone."""
    A, W, b = normal(rng, *shape, 3), normal(rng, 5, 3), normal(rng, 5)
    given = {"sizes": [3, 5], "W": W, "b": b, "A": A}
    mistakes = [
        ("the bias is missing", {"Z": A @ W.T}),
        ("the bias is subtracted", {"Z": A @ W.T - b}),
    ]
    part = "two dimensions" if shape else "any dimensions"
    return Case("linear", part, "linear_forward", given, {"Z": A @ W.T + b}, mistakes=mistakes)


def linear_case(rng: np.random.Generator, part: str, shape: tuple, times: int) -> Case:
    """Forward and backward over inputs (*shape, 3), `times` times."""
    W, b = normal(rng, 5, 3), normal(rng, 5)
    calls = [[normal(rng, *shape, 3), normal(rng, *shape, 5)] for _ in range(times)]
    gradients = [linear_gradients(W, A, d) for A, d in calls]
    A, d = calls[-1]
    expected = {"Z": A @ W.T + b, **gradients[-1]}
    rows = math.prod(shape)
    summed = {k: sum(g[k] for g in gradients) for k in ("dLdW", "dLdb")}
    piled = "gradients are added to those of the backward before: each takes its place"
    mistakes = [
        ("the bias is missing", {"Z": A @ W.T}),
        (piled, {"dLdW": summed["dLdW"]}), (piled, {"dLdb": summed["dLdb"]}),
        ("dLdb is a mean over rows, where equation 10 sums", {"dLdb": expected["dLdb"] / rows}),
        ("dLdW is a mean over rows: it is a sum", {"dLdW": expected["dLdW"] / rows}),
        ("dLdW is (in, out): it has the shape of W", {"dLdW": expected["dLdW"].T}),
        ("dLdb sums over everything: it has a number for each output", {"dLdb": d.sum()}),
        ("dLdA is in rows: it has the shape of A", {"dLdA": gradients[-1]["dLdA"].reshape(-1, 3)}),
        ("dLdb sums over the first dimension alone: all leading ones are the batch",
         {"dLdb": d.sum(0) if shape else d}),
    ]
    mistakes = [m for m in mistakes if not agrees(m[1], expected)]
    given = {"sizes": [3, 5], "W": W, "b": b, "calls": calls}
    handout = LINEAR if part == "any dimensions" else ""
    return Case("linear", part, "linear", given, expected, mistakes=mistakes, handout=handout)


def linear_gradients(W: Array, A: Array, d: Array) -> dict[str, Array]:
    """Equations 8 to 10."""
    rows, d_rows = A.reshape(-1, A.shape[-1]), d.reshape(-1, d.shape[-1])
    return {"dLdA": d @ W, "dLdW": np.einsum("bo,bi->oi", d_rows, rows), "dLdb": d_rows.sum(0)}


def agrees(mistake: dict[str, Array], expected: dict[str, Array]) -> bool:
    """Whether a mistake makes no difference."""
    return all(
        np.shape(a) == np.shape(expected[k]) and np.allclose(a, expected[k])
        for k, a in mistake.items()
    )


def linear_kept(rng: np.random.Generator) -> Case:
    """Nothing that was given is changed."""
    given = {
        "sizes": [3, 5], "W": normal(rng, 5, 3), "b": normal(rng, 5), "A": normal(rng, 4, 3),
        "dLdZ": normal(rng, 4, 5),
    }
    expected = {k: given[k] for k in ("W", "b", "A", "dLdZ")}
    return Case("linear", "kept", "linear_kept", given, expected, judge="unchanged")


# ---- Softmax


def softmax(rng: np.random.Generator) -> list[Case]:
    """Two dimensions; any; large numbers; the gradient."""
    cases = []
    for shape, dim in (((4, 3), -1), ((2, 3, 4), 1), ((3, 4, 2), -3), ((2, 2, 3, 2), 2)):
        part = "forward" if len(shape) == 2 else "any dimension"
        cases.append(softmax_forward(normal(rng, *shape), dim, part))
        cases.append(softmax_case(rng, shape, dim, "any dimension"))
    cases += [softmax_case(rng, (4, 3), -1, "backward"), softmax_case(rng, (3, 5), 1, "backward")]
    large = normal(rng, 3, 4) * 10 + np.array([[1000.0], [-1000.0], [750.0]])
    cases.append(softmax_forward(large, -1, "stable"))
    for dim in (2, -3):
        cases.append(Case(
            "softmax", "any dimension", "softmax_refuses", {"dim": dim, "Z": normal(rng, 2, 3)},
            {"refused": np.array(1)}, mistakes=[(
                "a dimension that the input has not is to be a ValueError", {"refused":
                np.array(0)},
            )],
        ))
    return cases


def softmax_forward(Z: Array, dim: int, part: str) -> Case:
    """Forward alone."""
    A = oracles.softmax(Z, dim)
    with np.errstate(all="ignore"):
        e = np.exp(Z)
    mistakes = [(WRONG_AXIS, {"A": oracles.softmax(Z, axis)}) for axis in range(Z.ndim)
                if axis != dim % Z.ndim]
    mistakes += [
        ("the exponentials are not divided by their sum", {"A": np.nan_to_num(e)}),
        ("the softmax is over all numbers: it is for each slice along dim",
         {"A": np.exp(Z - Z.max()) / np.exp(Z - Z.max()).sum()}),
    ]
    if part == "stable":
        one = np.exp(Z - Z.max())
        with np.errstate(all="ignore"):
            mistakes = [("exp() of a large number is inf, of a small one 0: take something from "
                         "all scores of a slice first", {"A": e / e.sum(dim, keepdims=True)}),
                        ("the largest of all numbers is taken off: it is the largest of each slice",
                         {"A": one / one.sum(dim, keepdims=True)})]
    handout = "Make sure you do this in a numerically stable way" if part == "stable" else ""
    given = {"dim": dim, "Z": Z}
    return Case("softmax", part, "softmax_forward", given, {"A": A}, mistakes=mistakes,
                handout=handout)


WRONG_AXIS = "the softmax is along another dimension than `dim`"


def softmax_case(rng: np.random.Generator, shape: tuple, dim: int, part: str) -> Case:
    """Forward and backward."""
    Z, d = normal(rng, *shape), normal(rng, *shape)
    A = oracles.softmax(Z, dim)
    gradient = oracles.softmax_gradient(A, d, dim)
    mistakes = [
        ("the sum is missing: off its diagonal the Jacobian is -a_m a_n, not 0",
         {"dLdZ": A * (1 - A) * d}),
        ("the sum is missing", {"dLdZ": A * d}),
        ("a mean stands in the place of the sum",
         {"dLdZ": A * (d - (A * d).mean(dim, keepdims=True))}),
        ("dLdA is left out: this is the Jacobian's diagonal", {"dLdZ": A * (1 - A)}),
        ("the sum is over all numbers: it is for each slice along dim",
         {"dLdZ": A * (d - (A * d).sum())}),
        ("the gradient is that of the output, unchanged", {"dLdZ": d}),
        ("the gradient is zero", {"dLdZ": np.zeros_like(d)}),
    ]
    mistakes += [(WRONG_AXIS, {"dLdZ": A * (d - (A * d).sum(axis, keepdims=True))})
                 for axis in range(Z.ndim) if axis != dim % Z.ndim]
    given = {"dim": dim, "Z": Z, "dLdA": d}
    expected = {"dLdZ": gradient} if part == "backward" else {"A": A, "dLdZ": gradient}
    return Case("softmax", part, "softmax", given, expected, mistakes=mistakes,
                handout="This calculation must be performed for each slice along the specified "
                "dimension while keeping all other dimensions fixed")


# ---- Scaled dot-product attention


def attention(rng: np.random.Generator) -> list[Case]:
    """Forward, masks, backward; L, S and both sizes differ; leading dimensions."""
    cases = [attention_forward(rng, (2, 3), "forward"), attention_forward(rng, (1, 2), "forward")]
    cases += [attention_forward(rng, lead, "mask", True) for lead in ((2, 3), (1, 1))]
    cases += [attention_case(rng, (2, 3), "backward"), attention_case(rng, (1, 2), "backward")]
    cases += [attention_case(rng, (2, 2), "mask", True)]
    for lead in ((2, 1, 3), (2,)):
        cases.append(attention_case(rng, lead, "any dimensions"))
    return cases


def attention_inputs(rng: np.random.Generator, lead: tuple, masked: bool) -> dict[str, Array]:
    """Q, K, V and a mask that leaves something for each query."""
    L, S, E, Ev = 4, 5, 6, 3
    given = {"Q": normal(rng, *lead, L, E), "K": normal(rng, *lead, S, E)}
    given["V"] = normal(rng, *lead, S, Ev)
    if masked:
        mask = rng.random((*lead, L, S)) < 0.5
        mask[..., 0] = False
        given["mask"] = mask
    return given


def attention_mistakes(given: dict[str, Array]) -> list[tuple[str, dict]]:
    """What wrong scores and masks give."""
    Q, K, V, mask = (given.get(name) for name in ("Q", "K", "V", "mask"))
    E = Q.shape[-1]
    one = oracles.attention

    def output(scores: Array, axis: int = -1) -> dict:
        return {"output": np.einsum("...ls,...sv->...lv", oracles.softmax(scores, axis), V)}

    scores = np.einsum("...le,...se->...ls", Q, K) / math.sqrt(E)
    hidden = scores if mask is None else scores - 1e10 * mask
    found = [
        ("scores are not divided by sqrt(d_k)", {"output": one(Q * math.sqrt(E), K, V, mask)[0]}),
        ("scores are divided by d_k: it is its root", {"output": one(Q / math.sqrt(E), K, V, mask)[
            0]}),
        ("the softmax is over the wrong axis: it belongs to the keys, the last one",
         output(hidden, -2)),
    ]
    other = "scores are divided by the root of another size: d_k is the last of Q and of K"
    found += [(other, {"output": one(Q * math.sqrt(E / size), K, V, mask)[0]})
              for size in (Q.shape[-2], K.shape[-2], V.shape[-1])]
    if mask is not None:
        found += [
            ("the mask is ignored", output(scores)),
            ("the mask is the wrong way round: True is what is not looked at",
             output(scores - 1e10 * ~mask)),
            ("the mask comes after the softmax: then weights do not sum to 1", {"output":
             np.einsum("...ls,...sv->...lv", oracles.softmax(scores) * ~mask, V)}),
            ("scores are multiplied by the mask: where it is True, eps is taken off", output(
                scores * mask)),
            ("masked scores are 0, which is a score as any other: -eps is added", output(
                np.where(mask, 0, scores))),
        ]
    return found


def attention_forward(
    rng: np.random.Generator, lead: tuple, part: str, masked: bool = False
) -> Case:
    """Forward alone."""
    given = attention_inputs(rng, lead, masked)
    expected = {"output": oracles.attention(**given)[0]}
    handout = ""
    if masked:
        handout = "add -self.eps to the attention scores for positions that should not be " \
            "attended to, i.e., where: mask == True"
    return Case("attention", part, "attention_forward", given, expected,
                mistakes=attention_mistakes(given), handout=handout)


def attention_case(
    rng: np.random.Generator, lead: tuple, part: str, masked: bool = False
) -> Case:
    """Forward and backward."""
    given = attention_inputs(rng, lead, masked)
    output, weights = oracles.attention(**given)
    given["d_output"] = normal(rng, *output.shape)
    Q, K, V, d = (given[name] for name in ("Q", "K", "V", "d_output"))
    dQ, dK, dV = oracles.attention_gradients(Q, K, V, weights, d)
    root = math.sqrt(Q.shape[-1])
    dA = np.einsum("...lv,...sv->...ls", d, V)
    straight = dA / root  # without the softmax's Jacobian
    mistakes = attention_mistakes(given) + [
        ("1 / sqrt(d_k) is missing in the gradients of Q and K",
         {"dQ": dQ * root, "dK": dK * root}),
        ("1 / sqrt(d_k) is missing in the gradient of Q", {"dQ": dQ * root}),
        ("1 / sqrt(d_k) is missing in the gradient of K", {"dK": dK * root}),
        ("1 / sqrt(d_k) comes twice", {"dQ": dQ / root}),
        ("the softmax's backward is left out", {"dQ": np.einsum(
            "...ls,...se->...le", straight, K)}),
        ("dQ and dK are exchanged: the order is dQ, dK, dV", {"dQ": dK, "dK": dQ}),
    ]
    expected = {"dQ": dQ, "dK": dK, "dV": dV}
    if part != "backward":
        expected["output"] = output
    return Case("attention", part, "attention", given, expected, mistakes=mistakes)


# ---- Multi-head attention


def multi_head(rng: np.random.Generator) -> list[Case]:
    """Forward, backward, masks of either kind and none, the three methods."""
    cases = []
    for part, pads, attends in (
        ("forward", True, True), ("backward", True, True), ("masks", True, False),
        ("masks", False, True), ("masks", False, False), ("forward", True, True),
    ):
        cases.append(multi_head_case(rng, part, pads, attends))
    return [*cases, multi_head_helpers(rng)]


def multi_head_weights(rng: np.random.Generator, E: int) -> list[Array]:
    """Wq, bq, Wk, bk, Wv, bv, Wo, bo."""
    return [normal(rng, E, E) if i % 2 == 0 else normal(rng, E) for i in range(8)]


def some_masks(rng: np.random.Generator, N: int, L: int, S: int) -> tuple[Array, Array]:
    """A padding mask (N, S) and an attention mask (L, S) that leave the first key to all."""
    pads = np.arange(S) >= rng.integers(2, S, N)[:, None]
    attends = rng.random((L, S)) < 0.4
    attends[:, 0] = False
    return pads, attends


def multi_head_case(rng: np.random.Generator, part: str, pads: bool, attends: bool) -> Case:
    """Forward and backward with the masks that are asked for."""
    N, L, S, E, H = 2, 3, 4, 6, 3
    weights = multi_head_weights(rng, E)
    query, key, value = normal(rng, N, L, E), normal(rng, N, S, E), normal(rng, N, S, E)
    both = some_masks(rng, N, L, S)
    padding, attend = (mask if wanted else None for mask, wanted in zip(
        both, (pads, attends), strict=True))
    d = normal(rng, N, L, E)
    given = {"sizes": [E, H], "weights": weights, "query": query, "key": key, "value": value,
             "d_output": d}
    given |= {k: m for k, m in (("key_padding_mask", padding), ("attn_mask", attend))
              if m is not None}

    def run(padding, attend, H: int = H) -> dict:
        mask = oracles.merged(padding, attend, (N, H, L, S))
        return oracles.multi_head(weights, H, query, key, value, mask, d)

    expected = run(padding, attend)

    def out(found: dict) -> dict:
        return {"output": found["output"]}

    mistakes = [
        ("both masks are ignored", out(run(None, None))),
        ("the key padding mask is ignored", out(run(None, attend))),
        ("the attention mask is ignored", out(run(padding, None))),
        ("there is one head of the full size", out(run(padding, attend, 1))),
        ("the output projection is missing", {"output": unprojected(expected["output"], weights)}),
    ]
    if pads and attends:
        either = oracles.merged(padding, None, (N, H, L, S)) & oracles.merged(
            None, attend, (N, H, L, S))
        mistakes.append((
            "a key is ignored only if both masks say so: either is enough",
            out(oracles.multi_head(weights, H, query, key, value, either, d)),
        ))
    names = ["output"] if part != "backward" else [name for name in expected if name != "output"]
    mistakes += [
        ("the gradients of key and value are exchanged",
         {"d_key": expected["d_value"], "d_value": expected["d_key"]}),
    ]
    mistakes = [m for m in mistakes if not agrees(m[1], expected)]
    run_as = "multi_head" if part == "backward" else "multi_head_forward"
    return Case("multi_head", part, run_as, given, {name: expected[name] for name in names},
                mistakes=mistakes)


def unprojected(output: Array, weights: list[Array]) -> Array:
    """What the output projection made `output` of."""
    return (output - weights[7]) @ np.linalg.inv(weights[6].T)


def multi_head_helpers(rng: np.random.Generator) -> Case:
    """_split_heads, _concat_heads and _merge_masks."""
    N, L, S, E, H = 2, 3, 4, 6, 2
    padding, attend = some_masks(rng, N, L, S)
    x, y = normal(rng, N, L, E), normal(rng, N, H, L, E // H)
    given = {"sizes": [E, H], "weights": multi_head_weights(rng, E), "x": x, "y": y,
             "key_padding_mask": padding, "attn_mask": attend}
    mistakes = [
        ("reshape alone mixes positions and heads: split the last dimension, then exchange two",
         {"_split_heads": x.reshape(N, H, L, E // H)}),
        ("every H-th feature belongs to a head: neighbouring ones should", {"_split_heads":
         np.stack([x[:, :, h::H] for h in range(H)], 1)}),
        ("reshape alone mixes positions and heads: exchange two dimensions first",
         {"_concat_heads": y.reshape(N, L, E)}),
        ("both masks have to say so (and): either is enough (or)", {"_merge_masks":
         oracles.merged(padding, None, (N, H, L, S)) & oracles.merged(None, attend, (N, H, L, S))}),
        ("the merged mask is the wrong way round", {"_merge_masks":
         ~oracles.merged(padding, attend, (N, H, L, S))}),
    ]
    expected = {
        "_split_heads": oracles.heads(x, H), "_concat_heads": oracles.joined(y),
        "_merge_masks": oracles.merged(padding, attend, (N, H, L, S)),
    }
    return Case("multi_head", "helpers", "multi_head_helpers", given, expected, mistakes=mistakes)


def draw(rng: np.random.Generator) -> list[Case]:
    """All cases of the NumPy layers."""
    return [*linear(rng), *softmax(rng), *attention(rng), *multi_head(rng)]
