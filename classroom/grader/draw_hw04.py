"""The first assignment: cases with numbers drawn anew, and what usual mistakes make of them."""

import math

import numpy as np
from checks.case import Case

from grader import oracles

V = 14  # ids of the small models


def stories(rng: np.random.Generator, lengths: list[int]) -> list[list[int]]:
    """Stories of ids with so many words."""
    return [[1, *rng.integers(3, V, n).tolist(), 2] for n in lengths]


def ragged(rng: np.random.Generator, count: int = 5) -> list[int]:
    """Numbers of words that are not sorted, and differ."""
    lengths = rng.permutation(np.arange(1, 2 * count, 2))
    if (np.diff(lengths) < 0).all():
        lengths = lengths[::-1]
    return lengths.tolist()


# ---- Item 2


def collate(rng: np.random.Generator) -> list[Case]:
    """Minibatches of stories: of several lengths, of one, of the shortest."""
    cases = []
    for lengths in (ragged(rng), ragged(rng, 3), [int(rng.integers(4, 8))], [0, 3]):
        given = stories(rng, lengths)
        longest = max(given, key=len)
        longest[1] = longest[-2] = 0  # <unk>, which has the id that pads inputs
        cases += collate_cases(given, oracles.padded(given))
    return cases


def collate_cases(given: list[list[int]], expected: dict) -> list[Case]:
    """A case for each part of a minibatch."""
    real = expected["targets"] != -100
    inputs, targets = expected["inputs"], expected["targets"]
    whole = max(map(len, given))

    def fill(rows: list[list[int]], value: int, size: int) -> np.ndarray:
        return np.array([[*row, *[value] * (size - len(row))] for row in rows])

    def case(part: str, names: tuple, mistakes: list, only: dict, handout: str) -> Case:
        arrays = {name: expected[name] for name in names}
        how = {"mistakes": mistakes, "only": only, "handout": handout}
        return Case("2", part, "collate", {"stories": given}, arrays, **how)

    as_inputs = np.where(real, inputs, -100)
    eos = fill([story[:whole - 1] for story in given], 0, whole - 1)
    return [
        case("inputs", ("inputs",), [
            ("the whole story is in, with its last token: nothing follows that",
             {"inputs": fill(given, 0, whole)}),
            ("the first token is left out: these are the targets",
             {"inputs": np.where(real, targets, 0)}),
        ], {"inputs": real}, "a batch of input sequences of tokens and the corresponding batch of "
            "target labels"),
        case("targets", ("targets",), [
            ("targets are the inputs themselves: the label is the token after", {"targets":
             as_inputs}),
            ("targets are the inputs themselves: the label is the token after", {"targets":
             inputs}),
            ("targets go back in time: the token before", {"targets": np.where(
                real, np.concatenate([inputs[:, :1], inputs[:, :-1]], 1), -100)}),
            ("the whole story is in: the first token follows nothing",
             {"targets": fill(given, -100, whole)}),
            ("padding is known by its id 0, which is that of <unk>, too: use lengths", {"targets":
             np.where(targets == 0, -100, targets)}),
            ("the label of the last position is <eos>, not what pads the inputs", {"targets":
             np.where(targets == 2, 0, targets)}),
            ("the label of the last position is <eos>, not what pads the inputs", {"targets":
             np.where((targets == 2) & (np.arange(whole - 1) < whole - 2), 0, targets)}),
        ], {"targets": real}, "a label is the next word for the corresponding position in the "
            "input sequence"),
        case("padding", ("inputs", "targets"), [
            ("inputs are padded with -100: that is for targets, and no id", {"inputs":
             np.where(real, inputs, -100)}),
            ("shorter stories still have <eos> in their inputs: nothing follows it", {"inputs":
             eos}),
            ("targets are padded with 0, which the loss counts as a word", {"targets":
             np.where(real, targets, 0)}),
            ("targets are padded with -1, which the loss does not pass over", {"targets":
             np.where(real, targets, -1)}),
        ], {"inputs": ~real, "targets": ~real}, "The input batch should be padded with 0's [...], "
            "whereas the target batch should be padded with label -100"),
        case("lengths", ("lengths",), [
            ("the whole story was counted: inputs have one token less", {"lengths":
             expected["lengths"] + 1}),
            ("<bos> and <eos> were not counted: <bos> is in the inputs", {"lengths":
             expected["lengths"] - 1}),
            ("all lengths are the longest one", {"lengths":
             np.full_like(expected["lengths"], expected["lengths"].max())}),
            ("padding is known by its id 0, which is that of <unk>, too: count tokens", {"lengths":
             (inputs != 0).sum(1)}),
        ], {}, "Also store the actual lengths in the lengths tensor"),
    ]


