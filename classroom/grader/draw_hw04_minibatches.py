"""Cases of item 2, and the stories of other items."""

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
