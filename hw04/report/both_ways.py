#!/usr/bin/env python3
"""What a backward language model adds, honestly: whole stories scored by a forward and a backward model together.

    python both_ways.py -data DIR       # -> results/both_ways.json

It takes the models of the runs "full, base" and "full, backward" of experiments.py. A bidirectional LSTM sees what it
is to predict. Two models that each predict all tokens of a story, one from its front and one from its end, do not: each
gives the whole story a probability, p_f and p_b. (p_f + p_b) / 2 is a probability of stories too, and its nats per
token can stand beside those of either. To tell a story from a spoilt one, log p_f + log p_b will do. Stories are spoilt
by exchanging two different tokens, neighbours or any two.
"""

import argparse
import os
import random
import sys
from pathlib import Path

import numpy as np
from adapting import nats_by_position
from experiments import PLANS, RESULTS, Experiment, write_json

sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))
import lstlm  # noqa: E402


def story_nats(loaded: lstlm.Loaded, stories: list[list[str]]) -> np.ndarray:
    """-ln p of each whole story, its `<eos>` included."""
    return np.array([nats.sum() for nats in nats_by_position(loaded.model, lstlm.encode(stories, loaded.token2idx))])


def mixture_nats(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """-ln((p_f + p_b) / 2) of each story, from -ln p_f and -ln p_b."""
    return np.log(2) - np.logaddexp(-forward, -backward)


def spoilt(story: list[str], neighbours: bool, dice: random.Random) -> list[str] | None:
    """The story with two different tokens exchanged; None if it has no two such tokens."""
    pairs = [(i, i + 1) for i in range(len(story) - 1)] if neighbours else [
        (i, j) for j in range(len(story)) for i in range(j)]
    pairs = [(i, j) for i, j in pairs if story[i] != story[j]]
    if not pairs:
        return None
    i, j = dice.choice(pairs)
    return [*story[:i], story[j], *story[i + 1 : j], story[i], *story[j + 1 :]]


def backwards(stories: list[list[str]]) -> list[list[str]]:
    """Each story from its end."""
    return [story[::-1] for story in stories]


def measure(forward: lstlm.Loaded, backward: lstlm.Loaded, stories: list[list[str]]) -> dict:
    """Perplexities of the two models and of their mixture, and how often each prefers a story to a spoilt one."""
    tokens = sum(len(story) + 1 for story in stories)
    nats = {"forward": story_nats(forward, stories), "backward": story_nats(backward, backwards(stories))}
    nats["both"] = mixture_nats(*nats.values())
    result = {"stories": len(stories), "tokens": tokens,
              "ppl": {name: lstlm.safe_exp(float(x.sum()) / tokens) for name, x in nats.items()}}
    for kind in ("neighbours", "any two"):
        dice = random.Random(0)
        pairs = [(number, changed) for number, story in enumerate(stories)
                 if (changed := spoilt(story, kind == "neighbours", dice))]
        numbers, changed = [number for number, _ in pairs], [story for _, story in pairs]
        lost = {"forward": story_nats(forward, changed) - nats["forward"][numbers],
                "backward": story_nats(backward, backwards(changed)) - nats["backward"][numbers]}
        lost["both"] = lost["forward"] + lost["backward"]
        result[kind] = {name: float((x > 0).mean()) for name, x in lost.items()}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(os.environ.get("LSTLM_DATA", lstlm.DATA)),
                        help="the folder with tiny/ (default $LSTLM_DATA, else hw04/data)")
    data, loaded = parser.parse_args().data, []
    for name in ("full, base", "full, backward"):
        experiment = Experiment(next(plan for plan in PLANS if plan.name == name), 0, data)
        if not experiment.model.exists():
            parser.error(f"no trained model of the run {name}; first: experiments.py run '{name}'")
        loaded.append(lstlm.load_model(lstlm.parse_args(["-evaluate", "-model", str(experiment.model)])))
    result = measure(*loaded, lstlm.read_stories(data / "tiny" / "tiny.test.tokens.4M"))
    write_json(RESULTS / "both_ways.json", result)
    print(lstlm.to_json(result))


if __name__ == "__main__":
    main()
