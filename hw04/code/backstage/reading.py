"""What comes after stories of ids, computing no more than what is new."""

import torch
from torch import Tensor
from tqdm import tqdm

from backstage.minibatches import ROWS
from backstage.one_step import OneStep
from backstage.state import State


@torch.inference_mode()
def next_logits(model, stories: list[list[int]], state: State) -> Tensor:
    """The logits (K, V) after K stories of ids of the same length, given what `state` holds."""
    known = len(state.stories[0]) if state.stories else 0
    if state.stories != [story[:known] for story in stories]:
        state.forget()
        known = 0
    device = model.output.weight.device
    new = torch.tensor([story[known:] for story in stories], device=device)  # (K, n)
    if known and new.shape[1] == 1:
        state.logits = OneStep.of(model).advance(new[:, 0], state)
    elif new.shape[1]:
        read(model, new, state)
    state.stories = [list(story) for story in stories]
    return state.logits


def read(model, new: Tensor, state: State) -> None:
    """Go on with the stories of `state` by the ids `new` (K, n), some positions at a time.

    Of each part the output layer gets the last position alone, as it takes half of the time, and
    much memory where V is large.
    """
    K, count = new.shape
    hidden = True if count < 5000 else None  # None: hidden if no terminal sees it
    bar = tqdm(total=count, desc="reading", unit=" tokens", leave=False, disable=hidden)
    state.last_only = True
    with bar:
        for part in new.split(max(1, ROWS // K), 1):
            n = part.shape[1]
            logits = model(part, torch.full((K,), n), state=state)  # (K, 1, V)
            state.logits = logits[:, -1]
            bar.update(n)
