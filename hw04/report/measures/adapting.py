#!/usr/bin/env python3
"""Trained models of lstlm.py that adapt to what they have just read, for scoring only.

    python adapting.py -model lm_model.pt -results adapting.json  # chosen on valid, figures on test
    python adapting.py -model M.pt -stories stream -valid_corpus FILE -test_corpus FILE

The neural cache (Grave, Joulin & Usunier 2017) mixes the model with the words that followed similar
states earlier in the story; dynamic evaluation (Krause et al. 2018) goes on training on what it has
scored. Losses are in nats, one for each target token, a list of arrays, one a story in their order.
A token is scored before anything adapts to it.
"""

import argparse
import copy
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("adapting.py"):
    import numpy as np
    import torch
    from backstage.defaults import DATA, DEFAULT_MODEL
    from backstage.measures import measured, read_corpus, safe_exp
    from backstage.minibatches import segments
    from backstage.parser import Parser, positive
    from backstage.state import State
    from lstlm import LSTMLM, STREAM_STORY, collate_stories, load_model
    from measures.scoring import nats_by_position, score, scored_stories
    from store import MEASURES, processor, write_json
    from torch import Tensor

BLOCK = 512  # positions whose similarity to earlier ones is in memory at a time
WINDOW = 2000  # positions that the cache looks back, as in the paper's experiments with WikiText-2
THETAS = (0.0, 0.03, 0.1, 0.2, 0.3, 0.5)  # tried on valid
SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # tried on valid

# ---- The neural cache ---------------------------------------------------------------------------


def cached(features: Tensor, targets: Tensor, theta: float) -> Tensor:
    """p (T,) of targets (T,) under a cache of the earlier states and what followed them.

    p(w) at position i is the share of the j from i - WINDOW to i - 1 with target w, each weighing
    exp(theta h_i . h_j), where h (T, N) are `features` (Grave et al. 2017, section 3). It is 0 at
    the first position.
    """
    found = []
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    for begin in range(0, len(targets), BLOCK):
        end = min(begin + BLOCK, len(targets))
        first = max(0, begin - WINDOW)
        scores = theta * features[begin:end] @ features[first:end].t()  # (q, k)
        seen = torch.ones_like(scores, dtype=torch.bool)
        seen = seen.tril(begin - first - 1).triu(begin - first - WINDOW)
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), 1)
        same = targets[begin:end, None] == targets[first:end]  # (q, k)
        found.append((weights * same).sum(1))
    return torch.cat(found).nan_to_num_(0)  # the softmax over nothing, at the first position


def mixed(nats: Tensor, found: Tensor, share: float) -> Tensor:
    """-ln((1 - share) p + share p_cache) (T,); the first position has no cache and keeps its p."""
    p = torch.exp(-nats[1:].double())
    after = -torch.log((1 - share) * p + share * found[1:].double())
    return torch.cat([nats[:1].double(), after])


def neural_cache(
    model: LSTMLM, stories: list[list[int]], theta: float, share: float, batch_size: int = 32
) -> list[np.ndarray]:
    """The nats (T,) of each story's targets under the model mixed with a share of its cache.

    `share` is the paper's lambda.
    """
    nats = {}
    for number, features, plain in scored_stories(model, stories, batch_size):
        targets = torch.tensor(stories[number][1:], device=plain.device)
        nats[number] = mixed(plain, cached(features, targets, theta), share).cpu().numpy()
    return [nats[number] for number in range(len(stories))]


def cache_grid(
    model: LSTMLM, stories: list[list[int]], thetas: tuple[float, ...], shares: tuple[float, ...],
    batch_size: int = 32,
) -> np.ndarray:
    """Mean nats (thetas, shares) of all target tokens, in one pass over the stories."""
    total = np.zeros((len(thetas), len(shares)))
    for number, features, plain in scored_stories(model, stories, batch_size):
        targets = torch.tensor(stories[number][1:], device=plain.device)
        for row, theta in enumerate(thetas):
            found = cached(features, targets, theta)
            total[row] += [float(mixed(plain, found, share).sum()) for share in shares]
    return total / sum(len(story) - 1 for story in stories)