# ---- Item 1


def random_weights(rng: np.random.Generator, N: int, H: int, EDim: int) -> dict:
    """The weights of a small LSTMLM, by name."""
    weights = {"embedding.weight": rng.normal(size=(V, EDim))}
    for layer in range(H):
        size = EDim if layer == 0 else N
        weights[f"lstm.weight_ih_l{layer}"] = rng.normal(size=(4 * N, size)) * 0.7
        weights[f"lstm.weight_hh_l{layer}"] = rng.normal(size=(4 * N, N)) * 0.7
        weights[f"lstm.bias_ih_l{layer}"] = rng.normal(size=4 * N) * 0.3
        weights[f"lstm.bias_hh_l{layer}"] = rng.normal(size=4 * N) * 0.3
    weights["output.weight"] = rng.normal(size=(V, N))
    weights["output.bias"] = rng.normal(size=V)
    return weights


def forward(rng: np.random.Generator) -> list[Case]:
    """One story; minibatches; again; in segments; the gradient."""
    shapes = [(6, 2, 5), (4, 1, 3), (5, 3, 4)]
    cases = [one_story(rng, *shapes[0])]
    cases += [minibatch(rng, *size) for size in shapes]
    return [*cases, forward_again(rng), forward_segments(rng), forward_gradient(rng)]


def one_story(rng: np.random.Generator, N: int, H: int, EDim: int) -> Case:
    """A single story, without padding."""
    weights = random_weights(rng, N, H, EDim)
    batch = oracles.padded(stories(rng, [6]))
    inputs, lengths = batch["inputs"], batch["lengths"]
    given = {"weights": weights, "N": N, "H": H, "inputs": inputs, "lengths": lengths}
    head = weights["output.weight"], weights["output.bias"]
    states = oracles.hidden_states(weights, H, inputs[0])
    last = np.broadcast_to(states[-1], states.shape)
    lower = oracles.hidden_states(weights, H - 1, inputs[0]) if H > 1 else states
    backwards = oracles.hidden_states(weights, H, inputs[0][::-1])[::-1]

    def logits(h: np.ndarray) -> dict:
        return {"logits": (h @ head[0].T + head[1])[None]}

    mistakes = [
        ("the same stories give other logits each time: is the first state drawn at random?",
         {"same again": np.array(0)}),
        ("hidden is the last state at all positions (h_n): each position needs its own",
         logits(last)),
        ("hidden is the last state alone (h_n): each position needs its own",
         {"logits": logits(states[-1:])["logits"][0]}),
        ("states go through a ReLU: the LSTM has what is needed", logits(np.maximum(states, 0))),
        ("states go through tanh once more: the LSTM has done that", logits(np.tanh(states))),
        ("the story is read from its end", logits(backwards)),
        ("the story is read from its end", logits(backwards[::-1])),
    ]
    if lower.shape == states.shape:
        mistakes.append(("hidden is of the first layer: the last one is needed", logits(lower)))
    alone = [oracles.hidden_states(weights, H, [i])[0] for i in inputs[0]]
    mistakes.append((
        "each position starts from zeros: the LSTM takes the first dimension for time "
        "(batch_first)", logits(np.array(alone)),
    ))
    return Case(
        "1", "hidden states", "forward", given, {**logits(states), "same again": np.array(1)},
        mistakes=mistakes,
        handout="Implement the forward pass through the multi-layer LSTM",
    )


