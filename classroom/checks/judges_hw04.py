"""Judges that read off a result what a student's code computes: attention, penalty, drawing."""

import math

import numpy as np

from checks.case import Case
from checks.exchange import number
from checks.judges import show, usual_cause, with_cause, wrong_shape

# ---- Attention (item 1a): the weights are read off the contexts


def weights_of(context: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The weights (B, T, T) by which contexts (B, T, D) are sums of the hidden states (T <= D).

    They are what the student's attention computed, in whatever way.
    """
    return context @ np.linalg.pinv(hidden)


def attention_mask(case: Case, got: dict[str, np.ndarray]) -> str:
    """No position has a weight for itself or a later one."""
    weights, wrong = attention_weights(case, got)
    if wrong:
        return wrong
    T = weights.shape[1]
    rows = np.arange(1, T)
    itself = np.abs(weights[:, rows, rows]).max()
    later = max((np.abs(weights[:, i, i + 1 :]).max() for i in range(1, T - 1)), default=0.0)
    if itself < 1e-3 and later < 1e-3:
        earlier = [np.abs(weights[:, i, :i]).max() for i in range(1, T)]
        if min(earlier) < 1e-3:
            place = 1 + int(np.argmin(earlier))
            return f"position {place} has no weight for any of the earlier ones"
        return ""
    before = max(np.abs(weights[:, i, :i]).max() for i in range(1, T))
    if before < 1e-3:
        cause = "the mask is the wrong way round: what is before is masked, what is after is seen"
    elif later < 1e-3:
        cause = "a position sees itself: it is strictly earlier ones that count (j < i)"
    elif itself < 1e-3:
        cause = "later positions are seen (j > i)"
    else:
        cause = "there is no causal mask, or masked scores are not -inf before the softmax"
    found = f"the weight of position {1} for itself is up to {number(float(itself))}, "
    return (
        f"context: {found.replace('position 1', 'a position')}for a later one up to "
        f"{number(float(later))}; both should be 0\nUsual cause: {cause}"
    )


def attention_scale(case: Case, got: dict[str, np.ndarray]) -> str:
    """The logarithms of a position's weights differ as the scores of equation 1 do."""
    weights, wrong = attention_weights(case, got)
    if wrong:
        return wrong
    hidden = case.given["hidden"]
    B, T, D = hidden.shape
    slopes = [
        slope(weights[b, i, :i], hidden[b, :i] @ hidden[b, i])
        for b in range(B) for i in range(2, T)
    ]
    sums = weights[:, 2:].sum(-1)
    slopes = np.array(slopes)
    if np.isnan(slopes).any():
        return "context: some weights are not positive, so they come from no softmax"
    expected = 1 / math.sqrt(D)
    if np.allclose(slopes, expected, rtol=1e-2):
        if np.allclose(sums, 1, atol=1e-2):
            return ""
        where = f"the weights of a position sum to {number(float(sums.flat[0]))}, not to 1"
        cause = "the softmax is over another axis, or over positions that are masked afterwards"
        return f"context: {where}\nUsual cause: {cause}"
    if not np.allclose(slopes, slopes[0], rtol=1e-2, atol=1e-6):
        where = "the weights of a position are no softmax of its scores"
        cause = "the softmax is over the wrong axis: it belongs to j, what a position looks at"
        if np.allclose(sums, 1, atol=1e-2):
            cause = "the weights sum to 1, but the scores are not h_i . h_j / sqrt(N/2)"
        return f"context: {where}\nUsual cause: {cause}"
    by = float(slopes[0]) if abs(slopes[0]) > 1e-6 else 0.0
    found = f"scores are h_i . h_j times {number(by)}, expected {number(expected)}"
    known = {
        1.0: "the scores are not divided by sqrt(N/2)",
        1 / D: "the scores are divided by N/2, not by its square root",
        1 / math.sqrt(2 * D): "N is not N/2: the size of a hidden state counts",
        math.sqrt(D): "the scores are multiplied by sqrt(N/2)",
        1 / math.sqrt(T): "the scores are divided by the root of the number of positions",
        0.0: "all earlier states count alike: there are no scores",
    }
    causes = [cause for value, cause in known.items() if np.isclose(value, by, 1e-2)]
    return with_cause(f"context: {found} = 1 / sqrt({D})", *causes)


def slope(weights: np.ndarray, scores: np.ndarray) -> float:
    """By what scores were multiplied before the softmax of these weights; NaN if by nothing."""
    if weights.min() <= 1e-9:
        return math.nan
    x = scores - scores.mean()
    y = np.log(weights) - np.log(weights).mean()
    return float(x @ y / (x @ x))


def attention_zero(case: Case, got: dict[str, np.ndarray]) -> str:
    """Position 0 has a context of zeros."""
    hidden = case.given["hidden"]
    wrong = wrong_shape("context", hidden, got)
    if wrong:
        return wrong
    first = got["context"][:, 0]
    if np.isnan(first).any():
        cause = "a softmax over nothing but -inf: position 0 has nothing to look at"
        return f"context: NaN at position 0, expected zeros\nUsual cause: {cause}"
    if np.abs(first).max() < 1e-6:
        return ""
    cause = ""
    if np.allclose(first, hidden.mean(1), atol=1e-3):
        cause = "-1e9 in all places of a row is the same score everywhere: set the context to zero"
    elif np.allclose(first, hidden[:, 0], atol=1e-3):
        cause = "position 0 looks at itself"
    lines = f"context: at position 0 expected zeros, got {show(first[0])}"
    return with_cause(lines, cause)


def attention_padding(case: Case, got: dict[str, np.ndarray]) -> str:
    """What stands behind a story does not change its contexts."""
    alone = got.get("none")
    for name in ("one", "other"):
        padded = got.get(name)
        if alone is None or padded is None or padded.shape != alone.shape:
            return "context: its shape changes with padding"
        alone_, padded_ = np.nan_to_num(alone), np.nan_to_num(padded)
        if not np.allclose(alone_[:, 1:], padded_[:, 1:], atol=1e-6):
            far = number(float(np.abs(alone_ - padded_)[:, 1:].max()))
            cause = "padded positions take part in the softmax, or in the sum"
            return f"context: padding changes a real position's by {far}\nUsual cause: {cause}"
    return ""


def attention_weights(case: Case, got: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """The weights from position 1 on, or what is wrong with the contexts."""
    hidden = case.given["hidden"]
    wrong = wrong_shape("context", hidden, got)
    if wrong:
        return hidden, wrong
    context = got["context"].astype(float)
    if np.isnan(context[:, 1:]).any():
        cause = "a softmax over nothing but -inf"
        return hidden, f"context: NaN after position 0\nUsual cause: {cause}"
    weights = weights_of(np.nan_to_num(context), hidden)
    if not np.allclose(weights @ hidden, np.nan_to_num(context), atol=1e-3):
        return hidden, "context: it is no weighted sum of the hidden states"
    return weights, ""


# ---- The frequency penalty (item 6a): what was taken off is read off the logits


def taken_off(case: Case, got: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """By how much each token's logit (V,) was lowered, or what is wrong.

    Logits may come shifted by one number. The numbers from which the penalty was taken are the
    logits, else their probabilities.
    """
    z, counts = case.known["z"], case.known["counts"]
    wrong = wrong_shape("logits", z, got)
    if wrong:
        return z, wrong
    logits = got["logits"]
    free = (counts == 0) & np.isfinite(logits)
    p = np.exp(z - z.max())
    for base in (z, p / p.sum()):
        off = base - logits
        if np.ptp(off[free]) < 1e-3:
            return off - off[free].mean(), ""
    return z, "logits: those of tokens that did not occur are changed too"


def penalty_sign(case: Case, got: dict[str, np.ndarray]) -> str:
    """A positive penalty lowers the logits of tokens that occurred."""
    off, wrong = taken_off(case, got)
    if wrong:
        return wrong
    counted = counted_tokens(case, got)
    fp = case.known["fpenalty"]
    found = float(off[counted].sum())
    if found * fp > 1e-6:
        return ""
    what = "are not changed" if abs(found) < 1e-6 else "go up" if fp > 0 else "go down"
    added = (off[counted] * fp < -1e-6).all()
    cause = "\nUsual cause: the penalty is added, not subtracted" if added else ""
    return f"logits: with fp = {number(fp)} those of tokens that occurred {what}{cause}"


def penalty_counts(case: Case, got: dict[str, np.ndarray]) -> str:
    """A token that occurred three times is lowered three times as much as one that did once."""
    off, wrong = taken_off(case, got)
    if wrong:
        return wrong
    counts = case.known["counts"]
    middle = case.known["middle"]  # tokens that occur in the middle of s alone
    each = [float(off[i]) / float(counts[i]) for i in middle]
    size = abs(case.known["fpenalty"])
    if np.allclose(np.abs(each), size, rtol=1e-2):
        return ""
    if np.allclose(np.abs(off[middle]), size, rtol=1e-2):
        cause = "a token counts once however often it occurred: c(s, w) is how many times"
    elif np.allclose(np.abs(each) * len(case.given["tokens"]), size, rtol=1e-2):
        cause = "counts are divided by the number of tokens: c(s, w) is how many times"
    elif np.allclose(each, case.known["z"][middle] * case.known["fpenalty"], rtol=1e-2):
        cause = "the logit is multiplied, where fp c(s, w) is subtracted from it"
    elif abs(each[0]) > 1e-6 and np.allclose(np.abs(each), abs(each[0]), rtol=1e-2):
        cause = f"each time costs {number(abs(each[0]))}, not fp = {number(size)}"
    else:
        cause = ""
    pairs = ", ".join(f"{int(counts[i])} times: {number(float(off[i]))}" for i in middle)
    found = f"logits: taken off for tokens that occurred {pairs}"
    return with_cause(f"{found}; expected fp = {number(size)} each time", cause)


def penalty_prompt(case: Case, got: dict[str, np.ndarray]) -> str:
    """Tokens at the beginning and at the end of s count as all others do."""
    off, wrong = taken_off(case, got)
    if wrong:
        return wrong
    first, last = case.known["first"], case.known["last"]
    if all(abs(off[i]) > 1e-6 for i in (first, last)):
        return ""
    where = "first words of s, the prompt," if abs(off[first]) < 1e-6 else "last token of s"
    cause = "c(s, w) counts over all of s: the prompt, and what was generated"
    return f"logits: the {where} did not count\nUsual cause: {cause}"


def penalty_order(case: Case, got: dict[str, np.ndarray]) -> str:
    """The penalty comes before temperature, top-k and softmax, and when greedy too."""
    logits = got.get("logits")
    variants = [np.asarray(each) for each in case.known["variants"]]
    if logits is None or logits.shape != variants[0].shape:
        return "logits: of another shape than before"
    if any(same_distribution(logits, each) for each in variants):
        return ""
    cause = usual_cause(case, {"logits": distribution(logits)})
    settings = ", ".join(f"{key} {value}" for key, value in case.given["settings"].items())
    lines = f"logits: with {settings} they are not those of z - fp c(s, w) before the softmax"
    return with_cause(lines, cause)


def counted_tokens(case: Case, got: dict[str, np.ndarray]) -> np.ndarray:
    """Which tokens (V,) occurred, of those that may come."""
    return (case.known["counts"] > 0) & np.isfinite(got["logits"])


def distribution(logits: np.ndarray) -> np.ndarray:
    """The probabilities (V,) that logits mean."""
    with np.errstate(all="ignore"):
        p = np.exp(logits - np.max(logits))
        return p / p.sum()


def same_distribution(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether logits mean the same probabilities."""
    return bool(np.allclose(distribution(one), distribution(other), atol=1e-6))


# ---- Drawing (item 6)


def drawn(case: Case, got: dict[str, np.ndarray]) -> str:
    """Tokens were drawn with the expected probabilities (rows, V), by a chi-square test."""
    tokens, probs = got.get("tokens"), case.known["probs"]
    rows, V = probs.shape
    if tokens is None or tokens.size != rows * case.given["draws"]:
        return "tokens: not one for each call"
    tokens = tokens.reshape(rows, -1)
    if tokens.dtype.kind not in "iu" or tokens.min() < 0 or tokens.max() >= V:
        return f"tokens: expected ids from 0 to {V - 1}, got {show(tokens[0, :6])}"
    for row, p in zip(tokens, probs, strict=True):
        counts = np.bincount(row, minlength=V)
        never = np.flatnonzero((p == 0) & (counts > 0))
        if len(never):
            lines = f"tokens: {never[0]} was drawn, though its logit is -inf"
            return with_cause(lines, odd_shares(counts / len(row), p))
        if len(set(row.tolist())) == 1:
            cause = "the most probable token is taken in place of drawing one"
            return f"tokens: always {row[0]}\nUsual cause: {cause}"
        wanted = len(row) * p[p > 0]
        chi = float(((counts[p > 0] - wanted) ** 2 / wanted).sum())
        freedom = len(wanted) - 1
        if chi > freedom + 6 * math.sqrt(2 * freedom) + 12:  # one sound draw in a million
            shares = counts / len(row)
            worst = int(np.argmax(np.abs(shares - p)))
            found = f"tokens: {worst} was drawn {shares[worst]:.1%} of the time"
            lines = f"{found}, its probability is {p[worst]:.1%}"
            return with_cause(lines, odd_shares(shares, p))
    return ""


def odd_shares(shares: np.ndarray, p: np.ndarray) -> str:
    """The usual cause of shares (V,) of tokens that do not fit their probabilities; or ""."""
    some = p > 0
    twice = np.exp(p) / np.exp(p).sum()
    for wrong, cause in (
        (np.sort(p)[::-1], "what is drawn is a place in the sorted list, not the id there"),
        (some / some.sum(), "all tokens are drawn alike: the softmax is missing"),
        (twice, "the softmax is taken twice"),
    ):
        if np.allclose(shares, wrong, atol=0.04):
            return cause
    return ""


READERS = {
    each.__name__: each for each in (
        attention_mask, attention_scale, attention_zero, attention_padding, penalty_sign,
        penalty_counts, penalty_prompt, penalty_order, drawn,
    )
}
