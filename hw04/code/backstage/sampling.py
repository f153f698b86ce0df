"""Sampling: which tokens may come next, as logits -> logits, in a fixed order."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from backstage.corpora import BOS, UNK
from backstage.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Raises UserError for a value that makes no sense."""

    greedy: bool = False
    fpenalty: float = 0.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self):
        for name, fine, numbers in (
            ("fpenalty", -2 <= self.fpenalty <= 2, "from -2 to 2"),
            ("temperature", 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_k", self.top_k >= 0, "0 (all words) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, up to 1 (all words)"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 (all words) to 1"),
        ):
            if not fine:
                raise UserError(f"-{name} {getattr(self, name)}: give a number {numbers}")

    def is_greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return self.greedy or self.temperature == 0


def restricted(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits (V,) after all that changes them behind the frequency penalty, in this order.

    The words that are never generated, temperature (Ackley et al. 1985), top-k (Fan et al. 2018),
    top-p (Holtzman et al. 2020), and min-p relative to the most probable word (Nguyen et al. 2024).
    A word that may not come has the logit -inf.
    """
    logits = logits.index_fill(0, torch.tensor([UNK, BOS]), -math.inf)
    top = logits.max()
    if not top.isfinite():
        why = "train it again, with a smaller -lr"
        raise UserError(f"the model's scores are no finite numbers; {why}")
    logits = (logits - top) / (sampling.temperature or 1.0)
    if sampling.top_k:
        logits = keep(logits, logits.argsort(descending=True, stable=True)[: sampling.top_k])
    if sampling.top_p < 1:
        ranked, order = torch.softmax(logits, 0).sort(descending=True, stable=True)
        before = ranked.cumsum(0) - ranked
        logits = keep(logits, order[before < sampling.top_p])  # the fewest that reach top_p
    if sampling.min_p:
        probs = torch.softmax(logits, 0)
        logits = keep(logits, (probs >= sampling.min_p * probs.max()).nonzero()[:, 0])
    return logits


def keep(logits: Tensor, chosen: Tensor) -> Tensor:
    """The logits (V,) of the ids `chosen`, and -inf for all others."""
    return torch.full_like(logits, -math.inf).index_copy(0, chosen, logits[chosen])