def minibatch(rng: np.random.Generator, N: int, H: int, EDim: int) -> Case:
    """Stories of different lengths, not sorted."""
    weights = random_weights(rng, N, H, EDim)
    batch = oracles.padded(stories(rng, ragged(rng, 4)))
    inputs, lengths = batch["inputs"], batch["lengths"]
    given = {"weights": weights, "N": N, "H": H, "inputs": inputs, "lengths": lengths}
    expected = oracles.lm_logits(weights, H, inputs, lengths)
    order = np.argsort(-lengths, kind="stable")
    reverse = lengths[order]
    real = np.arange(inputs.shape[1]) < lengths[:, None]  # (B, T)
    only = {"logits": np.broadcast_to(real[:, :, None], expected.shape)}
    mistakes = [
        ("the stories came back in the order of their lengths: undo the sorting",
         {"logits": expected[order]}),
        ("the sorting is done twice, not undone: the way back is its inverse, argsort(order)",
         {"logits": expected[order][order]}),
        ("lengths were sorted, but not the stories: they are cut at another's length",
         {"logits": oracles.lm_logits(weights, H, inputs, reverse)}),
    ]
    return Case(
        "1", "minibatch", "forward", given, {"logits": expected}, mistakes=mistakes, only=only,
        handout="The output of LSTM inference can then be turned back into a padded tensor "
        "representation",
    )


def forward_again(rng: np.random.Generator) -> Case:
    """A minibatch after another one of the same shape."""
    N, H, EDim = 4, 2, 3
    weights = random_weights(rng, N, H, EDim)
    before, after = (oracles.padded(stories(rng, [5, 5])) for _ in range(2))
    given = {
        "weights": weights, "N": N, "H": H, "before": before["inputs"],
        "before_lengths": before["lengths"], "inputs": after["inputs"], "lengths": after["lengths"],
    }
    expected = oracles.lm_logits(weights, H, after["inputs"], after["lengths"])
    both = np.concatenate([before["inputs"], after["inputs"]], 1)
    lengths = before["lengths"] + after["lengths"]
    carried = oracles.lm_logits(weights, H, both, lengths)[:, before["inputs"].shape[1] :]
    cause = "the states of one minibatch go on into the next one: they are other stories"
    return Case(
        "1", "states", "forward_again", given, {"logits": expected},
        mistakes=[(cause, {"logits": carried})],
    )


def forward_segments(rng: np.random.Generator) -> Case:
    """Stories in two segments."""
    N, H, EDim = 4, 2, 3
    weights = random_weights(rng, N, H, EDim)
    batch = oracles.padded(stories(rng, [7, 7]))
    inputs, lengths = batch["inputs"], batch["lengths"]
    given = {"weights": weights, "N": N, "H": H, "inputs": inputs, "cut": 3}
    parts = [oracles.lm_logits(weights, H, part, np.full(2, part.shape[1])) for part in (
        inputs[:, :3], inputs[:, 3:]
    )]
    mistakes = [(
        "zeros are given to self.lstm as its first state: it starts from `state` by itself",
        {"logits": np.concatenate(parts, 1)},
    )]
    expected = oracles.lm_logits(weights, H, inputs, lengths)
    return Case(
        "1", "states", "forward_segments", given, {"logits": expected}, mistakes=mistakes
    )


def forward_gradient(rng: np.random.Generator) -> Case:
    """The derivative in one direction of all weights, by a difference."""
    N, H, EDim = 4, 2, 3
    weights = random_weights(rng, N, H, EDim)
    batch = oracles.padded(stories(rng, [4, 4]))
    inputs, lengths = batch["inputs"], batch["lengths"]
    shares = rng.normal(size=(*inputs.shape, V)) * (batch["targets"] != -100)[:, :, None]
    direction = {
        name: rng.normal(size=w.shape) for name, w in weights.items() if name != "embedding.weight"
    }

    def total(step: float) -> float:
        moved = {name: w + step * direction.get(name, 0) for name, w in weights.items()}
        return float((shares * oracles.lm_logits(moved, H, inputs, lengths)).sum())

    slope = (total(1e-5) - total(-1e-5)) / 2e-5
    output = {name: d for name, d in direction.items() if name.startswith("output")}
    frozen = sum(
        float((d * total_gradient(weights, H, inputs, lengths, shares)[name]).sum())
        for name, d in output.items()
    )
    given = {
        "weights": weights, "N": N, "H": H, "inputs": inputs, "lengths": lengths, "shares": shares,
        "direction": direction,
    }
    cause = "no gradient comes through to the LSTM: detach(), .data, or torch.no_grad()"
    return Case(
        "1", "gradient", "forward_gradient", given, {"slope": np.array(slope)},
        mistakes=[(cause, {"slope": np.array(frozen)})], tolerance=1e-3,
    )


