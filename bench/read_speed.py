#!/usr/bin/env python3
"""Measure reading: a GloVe file of random numbers, for the first time and from the cache, and a corpus.

    python bench/read_speed.py CORPUS [-dims 100 300] [-words 400000]

The file is written to a temporary folder and so is in the page cache. The vocabulary is 10,000 words spread over it.
Prints one JSON line: seconds for each load, and seconds to read a corpus and turn it into ids.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from train_speed import lstlm


def seconds(function, *args) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function(*args)
    return round(time.perf_counter() - start, 3)


def write_glove(path: Path, words: int, dim: int) -> None:
    """A file of random vectors, in the format of GloVe's: lines are put together of 1,000 random ones."""
    numbers = random.Random(0)
    tails = [" ".join(f"{numbers.gauss(0, 0.4):.5f}" for _ in range(dim)) for _ in range(1000)]
    with path.open("w") as file:
        file.writelines(f"w{word} {tails[word % 1000]}\n" for word in range(words))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("corpus", help="tokenised text, one story a line")
    p.add_argument("-dims", type=int, nargs="+", default=[100, 300], help="(default 100 300)")
    p.add_argument("-words", type=int, default=400000, help="lines of the GloVe file (default 400000)")
    args = p.parse_args()
    record = {}
    vocabulary = [f"w{word}" for word in range(0, args.words, max(1, args.words // 10000))]
    for dim in args.dims:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "glove.txt"
            write_glove(path, args.words, dim)
            record[f"glove_{dim}"] = {
                "mb": path.stat().st_size // 10**6, "first_s": seconds(lstlm.cached_glove, path, vocabulary),
                "cached_s": min(seconds(lstlm.cached_glove, path, vocabulary) for _ in range(3)),
            }
    token2idx, _, _ = lstlm.build_vocab_and_embeddings(None, args.corpus, 10000)
    tokens = sum(len(story) - 1 for story in lstlm.tokenize_corpus(args.corpus, token2idx))
    record |= {"corpus_tokens": tokens, "corpus_s": seconds(lstlm.tokenize_corpus, args.corpus, token2idx)}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
