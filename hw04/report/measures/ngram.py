#!/usr/bin/env python3
"""An interpolated modified Kneser-Ney n-gram model: what counting alone can predict.

    python ngram.py -train_corpus a.tokens -test_corpus b.tokens c.tokens -order 5
    python ngram.py -results results/measures/ngram.json    # makes that file anew

The model is that of Chen & Goodman 1999. Vocabulary, stories and measures are those of lstlm.py, so
that its models can be compared with this one. Losses are in nats per target token: `<eos>` and
`<unk>` are targets, `<bos>` is none; it stands once before each story, as context.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("ngram.py"):
    import lstlm
    import numpy as np
    import torch
    from backstage.checkpoint import Config, Loaded
    from backstage.corpora import BOS
    from backstage.files import to_json
    from backstage.measures import measured, read_corpus, safe_exp
    from backstage.minibatches import hide_rare
    from backstage.parser import Parser, positive
    from store import MEASURES, add_data_flag, processor, write_json

ORDERS = (2, 3, 4, 5)  # of `-results`
LINE = (
    "{nats:.4f} nats, perplexity {ppl:.2f}, {bpc:.4f} bits/char, {n_tokens:,} tokens, "
    "{unk_share:.2%} <unk>: {corpus}"
)
FALLBACK = (0.5, 1.0, 1.5)  # discounts of a corpus too small for them (as in Heafield's KenLM)
WIKI = ("wiki/wiki.train.tokens", "wiki/wiki.valid.tokens", "wiki/wiki.test.tokens")
CORPORA = {  # of `-results`: train, valid, test, and whether case is kept and all types are words
    "tiny": (
        "tiny/tiny.train.tokens.4M", "tiny/tiny.valid.tokens.200K", "tiny/tiny.test.tokens.4M",
        False,
    ),
    "wiki": (*WIKI, False),
    "wiki-cased": (*WIKI, True),
}


class Level(NamedTuple):
    """The n-grams of one length: G of them, and C contexts, the n-grams one token shorter.

    Each n-gram begins with one of the contexts.
    """

    keys: np.ndarray  # (G,) context number * V + last word, sorted; its place numbers an n-gram
    alpha: np.ndarray  # (G,) what the n-gram's own count gives to its last word's probability
    gamma: np.ndarray  # (C,) what the context leaves to the level below; 1 if nothing follows it


class KneserNey:
    """p(w | h) = (a(hw) - D(a(hw))) / a(h.) + gamma(h) p(w | h'), h' being h less its first word.

    a is the count for the longest n-grams, for shorter ones the number of different words before
    them; an n-gram that begins with `<bos>` has none before it and keeps its count (Heafield et al.
    2013). D(1), D(2), D(3 and more) come from each length's counts of counts, gamma(h) = (D(1)
    N1(h.) + D(2) N2(h.) + D(3) N3+(h.)) / a(h.). Below single words is the uniform distribution
    over all tokens but `<bos>`, so none of them, and no `<unk>`, is impossible.
    """

    def __init__(self, stories: list[list[int]], V: int, order: int = 5):
        """Count the n-grams of 1 to `order` ids below V in the stories, each `<bos> ... <eos>`."""
        self.V = V
        self.levels = []
        contexts = 1
        grams = list(count(*flatten(stories), V, order))
        for level, (keys, counts, _) in enumerate(grams):
            if level + 1 < len(grams):
                before = np.bincount(grams[level + 1][2], minlength=len(keys))
                counts = np.where(before > 0, before, counts)
            counts = np.where(keys % V == BOS, 0, counts)
            self.levels.append(smooth(keys, counts, keys // V, contexts))
            contexts = len(keys)

    def nats(self, stories: list[list[int]]) -> np.ndarray:
        """-ln p of each target token of the stories in turn, given what its story has before it."""
        words, places = flatten(stories)
        p = np.full(len(words), 1 / (self.V - 1))
        numbers = np.zeros(len(words), dtype=np.int64)  # of the n-gram that ends here; -1: unknown
        for length, level in enumerate(self.levels, 1):
            contexts = preceding(numbers, places, length)
            codes = contexts * self.V + words
            at = np.searchsorted(level.keys, codes).clip(max=len(level.keys) - 1)
            known = level.keys[at] == codes
            left = np.where(contexts >= 0, level.gamma[contexts], 1)
            p = left * p + np.where(known, level.alpha[at], 0)
            numbers = np.where(known, at, -1)
        return -np.log(p[places > 0])


def flatten(stories: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """All ids of the stories, (M,), and the place of each in its story, 0 for `<bos>`."""
    lengths = np.array([len(story) for story in stories])
    words = np.fromiter(chain.from_iterable(stories), np.int64, lengths.sum())
    return words, np.arange(len(words)) - np.repeat(lengths.cumsum() - lengths, lengths)


def preceding(numbers: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """The number (M,) of the context of the n-gram of this length that ends here.

    -1 where its story is too short. `numbers` (M,) are those of the n-grams one token shorter that
    end here, so a context is the one before.
    """
    return np.where(places >= length - 1, np.roll(numbers, 1), -1)


def count(
    words: np.ndarray, places: np.ndarray, V: int, order: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """For each length up to `order` keys (G,) as in `Level`, counts (G,), and numbers (G,).

    The number is that of the n-gram less its first word.
    """
    numbers = np.zeros(len(words), dtype=np.int64)
    for length in range(1, order + 1):
        contexts = preceding(numbers, places, length)
        here = np.flatnonzero(contexts >= 0)
        if not here.size:  # no story is that long
            return
        codes = contexts[here] * V + words[here]
        keys, first, inverse, counts = np.unique(
            codes, return_index=True, return_inverse=True, return_counts=True
        )
        yield keys, counts, numbers[here[first]]
        numbers = np.full(len(words), -1)
        numbers[here] = inverse


def discounts(counts: np.ndarray) -> np.ndarray:
    """D(0) to D(3): what is taken from an n-gram with this count, or 3 and more.

    D(k) = k - (k + 1) Y n(k + 1) / n(k) with Y = n(1) / (n(1) + 2 n(2)) and n(k) n-grams of count k
    (Chen & Goodman 1999). Where n(k) or n(k + 1) is 0, or D(k) not above 0, `FALLBACK` stands in.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    k = np.arange(1, 4)
    Y = n[1] / max(n[1] + 2 * n[2], 1)
    D = k - (k + 1) * Y * n[2:5] / np.maximum(n[1:4], 1)
    fine = (n[1:4] > 0) & (n[2:5] > 0) & (D > 0)
    return np.array([0, *np.where(fine, D, FALLBACK)])


