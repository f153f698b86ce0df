"""Minibatches: which stories come together, cut into segments, built one ahead of the step."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from tqdm import tqdm

from backstage.corpora import SPECIAL, UNK
from backstage.state import State

# Minibatches whose stories are sorted by length together: the more, the fewer lengths in each, and
# so the fewer runs of positions for the layers (50: 10 % slower where N = 256 and B = 8).
POOL = 200
ROWS = 512  # stories x positions that reading a prompt computes at a time
SEGMENT = 512  # positions that evaluation computes at a time, fewer if there are more stories than
EVALUATION_ROWS = 1 << 14  # fit into so many stories x positions
WHOLE_ROWS = 1 << 16  # of a minibatch of whole stories, if it has more than one
UNK_RATE = 0.5  # how often a word that the corpus has once is shown as <unk>, else never seen


def shuffled_batches(
    stories: list[list[int]], batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """The numbers of all stories, in minibatches of similar length, the batches in random order.

    Stories are shuffled, then each pool of minibatches is sorted by length, so that little of a
    batch is padding.
    """
    order = torch.randperm(len(stories), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), POOL * batch_size):
        pool = order[start : start + POOL * batch_size]
        pool.sort(key=lambda number: -len(stories[number]))
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def segments(
    batch: list[list[int]], length: int, collate: Callable
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Truncated backpropagation: a minibatch cut into segments of at most `length` positions.

    Yields inputs, targets (B', T') and lengths (B',) of the B' stories that reach so far, always
    the first ones, as the longest comes first. Each segment is collated by itself: a minibatch
    padded to its longest story would be B times as large as that.
    """
    stories = sorted(batch, key=len, reverse=True)
    for start in range(0, len(stories[0]) - 1, length):
        stories = [story for story in stories if len(story) - 1 > start]
        # A segment shares its last token with the next one, as a target here and an input there.
        yield collate([story[start : start + length + 1] for story in stories])


@contextlib.contextmanager
def evaluating(model) -> Iterator[None]:
    """Within it the model drops nothing out and keeps no gradients; then it is as it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def evaluation_segments(
    model, stories: list[list[int]], batch_size: int, collate: Callable, progress: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor, State]]:
    """All stories, the longest first, as inputs, targets, lengths and the state to be carried on.

    Long stories come in segments, so that memory stays small while nothing is cut or forgotten; for
    a bidirectional model as a whole, as no segment has what comes from its story's end.
    """
    device = model.output.weight.device
    total = sum(len(story) - 1 for story in stories)
    hidden = None if progress else True  # None: hidden if no terminal sees it
    with tqdm(total=total, unit=" tokens", disable=hidden, leave=False) as bar:
        for batch in evaluation_batches(stories, batch_size, model.bidirectional):
            state = State()
            length = max(1, min(SEGMENT, EVALUATION_ROWS // len(batch)))
            if model.bidirectional:
                length = sys.maxsize
            for inputs, targets, lengths in segments(batch, length, collate):
                yield inputs.to(device), targets.to(device), lengths, state
                bar.update(int(lengths.sum()))


def evaluation_batches(
    stories: list[list[int]], batch_size: int, whole: bool
) -> Iterator[list[list[int]]]:
    """Minibatches of at most `batch_size` stories, the longest first, and of no more than fit.

    That is one position of each at a time, or all positions if the stories are computed as a
    `whole`.
    """
    by_length = sorted(stories, key=len, reverse=True)
    start = 0
    while start < len(by_length):
        most = WHOLE_ROWS // len(by_length[start]) if whole else EVALUATION_ROWS
        size = max(1, min(batch_size, most))
        yield by_length[start : start + size]
        start += size


def prefetch(function: Callable, items: Iterable) -> Iterator:
    """function(item) for each item, made one ahead in a thread, so that no step waits for it."""
    with ThreadPoolExecutor(1) as thread:
        coming = None
        for item in items:
            ready = coming
            coming = thread.submit(function, item)
            if ready:
                yield ready.result()
        if coming:
            yield coming.result()


def hide_rare(counts: Tensor, generator: torch.Generator) -> list[int]:
    """What each id is shown as in this epoch: itself, or `<unk>` for half of the rare words.

    These are the words that the corpus has once.
    """
    hidden = (counts == 1) & (torch.rand(len(counts), generator=generator) < UNK_RATE)
    hidden[: len(SPECIAL)] = False  # a corpus of one story has one <eos>
    return torch.where(hidden, UNK, torch.arange(len(counts))).tolist()