# ---- Dynamic evaluation -------------------------------------------------------------------------


@dataclass(frozen=True)
class Dynamic:
    """How weights follow the text (Krause et al. 2018).

    After each segment w += decay (w0 - w) - lr * gradient, the gradient being that of the mean nats
    of the segment. With `rms` each weight has rates of its own, from the root of its mean squared
    gradient on training text: the gradient is divided by it (plus `epsilon`), the decay multiplied
    by its ratio to the mean root of all weights, to at most 1.
    """

    lr: float
    decay: float = 0.0
    segment: int = 32  # tokens
    within: bool = True  # each story begins with the trained weights; else with what is left
    rms: bool = False
    epsilon: float = 0.002


def learned(model: LSTMLM) -> list[Tensor]:
    """The weights that train."""
    return [p for p in model.parameters() if p.requires_grad]


def segment_nats(model: LSTMLM, story: list[int], length: int) -> Iterator[Tensor]:
    """The nats (t,) of a story's targets, `length` at a time, with the weights of that moment."""
    state = State()
    for inputs, targets, lengths in segments([story], length, collate_stories):
        yield score(model, inputs, lengths, targets, state)[1][0]


def gradients(model: LSTMLM, nats: Tensor) -> tuple[Tensor, ...]:
    """Those of the mean of nats (t,) with regard to the weights that train."""
    return torch.autograd.grad(nats.mean(), learned(model), materialize_grads=True)


@torch.enable_grad()
def mean_squares(model: LSTMLM, stories: list[list[int]], segment: int) -> list[Tensor]:
    """The mean squared gradient of each weight over the segments of stories of the training."""
    model.eval()
    squares = [torch.zeros_like(p) for p in learned(model)]
    count = 0
    for story in stories:
        for nats in segment_nats(model, story, segment):
            for square, gradient in zip(squares, gradients(model, nats), strict=True):
                square.addcmul_(gradient, gradient)
            count += 1
    return [square / count for square in squares]


def rates(
    squares: list[Tensor] | None, how: Dynamic
) -> Iterator[tuple[Tensor | float, Tensor | float]]:
    """For each weight what multiplies its gradient, how far it goes back to the trained value."""
    if not how.rms:
        return itertools.repeat((how.lr, how.decay))
    roots = [square.sqrt() for square in squares]
    mean_root = sum(float(root.sum()) for root in roots) / sum(root.numel() for root in roots)
    return (
        (how.lr / (root + how.epsilon), (how.decay * root / mean_root).clamp(max=1))
        for root in roots
    )


@torch.enable_grad()
def dynamic_evaluation(
    model: LSTMLM, stories: list[list[int]], how: Dynamic, squares: list[Tensor] | None = None
) -> list[np.ndarray]:
    """The nats (T,) of each story's targets under a copy of the model that learns from the text.

    It learns from each segment once that is scored. `squares` are the `mean_squares` that `how.rms`
    needs.
    """
    learner = copy.deepcopy(model).eval()
    weights = learned(learner)
    trained = learned(model)
    steps = [rate for rate, _ in zip(rates(squares, how), weights, strict=False)]
    result = []
    for story in stories:
        if how.within:
            restore(weights, trained)
        parts = []
        for nats in segment_nats(learner, story, how.segment):
            parts.append(nats.detach())
            each = zip(weights, trained, gradients(learner, nats), steps, strict=True)
            for w, w0, gradient, (rate, back) in each:
                w.data.lerp_(w0.data, back).sub_(gradient * rate)
        result.append(torch.cat(parts).double().cpu().numpy())
    return result


@torch.no_grad()
def restore(weights: list[Tensor], trained: list[Tensor]) -> None:
    """Give weights their trained values."""
    torch._foreach_copy_(weights, trained)


