"""What is said of a result: whether it is right, what was expected and what came, the usual cause.

A judge gets a case and the arrays that came, and gives "" if they are right, else what is wrong.
"""

from collections.abc import Callable

import numpy as np

from checks.case import Case, Outcome, Verdict
from checks.exchange import number

SHOWN = 12  # numbers of an array that are printed


def judge(case: Case, outcome: Outcome, causes: tuple[tuple[str, str], ...] = ()) -> Verdict:
    """The verdict on what came of a case.

    `causes` are pairs of a part of an exception's text and what usually leads to it.
    """
    if outcome.kind == "NotImplementedError" and outcome.message.startswith(f"item {case.item}:"):
        return Verdict(False, "not written yet", written=False)
    try:
        compare = judges()[case.judge]
        wrong = raised(outcome, causes) if outcome.kind else compare(case, outcome.outputs)
    except Exception as error:  # of numbers that no judge expects
        wrong = f"the result makes no sense ({type(error).__name__}: {error})"
    if not wrong:
        return Verdict(True)
    if case.handout:
        wrong += f'\nThe handout: "{case.handout}"'
    return Verdict(False, wrong)


def judges() -> dict[str, Callable]:
    """The judges by name."""
    from checks.judges_hw04 import READERS

    return {"equal": equal, "unchanged": unchanged, **READERS}


def raised(outcome: Outcome, causes: tuple[tuple[str, str], ...]) -> str:
    """What is said of an exception."""
    said = f"{outcome.kind}: {outcome.message}" if outcome.message else outcome.kind
    lines = [f"an exception ended it: {said}"]
    if outcome.kind == "NotImplementedError" and outcome.message.startswith("item "):
        lines = [f"it calls what is not written yet: {outcome.message}"]
    if outcome.line:
        lines.append(f"at {outcome.line}")
    lines += [f"Usual cause: {cause}" for part, cause in causes if part in said][:1]
    return "\n".join(lines)


# ---- Equal numbers


def equal(case: Case, got: dict[str, np.ndarray]) -> str:
    """All expected arrays came, with the expected numbers."""
    missing = [name for name in case.expected if name not in got]
    if missing:
        return f"{missing[0]} is missing, or no tensor"
    for name in case.expected:
        expected, found = np.asarray(case.expected[name]), np.asarray(got[name])
        wrong = difference(name, expected, found, case)
        if wrong:
            return with_cause(wrong, usual_cause(case, got) or look(expected, found))
    return ""


def unchanged(case: Case, got: dict[str, np.ndarray]) -> str:
    """All arrays that were given came back as they were."""
    for name, expected in case.expected.items():
        if name not in got or difference(name, np.asarray(expected), got[name], case):
            return f"{name} was given, and is changed: += and the like change what they are done to"
    return ""


def difference(name: str, expected: np.ndarray, got: np.ndarray, case: Case) -> str:
    """What is wrong with one array; "" if nothing is."""
    if expected.shape != got.shape:
        return f"{name}: expected shape {shape(expected)}, got {shape(got)}"
    if kind(expected) != kind(got) or (kind(expected) == "whole numbers" and got.itemsize < 8):
        return f"{name}: expected {kind(expected)} ({expected.dtype}), got {got.dtype}"
    wrong = ~close(expected, got, case.tolerance)
    if name in case.only:
        wrong &= case.only[name].astype(bool)
    if not wrong.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    text = f"{name} {shape(expected)}: "
    if expected.size <= SHOWN:
        return f"{text}expected {show(expected)}, got {show(got)}"
    where = "[" + ", ".join(map(str, place)) + "]"
    pair = f"expected {number(expected[place].item())}, got {number(got[place].item())}"
    return f"{text}{int(wrong.sum())} of {wrong.size} differ; at {where} {pair}"


def close(expected: np.ndarray, got: np.ndarray, tolerance: float) -> np.ndarray:
    """Where numbers are equal, up to a tolerance relative to the largest expected one."""
    if kind(expected) != "numbers":
        return expected == got
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max()) if finite.size else 1.0
    with np.errstate(all="ignore"):
        return np.isclose(got, expected, rtol=tolerance, atol=tolerance * min(scale, 1.0) + 1e-9)


