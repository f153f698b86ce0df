#!/usr/bin/env python3
"""Trained models of lstlm.py that adapt to what they have just read, for scoring only.

    python adapting.py -model lm_model.pt -results results/adapting.json     # settings chosen on valid, figures on test
    python adapting.py -model M.pt -stories stream -valid_corpus wiki.valid.tokens -test_corpus wiki.test.tokens

The neural cache (Grave, Joulin & Usunier 2017) mixes the model with the words that followed similar states earlier in
the story; dynamic evaluation (Krause et al. 2018) goes on training on what it has scored. Losses are in nats, one for
each target token, a list of arrays, one a story in their order. A token is scored before anything adapts to it.
"""

import argparse
import copy
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))
import lstlm  # noqa: E402 - found by the line above
from experiments import MEASURES, processor, write_json  # noqa: E402
from lstlm import LSTMLM, ROWS, UserError, pieces  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

BLOCK = 512  # positions whose similarity to earlier ones is in memory at a time
WINDOW = 2000  # how many positions the cache looks back, as in the paper's experiments with WikiText-2
THETAS, SHARES = (0.0, 0.03, 0.1, 0.2, 0.3, 0.5), (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # tried on valid


def token_nats(model: LSTMLM, features: Tensor, targets: Tensor) -> Tensor:
    """-ln p (R,) of targets (R,), from what the output layer sees (R, N)."""
    x, output = model.cast(features), model.output
    scores = lstlm.Product.apply(x, output.weight.to(x.dtype), output.bias.to(x.dtype))  # (R, V)
    return F.cross_entropy(scores.to(output.weight.dtype), targets, reduction="none")


@torch.no_grad()
def states(model: LSTMLM, stories: list[list[int]], batch_size: int = 32) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Of each story, the longest first: its number, what the output layer sees (T, N), and nats (T,).

    The minibatches and their pieces are those of `lstlm.compute_loss` on a CPU. Not for a bidirectional model, of
    which no piece has what comes from its story's end.
    """
    model.eval()
    order = sorted(range(len(stories)), key=lambda number: -len(stories[number]))
    for begin in range(0, len(order), batch_size):
        numbers, state = order[begin : begin + batch_size], None
        parts = [[] for _ in numbers]
        for inputs, targets, lengths in pieces([stories[n] for n in numbers], max(1, ROWS // batch_size)):
            state = state and state.take(slice(len(inputs)))
            features, packing, state = model.features(inputs.to(model.output.weight.device), lengths, state)
            rows = packing.data.to(features.device)  # the place of each packed row in (B, T), flattened
            nats = token_nats(model, features, targets.to(features.device).flatten()[rows])
            for row, part in enumerate(parts[: len(inputs)]):
                here = rows // inputs.shape[1] == row
                part.append((features[here], nats[here]))
        for number, part in zip(numbers, parts, strict=True):
            yield number, *(torch.cat(x) for x in zip(*part, strict=True))


def nats_by_position(model: LSTMLM, stories: list[list[int]], batch_size: int = 32) -> list[np.ndarray]:
    """The nats (T,) of each story's targets; their mean is `lstlm.compute_loss`."""
    nats = {number: nats.double().cpu().numpy() for number, _, nats in states(model, stories, batch_size)}
    return [nats[number] for number in range(len(stories))]


# ---- The neural cache -----------------------------------------------------------------------------------------------


def cached(features: Tensor, targets: Tensor, theta: float) -> Tensor:
    """p (T,) of targets (T,) under a cache of the earlier states and what followed them; 0 at the first position.

    p(w) at position i is the share of the j from i - WINDOW to i - 1 with target w, each weighing exp(theta h_i . h_j),
    where h (T, N) are `features` (Grave et al. 2017, section 3).
    """
    found, features = [], features.to(torch.promote_types(features.dtype, torch.float32))
    for begin in range(0, len(targets), BLOCK):
        end, first = min(begin + BLOCK, len(targets)), max(0, begin - WINDOW)
        scores = theta * features[begin:end] @ features[first:end].t()  # (q, k)
        seen = torch.ones_like(scores, dtype=torch.bool).tril(begin - first - 1).triu(begin - first - WINDOW)
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), 1)
        found.append((weights * (targets[begin:end, None] == targets[first:end])).sum(1))
    return torch.cat(found).nan_to_num_(0)  # the softmax over nothing, at the first position


def mixed(nats: Tensor, found: Tensor, share: float) -> Tensor:
    """-ln((1 - share) p + share p_cache) (T,); the first position of a story has no cache and keeps its p."""
    after = -torch.log((1 - share) * torch.exp(-nats[1:].double()) + share * found[1:].double())
    return torch.cat([nats[:1].double(), after])