def total_gradient(weights, H, inputs, lengths, shares) -> dict[str, np.ndarray]:
    """The gradients of the output layer alone."""
    W, b = np.zeros_like(weights["output.weight"]), np.zeros_like(weights["output.bias"])
    for row, n, share in zip(inputs, lengths, shares, strict=True):
        W += share[:n].T @ oracles.hidden_states(weights, H, row[:n])
        b += share[:n].sum(0)
    return {"output.weight": W, "output.bias": b}


# ---- Item 1a


def attend(rng: np.random.Generator) -> list[Case]:
    """Hidden states whose weights can be read off the contexts: T is at most D."""
    cases = []
    for B, T, D in ((2, 5, 6), (1, 2, 4), (3, 7, 9)):
        given = {"hidden": rng.normal(size=(B, T, D))}
        for part in ("mask", "scale", "zero context"):
            if part == "scale" and T < 3:
                continue
            judge = f"attention_{part.split()[0]}"
            cases.append(Case("1a", part, "attend", given, judge=judge, handout=ATTEND[part]))
    for T, D in ((4, 6), (6, 7)):
        given = {"story": rng.normal(size=(1, T, D))}
        for name, size in (("one", 1.0), ("other", 30.0)):
            given[name] = rng.normal(size=(1, 3, D)) * size
        judge = "attention_padding"
        cases.append(Case(
            "1a", "padding", "attend_padded", given, judge=judge, handout=ATTEND["padding"]
        ))
    return cases


ATTEND = {
    "mask": "scores for j >= i are set to -inf",
    "scale": "where N/2 is the dimension of the hidden state, and the scaling factor sqrt(N/2) "
    "improves numerical stability",
    "zero context": "since there are no previous positions to attend to, the attention context "
    "vector should be set to zero",
    "padding": "A padding mask can also be applied so that padded positions are not attended to",
}


# ---- Item 3


def loss(rng: np.random.Generator) -> list[Case]:
    """Stories of different lengths, in minibatches of several sizes."""
    cases = [loss_case(rng, "batch means", ragged(rng, 5), 2)]
    cases.append(loss_case(rng, "batch means", ragged(rng, 4), 3))
    cases.append(loss_case(rng, "all tokens", ragged(rng, 4), 1, equal_batches=True))
    cases.append(loss_case(rng, "all tokens", [6, 2, 9], 10, equal_batches=True))
    cases.append(loss_case(rng, "states", [4, 4, 4, 4], 2))
    return cases


def loss_case(
    rng: np.random.Generator, part: str, lengths: list[int], batch_size: int,
    equal_batches: bool = False,
) -> Case:
    """The mean nats of these stories. With equal batches of one story a mean of means is caught."""
    given = stories(rng, lengths)
    if equal_batches:  # all alike: each mean of means is the mean
        given = stories(rng, [lengths[0]] * len(lengths)) if batch_size == 1 else given
    while True:
        table, bias = rng.normal(size=(V, V)), rng.normal(size=V)
        each = [oracles.token_losses(table, bias, story) for story in given]
        nats = np.concatenate(each)
        ordered = sorted(range(len(given)), key=lambda i: -len(given[i]))
        twice = [oracles.token_losses(oracles.softmax(table + bias), 0, s) for s in given]
        mistakes = [
            *loss_mistakes(each, ordered, batch_size),
            ("the loss is of probabilities: cross-entropy takes the scores themselves",
             {"nats": np.concatenate(twice).mean()}),
        ]
        wrong = [batch_means(each, order, batch_size).mean() for order in (
            ordered, range(len(each))
        )]
        if part != "batch means" or np.abs(np.array(wrong) - nats.mean()).min() > 0.02:
            break
    carried = rng.normal(size=V) if part == "states" else np.zeros(V)
    if part == "states":
        mistakes = [(
            "one state goes through all minibatches: each begins with one of its own",
            {"nats": carried_loss(table, bias, carried, [given[i] for i in ordered], batch_size)},
        ), *mistakes]
    return Case("3", part, "loss", {
        "stories": given, "rows": oracles.padded(given), "table": table, "bias": bias,
        "carried": carried, "batch_size": batch_size,
    }, {"nats": np.array(nats.mean())}, mistakes=mistakes, handout="Keep in mind that "
        "torch.nn.CrossEntropyLoss() itself already averages the loss")


