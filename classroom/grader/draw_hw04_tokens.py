"""Cases of items 5 to 7: probabilities, the next token, the penalty, the perplexity."""

import math

import numpy as np
from checks.case import Case

from grader import oracles
from grader.draw_hw04_minibatches import V

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
