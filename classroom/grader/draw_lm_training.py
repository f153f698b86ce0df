"""The second assignment's decoding and training: cases with numbers drawn anew, and mistakes."""

import math

import numpy as np
from checks.case import Case
from checks.letters import EOS, LETTERS, PAD, SOS

from grader import oracles
from grader.draw_layers import Array, agrees, normal
from grader.draw_lm import V, codes, encoded, padded_rows, some_text

# ---- Greedy decoding


def greedy(rng: np.random.Generator) -> list[Case]:
    """Prompts to a length, to EOS, with temperature, with a penalty."""
    cases = []
    for part, how, ends in (
        ("sequences", {}, False), ("sequences", {}, True), ("temperature", {"temperature": 0.6},
        False), ("penalty", {"repeat_penalty": 1.8}, False), ("scores", {}, True),
    ):
        cases.append(greedy_case(rng, part, how, ends))
    return cases


def greedy_case(rng: np.random.Generator, part: str, how: dict, ends: bool) -> Case:
    """Three prompts of two tokens, up to seven; if it `ends`, all have EOS before that."""
    length = 8
    settings = {"temperature": how.get("temperature", 1.0),
                "penalty": how.get("repeat_penalty", 1.0)}
    while True:
        table = 2 * normal(rng, length, V, V)
        table[:, :, :6] -= 20.0
        if ends:
            for step, some in ((3, rng.random(V) < 0.5), (5, np.full(V, True))):
                best = table[step].max(1) + rng.uniform(0.5, 1.5, V)
                table[step, some, EOS] = best[some]
        prompts = rng.integers(6, V, (3, 2))
        sequences, scores = oracles.greedy(table, prompts, length - 1, EOS, **settings)
        if not ends or len({row.tolist().index(EOS) for row in sequences}) == 2:
            break
    if ends:
        first = min(row.tolist().index(EOS) for row in sequences) + 1
    free, _ = oracles.greedy(table, prompts, length - 1, -1, **settings)
    _, free_scores = oracles.greedy(table, prompts, length - 1, EOS, **settings, frozen=False)
    plain, plain_scores = oracles.greedy(table, prompts, length - 1, EOS)
    names = {"sequences": ("length", "sequences"), "penalty": ("sequences",),
             "temperature": ("scores",), "scores": ("scores",)}[part]
    expected = {"length": np.array(sequences.shape[1]), "sequences": sequences, "scores": scores}
    mistakes = [
        ("it goes on when all have had EOS", {"length": np.array(free.shape[1])}),
        ("it stops one token early", {"length": np.array(sequences.shape[1] - 1)}),
        ("it goes one token too far: max_length counts the prompt", {"length": np.array(
            sequences.shape[1] + 1)}),
        ("max_length new tokens come: it counts the prompt, too",
         {"length": np.array(sequences.shape[1] + prompts.shape[1])}),
        ("scores go on after EOS: a finished sequence's stays as it is", {"scores": free_scores}),
        ("the temperature is not used", {"scores": plain_scores}),
        ("there are no scores", {"scores": np.zeros(3)}),
    ]
    if part == "penalty":
        mistakes.insert(0, ("the repeat penalty is not used", {"sequences": plain}))
    if ends:
        mistakes.insert(0, ("it stops when the first sequence has EOS: all should have it",
                            {"length": np.array(first)}))
    for of, what in (("probs", "probabilities"), ("logits", "logits")):
        summed = oracles.greedy(table, prompts, length - 1, EOS, **settings, of=of)[1]
        mistakes.append((f"scores are sums of {what}: they are sums of log-probabilities",
                         {"scores": summed}))
    late = oracles.greedy(table, prompts, length - 1, EOS, **settings, of="log_probs before EOS")[1]
    mistakes.append(("EOS itself counts in the score: a sequence is finished after it",
                     {"scores": late}))
    mistakes = [m for m in mistakes if not agrees(m[1], expected)]
    given = {"table": table, "prompts": prompts, "max_length": length - 1, "how": how}
    return Case("greedy", part, "greedy", given, {name: expected[name] for name in names},
                mistakes=mistakes, tolerance=1e-3, handout="update scores only for unfinished "
                "sequences" if part == "scores" else "")


# ---- The trainer


def trainer(rng: np.random.Generator) -> list[Case]:
    """An epoch of training, with accumulation and smoothing; validation; text; all epochs."""
    cases = [train_epoch(rng, "training", 1, 0.0), train_epoch(rng, "training", 1, 0.1)]
    cases += [train_epoch(rng, "accumulation", 2, 0.0), train_epoch(rng, "accumulation", 3, 0.0)]
    return [*cases, validate_epoch(rng), generate(rng), train_all(rng)]