def batch_means(each: list[np.ndarray], order, batch_size: int) -> np.ndarray:
    """The mean nats of each minibatch, of stories in this order."""
    starts = range(0, len(each), batch_size)
    batches = [[each[i] for i in order[k : k + batch_size]] for k in starts]
    return np.array([np.concatenate(batch).mean() for batch in batches])


def loss_mistakes(each: list[np.ndarray], ordered: list[int], batch_size: int) -> list:
    """What wrong means give."""
    nats = np.concatenate(each)
    found = []
    for order in (ordered, list(range(len(each)))):
        batches = [
            [each[i] for i in order[k : k + batch_size]] for k in range(0, len(order), batch_size)
        ]
        means = batch_means(each, order, batch_size)
        sizes = [len(batch) for batch in batches]
        rows = sum(max(map(len, batch)) * len(batch) for batch in batches)
        found += [
            ("the mean of the minibatches' means: weigh each by its target tokens", np.mean(means)),
            ("padded positions are counted as tokens", nats.sum() / rows),
            ("means are weighed by numbers of stories: it is numbers of target tokens",
             np.dot(means, sizes) / len(each)),
            ("the sum of the minibatches' means is not divided", np.sum(means)),
            ("the last minibatch only", means[-1]), ("the first minibatch only", means[0]),
            ("the sum of means is divided by the number of stories", np.sum(means) / len(each)),
        ]
        if len(batches) > 1:
            kept = np.concatenate([x for batch in batches[:-1] for x in batch])
            found.append(("the last minibatch is left out", kept.mean()))
    found += [
        ("the sum over all tokens: divide by their number", nats.sum()),
        ("the sum is divided by the number of minibatches", nats.sum() / len(batches)),
        ("this is the perplexity: the loss itself is asked for", np.exp(nats.mean())),
        ("the mean of the stories' means: a token of a short story counts more",
         np.mean([x.mean() for x in each])),
        ("the sum is divided by the number of stories", nats.sum() / len(each)),
        ("bits, not nats: torch's losses have the natural logarithm", nats.mean() / math.log(2)),
    ]
    return [
        (cause, {"nats": np.array(value)}) for cause, value in found
        if not math.isclose(value, nats.mean(), rel_tol=1e-4)
    ]


def carried_loss(table, bias, carried, given: list[list[int]], batch_size: int) -> np.ndarray:
    """The mean nats if each minibatch starts at the position where the last one ended."""
    position, total, count = 0, 0.0, 0
    for k in range(0, len(given), batch_size):
        batch = given[k : k + batch_size]
        for story in batch:
            losses = oracles.token_losses(table, bias + position * carried, story)
            total += losses.sum()
            count += len(losses)
        position += max(map(len, batch)) - 1
    return np.array(total / count)


# ---- Item 4


def train(rng: np.random.Generator) -> list[Case]:
    """Steps of plain gradient descent from small and from large gradients."""
    cases = [train_case(rng, "update", 1, 1.0), train_case(rng, "zero_grad", 3, 1.0)]
    cases += [train_case(rng, "zero_grad", 2, 1.0), train_case(rng, "clipping", 1, 20.0)]
    return [*cases, train_case(rng, "clipping", 1, 9.0)]


