#!/usr/bin/env python3
"""Measure the NumPy layers of hw4p1/mytorch beside PyTorch's, forward and backward, on one thread.

    OMP_NUM_THREADS=1 python bench/transformer/mytorch_speed.py [-repeats 20]

N = 8, H = 8, L = S = 256, float32, with a causal mask. Both do the same work on the same numbers in
turn; the figures are medians in milliseconds, and the results are compared before anything is
measured.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "hw4p1"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import importing

with importing("mytorch_speed.py", "-r requirements-dev.txt"):
    import numpy as np
    import torch
    from backstage.parser import positive
    from hw4lib.entry import Parser, guarded
    from hw4lib.errors import UserError
    from mytorch import Linear, MultiHeadAttention, ScaledDotProductAttention, Softmax
    from torch import nn
    from torch.nn import functional as F

N = 8
H = 8
L = 256
RNG = np.random.default_rng(0)
Run = Callable[[], list[np.ndarray]]  # forward and backward: the output, the inputs' gradients


def draw(*shape: int) -> np.ndarray:
    """Random numbers, of which all runs of this program draw the same."""
    return RNG.standard_normal(shape).astype(np.float32)


def numpy_run(
    layer, inputs: list[np.ndarray], d_output: np.ndarray, *masks: np.ndarray | None
) -> Run:
    """A forward and backward pass of a layer of ours."""

    def run() -> list[np.ndarray]:
        output = layer.forward(*inputs, *masks)
        gradients = layer.backward(d_output)
        return [output, *(gradients if isinstance(gradients, tuple) else (gradients,))]

    return run


def torch_run(
    function, inputs: list[np.ndarray], d_output: np.ndarray, parameters: list = ()
) -> Run:
    """A forward and backward pass of PyTorch's."""
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    d_output = torch.tensor(d_output)

    def run() -> list[np.ndarray]:
        output = function(*leaves)
        gradients = torch.autograd.grad(output, [*leaves, *parameters], d_output)
        return [x.detach().numpy() for x in (output, *gradients[: len(leaves)])]

    return run


def linear_pair(features: int) -> tuple[Run, Run]:
    """Ours and PyTorch's linear layer."""
    theirs = nn.Linear(features, features)
    ours = Linear(features, features)
    ours.init_weights(*(p.detach().numpy() for p in theirs.parameters()))
    inputs = [draw(N, L, features)]
    d_output = draw(N, L, features)
    run = torch_run(theirs, inputs, d_output, list(theirs.parameters()))
    return numpy_run(ours, inputs, d_output), run


def softmax_pair() -> tuple[Run, Run]:
    """Ours and PyTorch's softmax."""
    inputs = [draw(N, H, L, L)]
    d_output = draw(N, H, L, L)
    theirs = torch_run(lambda z: torch.softmax(z, -1), inputs, d_output)
    return numpy_run(Softmax(), inputs, d_output), theirs


def causal_mask() -> np.ndarray:
    """True (L, L) where a position may not look: at later ones."""
    return np.triu(np.ones((L, L), bool), 1)


def attention_pair(E: int, explicit: bool) -> tuple[Run, Run]:
    """Ours and PyTorch's fused attention, or the same in three lines, which keep the weights."""
    inputs = [draw(N, H, L, E) for _ in range(3)]
    d_output = draw(N, H, L, E)
    ignored = torch.tensor(causal_mask())

    def plain(q, k, v):
        scores = (q @ k.transpose(-1, -2) / E**0.5).masked_fill(ignored, -1e10)
        return torch.softmax(scores, -1) @ v

    def fused(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, ~ignored)

    ours = numpy_run(ScaledDotProductAttention(), inputs, d_output, causal_mask())
    return ours, torch_run(plain if explicit else fused, inputs, d_output)


def mha_pair(E: int) -> tuple[Run, Run]:
    """Ours and PyTorch's multi-head attention."""
    theirs = nn.MultiheadAttention(E, H, batch_first=True)
    ours = MultiHeadAttention(E, H)
    weights = np.split(theirs.in_proj_weight.detach().numpy(), 3)
    biases = np.split(theirs.in_proj_bias.detach().numpy(), 3)
    projections = [x for pair in zip(weights, biases, strict=True) for x in pair]
    out = theirs.out_proj
    ours.init_weights(*projections, out.weight.detach().numpy(), out.bias.detach().numpy())
    inputs = [draw(N, L, E) for _ in range(3)]
    d_output = draw(N, L, E)
    ignored = torch.tensor(causal_mask())

    def call(q, k, v):
        return theirs(q, k, v, attn_mask=ignored, need_weights=False)[0]

    run = torch_run(call, inputs, d_output, list(theirs.parameters()))
    return numpy_run(ours, inputs, d_output, None, causal_mask()), run


def seconds(run: Run) -> float:
    """How long a pass takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(name: str, ours: Run, theirs: Run, repeats: int) -> None:
    """Check that both give the same, then measure them in turn and print a row."""
    for a, b in zip(ours(), theirs(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    our_ms, their_ms = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"| {name} | {our_ms:.2f} | {their_ms:.2f} | {our_ms / their_ms:.2f} |", flush=True)


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser("mytorch_speed.py", description=__doc__, formatter_class=layout)
    parser.add_argument("-repeats", type=positive, default=20, help="(default 20)")
    repeats = parser.parse_args().repeats
    if os.environ.get("OMP_NUM_THREADS") != "1":
        why = "NumPy's number of threads is fixed when it starts"
        raise UserError(f"{why}; set OMP_NUM_THREADS=1 before")
    torch.set_num_threads(1)
    print("| layer, forward and backward | ours, ms | PyTorch, ms | ours / PyTorch |")
    print("|---|---|---|---|")
    compare("Linear, 512 -> 512", *linear_pair(512), repeats)
    compare("Softmax over 256", *softmax_pair(), repeats)
    attention = "attention, E = 64 each head, PyTorch"
    compare(f"{attention}'s fused", *attention_pair(64, explicit=False), repeats)
    compare(f"{attention} in three lines", *attention_pair(64, explicit=True), repeats)
    compare("multi-head attention, E = 64 in all", *mha_pair(64), repeats)
    compare("multi-head attention, E = 512 in all", *mha_pair(512), repeats)


if __name__ == "__main__":
    sys.exit(guarded("mytorch_speed.py", main))