def some_batches(rng: np.random.Generator, count: int) -> list[list[Array]]:
    """Batches (shifted, golden, lengths) of random tokens."""
    batches = []
    for _ in range(count):
        rows = [rng.integers(6, V, n).tolist() for n in rng.permutation([2, 5, 7])]
        shifted = padded_rows([[SOS, *row] for row in rows])
        golden = padded_rows([[*row, EOS] for row in rows])
        batches.append([shifted, golden, np.array([len(row) + 1 for row in rows])])
    return batches


def smoothed_gradient(weights: Array, batch: list[Array], smoothing: float, pad: int = PAD):
    """The mean loss over targets that are not `pad`, and its gradient (V + 1, V)."""
    shifted, golden, _ = batch
    real = golden != pad
    x, y = shifted[real], golden[real]
    p = oracles.softmax(weights[x] + weights[-1])
    q = np.full_like(p, smoothing / p.shape[1])
    q[np.arange(len(y)), y] += 1 - smoothing
    loss = -(q * np.log(p)).sum(1).mean()
    gradient = np.zeros_like(weights)
    np.add.at(gradient, x, (p - q) / len(y))
    gradient[-1] = (p - q).sum(0) / len(y)
    return loss, gradient


def train_config(accumulate: int, smoothing: float) -> dict:
    """The configuration of a trainer, as far as it reads it."""
    return {"training": {"gradient_accumulation_steps": accumulate},
            "loss": {"label_smoothing": smoothing}, "data": {"batch_size": 3}}


