"""What stands in the place of parts that a check is not about."""

import contextlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from checks.letters import LETTERS, VOCABULARY


class Bigram(nn.Module):
    """A model with the interface of LSTMLM that sees one token.

    Its logits are gain * (table[token] + bias). If it is given a `state` that another minibatch has
    used, they are others.
    """

    bidirectional = False

    def __init__(
        self, table: np.ndarray, bias: np.ndarray, carried: np.ndarray | None = None,
        gain: float = 1.0,
    ):
        super().__init__()
        self.gain = gain
        self.table = nn.Parameter(torch.tensor(table))  # (V, V)
        self.bias = nn.Parameter(torch.tensor(bias))  # (V,)
        self.output = nn.Identity()
        self.output.weight = self.table
        self.carried = torch.zeros(len(bias)) if carried is None else torch.tensor(carried)

    def forward(self, inputs: Tensor, lengths: Tensor, targets=None, state=None) -> Tensor:
        logits = self.gain * (self.table[inputs] + self.bias)  # (B, T, V)
        if state is not None:
            logits = logits + state.position * self.carried
            state.position += inputs.shape[1]
        if targets is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


class Collate:
    """collate_stories for these stories alone, whose rows are known beforehand."""

    def __init__(self, stories: list[list[int]], inputs, targets, lengths):
        self.number = {tuple(story): i for i, story in enumerate(stories)}
        self.rows = [torch.tensor(rows) for rows in (inputs, targets, lengths)]

    def __call__(self, stories: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
        chosen = [self.number[tuple(map(int, story))] for story in stories]
        inputs, targets, lengths = (rows[chosen] for rows in self.rows)
        longest = int(lengths.max())
        return inputs[:, :longest], targets[:, :longest], lengths


class Steps(contextlib.nullcontext):
    """A run for `train`: these minibatches, plain gradient descent, the weights after each step."""

    def __init__(self, model: Bigram, batches: list[list], rate: float):
        super().__init__(self)
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        self.batches = [[torch.tensor(rows) for rows in batch] for batch in batches]
        self.after: list[Tensor] = []

    def segments(self):
        """Minibatches as those of a run: inputs, targets, lengths, state, share of the loss."""
        return ((*batch, None, 1.0) for batch in self.batches)

    def add(self, loss: Tensor) -> None:
        """Called after each step."""
        self.after.append(torch.cat([self.model.table, self.model.bias[None]]).detach().clone())

    def tell(self) -> None:
        """Print nothing."""

    def finish(self) -> None:
        """Keep nothing."""


class Tokens:
    """A tokenizer of the second assignment: a token is a letter, its id is 6 + its place."""

    pad_id, unk_id, mask_id, sos_id, eos_id, blank_id = range(6)
    vocab_size = VOCABULARY
    token_type = "char"

    def encode(self, text: str) -> list[int]:
        return [6 + LETTERS.index(letter) for letter in text]

    def decode(self, token_ids: list[int], skip_special_tokens: bool = False) -> str:
        names = {} if skip_special_tokens else {self.sos_id: "[SOS]", self.eos_id: "[EOS]"}
        return "".join(
            LETTERS[i - 6] if i >= 6 else names.get(i, "") for i in map(int, token_ids)
        )


class Scripted:
    """A score_fn for SequenceGenerator: logits that depend on the last token and the length."""

    def __init__(self, table: np.ndarray):
        self.table = torch.tensor(table)  # (lengths, V, V)

    def __call__(self, x: Tensor) -> Tensor:
        return self.table[x.shape[1], x[:, -1]].clone()  # (B, V)