def train_case(rng: np.random.Generator, part: str, steps: int, gain: float) -> Case:
    """Some steps; logits are multiplied by `gain`, and so are gradients.

    The gradient's norm is below 1 with a gain of 1, else above, and one of its numbers is, too.
    """
    while True:
        table, bias = 0.3 * rng.normal(size=(V, V)), 0.3 * rng.normal(size=V)
        batches = [oracles.padded(stories(rng, [4, 2, 6])) for _ in range(steps)]
        gradients = [gradient(table, bias, batch, gain) for batch in batches]
        small = all(np.linalg.norm(each) < 0.7 for each in gradients)
        large = all(np.abs(each).max() > 1.3 for each in gradients)
        if large if gain > 1 else small:
            break
    rate = float(rng.uniform(0.3, 0.6))
    given = {
        "table": table, "bias": bias, "rate": rate, "gain": gain,
        "batches": [[batch[k] for k in ("inputs", "targets", "lengths")] for batch in batches],
    }
    after = {how: descent(table, bias, batches, rate, gain, how) for how in DESCENTS}
    mistakes = [
        (cause, {"weights": after[how]}) for how, cause in DESCENTS.items()
        if cause and not np.allclose(after[how], after["right"], atol=1e-6)
    ]
    return Case(
        "4", part, "train", given, {"weights": after["right"]}, mistakes=mistakes, tolerance=1e-5,
        handout=TRAIN.get(part, ""),
    )


TRAIN = {
    "update": "Implement the gradient update step [...] by using the optimizer, the cross-entropy "
    "criterion, and the backward() function on the loss",
    "clipping": "mitigate gradient explosion by clipping the gradient to have a maximum norm of "
    "1.0",
}
DESCENTS = {
    "right": "",
    "none": "the weights stay as they are: no step is made, or there is no gradient yet when it is",
    "piled up": "gradients pile up: those of the minibatch before are still there",
    "unclipped": "the gradient is not clipped when the step is made: clip it when it is computed, "
    "before it is used",
    "by value": "each number of the gradient is clipped by itself (clip_grad_value_): its norm "
    "should be",
    "each tensor": "each tensor's norm is clipped by itself: it is the norm of all gradients "
    "together",
    "norm 10": "the norm may be 1.0 and no other number",
    "norm 5": "the norm may be 1.0 and no other number",
    "norm 0.5": "the norm may be 1.0 and no other number",
    "norm 0.25": "the norm may be 1.0 and no other number",
    "norm 0.1": "the norm may be 1.0 and no other number",
    "normalised": "a gradient with a norm below 1 is stretched to 1",
    "upwards": "the step goes up the gradient",
    "late": "the step is made with the gradient of the minibatch before: compute it first",
    "twice": "two steps are made with one gradient",
}


def gradient(table: np.ndarray, bias: np.ndarray, batch: dict, gain: float) -> np.ndarray:
    """The gradients of both, (V + 1, V), of the mean loss of logits that have a gain."""
    inputs, targets = batch["inputs"], batch["targets"]
    d_table, d_bias = oracles.bigram_gradient(gain * table, gain * bias, inputs, targets)
    return gain * np.concatenate([d_table, d_bias[None]])


def descent(table, bias, batches: list[dict], rate: float, gain: float, how: str) -> np.ndarray:
    """The weights (steps, V + 1, V) after each step, done right or in a wrong way."""
    weights = np.concatenate([table, bias[None]])
    kept, before, after = np.zeros_like(weights), np.zeros_like(weights), []
    for batch in batches:
        step = gradient(weights[:-1], weights[-1], batch, gain)
        if how == "piled up":
            kept = kept + step
            kept = kept * min(1.0, 1 / np.linalg.norm(kept))
            step = kept
        now, step = step, before if how == "late" else step
        before = now
        weights = weights - rate * STEPS.get(how, 1.0) * clipped(step, how)
        after.append(weights)
    return np.array(after)


STEPS = {"none": 0.0, "upwards": -1.0, "twice": 2.0}


def clipped(gradient: np.ndarray, how: str) -> np.ndarray:
    """The gradient with which a step is made."""
    norm = np.linalg.norm(gradient) + 1e-30
    if how == "unclipped":
        return gradient
    if how == "by value":
        return gradient.clip(-1.0, 1.0)
    if how == "normalised":
        return gradient / norm
    if how == "each tensor":
        parts = gradient[:-1], gradient[-1:]
        return np.concatenate([part * min(1.0, 1 / np.linalg.norm(part)) for part in parts])
    most = float(how.removeprefix("norm ")) if how.startswith("norm ") else 1.0
    return gradient * min(1.0, most / norm)


# ---- Items 5 and 6


