"""The second assignment's language model: cases with numbers drawn anew, and usual mistakes."""

import math

import numpy as np
from checks.case import Case
from checks.letters import EOS, LETTERS, PAD, SOS, VOCABULARY

from grader import oracles
from grader.draw_layers import Array, agrees, normal

V = VOCABULARY


def encoded(text: str) -> list[int]:
    """A text's ids, as the stand-in for the tokenizer gives them."""
    return [6 + LETTERS.index(letter) for letter in text]


def codes(text: str) -> Array:
    """A text as numbers."""
    return np.array(list(map(ord, text)), np.int64)


def some_text(rng: np.random.Generator, length: int) -> str:
    """Random letters."""
    return "".join(LETTERS[i] for i in rng.integers(1, len(LETTERS), length))


def padded_rows(rows: list[list[int]], value: int = PAD) -> Array:
    """Rows (B, T) padded on the right."""
    longest = max(map(len, rows))
    return np.array([[*row, *[value] * (longest - len(row))] for row in rows], np.int64)


# ---- Data


def dataset(rng: np.random.Generator) -> list[Case]:
    """Files, texts, numbers, batches; all files and a part of them."""
    cases = []
    for count, subset in ((5, 1.0), (7, 0.5)):
        lengths = rng.permutation(np.arange(2, 2 + 2 * count, 2))
        texts = [some_text(rng, int(n)) for n in lengths]
        names = [f"t{number}.npy" for number in rng.permutation(100)[:count]]
        given = {"partition": "train", "files": dict(zip(names, texts, strict=True)),
                 "subset": subset}
        taken = sorted(names)[: int(subset * count)]
        cases += dataset_cases(rng, given, [given["files"][name] for name in taken], taken)
    return cases


def dataset_cases(rng, given: dict, texts: list[str], names: list[str]) -> list[Case]:
    """A case for each part."""
    ids = [encoded(text) for text in texts]
    shifted, golden = [[SOS, *row] for row in ids], [[*row, EOS] for row in ids]
    expected = {"count": np.array(len(names))}
    for i, name in enumerate(names):
        expected |= {f"name {i}": codes(name), f"shifted {i}": np.array(shifted[i]),
                     f"golden {i}": np.array(golden[i])}
    texts_case = Case(
        "dataset", "transcripts", "dataset_texts", given, expected, mistakes=[
            ("SOS comes before the golden transcript, too", {"golden 0": np.array(
                [SOS, *golden[0]])}),
            ("EOS ends the shifted transcript, too", {"shifted 0": np.array([*shifted[0], EOS])}),
            ("the golden transcript has no EOS", {"golden 0": np.array(ids[0])}),
            ("the golden transcript begins with the second token: SOS stands before the first",
             {"golden 0": np.array(golden[0][1:])}),
            ("the shifted transcript has no SOS", {"shifted 0": np.array(ids[0])}),
            ("all files are taken: only the first int(subset * n) are asked for",
             {"count": np.array(len(given["files"]))}),
            ("files that are not .npy are read, too", {"count": np.array(len(names) + 1)}),
            ("file names are not sorted", {"name 0": codes([*given["files"]][0])}),
        ], handout="A shifted version with a Start-of-Sequence (SOS) token prepended, a golden "
        "version with an End-of-Sequence (EOS) token appended",
    )
    chars = sum(map(len, texts))
    tokens = sum(map(len, ids))
    longest = max(map(len, ids)) + 1
    numbers = Case("dataset", "statistics", "dataset_numbers", given, {
        "total_chars": np.array(chars), "total_tokens": np.array(tokens),
        "text_max_len": np.array(longest), "avg_chars_per_token": np.array(chars / tokens),
        "len": np.array(len(texts)),
    }, mistakes=[
        ("SOS and EOS count as tokens: they do not", {"total_tokens": np.array(tokens + len(ids))}),
        ("SOS and EOS count as tokens: they do not",
         {"total_tokens": np.array(tokens + 2 * len(ids))}),
        ("the largest length is without SOS", {"text_max_len": np.array(longest - 1)}),
        ("SOS and EOS are both counted in the largest length: an input has one of them",
         {"text_max_len": np.array(longest + 1)}),
    ])
    order = rng.permutation(len(texts)).tolist()
    wanted = {
        "shifted": padded_rows([shifted[i] for i in order]),
        "golden": padded_rows([golden[i] for i in order]),
        "lengths": np.array([len(shifted[i]) for i in order]),
        "first shifted": np.array(shifted[order[0]]), "first golden": np.array(golden[order[0]]),
    }
    batch = Case(
        "dataset", "batches", "dataset_batch", {**given, "numbers": order}, wanted, mistakes=[
            ("lengths are those of the padded batch: the real ones are asked for", {"lengths":
             np.full(len(order), wanted["shifted"].shape[1])}),
            ("lengths are without SOS", {"lengths": wanted["lengths"] - 1}),
            ("the batch is (T, B): batch_first", {"shifted": wanted["shifted"].T}),
            ("golden is shifted once more", {"golden": padded_rows(
                [golden[i][1:] for i in order])}),
            ("shifted is padded with EOS: it is pad_token", {"shifted": padded_rows(
                [shifted[i] for i in order], EOS)}),
            ("golden is padded with -100: pad_token is asked for, which the criterion passes over",
             {"golden": padded_rows([golden[i] for i in order], -100)}),
        ], handout="Padding transcripts to batch-uniform lengths",
    )
    return [texts_case, numbers, batch]


