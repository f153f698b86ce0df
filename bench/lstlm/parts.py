#!/usr/bin/env python3
"""Measure the parts of a training step of lstlm.py, and what their bare products would take.

    python bench/lstlm/parts.py CORPUS                 # the handout's setting: H 2, N 512, B 32
    python bench/lstlm/parts.py CORPUS -precision fp32
    python bench/lstlm/parts.py CORPUS -N 256 -EDim 64 -VSize 2000 -B 8

A table in Markdown: each part's milliseconds in a step by PyTorch's profiler, its share, the rate
of its floating-point operations, and `bare`, the milliseconds of its matrix products alone: the
recurrence's position by position, as each needs the one before, all others as few large ones, each
a call of PyTorch (oneDNN's LSTM makes the small ones without such calls, and may be faster). Below
it the step's milliseconds with the profiler off, and the rates at which the machine multiplies and
reads. LSTM without attention. Run it on a machine that does nothing else.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("parts.py"):
    import lstlm
    import torch
    from backstage.device import choose_precision, set_up_memory
    from backstage.parser import Parser, positive, whole
    from backstage.products import product, weight_gradient
    from torch.profiler import ProfilerActivity, profile
    from train_speed import our_optimizer, our_step, product_rate, sample_batches

FORWARD, BACKWARD = "recurrence, forward", "recurrence, gradients"
LOGITS, GRADIENTS = "output layer, logits", "output layer, gradients"
PARTS = (  # of an operation's name what it is a part of; the first that fits
    ("mkldnn_rnn_layer_backward", BACKWARD),
    ("mkldnn_rnn_layer", FORWARD),
    ("softmax", "softmax"),
    ("copy_", "copies and casts"),
    ("add", "sums"),
    ("adamw", "AdamW"),
)
PRODUCTS = ("addmm", "aten::mm", "linear_pointwise", "mkldnn_linear", "aten::bmm")


def part_of(name: str, shapes: list, V: int) -> str:
    """The part of the step that an operation of this name on tensors of these shapes belongs to."""
    if any(product in name for product in PRODUCTS):
        sizes = {size for shape in shapes[:3] for size in shape if isinstance(size, int)}
        if V not in sizes:
            return "other products"
        makes_logits = len(shapes[-1]) == 0 and any(shape == [V] for shape in shapes)
        return LOGITS if makes_logits else GRADIENTS
    return next((part for key, part in PARTS if key in name.lower()), "all else")


def profiled(step: Callable[[], None], V: int, steps: int) -> dict[str, float]:
    """Milliseconds of each part in a step: the time of its operations without what they call."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(steps):
            step()
    parts: dict[str, float] = {}
    for event in profiler.key_averages(group_by_input_shape=True):
        part = part_of(event.key, event.input_shapes, V)
        parts[part] = parts.get(part, 0.0) + event.self_cpu_time_total / 1e3 / steps
    return parts


def milliseconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The median time of this work, done a few times after a first one."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[1:])


class Bare:
    """The products of a step on numbers at random: no activation, loss, optimizer or autograd."""

    def __init__(self, lengths: list[int], sizes: argparse.Namespace, dtype: torch.dtype):
        self.dtype = dtype
        self.R = sum(lengths)
        self.batch_sizes = [sum(n > t for n in lengths) for t in range(max(lengths))]
        self.N = sizes.N
        self.V = sizes.VSize + 3
        self.inputs = [sizes.EDim] + [sizes.N] * (sizes.H - 1)  # of each layer

    def numbers(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape).to(self.dtype)

    def by_part(self) -> dict[str, float]:
        """Milliseconds of the products of each part."""
        return {
            FORWARD: self.forward(), BACKWARD: self.backward(),
            LOGITS: self.whole(self.N, self.V),
            GRADIENTS: self.whole(self.V, self.N) + self.weight(self.V, self.N),
        }

    def forward(self) -> float:
        """Per layer all inputs as one product, and a product for each position's states."""
        inputs = sum(self.whole(size, 4 * self.N) for size in self.inputs)
        return inputs + self.positions(4 * self.N)

    def backward(self) -> float:
        """Gradients of the states by position, of inputs and both weights as one product each."""
        N = self.N
        total = self.positions(N, 4 * N)
        for layer, size in enumerate(self.inputs):
            if layer > 0:  # word vectors are frozen
                total += self.whole(4 * N, size)
            total += self.weight(4 * N, size) + self.weight(4 * N, N)
        return total

    def whole(self, K: int, n: int) -> float:
        """One product (R, K) x (K, n)."""
        x = self.numbers(self.R, K)
        weight = self.numbers(n, K)
        return milliseconds(lambda: product(x, weight))

    def weight(self, n: int, K: int) -> float:
        """One product (n, R) x (R, K)."""
        grad = self.numbers(self.R, n)
        x = self.numbers(self.R, K)
        return milliseconds(lambda: weight_gradient(grad, x))

    def positions(self, n: int, K: int | None = None) -> float:
        """All layers' products (b, K) x (K, n), one after the other; K is N unless given."""
        K = K or self.N
        weight = self.numbers(n, K)
        rows = [self.numbers(b, K) for b in self.batch_sizes]

        def work():
            for x in rows:
                product(x, weight)

        return milliseconds(work) * len(self.inputs)