def use(rng: np.random.Generator, small: dict) -> list[Case]:
    """Logits of a small model's vocabulary; `small` is what `prepare` gives."""
    cases = []
    for spread in (1.0, 4.0):
        logits = spread * rng.normal(size=len(small["words"]))
        logits[:2] = -math.inf
        logits -= logits.max()
        p = oracles.softmax(logits)
        best = np.argsort(-p, kind="stable")[:10]

        def shown(values: np.ndarray, best: np.ndarray = best) -> dict:
            return {"probs": values[best]}

        with np.errstate(all="ignore"):
            mistakes = [
                ("the exponentials are not divided by their sum", shown(np.exp(logits))),
                ("these are logarithms of probabilities", shown(np.log(p))),
                ("a sigmoid of each logit: the probabilities of all tokens sum to 1",
                 shown(oracles.sigmoid(logits))),
                ("these are the logits", shown(logits)),
                ("powers of 2, where the softmax has e", shown(2**logits / (2**logits).sum())),
                ("the softmax is taken twice", shown(oracles.softmax(p))),
                ("only the ten best sum to 1: it is all tokens", shown(p / p[best].sum())),
                ("all tokens have the same probability", shown(np.full_like(p, 1 / len(p)))),
            ]
        given = {
            "logits": logits, "words": small["words"], "model": small["model"],
            "text": small["words"][4],
        }
        cases.append(Case(
            "5", "probabilities", "use", given, {"probs": p[best], "ids": best}, mistakes=mistakes,
            handout="compute the softmax probabilities for predicting the next token",
        ))
    return cases


def next_token(rng: np.random.Generator) -> list[Case]:
    """Greedy choices, and draws from three distributions."""
    logits = 2 * rng.normal(size=(12, V))
    logits[:, :2] = -math.inf
    best = logits.argmax(1)
    finite = np.where(np.isfinite(logits), logits, math.inf)
    mistakes = [
        ("the least probable token is taken: sort by falling score",
         {"tokens": finite.argmin(1)}),
        ("the least probable token is taken: sort by falling score",
         {"tokens": logits.argmin(1)}),
        ("the token with the second score is taken", {"tokens": np.argsort(-logits, 1)[:, 1]}),
        ("the score itself is given, not the id that has it", {"tokens":
         logits.max(1).astype(np.int64)}),
    ]
    given = {"logits": logits, "draws": 1, "greedy": True, "seed": 1}
    handout = "Generate the next token using either greedy or multinomial sampling"
    cases = [Case(
        "6", "greedy", "next_tokens", given, {"tokens": best}, mistakes=mistakes, handout=handout
    )]
    logits = np.array([[1.0], [0.3], [2.0]]) * rng.normal(size=(3, V))
    logits[:, :2] = -math.inf
    given = {
        "logits": logits, "draws": 1500, "greedy": False, "seed": int(rng.integers(1 << 30)),
    }
    known = {"probs": oracles.softmax(logits), "draws": 1500}
    return [*cases, Case(
        "6", "sampling", "next_tokens", given, known=known, judge="drawn", handout=handout
    )]


# ---- Item 6a


PENALTY = (
    "let c(s, w) be how many times the token w already appeared in the input sequence s",
    "This logit score update is done for all the tokens in the vocabulary, before computing the "
    "softmax probability distribution",
)


def penalty(rng: np.random.Generator) -> list[Case]:
    """Sequences with tokens that occur at the beginning, in the middle, at the end."""
    cases = []
    for fpenalty, state in ((0.7, False), (-1.3, False), (1.9, True)):
        names = rng.permutation(np.arange(3, V))
        first, once, thrice, last = map(int, names[:4])
        tokens = [1, first, first, once, thrice, thrice, thrice, last]
        table, bias = rng.normal(size=(V, V)), rng.normal(size=V)
        given = {"table": table, "bias": bias, "tokens": tokens, "fpenalty": fpenalty}
        z = table[last] + bias
        counts = np.bincount(tokens, minlength=V).astype(float)
        known = {
            "z": z, "counts": counts, "fpenalty": fpenalty, "first": first, "last": last,
            "middle": [once, thrice],
        }
        cases += [
            Case(
                "6a", part, "penalised", {**given, "settings": {}, "state": state}, known=known,
                judge=f"penalty_{part}", handout=PENALTY[0],
            )
            for part in ("sign", "counts", "prompt")
        ]
        settings = ({"temperature": 0.6}, {"top_k": 4}, {"greedy": True})
        cases += [penalty_order(given, known, each) for each in settings]
    return cases