# ---- Masks and positions


def masks(rng: np.random.Generator) -> list[Case]:
    """Inputs of two, three and four dimensions."""
    cases = []
    for extra in ((), (3,), (2, 2)):
        N, T = 4, 6
        lengths = rng.permutation(np.array([1, 3, 5, 6]))
        inputs = rng.integers(0, 4, (N, T, *extra))
        pad = np.arange(T) >= lengths[:, None]
        given = {"inputs": inputs, "lengths": lengths}
        cases.append(Case("masks", "PadMask", "masks", given, {"PadMask": pad}, mistakes=[
            ("the mask is the wrong way round: True is padding", {"PadMask": ~pad}),
            ("one position too many is masked", {"PadMask": np.arange(T) >= lengths[:, None] - 1}),
            ("one position too few is masked (> where >= belongs)",
             {"PadMask": np.arange(T) > lengths[:, None]}),
            ("padding is known by lengths, not by an id", {"PadMask": inputs == PAD}),
        ], handout="The mask should be True for padding positions and False for non-padding"))
        future = np.arange(T) > np.arange(T)[:, None]
        cases.append(Case("masks", "CausalMask", "causal_mask", {"inputs": inputs}, {
            "CausalMask": future,
        }, mistakes=[
            ("the mask is the wrong way round: True is what is not looked at",
             {"CausalMask": ~future}),
            ("the diagonal is masked: a position may see itself",
             {"CausalMask": np.arange(T) >= np.arange(T)[:, None]}),
            ("the past is masked, not the future", {"CausalMask": future.T}),
            ("the mask has the size of the batch: it is (T, T)",
             {"CausalMask": future[:N, :N]}),
        ], handout="The mask should be True for positions that should be masked (i.e., positions "
            "that should not attend to future tokens)"))
    return cases


def positions(rng: np.random.Generator) -> list[Case]:
    """Tables of several sizes; inputs that fit and one that does not."""
    cases = []
    for d_model, max_len, T in ((6, 10, 7), (8, 5, 5), (2, 30, 12)):
        table = oracles.sinusoids(max_len, d_model)
        x = normal(rng, 2, T, d_model)
        given = {"sizes": [d_model, max_len], "x": x}
        t = np.arange(max_len)[:, None]
        angles = t / 10000 ** (np.arange(0, d_model, 2) / d_model)
        halves = np.concatenate([np.sin(angles), np.cos(angles)], 1)[None]
        swapped = table.copy()
        swapped[0, :, 0::2], swapped[0, :, 1::2] = np.cos(angles), np.sin(angles)
        doubled = t / 10000 ** (2 * np.arange(0, d_model, 2) / d_model)
        wrong = np.stack([np.sin(doubled), np.cos(doubled)], 2).reshape(1, max_len, d_model)
        mistakes = [
            ("all sines come first: they take turns, even columns sine, odd ones cosine",
             {"pe": halves}),
            ("sine and cosine are exchanged", {"pe": swapped}),
            ("the exponent is 4i/d: with columns 0, 2, 4 the 2 is in the column already",
             {"pe": wrong}),
            ("the base is 1000: it is 10000", {"pe": oracles.sinusoids(max_len, d_model, 1000)}),
            ("positions begin at 1: the first is 0",
             {"pe": oracles.sinusoids(max_len + 1, d_model)[:, 1:]}),
        ]
        mistakes = [m for m in mistakes if not agrees(m[1], {"pe": table})]
        cases.append(Case("positions", "table", "positions", given, {"pe": table},
                          mistakes=mistakes, tolerance=1e-3))
        cases.append(Case("positions", "forward", "positions", given, {
            "output": x + table[:, :T]}, mistakes=[
            ("the inputs are left as they are", {"output": x}),
            ("inputs are multiplied: the table is added", {"output": x * table[:, :T]}),
            ("only the first position's encoding is added", {"output": x + table[:, :1]}),
        ], tolerance=1e-3))
    given = {"sizes": [4, 5], "x": normal(rng, 1, 6, 4)}
    cases.append(Case("positions", "forward", "positions_refuse", given, {"refused": np.array(1)},
                      mistakes=[("a sequence longer than max_len is to be a ValueError",
                                 {"refused": np.array(0)})]))
    return cases