def neural_cache(model: LSTMLM, stories: list[list[int]], theta: float, share: float,
                 batch_size: int = 32) -> list[np.ndarray]:
    """The nats (T,) of each story's targets under the model mixed with a `share` (lambda) of its cache."""
    nats = {}
    for number, features, plain in states(model, stories, batch_size):
        targets = torch.tensor(stories[number][1:], device=plain.device)
        nats[number] = mixed(plain, cached(features, targets, theta), share).cpu().numpy()
    return [nats[number] for number in range(len(stories))]


def cache_grid(model: LSTMLM, stories: list[list[int]], thetas: tuple[float, ...], shares: tuple[float, ...],
               batch_size: int = 32) -> np.ndarray:
    """Mean nats (thetas, shares) of all target tokens, in one pass over the stories."""
    total, tokens = np.zeros((len(thetas), len(shares))), sum(len(story) - 1 for story in stories)
    for number, features, plain in states(model, stories, batch_size):
        targets = torch.tensor(stories[number][1:], device=plain.device)
        for row, theta in enumerate(thetas):
            found = cached(features, targets, theta)
            total[row] += [float(mixed(plain, found, share).sum()) for share in shares]
    return total / tokens


# ---- Dynamic evaluation ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dynamic:
    """How weights follow the text (Krause et al. 2018): after each segment w += decay (w0 - w) - lr * gradient.

    The gradient is that of the mean nats of the segment. With `rms` each weight has rates of its own, from the root of
    its mean squared gradient on training text: the gradient is divided by it (plus `epsilon`), the decay multiplied by
    its ratio to the mean root of all weights, to at most 1.
    """

    lr: float
    decay: float = 0.0
    segment: int = 32  # tokens
    within: bool = True  # each story begins with the trained weights; else with what those before it have left
    rms: bool = False
    epsilon: float = 0.002


def learned(model: LSTMLM) -> list[Tensor]:
    """The weights that train."""
    return [p for p in model.parameters() if p.requires_grad]


def segments(model: LSTMLM, story: list[int], length: int) -> Iterator[Tensor]:
    """The nats (t,) of a story's targets, `length` at a time, each computed with the weights of that moment."""
    state = None
    for inputs, targets, lengths in pieces([story], length):
        inputs, targets = (x.to(model.output.weight.device) for x in (inputs, targets))
        features, _, state = model.features(inputs, lengths, state and state.take(slice(1)))
        yield token_nats(model, features, targets[0])


def gradients(model: LSTMLM, nats: Tensor) -> tuple[Tensor, ...]:
    """Those of the mean of nats (t,) with regard to the weights that train."""
    return torch.autograd.grad(nats.mean(), learned(model), materialize_grads=True)


@torch.enable_grad()
def mean_squares(model: LSTMLM, stories: list[list[int]], segment: int) -> list[Tensor]:
    """The mean squared gradient of each weight over the segments of these stories, which were trained on."""
    model.eval()
    squares, count = [torch.zeros_like(p) for p in learned(model)], 0
    for nats in itertools.chain.from_iterable(segments(model, story, segment) for story in stories):
        for square, gradient in zip(squares, gradients(model, nats), strict=True):
            square.addcmul_(gradient, gradient)
        count += 1
    return [square / count for square in squares]


def rates(squares: list[Tensor] | None, how: Dynamic) -> Iterator[tuple[Tensor | float, Tensor | float]]:
    """What multiplies the gradient, and how far it goes back to the trained value, for each weight."""
    if not how.rms:
        return itertools.repeat((how.lr, how.decay))
    roots = [square.sqrt() for square in squares]
    mean = sum(float(root.sum()) for root in roots) / sum(root.numel() for root in roots)
    return ((how.lr / (root + how.epsilon), (how.decay * root / mean).clamp(max=1)) for root in roots)


@torch.enable_grad()
def dynamic_evaluation(model: LSTMLM, stories: list[list[int]], how: Dynamic,
                       squares: list[Tensor] | None = None) -> list[np.ndarray]:
    """The nats (T,) of each story's targets under a copy of the model that learns from each segment once it is scored.

    `squares` are the `mean_squares` that `how.rms` needs.
    """
    learner, result = copy.deepcopy(model).eval(), []
    weights, trained = learned(learner), learned(model)
    steps = [rate for rate, _ in zip(rates(squares, how), weights, strict=False)]
    for story in stories:
        if how.within:
            restore(weights, trained)
        parts = []
        for nats in segments(learner, story, how.segment):
            parts.append(nats.detach())
            for w, w0, gradient, (rate, back) in zip(weights, trained, gradients(learner, nats), steps, strict=True):
                w.data.lerp_(w0.data, back).sub_(gradient * rate)
        result.append(torch.cat(parts).double().cpu().numpy())
    return result