def train_epoch(rng: np.random.Generator, part: str, accumulate: int, smoothing: float) -> Case:
    """Weights after an epoch of plain gradient descent over batches, the last group smaller."""
    count = 2 * accumulate + (accumulate > 1)
    batches = some_batches(rng, count)
    weights = np.concatenate([normal(rng, V, V), normal(rng, 1, V)])
    rate = float(rng.uniform(0.5, 1.0))

    def epoch(accumulate: int, smoothing: float, pad: int = PAD, how: str = ""):
        w, total, tokens = weights, 0.0, 0
        gradient = np.zeros_like(w)
        for i, batch in enumerate(batches):
            loss, one = smoothed_gradient(w, batch, smoothing, pad)
            total += loss * batch[2].sum()
            tokens += batch[2].sum()
            size = min(accumulate, count - i // accumulate * accumulate)
            if how == "not divided":
                size = 1
            gradient = gradient + one / size
            last = i + 1 == count
            if (i + 1) % accumulate == 0 or (last and how != "left over"):
                w = w - rate * gradient
                if how != "piled up":
                    gradient = np.zeros_like(w)
        return w, total / tokens

    w, loss = epoch(accumulate, smoothing)
    found = [
        ("padding counts in the loss: ignore_index=pad_id", epoch(accumulate, smoothing, -1)[0]),
        ("gradients pile up: clear them after each update",
         epoch(accumulate, smoothing, how="piled up")[0]),
        ("label_smoothing of config['loss'] is not used", epoch(accumulate, 0.0)[0]),
        ("the loss is not divided by gradient_accumulation_steps",
         epoch(accumulate, smoothing, how="not divided")[0]),
        ("gradients that are left at the end of the epoch are not applied",
         epoch(accumulate, smoothing, how="left over")[0]),
        ("gradients are not accumulated: each batch makes an update", epoch(1, smoothing)[0]),
        ("the weights stay as they are: no step is made", weights),
    ]
    expected = {"weights": w, "schedule steps": np.array(-(-count // accumulate))}
    expected["training"] = np.array(1)
    if not smoothing and accumulate == 1:
        expected["ce_loss_token"] = np.array(loss)
    mistakes = [(cause, {"weights": one}) for cause, one in found if not np.allclose(one, w)]
    mistakes += [
        ("the model is not in training mode, so nothing is dropped", {"training": np.array(0)}),
        ("the schedule is not stepped: once after each update", {"schedule steps": np.array(0)}),
        ("the schedule is stepped with each batch: once after each update",
         {"schedule steps": np.array(count)}),
        ("the schedule is stepped once an epoch: once after each update",
         {"schedule steps": np.array(1)}),
    ]
    given = {"table": weights[:-1], "bias": weights[-1], "batches": batches, "rate": rate,
             "config": train_config(accumulate, smoothing)}
    mistakes = [m for m in mistakes if not agrees(m[1], expected)]
    return Case("trainer", part, "train_epoch", given, expected, mistakes=mistakes, tolerance=1e-5)


def validate_epoch(rng: np.random.Generator) -> Case:
    """The four metrics, over batches with different numbers of tokens."""
    batches = some_batches(rng, 2)
    batches.append([rows[:1] for rows in some_batches(rng, 1)[0]])
    weights = np.concatenate([2 * normal(rng, V, V), normal(rng, 1, V)])
    losses = [smoothed_gradient(weights, batch, 0.0)[0] for batch in batches]
    counts = [int(batch[2].sum()) for batch in batches]
    token = float(np.dot(losses, counts)) / sum(counts)
    expected = {
        "ce_loss_token": token, "ce_loss_char": token / 2, "perplexity_token": math.exp(token),
        "perplexity_char": math.exp(token / 2), "changed": 0, "training": 0,
    }
    padded = [smoothed_gradient(weights, batch, 0.0, -1)[0] for batch in batches]
    mistakes = [
        ("the mean of the batches' means: weigh each by its tokens",
         {"ce_loss_token": np.array(np.mean(losses))}),
        ("padding counts in the loss", {"ce_loss_token": np.array(
            np.dot(padded, counts) / sum(counts))}),
        ("validation changes the weights", {"changed": np.array(1)}),
        ("the model is still in training mode", {"changed": np.array(0), "training": np.array(1)}),
    ]
    given = {"table": weights[:-1], "bias": weights[-1], "batches": batches,
             "config": train_config(1, 0.0)}
    return Case("trainer", "validation", "validate_epoch", given, {
        name: np.array(value) for name, value in expected.items()
    }, mistakes=mistakes)


def generate(rng: np.random.Generator) -> Case:
    """Two prompts of three tokens, continued."""
    size, asked = 3, {"num_samples": 2, "prompt_length": 3, "seed": 5}
    texts = [some_text(rng, int(n)) for n in (6, 8)]
    ids = [encoded(text) for text in texts]
    prompts = np.array([[SOS, *row[:size]] for row in ids])
    table, bias = 2 * normal(rng, V, V), normal(rng, V)
    table[:, :6] -= 20.0
    steps = np.repeat(table[None] + bias, 64, 0)
    sequences, scores = oracles.greedy(steps, prompts, 12, EOS)
    expected = {"count": np.array(2)}
    for i, (text, sequence) in enumerate(zip(texts, sequences, strict=True)):
        new = "".join(LETTERS[t - 6] for t in sequence[size + 1 :])
        expected |= {
            f"prompt {i}": codes("[SOS]" + text[:size]),
            f"original {i}": codes(text[size:] + "[EOS]"), f"generated {i}": codes(new),
            f"score {i}": np.array(scores[i]),
        }
    given = {
        "table": table, "bias": bias, "batches": [], "config": train_config(1, 0.0),
        "how": {**asked, "temperature": 1.0, "beam_width": 1, "repeat_penalty": 1.0, "top_k": 0,
                "top_p": 0.0},
        "prompts": {"asked": [*asked.values()], "ids": prompts,
                    "texts": [np.array([*row, EOS]) for row in ids]},
        "continued": {"ids": [np.array(row) for row in sequences], "scores": scores.tolist()},
    }
    whole = "".join(LETTERS[t - 6] for t in sequences[0][1:])
    mistakes = [
        ("the generated text has the prompt in it: only what follows is asked for",
         {"generated 0": codes("[SOS]" + whole)}),
        ("the generated text has the prompt in it: only what follows is asked for",
         {"generated 0": codes(whole)}),
        ("original begins one token late: it has no SOS", {"original 0": codes(
            texts[0][size + 1 :] + "[EOS]")}),
        ("original is the whole transcript: only what follows the prompt is asked for",
         {"original 0": codes(texts[0] + "[EOS]")}),
    ]
    return Case("trainer", "text", "generate", given, expected, mistakes=mistakes, tolerance=1e-3)


def train_all(rng: np.random.Generator) -> Case:
    """Five epochs of which the validation losses are known."""
    losses = [5.0, 3.0, 4.0, 2.0, 2.5]
    losses = [value + float(rng.uniform(0, 0.1)) for value in losses]
    best = [1, 2, 4]
    mistakes = [
        ("the best checkpoint is saved after every epoch", {"best saved": np.arange(1, 6)}),
        ("the best checkpoint is saved when the loss rises", {"best saved": np.array([3, 5])}),
        ("without a scheduler or an optimizer there is no ValueError", {"refused": np.array(0)}),
        ("best_metric is not kept", {"best_metric": np.array(math.inf)}),
        ("current_epoch is not counted on", {"current_epoch": np.array(0)}),
        ("current_epoch is not counted on", {"current_epoch": np.array(4)}),
    ]
    given = {"table": np.zeros((V, V)), "bias": np.zeros(V), "batches": [], "losses": losses,
             "config": train_config(1, 0.0)}
    return Case("trainer", "epochs", "train_all", given, {
        "refused": np.array(1), "logged": np.arange(5), "best saved": np.array(best),
        "last saved": np.arange(1, 6), "best_metric": np.array(min(losses)),
        "current_epoch": np.array(5),
    }, mistakes=mistakes)


def draw(rng: np.random.Generator) -> list[Case]:
    """All cases of decoding and training."""
    return [*greedy(rng), *trainer(rng)]
