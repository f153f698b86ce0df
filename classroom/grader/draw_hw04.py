"""The first assignment: cases with numbers drawn anew, and what usual mistakes make of them."""

import numpy as np
from checks.case import Case

from grader.draw_hw04_minibatches import collate
from grader.draw_hw04_model import attend, forward
from grader.draw_hw04_tokens import evaluate, next_token, penalty, use
from grader.draw_hw04_training import loss, train


def draw(rng: np.random.Generator, small: dict) -> list[Case]:
    """All cases of the nine items."""
    cases = [*collate(rng), *forward(rng), *attend(rng), *loss(rng), *train(rng)]
    return [*cases, *use(rng, small), *next_token(rng), *penalty(rng), *evaluate(rng, small)]