@torch.no_grad()
def restore(weights: list[Tensor], trained: list[Tensor]) -> None:
    """Give weights their trained values."""
    torch._foreach_copy_(weights, trained)


# ---- Settings chosen on valid, measured on test ---------------------------------------------------------------------

DYNAMIC = [Dynamic(rate, decay, within=within) for within in (True, False) for rate in (0.03, 0.1, 0.3)
           for decay in (0.0, 0.01)]  # tried on valid


def mean(nats: list[np.ndarray]) -> float:
    """The mean nats of all target tokens."""
    return float(np.concatenate(nats).mean())


def best_cache(model: LSTMLM, stories: list[list[int]]) -> tuple[dict, float]:
    """The setting of the neural cache that is best on these stories, and its nats there."""
    grid = cache_grid(model, stories, THETAS, SHARES)
    row, column = np.unravel_index(grid.argmin(), grid.shape)
    return {"theta": THETAS[row], "share": SHARES[column]}, float(grid.min())


def best_dynamic(model: LSTMLM, stories: list[list[int]]) -> tuple[Dynamic, float]:
    """The setting of dynamic evaluation that is best on these stories, and its nats there."""
    settings = [how for how in DYNAMIC if len(stories) > 1 or how.within]  # with one story `within` says nothing
    tried = [(mean(dynamic_evaluation(model, stories, how)), place) for place, how in enumerate(settings)]
    nats, place = min(tried)
    return settings[place], nats


def beginning(stories: list[list[int]], first: int, stream: bool) -> list[list[int]]:
    """The first so many stories, or of the one of a stream the first stretches."""
    return [story[: first * lstlm.STRETCH + 1] for story in stories] if stream else stories[:first]


def measure(args: argparse.Namespace) -> dict:
    """Figures on test without and with either way to adapt, its setting chosen on the `beginning` of valid."""
    loaded = lstlm.load_model(args)
    valid = lstlm.tokenize_corpus(args.valid_corpus, loaded.token2idx, args.stories, loaded.config.cased, loaded.pieces)
    valid = beginning(valid, args.first, args.stories == "stream")
    cache, cache_nats = best_cache(loaded.model, valid)
    dynamic, dynamic_nats = best_dynamic(loaded.model, valid)
    ways = {
        "plain": ({}, mean(nats_by_position(loaded.model, valid)), nats_by_position),
        "cache": (cache, cache_nats, lambda model, stories: neural_cache(model, stories, **cache)),
        "dynamic": (asdict(dynamic), dynamic_nats, lambda model, stories: dynamic_evaluation(model, stories, dynamic)),
    }
    result = {"model": args.model.name, "valid_stories": len(valid), "valid_tokens": sum(len(x) - 1 for x in valid)}
    for name, (setting, nats, score) in ways.items():
        began = time.process_time()
        row = lstlm.score_corpus(loaded, args.test_corpus, args.stories, 32,
                                 lambda model, stories, *_, score=score, **__: mean(score(model, stories)))
        result[name] = {"setting": setting, "valid_nats": nats, "test": {key: row[key] for key in MEASURES},
                        "seconds": round(time.process_time() - began, 1)}
        print(name, setting, f"valid {nats:.4f}, test {row['nats']:.4f} nats, perplexity {row['ppl']:.2f}", flush=True)
    return result


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = lstlm.Parser("adapting.py", description=__doc__, allow_abbrev=False,
                          formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("LSTLM_DATA", lstlm.DATA)) / "tiny"
    add, path = parser.add_argument, {"type": Path, "metavar": "PATH"}
    add("-model", **path, default=lstlm.HW04 / "code" / "lm_model.pt", help="(default lm_model.pt)")
    add("-valid_corpus", **path, default=data / "tiny.valid.tokens.200K", help="(default TinyStories)")
    add("-test_corpus", **path, default=data / "tiny.test.tokens.4M", help="(default TinyStories)")
    add("-stories", choices=("auto", "stream"), default="auto", help="as in lstlm.py (default auto: what the file has)")
    add("-first", type=lstlm.positive, default=100,
        help=f"stories of valid, or {lstlm.STRETCH:,} tokens of a stream, on which to choose (default 100)")
    add("-results", **path, help="a JSON file to write (default none)")
    add("-device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(default auto: cuda if it is there)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for what the user can mend."""
    try:
        args = parse_args(argv)
        result = {**measure(args), "date": time.strftime("%Y-%m-%d"),
                  "machine": {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}}
        if args.results:
            write_json(args.results, result)
        return 0
    except UserError as error:
        print(f"adapting.py: error: {lstlm.printable(str(error))}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
