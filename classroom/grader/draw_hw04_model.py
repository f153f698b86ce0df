"""Cases of items 1 and 1a: the LSTM and its attention."""

import numpy as np
from checks.case import Case

from grader import oracles
from grader.draw_hw04_minibatches import V, ragged, stories

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
