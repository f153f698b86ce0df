"""What a grader calls: a small model, its loss and gradients, its training steps, its texts.

The snapshots know the program by these functions alone: when it changes, change them and leave the
numbers in `snapshots/` as they are. Weights and gradients are exchanged as tensors by the name that
they have in the snapshots.
"""

from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import lstlm
import small
import torch
from backstage.minibatches import segments
from backstage.optimizer import make_optimizer
from backstage.reading import next_logits
from backstage.state import State
from torch import Tensor


class Carried(NamedTuple):
    """What a minibatch gives that is computed in segments, the state carried over between them.

    The state is that of the b stories that the last segment has, in the order of the minibatch:
    "h.0", "h.1", ... of each layer and of each direction of it, and of an LSTM also "c.0", ...
    """

    loss: float  # mean nats per target token of all segments
    last_loss: Tensor  # that of the last segment alone, with a gradient that ends where it begins
    state: dict[str, Tensor]  # each (b, size)


def build(kind: dict, weights: dict[str, Tensor], dtype: torch.dtype) -> lstlm.LSTMLM:
    """The small model of this kind with the given weights."""
    model = small.make_model(dtype=dtype, **kind)
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert missing == (["output.weight"] if model.tied else []), missing
    return model


def parameters(model: lstlm.LSTMLM) -> dict[str, Tensor]:
    """What is trained, each tensor once."""
    return dict(sorted(model.named_parameters()))


def weights(model: lstlm.LSTMLM) -> dict[str, Tensor]:
    """All that makes up a model, what `build` asks for: the parameters and what is not trained."""
    return parameters(model) | dict(model.named_buffers())


def gradients(model: lstlm.LSTMLM, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of the loss with respect to each parameter."""
    trained = parameters(model)
    found = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
    return dict(zip(trained, found, strict=True))


def use_bfloat16(model: lstlm.LSTMLM) -> None:
    """Make a float32 model compute its large products in bfloat16."""
    model.precision = torch.bfloat16


def step_loss(model: lstlm.LSTMLM, stories: list[list[int]]) -> Tensor:
    """The mean nats per target token of a minibatch, with gradient."""
    inputs, targets, lengths = lstlm.collate_stories(stories)
    return model(inputs, lengths, targets)


def carried_loss(model: lstlm.LSTMLM, stories: list[list[int]], length: int) -> Carried:
    """A minibatch in segments of at most `length` positions; a story leaves it where it ends."""
    total = 0.0
    count = 0
    state = State()
    for inputs, targets, lengths in segments(stories, length, lstlm.collate_stories):
        loss = model(inputs, lengths, targets, state)
        total += loss.item() * int(lengths.sum())
        count += int(lengths.sum())
    # The last segment has the longest stories, and of equally long ones the first one comes first.
    final = {}
    for i, (h, c) in enumerate(state.layer_states()):
        final[f"h.{i}"] = h
        if model.cell == "lstm":
            final[f"c.{i}"] = c
    return Carried(total / count, loss, final)


@torch.no_grad()
def scores(model: lstlm.LSTMLM, stories: list[list[int]]) -> Tensor:
    """The scores (R, V) of the next token at the real positions, one story after the other."""
    inputs, _, lengths = lstlm.collate_stories(stories)
    logits = model(inputs, lengths)  # (B, T, V)
    return torch.cat([row[:length] for row, length in zip(logits, lengths, strict=True)])


@torch.no_grad()
def stepped_scores(model: lstlm.LSTMLM, stories: list[list[int]]) -> Tensor:
    """What `scores` gives, computed one token at a time from the state before it."""
    rows = []
    for story in stories:
        state = State()
        rows += [next_logits(model, [story[:end]], state) for end in range(1, len(story))]
    return torch.cat(rows)


def gradient_step(
    model: lstlm.LSTMLM, optimizer: torch.optim.Optimizer, stories: list[list[int]], length: int
) -> float:
    """What `lstlm.train` does with a minibatch in segments; returns its summed nats.

    The gradient of a segment is that of its summed nats divided by the targets of the first one.
    """
    parts = list(segments(stories, length, lstlm.collate_stories))
    first = int(parts[0][2].sum())
    state = State()
    nats = 0.0
    for inputs, targets, lengths in parts:
        count = int(lengths.sum())
        loss = count / first * model(inputs, lengths, targets, state)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        nats += loss.item() * first
    return nats


def train_steps(
    model: lstlm.LSTMLM, batches: Iterable[list[list[int]]], length: int, lr: float, decay: float
) -> list[float]:
    """AdamW updates for minibatches in segments; the mean nats per target token of each batch."""
    optimizer = make_optimizer(model, Namespace(lr=lr, emb_lr=lr, weight_decay=decay))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"]
    losses = []
    for stories in batches:
        nats = gradient_step(model, optimizer, stories, length)
        losses.append(nats / sum(len(story) - 1 for story in stories))
    return losses


def generate(
    model: lstlm.LSTMLM, prompt: list[int], count: int, seed: int | None = None,
    with_state: bool = True, until_end: bool = False, **sampling: float,
) -> list[int]:
    """The next `count` ids after a prompt, greedy or, with a seed, sampled.

    Without a state each token is computed from the beginning. `until_end` stops after `<eos>`.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    state = State() if with_state else None
    ids = list(prompt)
    while len(ids) < len(prompt) + count and not (until_end and ids[-1] == lstlm.EOS):
        token = lstlm.generate_next_token(
            model, ids, greedy=seed is None, generator=generator, state=state, **sampling
        )
        ids.append(token)
    return ids[len(prompt) :]


def load(path: Path) -> lstlm.Loaded:
    """A trained model and its vocabulary, in float32 on the CPU."""
    return lstlm.load_model(lstlm.parse_args(["-use", "-device", "cpu", "-model", str(path)]))


def corpus_loss(loaded: lstlm.Loaded, path: Path) -> float:
    """The mean nats per target token of a corpus file."""
    stories = lstlm.tokenize_corpus(path, loaded.token2idx)
    return lstlm.compute_loss(loaded.model, stories, 32)


def continuation(
    loaded: lstlm.Loaded, text: str, count: int, seed: int | None = None, **sampling: float
) -> str:
    """At most `count` tokens after a text, joined by spaces; greedy or, with a seed, sampled."""
    prompt = lstlm.encode([text.split()], loaded.token2idx)[0][:-1]
    ids = generate(loaded.model, prompt, count, seed, until_end=True, **sampling)
    return " ".join(loaded.words[i] for i in ids)