# ---- Sublayers and layers


def sublayers(rng: np.random.Generator) -> list[Case]:
    """Both sublayers with and without masks, and what dropout does."""
    cases = []
    for masked in (True, False):
        cases += [self_attention(rng, masked), feed_forward(rng)]
    for name, sizes in (("SelfAttentionLayer", [6, 2]), ("FeedForwardLayer", [6, 9])):
        x = normal(rng, 2, 3, 6)
        cases.append(Case("sublayers", "dropout", "sublayer_dropout", {
            "class": name, "sizes": sizes, "x": x,
        }, {"dropped": np.array(1), "rates": np.array([1.0, 1.0])}, mistakes=[
            ("dropout is missing, or comes after the sum: what the sublayer gives is dropped, then "
             "the input is added", {"dropped": np.array(0)}),
            ("the inner dropout has another rate", {"rates": np.array([1.0, 0.0])}),
        ]))
    return cases


def norm_weights(rng: np.random.Generator, E: int) -> dict[str, Array]:
    """The weights of a LayerNorm."""
    return {"norm.weight": 1 + 0.3 * normal(rng, E), "norm.bias": normal(rng, E)}


def self_attention(rng: np.random.Generator, masked: bool) -> Case:
    """SelfAttentionLayer with both masks, or with none."""
    B, T, E, H = 2, 4, 6, 2
    weights = norm_weights(rng, E) | {
        "mha.in_proj_weight": normal(rng, 3 * E, E), "mha.in_proj_bias": normal(rng, 3 * E),
        "mha.out_proj.weight": normal(rng, E, E), "mha.out_proj.bias": normal(rng, E),
    }
    x = 2 * normal(rng, B, T, E)
    pads = np.array([[False] * T, [False, False, True, True]]) if masked else None
    future = np.triu(np.ones((T, T), bool), 1) if masked else None
    mask = oracles.merged(pads, future, (B, H, T, T))
    normed = oracles.layer_norm(x, weights["norm.weight"], weights["norm.bias"])
    added, maps = oracles.torch_attention(weights, H, normed, mask)
    post = x + oracles.torch_attention(weights, H, x, mask)[0]

    def output(y: Array) -> dict:
        return {"output": y}

    mistakes = [
        ("the input is not added (residual connection)", output(added)),
        ("the norm comes last (post-norm): here it comes first", output(
            oracles.layer_norm(post, weights["norm.weight"], weights["norm.bias"]))),
        ("there is no norm", output(post)),
        ("the normed input is added: add what came in", output(normed + added)),
    ]
    if masked:
        for cause, some in (("both masks are", (None, None)), ("key_padding_mask is",
                            (None, future)), ("attn_mask is", (pads, None))):
            one = oracles.merged(*some, (B, H, T, T))
            mistakes.append((f"{cause} not passed on", output(
                x + oracles.torch_attention(weights, H, normed, one)[0])))
    given = {"class": "SelfAttentionLayer", "sizes": [E, H], "weights": weights, "x": x,
             "masks": [pads, future]}
    return Case("sublayers", "attention", "sublayer", given, {"output": x + added, "weights": maps},
                mistakes=mistakes)