def penalty_order(given: dict, known: dict, settings: dict) -> Case:
    """The same with a setting that comes after the penalty."""
    z, counts, fp = known["z"], known["counts"], given["fpenalty"]
    p = oracles.softmax(z)
    tokens = given["tokens"]
    ends = range(len(tokens) + 1)
    ways = [np.bincount(tokens[a:b], minlength=V) for a in ends for b in ends if a < b]
    ways += [c > 0 for c in ways]  # counted once, or a part of s alone: that is of other parts
    variants = [
        restricted(z - sign * fp * c, settings) for sign in (1, -1) for c in ways if c[2:].any()
    ]
    mistakes = [
        ("the penalty comes after the softmax: it belongs to the logits",
         restricted(p - fp * counts, settings)),
        ("the penalty comes after the softmax: it belongs to the logits",
         restricted(np.log(np.maximum(p - fp * counts, 1e-10)), settings)),
        ("there is no penalty when greedy: it is for greedy, too", restricted(z, settings)),
    ]
    return Case(
        "6a", "order", "penalised", {**given, "settings": settings, "state": False},
        known={**known, "variants": variants, "settings": settings}, judge="penalty_order",
        mistakes=[(cause, {"logits": oracles.softmax(logits)}) for cause, logits in mistakes],
        handout=PENALTY[1],
    )


def restricted(logits: np.ndarray, settings: dict) -> np.ndarray:
    """Logits (V,) after what comes behind the penalty."""
    logits = logits.astype(float).copy()
    logits[:2] = -math.inf
    logits = (logits - logits.max()) / settings.get("temperature", 1.0)
    if "top_k" in settings:
        logits[np.argsort(-logits, kind="stable")[settings["top_k"] :]] = -math.inf
    return logits


# ---- Item 7


def evaluate(rng: np.random.Generator, small: dict) -> list[Case]:
    """A small model on two corpora; `small` is what `prepare` gives."""
    nats = np.array(small["corpus_nats"])
    given = {key: small[key] for key in ("model", "corpora", "nats")}
    each = np.array([value for _, value in small["nats"]])
    counts = np.array([len(story) - 1 for story, _ in small["nats"]])
    cut = small["corpora"]["one"].count("\n")
    some = np.array([np.average(each[i : i + 4], weights=counts[i : i + 4]) for i in (0, cut)])
    alike = np.array([each[:cut].mean(), each[cut:].mean()])
    cause = "the mean of the stories' means: a token of a short story counts more"
    mistakes = [
        (cause, {"ppl": np.exp(alike)}),
        ("2 to the power of the loss: it is in nats, so e", {"ppl": 2**nats}),
        ("this is the loss itself, not e to its power", {"ppl": nats}),
        ("e to the power of the loss in bits", {"ppl": np.exp(nats / math.log(2))}),
        ("1 / e to the power of the loss", {"ppl": np.exp(-nats)}),
        ("10 to the power of the loss: it is in nats, so e", {"ppl": 10**nats}),
        ("the mean of the stories' perplexities: it is e to the power of one mean loss",
         {"ppl": np.array([np.exp(part).mean() for part in (each[:cut], each[cut:])])}),
    ]
    handout = "Compute perplexity on a test corpus"
    return [
        Case(
            "7", "loss", "evaluate", given, {"nats": nats},
            mistakes=[(cause, {"nats": alike}), ("the first minibatch of stories alone", {
                "nats": some})], handout=handout,
        ),
        Case(
            "7", "perplexity", "evaluate", given, {"ppl": np.exp(nats)},
            mistakes=mistakes, handout=handout,
        ),
    ]


def draw(rng: np.random.Generator, small: dict) -> list[Case]:
    """All cases of the nine items."""
    cases = [*collate(rng), *forward(rng), *attend(rng), *loss(rng), *train(rng)]
    return [*cases, *use(rng, small), *next_token(rng), *penalty(rng), *evaluate(rng, small)]