def smooth(keys: np.ndarray, counts: np.ndarray, contexts: np.ndarray, C: int) -> Level:
    """The level of n-grams with these keys, counts and contexts, each (G,), contexts below C."""
    taken = discounts(counts)[np.minimum(counts, 3)]
    total = np.bincount(contexts, counts, minlength=C)
    left = np.bincount(contexts, taken, minlength=C)
    gamma = np.where(total > 0, left / np.maximum(total, 1), 1)
    return Level(keys, (counts - taken) / total[contexts], gamma)


def read_training(
    corpus: Path, VSize: int, how: str = "auto", cased: bool = False
) -> tuple[list[list[int]], Loaded]:
    """The stories of a corpus, and the words of an LSTM model of them, without a model yet.

    Half of the words that the corpus has once are `<unk>` in the stories, as in an epoch of
    training with lstlm.py: else a corpus all of whose words are in the vocabulary would teach
    nothing about `<unk>`.
    """
    text = {"how": how, "cased": cased}
    token2idx, *_ = lstlm.build_vocab_and_embeddings(None, corpus, VSize, edim=1, **text)
    stories = lstlm.tokenize_corpus(corpus, token2idx, **text)
    ids, places = flatten(stories)
    counts = torch.from_numpy(np.bincount(ids[places > 0], minlength=len(token2idx)))
    shown = hide_rare(counts, torch.Generator().manual_seed(0))
    config = Config(EDim=1, VSize=VSize, cased=cased)
    words = Loaded(None, config, list(token2idx), token2idx, {}, None)
    return [[shown[token] for token in story] for story in stories], words