def kind(array: np.ndarray) -> str:
    """What sort of numbers an array has."""
    return {"b": "True and False", "f": "numbers"}.get(array.dtype.kind, "whole numbers")


def shape(array: np.ndarray) -> str:
    """A shape as it is written."""
    return "(" + ", ".join(map(str, array.shape)) + ("," if array.ndim == 1 else "") + ")"


def show(array: np.ndarray) -> str:
    """A few numbers, on one line."""
    text = np.array2string(array, precision=4, separator=", ", threshold=SHOWN, max_line_width=999)
    return " ".join(text.split())


def with_cause(wrong: str, *causes: str) -> str:
    """What is wrong, and the causes that are known."""
    return "\n".join([wrong, *(f"Usual cause: {cause}" for cause in causes if cause)])


def wrong_shape(name: str, like: np.ndarray, got: dict[str, np.ndarray]) -> str:
    """What is wrong with the shape of an array that should be as `like`."""
    if name not in got:
        return f"there is no {name}"
    if got[name].shape != like.shape:
        return f"{name}: expected shape {shape(like)}, got {shape(got[name])}"
    return ""


def usual_cause(case: Case, got: dict[str, np.ndarray]) -> str:
    """The first known mistake that gives just this, and makes a difference at all."""
    for cause, arrays in case.mistakes:
        if all_agree(case, arrays, got) and not all_agree(case, arrays, case.expected):
            return cause
    return ""


def all_agree(case: Case, arrays: dict, others: dict) -> bool:
    """Whether arrays are as the others of the same names."""
    return all(
        name in others and np.shape(array) == np.shape(others[name])
        and agree(np.asarray(array), np.asarray(others[name]), case, name)
        for name, array in arrays.items()
    )


def agree(array: np.ndarray, got: np.ndarray, case: Case, name: str) -> bool:
    """Whether two arrays are equal where it counts."""
    array, got = array.astype(float), got.astype(float)
    near = close(array, got, 10 * case.tolerance) | (np.isnan(array) & np.isnan(got))
    if name in case.only and case.only[name].shape == near.shape:
        near |= ~case.only[name].astype(bool)
    return bool(near.all())


def look(expected: np.ndarray, got: np.ndarray) -> str:
    """What can be seen of a wrong array without knowing how it came about."""
    if expected.ndim != got.ndim:
        return "a dimension is missing" if expected.ndim > got.ndim else "a dimension too many"
    if expected.shape != got.shape:
        same = sorted(expected.shape) == sorted(got.shape)
        return "two dimensions are exchanged" if same else ""
    if expected.dtype == got.dtype == bool:
        return "the wrong way round: True where False belongs" if (expected != got).all() else ""
    if kind(expected) != kind(got):
        return "the right numbers, of another type" if (expected == got).all() else ""
    expected, got = expected.astype(float), got.astype(float)
    if np.isnan(got).any():
        return "some numbers are NaN: a softmax over nothing but -inf, 0 / 0, or inf - inf"
    if np.isinf(got).any() and np.isfinite(expected).all():
        return "some numbers are infinite: exp() of a large number, or a division by 0"
    if close(expected, -got, 1e-4).all():
        return "the sign is the other way round"
    here = np.abs(expected) > 1e-9
    with np.errstate(all="ignore"):
        ratios = got[here] / expected[here]
    one = ratios.size > 1 and np.allclose(ratios, ratios[0], rtol=1e-3)
    if one and abs(ratios[0]) > 1e-6 and abs(ratios[0] - 1) > 1e-2:
        return f"all numbers are {number(float(ratios[0]))} times what they should be"
    square = expected.ndim == 2 and expected.shape[0] == expected.shape[1]
    if square and close(expected.T, got, 1e-4).all():
        return "rows and columns are exchanged"
    if expected.size > 1 and close(np.sort(expected, None), np.sort(got, None), 1e-4).all():
        return "the right numbers, in another order"
    return ""
