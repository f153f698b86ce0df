#!/usr/bin/env python3
"""What a backward language model adds, honestly: stories scored forward and backward together.

    python both_ways.py -data DIR       # -> results/measures/both_ways.json

It takes the models of the runs "full, base" and "full, backward" of experiments.py. A bidirectional
LSTM sees what it is to predict. Two models that each predict all tokens of a story, one from its
front and one from its end, do not: each gives the whole story a probability, p_f and p_b. (p_f +
p_b) / 2 is a probability of stories too, and its nats per token can stand beside those of either.
To tell a story from a spoilt one, log p_f + log p_b will do. Stories are spoilt by exchanging two
different tokens, neighbours or any two.
"""

import random
import sys
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("both_ways.py"):
    import numpy as np
    import store
    from backstage.checkpoint import Loaded
    from backstage.corpora import encode, read_stories
    from backstage.files import to_json
    from backstage.measures import safe_exp
    from backstage.parser import Parser
    from measures.scoring import nats_by_position
    from plans import PLANS
    from runner import Experiment


def story_nats(loaded: Loaded, stories: list[list[str]]) -> np.ndarray:
    """-ln p of each whole story, its `<eos>` included."""
    ids = encode(stories, loaded.token2idx)
    return np.array([nats.sum() for nats in nats_by_position(loaded.model, ids)])


def mixture_nats(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """-ln((p_f + p_b) / 2) of each story, from -ln p_f and -ln p_b."""
    return np.log(2) - np.logaddexp(-forward, -backward)


def spoilt(story: list[str], neighbours: bool, dice: random.Random) -> list[str] | None:
    """The story with two different tokens exchanged; None if it has no two such tokens."""
    if neighbours:
        pairs = [(i, i + 1) for i in range(len(story) - 1)]
    else:
        pairs = [(i, j) for j in range(len(story)) for i in range(j)]
    pairs = [(i, j) for i, j in pairs if story[i] != story[j]]
    if not pairs:
        return None
    i, j = dice.choice(pairs)
    return [*story[:i], story[j], *story[i + 1 : j], story[i], *story[j + 1 :]]


def backwards(stories: list[list[str]]) -> list[list[str]]:
    """Each story from its end."""
    return [story[::-1] for story in stories]


def measure(forward: Loaded, backward: Loaded, stories: list[list[str]]) -> dict:
    """Perplexities of the two models and of their mixture, and how often each knows the story.

    That is, prefers it to a spoilt one.
    """
    tokens = sum(len(story) + 1 for story in stories)
    nats = {
        "forward": story_nats(forward, stories),
        "backward": story_nats(backward, backwards(stories)),
    }
    nats["both"] = mixture_nats(*nats.values())
    ppl = {name: safe_exp(float(x.sum()) / tokens) for name, x in nats.items()}
    result = {"stories": len(stories), "tokens": tokens, "ppl": ppl}
    for kind in ("neighbours", "any two"):
        dice = random.Random(0)
        changed = {}
        for number, story in enumerate(stories):
            other = spoilt(story, kind == "neighbours", dice)
            if other:
                changed[number] = other
        numbers = list(changed)
        others = list(changed.values())
        lost = {
            "forward": story_nats(forward, others) - nats["forward"][numbers],
            "backward": story_nats(backward, backwards(others)) - nats["backward"][numbers],
        }
        lost["both"] = lost["forward"] + lost["backward"]
        result[kind] = {name: float((x > 0).mean()) for name, x in lost.items()}
    return result


def carry_out(argv: list[str] | None) -> None:
    """Measure the two models, and write what is found."""
    parser = Parser("both_ways.py", __doc__)
    store.add_data_flag(parser.add_argument, "tiny/")
    data = parser.parse_args(argv).data
    loaded = []
    for name in ("full, base", "full, backward"):
        plan = next(plan for plan in PLANS if plan.name == name)
        experiment = Experiment(plan, 0, data)
        if not experiment.model.exists():
            how = f"first: experiments.py run '{name}'"
            parser.error(f"no trained model of the run {name}; {how}")
        loaded.append(experiment.load())
    result = measure(*loaded, read_stories(data / "tiny" / "tiny.test.tokens.4M"))
    store.write_json(store.RESULTS / "measures" / "both_ways.json", result)
    print(to_json(result))


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for what the user can mend."""
    return guarded("both_ways.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