def feed_forward(rng: np.random.Generator) -> Case:
    """FeedForwardLayer."""
    E, F = 6, 9
    weights = norm_weights(rng, E) | {
        "ffn.0.weight": normal(rng, F, E), "ffn.0.bias": normal(rng, F),
        "ffn.3.weight": normal(rng, E, F), "ffn.3.bias": normal(rng, E),
    }
    x = 2 * normal(rng, 2, 3, E)
    normed = oracles.layer_norm(x, weights["norm.weight"], weights["norm.bias"])

    def network(y: Array, activation=oracles.gelu) -> Array:
        inner = activation(y @ weights["ffn.0.weight"].T + weights["ffn.0.bias"])
        return inner @ weights["ffn.3.weight"].T + weights["ffn.3.bias"]

    post = oracles.layer_norm(x + network(x), weights["norm.weight"], weights["norm.bias"])
    mistakes = [
        ("the input is not added (residual connection)", {"output": network(normed)}),
        ("the norm comes last (post-norm): here it comes first", {"output": post}),
        ("there is no norm", {"output": x + network(x)}),
        ("ReLU stands in the place of GELU", {"output": x + network(
            normed, lambda z: np.maximum(z, 0))}),
        ("the normed input is added: add what came in", {"output": normed + network(normed)}),
    ]
    given = {"class": "FeedForwardLayer", "sizes": [E, F], "weights": weights, "x": x}
    return Case("sublayers", "feed-forward", "sublayer", given, {"output": x + network(normed)},
                mistakes=mistakes, handout="two linear layers with a GELU activation and dropout "
                "in between")


def decoder_layer(rng: np.random.Generator) -> list[Case]:
    """A layer of two stand-ins: attention doubles and adds masks, the network squares."""
    cases = []
    for masked in (True, False):
        B, T, E = 2, 3, 4
        x = normal(rng, B, T, E)
        pads = np.array([[False] * T, [False, True, True]]) if masked else None
        future = np.triu(np.ones((T, T), bool), 1) if masked else None
        shift = 0.25 * pads.sum() + 0.5 * future.sum() if masked else 0.0
        given = {"sizes": [E, 2, 7, 0.2], "x": x, "masks": [pads, future]}
        mistakes = [
            ("the network comes first: it is attention", {"output": 2 * (x**2 + shift)}),
            ("the output is that of attention: the network follows", {"output": 2 * (x + shift)}),
            ("the network gets the layer's input, not what attention gave", {"output": x**2}),
            ("the input is added once more: the sublayers do that",
             {"output": x + (2 * (x + shift)) ** 2}),
            ("the network's input is added once more: the sublayers do that",
             {"output": 2 * (x + shift) + (2 * (x + shift)) ** 2}),
            ("the network comes twice", {"output": (2 * (x + shift)) ** 4}),
        ]
        if masked:
            mistakes += [
                ("the masks are not passed on", {"output": (2 * x) ** 2}),
                ("attn_mask is not passed on", {"output": (2 * (x + 0.25 * pads.sum())) ** 2}),
                ("key_padding_mask is not passed on", {"output": (
                    2 * (x + 0.5 * future.sum())) ** 2}),
                ("the masks are exchanged", {"output": (
                    2 * (x + 0.25 * future.sum() + 0.5 * pads.sum())) ** 2}),
            ]
        cases.append(Case("decoder_layer", "layer", "decoder_layer", given, {
            "output": (2 * (x + shift)) ** 2, "weights": (x + shift).sum(-1),
            "sizes": np.array([E, 2, 0.2, E, 7, 0.2]),
        }, mistakes=mistakes))
    return cases


# ---- The transformer


def transformer(rng: np.random.Generator) -> list[Case]:
    """Logits and maps; scores of prompts; tying and layer drop."""
    cases = []
    for layers in (2, 3):
        model = small_transformer(rng, layers)
        cases += [transformer_case(model), transformer_score(model), transformer_options(model)]
    return cases


def small_transformer(rng: np.random.Generator, layers: int) -> dict:
    """Options, weights, ids and masks of a model of stand-in layers."""
    C, E, B, T = 11, 6, 3, 5
    lengths = np.array([5, 2, 3])
    weights = {
        "target_embedding.weight": normal(rng, C, E), "norm.weight": 1 + 0.3 * normal(rng, E),
        "norm.bias": normal(rng, E), "final_linear.weight": normal(rng, C, E),
        "final_linear.bias": normal(rng, C),
    }
    weights |= {f"dec_layers.{i}.gain": normal(rng, E) for i in range(layers)}
    options = {"num_layers": layers, "d_model": E, "num_heads": 2, "d_ff": 8, "dropout": 0.1,
               "max_len": 9, "num_classes": C}
    return {
        "options": options, "weights": weights, "ids": rng.integers(0, C, (B, T)),
        "lengths": lengths, "pad_mask": np.arange(T) >= lengths[:, None],
        "causal_mask": np.triu(np.ones((T, T), bool), 1),
    }


