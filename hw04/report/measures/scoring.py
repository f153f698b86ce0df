"""What a model's output layer sees of stories, and the nats of each of their tokens."""

import sys

if __name__ == "__main__":
    print("scoring.py: error: no program; adapting.py uses it", file=sys.stderr)
    sys.exit(2)

from collections.abc import Iterator

import numpy as np
import torch
from backstage.minibatches import ROWS, segments
from backstage.state import State
from lstlm import LSTMLM, collate_stories
from torch import Tensor
from torch.nn import functional as F


def score(
    model: LSTMLM, inputs: Tensor, lengths: Tensor, targets: Tensor, state: State | None = None
) -> tuple[Tensor, Tensor]:
    """What the output layer sees (B, T, N), and the nats (B, T) of the targets (B, T).

    A `state` is brought forward. At padding the nats are 0.
    """
    seen = []
    device = model.output.weight.device
    with model.output.register_forward_pre_hook(lambda output, given: seen.append(given[0])):
        logits = model(inputs.to(device), lengths, state=state)  # (B, T, V)
    nats = F.cross_entropy(logits.flatten(0, 1), targets.to(device).flatten(), reduction="none")
    return seen[0], nats.view(targets.shape)


@torch.no_grad()
def scored_stories(
    model: LSTMLM, stories: list[list[int]], batch_size: int = 32
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Of each story, the longest first: its number, what the output layer sees (T, N), nats (T,).

    The minibatches and their segments are those of `lstlm.compute_loss` on a CPU. Not for a
    bidirectional model, of which no segment has what comes from its story's end.
    """
    model.eval()
    order = sorted(range(len(stories)), key=lambda number: -len(stories[number]))
    for begin in range(0, len(order), batch_size):
        numbers = order[begin : begin + batch_size]
        batch = [stories[number] for number in numbers]
        parts = [[] for _ in numbers]
        state = State()
        cut = segments(batch, max(1, ROWS // batch_size), collate_stories)
        for inputs, targets, lengths in cut:
            features, nats = score(model, inputs, lengths, targets, state)
            for row, length in enumerate(lengths.tolist()):
                parts[row].append((features[row, :length], nats[row, :length]))
        for number, part in zip(numbers, parts, strict=True):
            features, nats = zip(*part, strict=True)
            yield number, torch.cat(features), torch.cat(nats)


def nats_by_position(
    model: LSTMLM, stories: list[list[int]], batch_size: int = 32
) -> list[np.ndarray]:
    """The nats (T,) of each story's targets; their mean is `lstlm.compute_loss`."""
    found = {}
    for number, _, nats in scored_stories(model, stories, batch_size):
        found[number] = nats.double().cpu().numpy()
    return [found[number] for number in range(len(stories))]
