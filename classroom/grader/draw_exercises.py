"""The bonus exercises of the first assignment: cases of their flags and properties."""

import numpy as np
from checks.case import Case

from grader import oracles
from grader.prepare import some_stories

WORDS = "zebra yak\nvole ape bee zebra\n"


def draw(rng: np.random.Generator) -> list[Case]:
    """A case or two for each exercise."""
    corpus = some_stories(rng, 12)
    cases = [
        property_case("ex1", {"corpus": corpus, "V": 40}, {"better than chance": 1}, [
            ("it predicts no better than chance: is it trained on the LSTM's word vectors?",
             {"better than chance": 0}),
        ]),
        property_case("ex2", flags("-lr 0.01 -dropout 0.25 -patience 2", "lr dropout patience"), {
            "flags": [0.01, 0.25, 2.0], "same": 1, "differs": 1,
        }, [
            ("dropout acts in evaluation, too", {"same": 0}),
            ("dropout does nothing in training", {"differs": 0}),
        ]),
        property_case("ex3", flags("-finetune -emb_lr 0.001", "finetune emb_lr"), {
            "flags": [1.0, 0.001], "frozen": 0, "fine-tuned": 1,
        }, [
            ("given vectors are trained without -finetune, too", {"frozen": 1}),
            ("given vectors get no gradient with -finetune", {"fine-tuned": 0}),
        ]),
    ]
    for kind in ("bilinear", "additive"):
        given = {"hidden": rng.normal(size=(2, 4, 6)), "kind": kind}
        cases.append(property_case("ex4", given, {"parameters": 1}, [
            (f"-a {kind} has no parameters of its own", {"parameters": 0}),
        ]))
        cases.append(Case("ex4", "property", "ex4", given, judge="attention_mask"))
    cases += more(rng, corpus)
    return cases


def more(rng: np.random.Generator, corpus: str) -> list[Case]:
    """Exercises 5 to 9."""
    table = oracles.sinusoids(6, 6)[0]
    halves = np.concatenate([table[:, 0::2], table[:, 1::2]], 1)
    return [
        property_case("ex5", {"corpus": corpus, "new": WORDS}, {"unknown": 0.0}, [
            ("words that were not in training are unknown: their letters should be pieces",
             {"unknown": 1.0}),
        ]),
        property_case("ex6", {"cells": ["lstm", "gru", "rnn"]}, {
            "gates": [4, 3, 1], "flags": [0, 1, 2],
        }, [
            ("-cell makes no difference: a GRU has three gates, an RNN none", {"gates": [4, 4, 4]}),
        ]),
        property_case("ex7", flags("-bidirectional", "bidirectional"), {
            "flags": [1.0], "without": 0, "with": 1,
        }, [
            ("the second direction sees nothing of what follows", {"with": 0}),
            ("the model sees what follows without -bidirectional, too", {"without": 1}),
        ]),
        property_case("ex8", flags("-positions", "positions"), {
            "flags": [1.0], "added": table,
        }, [
            ("nothing is added to the word vectors", {"added": np.zeros_like(table)}),
            ("all sines come first: even columns are sine, odd ones cosine", {"added": halves}),
        ]),
        property_case("ex9", flags("-tie", "tie"), {"flags": [1.0], "shared": 1, "biases": 0}, [
            ("the output layer has a matrix of its own: it should be the word vectors",
             {"shared": 0}),
            ("the output layer trains a bias: the handout has it removed", {"biases": 1}),
        ]),
    ]


def flags(line: str, names: str) -> dict:
    """Flags that a program should accept, and the names of their values."""
    return {"flags": line.split(), "names": names.split()}


def property_case(item: str, given: dict, expected: dict, mistakes: list) -> Case:
    """A case whose expected and mistaken results are plain numbers."""
    mistakes = [
        (cause, {name: np.array(value) for name, value in found.items()})
        for cause, found in mistakes
    ]
    arrays = {name: np.array(value) for name, value in expected.items()}
    return Case(item, "property", item, given, arrays, mistakes=mistakes, tolerance=1e-4)