def operations(bare: Bare) -> dict[str, float]:
    """Floating-point operations of the parts that are products, in 1e9."""
    N = bare.N
    weights = sum(4 * N * (size + N) for size in bare.inputs)
    frozen = 4 * N * bare.inputs[0]  # no gradient of the word vectors
    counts = {
        FORWARD: weights, BACKWARD: 2 * weights - frozen, LOGITS: bare.V * N,
        GRADIENTS: 2 * bare.V * N,
    }
    return {part: 2 * bare.R * count / 1e9 for part, count in counts.items()}


def reading_rate() -> float:
    """Bytes a second that a matrix-vector product reads of a matrix too large for the caches."""
    weight = torch.randn(1 << 14, 1 << 12)  # 256 MiB
    x = torch.randn(1 << 12)
    return weight.numel() * 4 / milliseconds(lambda: weight @ x) * 1e3


def print_parts(
    parts: dict[str, float], flops: dict[str, float], floors: dict[str, float]
) -> None:
    """Print the table: the parts' milliseconds, 1e9 operations, and milliseconds of products."""
    total = sum(parts.values())
    print("| part | ms | share | GFLOP/s | bare, ms |\n|---|---|---|---|---|")
    for part, ms in sorted(parts.items(), key=lambda item: -item[1]):
        rate = f"{flops[part] / ms * 1e3:,.0f}" if part in flops else ""
        floor = f"{floors[part]:,.1f}" if part in floors else ""
        print(f"| {part} | {ms:,.1f} | {ms / total:.1%} | {rate} | {floor} |")
    rate = f"{sum(flops.values()) / total * 1e3:,.0f}"
    print(f"| all | {total:,.1f} | | {rate} | {sum(floors.values()):,.1f} |")


def parse_args() -> argparse.Namespace:
    parser = Parser("parts.py", __doc__)
    add = parser.add_argument
    add("corpus", help="tokenised text, one story a line")
    numbers = {"H": 2, "N": 512, "B": 32, "VSize": 10000, "EDim": 100, "steps": 5}
    for name, default in numbers.items():
        add(f"-{name}", type=positive, default=default, help=f"(default {default})")
    add("-seed", type=whole(0), default=0, help="(default 0)")
    add("-precision", choices=("auto", "fp32", "bf16"), default="auto", help="(default auto)")
    args = parser.parse_args()
    args.layout = "ours"
    args.length = 0
    return args


def main() -> None:
    args = parse_args()
    set_up_memory()
    torch.manual_seed(args.seed)
    precision = choose_precision(args.precision, torch.device("cpu"))
    batch = sample_batches(args)[0]
    vectors = torch.randn(args.VSize + 3, args.EDim)
    model = lstlm.LSTMLM(vectors, args.N, args.H, precision=precision).train()
    optimizer = our_optimizer(model)

    def step() -> None:
        our_step(model, optimizer, [*batch], bptt=len(max(batch, key=len)))

    alone = milliseconds(step, args.steps)
    parts = profiled(step, args.VSize + 3, args.steps)
    bare = Bare([len(story) - 1 for story in batch], args, precision)
    with torch.no_grad():
        print_parts(parts, operations(bare), bare.by_part())
    peak = product_rate(precision, torch.device("cpu"))
    facts = (
        f"without the profiler {alone:,.1f} ms a step of {bare.R:,} targets",
        f"{bare.R / alone * 1e3:,.0f} tokens/s",
        f"a product of 2048 rows {peak / 1e9:,.0f} GFLOP/s",
        f"reading {reading_rate() / 1e9:.0f} GB/s", f"{torch.get_num_threads()} threads",
        str(precision).removeprefix("torch."), f"PyTorch {torch.__version__}",
    )
    print("\n" + "; ".join(facts))


if __name__ == "__main__":
    sys.exit(guarded("parts.py", main))