# ---- Settings chosen on valid, measured on test -------------------------------------------------

DYNAMIC = [  # tried on valid
    Dynamic(rate, decay, within=within)
    for within in (True, False) for rate in (0.03, 0.1, 0.3) for decay in (0.0, 0.01)
]


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
    settings = [how for how in DYNAMIC if len(stories) > 1 or how.within]  # all one, of one story
    tried = [mean(dynamic_evaluation(model, stories, how)) for how in settings]
    place = min(range(len(tried)), key=tried.__getitem__)
    return settings[place], tried[place]


def beginning(stories: list[list[int]], first: int, stream: bool) -> list[list[int]]:
    """The first so many stories, or of the one of a stream the first stretches."""
    if stream:
        return [story[: first * STREAM_STORY + 1] for story in stories]
    return stories[:first]


def measure(args: argparse.Namespace) -> dict:
    """Figures on test without and with either way to adapt.

    Its setting is chosen on the `beginning` of valid.
    """
    loaded = load_model(args)
    model = loaded.model
    valid = read_corpus(loaded, args.valid_corpus, args.stories).stories
    valid = beginning(valid, args.first, args.stories == "stream")
    cache, cache_nats = best_cache(model, valid)
    dynamic, dynamic_nats = best_dynamic(model, valid)
    ways: dict[str, tuple[dict, float, Callable]] = {
        "plain": ({}, mean(nats_by_position(model, valid)), nats_by_position),
        "cache": (
            cache, cache_nats, lambda model, stories: neural_cache(model, stories, **cache)
        ),
        "dynamic": (
            asdict(dynamic), dynamic_nats,
            lambda model, stories: dynamic_evaluation(model, stories, dynamic),
        ),
    }
    result = {
        "model": args.model.name, "valid_stories": len(valid),
        "valid_tokens": sum(len(story) - 1 for story in valid),
    }
    for name, (setting, valid_nats, way) in ways.items():
        began = time.process_time()
        corpus = read_corpus(loaded, args.test_corpus, args.stories)
        nats = mean(way(model, corpus.stories))
        seconds = time.process_time() - began
        row = measured(corpus, nats, safe_exp(nats), seconds)
        result[name] = {
            "setting": setting, "valid_nats": valid_nats,
            "test": {key: row[key] for key in MEASURES}, "seconds": round(seconds, 1),
        }
        figures = f"valid {valid_nats:.4f}, test {nats:.4f} nats, perplexity {row['ppl']:.2f}"
        print(name, setting, figures, flush=True)
    return result


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser("adapting.py", __doc__)
    data = Path(os.environ.get("LSTLM_DATA", DATA)) / "tiny"
    add = parser.add_argument
    path = {"type": Path, "metavar": "PATH"}
    add("-model", **path, default=DEFAULT_MODEL, help="(default lm_model.pt)")
    add("-valid_corpus", **path, default=data / "tiny.valid.tokens.200K", help="(default "
        "TinyStories)")
    add("-test_corpus", **path, default=data / "tiny.test.tokens.4M", help="(default TinyStories)")
    add("-stories", choices=("auto", "stream"), default="auto", help="as in lstlm.py (default "
        "auto: what the file has)")
    add("-first", type=positive, default=100, help=f"stories of valid, or {STREAM_STORY:,} tokens "
        "of a stream, on which to choose (default 100)")
    add("-results", **path, help="a JSON file to write (default none)")
    add("-device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(default auto: "
        "cuda if it is there)")
    return parser.parse_args(argv)


def carry_out(argv: list[str] | None) -> None:
    """Measure what the command line says."""
    args = parse_args(argv)
    machine = {
        "processor": processor(), "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
    result = {**measure(args), "date": time.strftime("%Y-%m-%d"), "machine": machine}
    if args.results:
        write_json(args.results, result)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for what the user can mend."""
    return guarded("adapting.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
