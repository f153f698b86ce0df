"""Cases of items 3 and 4: the loss, and a step of training."""

import math

import numpy as np
from checks.case import Case

from grader import oracles
from grader.draw_hw04_minibatches import V, ragged, stories

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