def stand_in_logits(model: dict, masks=("pad_mask", "causal_mask"), skip: str = ""):
    """Logits (B, T, C) and maps of a small transformer, done right or with something left out."""
    weights, ids = model["weights"], model["ids"]
    B, T = ids.shape
    seen = np.ones((B, T, T))
    if "causal_mask" in masks:
        seen = seen * ~model["causal_mask"]
    if "pad_mask" in masks:
        seen = seen * ~model["pad_mask"][:, None]
    share = seen / seen.sum(-1, keepdims=True)
    x = weights["target_embedding.weight"][ids]
    if skip == "scaled":
        x = x * math.sqrt(x.shape[-1])
    if skip != "positions":
        x = x + 0.1 * np.arange(T)[:, None]
    for i in range(model["options"]["num_layers"] - (skip == "layer")):
        x = x + weights[f"dec_layers.{0 if skip == 'others' else i}.gain"] * (share @ x)
    if skip != "norm":
        x = oracles.layer_norm(x, weights["norm.weight"], weights["norm.bias"])
    return x @ weights["final_linear.weight"].T + weights["final_linear.bias"], share


def transformer_case(model: dict) -> Case:
    """Logits of a padded batch, and a map for each layer."""
    logits, share = stand_in_logits(model)
    maps = {f"layer{i + 1}_dec_self": share for i in range(model["options"]["num_layers"])}
    mistakes = [
        ("the causal mask is missing: positions see what they are to predict",
         {"logits": stand_in_logits(model, ("pad_mask",))[0]}),
        ("the pad mask is missing", {"logits": stand_in_logits(model, ("causal_mask",))[0]}),
        ("both masks are missing", {"logits": stand_in_logits(model, ())[0]}),
    ]
    for skip, cause in (
        ("positions", "positions are not added"), ("norm", "the final norm is missing"),
        ("layer", "the last layer is left out"), ("others", "the first layer is used for all"),
        ("scaled", "embeddings are multiplied by sqrt(d_model): not here"),
    ):
        mistakes.append((cause, {"logits": stand_in_logits(model, skip=skip)[0]}))
    p = oracles.softmax(logits)
    mistakes += [("these are probabilities: scores are asked for", {"logits": p}),
                 ("these are logarithms of probabilities: scores are asked for",
                  {"logits": np.log(p)})]
    return Case("transformer", "forward", "transformer", model, {"logits": logits, **maps},
                mistakes=mistakes, handout="a causal mask is applied to ensure that each token "
                "only attends to past tokens [...] A pad mask ensures that these padded positions "
                "do not influence the predictions")


def transformer_score(model: dict) -> Case:
    """The scores after prompts, which have no padding."""
    logits = stand_in_logits(model, ("causal_mask",))[0]
    mistakes = [
        ("the scores are those after the first token", {"scores": logits[:, 0]}),
        ("the scores are those after all positions: the last one is asked for",
         {"scores": logits}),
        ("training mode, or training without lengths, is not refused (ValueError)",
         {"scores": logits[:, -1], "refused": np.array(0)}),
        ("training mode, or training without lengths, is not refused (ValueError)",
         {"scores": logits[:, -1], "refused": np.array(1)}),
    ]
    return Case("transformer", "score", "transformer_score", model, {
        "scores": logits[:, -1], "refused": np.array(2)}, mistakes=mistakes)


def transformer_options(model: dict) -> Case:
    """Weight tying and layer drop."""
    free = sum(w.size for w in model["weights"].values())
    shared = model["weights"]["target_embedding.weight"].size
    layers = model["options"]["num_layers"]
    expected = {"free": free, "tied": free - shared, "left": 0, "in evaluation": layers}
    return Case("transformer", "options", "transformer_options", model, {
        name: np.array(value) for name, value in expected.items()
    }, mistakes=[
        ("weight_tying does nothing", {"tied": np.array(free)}),
        ("layers are not dropped in training", {"left": np.array(layers)}),
        ("layers are dropped in evaluation, too", {"in evaluation": np.array(0)}),
    ])


def draw(rng: np.random.Generator) -> list[Case]:
    """All cases of data and model."""
    cases = [*dataset(rng), *masks(rng), *positions(rng), *sublayers(rng), *decoder_layer(rng)]
    return [*cases, *transformer(rng)]
