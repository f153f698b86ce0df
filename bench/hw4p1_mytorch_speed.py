#!/usr/bin/env python3
"""Measure the NumPy layers of hw4p1/mytorch beside PyTorch's, forward and backward, on one thread.

    OMP_NUM_THREADS=1 python bench/hw4p1_mytorch_speed.py [-repeats 20]

N = 8, H = 8, L = S = 256, float32, with a causal mask. Both do the same work on the same numbers in turn; the
figures are medians in milliseconds, and the results are compared before anything is measured.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "hw4p1"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from mytorch import Linear, MultiHeadAttention, ScaledDotProductAttention, Softmax  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

N, H, L = 8, 8, 256
RNG = np.random.default_rng(0)
Run = Callable[[], list[np.ndarray]]  # one forward and backward: the output, then the gradients of the inputs


def draw(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def numpy_run(layer, inputs: list[np.ndarray], d_output: np.ndarray, *masks: np.ndarray | None) -> Run:
    def run() -> list[np.ndarray]:
        output = layer.forward(*inputs, *masks)
        gradients = layer.backward(d_output)
        return [output, *(gradients if isinstance(gradients, tuple) else (gradients,))]

    return run


def torch_run(function, inputs: list[np.ndarray], d_output: np.ndarray, parameters=()) -> Run:
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    d_output = torch.tensor(d_output)

    def run() -> list[np.ndarray]:
        output = function(*leaves)
        gradients = torch.autograd.grad(output, [*leaves, *parameters], d_output)
        return [x.detach().numpy() for x in (output, *gradients[: len(leaves)])]

    return run


def linear_pair(features: int) -> tuple[Run, Run]:
    theirs, ours = nn.Linear(features, features), Linear(features, features)
    ours.init_weights(*(p.detach().numpy() for p in theirs.parameters()))
    arrays = [draw(N, L, features)], draw(N, L, features)
    return numpy_run(ours, *arrays), torch_run(theirs, *arrays, list(theirs.parameters()))


def softmax_pair() -> tuple[Run, Run]:
    arrays = [draw(N, H, L, L)], draw(N, H, L, L)
    return numpy_run(Softmax(), *arrays), torch_run(lambda z: torch.softmax(z, -1), *arrays)


def causal_mask() -> np.ndarray:
    return np.triu(np.ones((L, L), bool), 1)


def attention_pair(E: int, explicit: bool) -> tuple[Run, Run]:
    """PyTorch's fused attention, or the same in three lines, which keep the weights as ours does."""
    arrays = [draw(N, H, L, E) for _ in range(3)], draw(N, H, L, E)
    ignored = torch.tensor(causal_mask())

    def plain(q, k, v):
        scores = (q @ k.transpose(-1, -2) / E**0.5).masked_fill(ignored, -1e10)
        return torch.softmax(scores, -1) @ v

    fused = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, ~ignored)  # noqa: E731
    ours = numpy_run(ScaledDotProductAttention(), *arrays, causal_mask())
    return ours, torch_run(plain if explicit else fused, *arrays)


def mha_pair(E: int) -> tuple[Run, Run]:
    theirs, ours = nn.MultiheadAttention(E, H, batch_first=True), MultiHeadAttention(E, H)
    W, b = theirs.in_proj_weight.detach().numpy(), theirs.in_proj_bias.detach().numpy()
    weights = [x for pair in zip(np.split(W, 3), np.split(b, 3), strict=True) for x in pair]
    ours.init_weights(*weights, theirs.out_proj.weight.detach().numpy(), theirs.out_proj.bias.detach().numpy())
    arrays = [draw(N, L, E) for _ in range(3)], draw(N, L, E)
    ignored = torch.tensor(causal_mask())
    call = lambda q, k, v: theirs(q, k, v, attn_mask=ignored, need_weights=False)[0]  # noqa: E731
    return numpy_run(ours, *arrays, None, causal_mask()), torch_run(call, *arrays, list(theirs.parameters()))


def seconds(run: Run) -> float:
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-repeats", type=int, default=20, help="(default 20)")
    args = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("NumPy's number of threads is fixed when it starts: set OMP_NUM_THREADS=1 before")
    torch.set_num_threads(1)
    print("| layer, forward and backward | ours, ms | PyTorch, ms | ours / PyTorch |\n|---|---|---|---|")
    compare("Linear, 512 -> 512", *linear_pair(512), args.repeats)
    compare("Softmax over 256", *softmax_pair(), args.repeats)
    compare("attention, E = 64 each head, PyTorch's fused", *attention_pair(64, explicit=False), args.repeats)
    compare("attention, E = 64 each head, PyTorch in three lines", *attention_pair(64, explicit=True), args.repeats)
    compare("multi-head attention, E = 64 in all", *mha_pair(64), args.repeats)
    compare("multi-head attention, E = 512 in all", *mha_pair(512), args.repeats)


if __name__ == "__main__":
    main()
