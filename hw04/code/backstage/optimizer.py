"""The optimizer and its learning rate."""

import math
from argparse import Namespace

import torch
from torch import nn

WARM_UP = 50  # steps over which the learning rate rises to -lr


def learning_rate(step: int, steps: int, peak: float, schedule: str = "linear") -> float:
    """The rate of step 1, 2, ..., `steps`: a linear warm-up, then a fall to a tenth of `peak`.

    The fall is a line, or the first half of a `cosine` (Loshchilov & Hutter 2017). It begins at
    step 0, so where the two meet the rate is below `peak`: see `highest_rate`.
    """
    left = 1 - step / steps
    if schedule == "cosine":
        left = (1 + math.cos(math.pi * step / steps)) / 2
    return peak * min(step / WARM_UP, 0.1 + 0.9 * left)


def highest_rate(steps: int, peak: float, schedule: str = "linear") -> float:
    """The highest rate of all these steps; on a line near peak / (1 + 45 / steps)."""
    rising = range(1, min(steps, WARM_UP) + 1)  # after that it falls
    return max(learning_rate(step, steps, peak, schedule) for step in rising)


class FiniteAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019) that refuses a step whose gradient is not all finite.

    `refused` says whether it did so since it was last set to False.
    """

    refused = False

    @torch.no_grad()
    def step(self, closure=None):
        """Update the parameters, or set `refused`."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        grads = [p.grad for p in parameters if p.grad is not None]
        norms = torch._foreach_norm(grads)
        if not torch.stack(norms).isfinite().all():
            self.refused = True
            return None
        return super().step(closure)


def make_optimizer(model: nn.Module, args: Namespace) -> FiniteAdamW:
    """AdamW with groups: word vectors with a rate of their own, matrices with weight decay.

    Word vectors have no decay, as frozen ones would shrink; nor have biases.
    """
    vectors = model.embedding.weight
    others = [p for p in model.parameters() if p is not vectors]
    matrices = [p for p in others if p.dim() > 1]
    biases = [p for p in others if p.dim() == 1]
    return FiniteAdamW([
        {"params": [vectors], "peak": args.emb_lr, "weight_decay": 0.0},
        {"params": matrices, "peak": args.lr, "weight_decay": args.weight_decay},
        {"params": biases, "peak": args.lr, "weight_decay": 0.0},
    ], fused=True)
