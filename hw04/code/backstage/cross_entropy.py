"""Output layer and cross-entropy fused: the logits of all positions never exist at once."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from backstage.products import WeightGradient, product

CHUNK = 1 << 22  # logits at a time in training, if V is not huge: 16 MB in float32
EVALUATION_CHUNK = CHUNK // 8  # logits at a time in evaluation,
EVALUATION_ROWS_AT_ONCE = 512  # of so many rows
GPU_FACTOR = 16  # so many times these on a GPU, which small tensors leave idle
GRAIN_OF_ROWS = 64  # oneDNN makes code for each number of rows, so there are few
UNDERFLOW = 1e-30  # smaller probabilities come close to where float32 loses digits


def chunk_size(logits: int, x: Tensor) -> int:
    """How many logits are computed at a time on the device of `x`."""
    return logits * GPU_FACTOR if x.is_cuda else logits


class LinearCrossEntropy(torch.autograd.Function):
    """The cross-entropy of softmax(hidden W^T + bias) against the targets, summed, in nats.

    The logits of R rows x V words would take more memory than all the rest. So rows are taken in
    chunks, and the gradient is computed at once, while a chunk's probabilities are there:
    d loss / d logits = softmax - onehot(target). Products are in the dtype of `hidden`.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets):
        """hidden (R, N), weight (V, N), bias (V,), targets (R,) -> a scalar."""
        V = len(weight)
        low_weight = weight.to(hidden.dtype)
        low_bias = bias.to(hidden.dtype)
        if weight.is_cuda:  # its units are fast with a multiple of 8 words: some of probability 0
            low_weight = F.pad(low_weight, (0, 0, 0, -V % 8))
            low_bias = F.pad(low_bias, (0, -V % 8), value=-math.inf)
        grad_hidden = []
        grad_weight = WeightGradient(low_weight, weight.dtype)
        grad_bias = torch.zeros_like(low_bias, dtype=weight.dtype)
        total = weight.new_zeros(())
        # A chunk adds V N numbers to the weight's gradient: with far fewer than N rows a chunk that
        # costs much.
        rows = max(1, chunk_size(CHUNK, weight) // V, weight.shape[1] * 3 // 4)
        grain = min(rows, GRAIN_OF_ROWS)
        rows -= rows % grain
        ones = low_weight.new_ones(max(rows, len(low_weight)))  # sums are fast as products
        for x, target in zip(hidden.split(rows), targets.split(rows), strict=True):
            r = len(x)
            x = F.pad(x, (0, 0, 0, -r % grain))  # (r', N)
            probs = product(x, low_weight, low_bias)  # (r', V) logits, replaced by
            torch.softmax(probs, 1, out=probs)
            places = torch.arange(r, device=x.device), target
            total += nats_of(probs[places], x, low_weight, low_bias, target).sum()
            # p - 1 of a target is minus the sum of the others, which keeps its digits near p = 1.
            slope = probs.index_put_(places, probs.new_zeros(()))
            slope[places] = -(slope @ ones[: slope.shape[1]])[:r]
            slope[r:] = 0
            grad_bias += ones[: len(x)] @ slope
            grad_weight.add(slope, x)
            grad_hidden.append(product(slope, low_weight.t())[:r])
        ctx.grads = torch.cat(grad_hidden), grad_weight.total[:V], grad_bias[:V]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        grad_hidden, grad_weight, grad_bias = (x * grad.to(x.dtype) for x in ctx.grads)
        return grad_hidden, grad_weight, grad_bias, None


def nats_of(picked: Tensor, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """-log of the targets' probabilities `picked` (r,), in float32 or better.

    Those so small that digits are lost are computed anew from x (r, N).
    """
    nats = -picked.to(torch.promote_types(picked.dtype, torch.float32)).log()
    rare = (picked < UNDERFLOW).nonzero()[:, 0]
    if len(rare):
        logits = product(x[rare], weight, bias).to(nats.dtype)
        nats[rare] = F.cross_entropy(logits, targets[rare], reduction="none")
    return nats


def nats_without_gradient(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """`LinearCrossEntropy` without gradients, some rows and words at a time."""
    total = weight.new_zeros(())
    rows = chunk_size(EVALUATION_ROWS_AT_ONCE, hidden)
    for x, target in zip(hidden.split(rows), targets.split(rows), strict=True):
        total += nats_of_rows(x, weight, bias, target)
    return total


def nats_of_rows(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """The sum for a few rows, some words at a time, so that nothing is as large as V."""
    log_sum = weight.new_full((len(hidden),), -math.inf)  # (R,)
    picked = weight.new_empty(len(hidden))  # (R,) the targets' logits
    words = max(1, chunk_size(EVALUATION_CHUNK, hidden) // len(hidden))
    for start in range(0, len(weight), words):
        w = weight[start : start + words].to(hidden.dtype)  # (v, N)
        b = bias[start : start + words].to(hidden.dtype)  # (v,)
        logits = product(hidden, w, b).to(weight.dtype)  # (R, v)
        log_sum = torch.logaddexp(log_sum, logits.logsumexp(1))
        column = targets - start  # of the target among these words
        rows = ((column >= 0) & (column < len(w))).nonzero()[:, 0]
        picked[rows] = logits[rows, column[rows]]
    return (log_sum - picked).sum()


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """The mean nats per target of `hidden` (R, N) -> logits (R, V) against `targets` (R,)."""
    if torch.is_grad_enabled():
        nats = LinearCrossEntropy.apply(hidden, weight, bias, targets)
    else:
        nats = nats_without_gradient(hidden, weight, bias, targets)
    return nats / len(targets)