def evaluated(model: KneserNey, words: Loaded, path: Path, how: str) -> dict:
    """What `lstlm.py -evaluate` prints of a model and a corpus."""
    started = time.perf_counter()
    corpus = read_corpus(words, path, how)
    nats = float(model.nats(corpus.stories).mean())
    return measured(corpus, nats, safe_exp(nats), time.perf_counter() - started)


def evaluate(args: argparse.Namespace) -> None:
    """Print how well the n-grams of `-train_corpus` predict each corpus of `-test_corpus`."""
    stories, words = read_training(args.train_corpus, args.VSize, args.stories, args.cased)
    V = len(words.words)
    model = KneserNey(stories, V, args.order)
    if not args.json:
        print(f"{args.order}-grams: V = {V:,}, counted in {args.train_corpus}")
    for path in args.test_corpus:
        row = evaluated(model, words, path, args.stories)
        print(to_json(row) if args.json else LINE.format(**row), flush=True)


def write_results(args: argparse.Namespace) -> None:
    """Write nats, perplexity and bits per character of all orders on all of `CORPORA` as JSON."""
    content = {
        "command": "python hw04/report/measures/ngram.py "
        "-results hw04/report/results/measures/ngram.json",
        "date": time.strftime("%Y-%m-%d"), "machine": {"processor": processor(), "threads": 1},
        "numpy": np.__version__,
    }
    for name, (train, *tests, cased) in CORPORA.items():
        size = 10**9 if cased else 10_000
        stories, words = read_training(args.data / train, size, cased=cased)
        paths = [args.data / test for test in tests]
        content[name] = {str(order): of_order(stories, words, order, paths) for order in ORDERS}
    write_json(args.results, content)


def of_order(
    stories: list[list[int]], words: Loaded, order: int, paths: list[Path]
) -> dict:
    """The figures of one order on a valid and a test corpus, and the seconds of a core."""
    started = time.process_time()
    V = len(words.words)
    model = KneserNey(stories, V, order)
    rows = [evaluated(model, words, path, "auto") for path in paths]
    valid, test = ({key: row[key] for key in MEASURES} for row in rows)
    print(f"{order}-grams, V = {V:,}", *(LINE.format(**row) for row in rows), sep="\n", flush=True)
    seconds = round(time.process_time() - started, 1)
    return {"valid": valid, "test": test, "V": V, "seconds": seconds}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser("ngram.py", __doc__)
    add = parser.add_argument
    path = {"type": Path, "metavar": "PATH"}
    add("-train_corpus", **path, help="where n-grams are counted (no default)")
    add("-test_corpus", **path, nargs="+", help="what is measured (no default)")
    add("-order", type=positive, default=5, help="length of the longest n-grams (default 5)")
    add("-VSize", type=positive, default=10_000, help="words of the vocabulary (default 10000)")
    add("-stories", choices=("auto", "line", "eos", "article"), default="auto", help="as for "
        "lstlm.py (default auto)")
    add("-cased", action="store_true", help="keep upper case (default lower case)")
    add("-json", action="store_true", help="print one JSON object a line (default text for people)")
    add("-results", **path, help="write the figures of orders 2 to 5 on TinyStories and WikiText-2 "
        "there instead (default none)")
    add_data_flag(add, "the tiny/ and wiki/ of -results")
    args = parser.parse_args(argv)
    if not args.results and not (args.train_corpus and args.test_corpus):
        parser.error("give -train_corpus and -test_corpus, or -results")
    return args


def carry_out(argv: list[str] | None) -> None:
    """Evaluate, or write the results."""
    args = parse_args(argv)
    if args.results:
        write_results(args)
    else:
        evaluate(args)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for what the user can mend, 1 for other failures."""
    return guarded("ngram.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
