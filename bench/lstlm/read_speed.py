#!/usr/bin/env python3
"""Measure reading: a GloVe file of random numbers, at first and from the cache, and a corpus.

    python bench/lstlm/read_speed.py CORPUS [-dims 100 300] [-words 400000]

The file is written to a temporary folder and so is in the page cache. The vocabulary is 10,000
words spread over it. Prints one JSON line: seconds for each load, and seconds to read a corpus and
turn it into ids.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("read_speed.py"):
    import lstlm
    from backstage.glove_cache import cached_vectors
    from backstage.parser import Parser, positive


def seconds(function, *args) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function(*args)
    return round(time.perf_counter() - start, 3)


def write_glove(path: Path, words: int, dim: int) -> None:
    """A file of random vectors, in the format of GloVe's, put together of 1,000 random ones."""
    numbers = random.Random(0)
    tails = [" ".join(f"{numbers.gauss(0, 0.4):.5f}" for _ in range(dim)) for _ in range(1000)]
    with path.open("w") as file:
        file.writelines(f"w{word} {tails[word % 1000]}\n" for word in range(words))


def read_vectors(words: int, dim: int) -> dict:
    """The size of such a file and the seconds that it takes to read it."""
    vocabulary = [f"w{word}" for word in range(0, words, max(1, words // 10000))]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # where its cache goes, not among the user's
        path = Path(folder) / "glove.txt"
        write_glove(path, words, dim)
        call = (cached_vectors, path, vocabulary, lstlm.read_glove)
        first = seconds(*call)
        cached = min(seconds(*call) for _ in range(3))
        return {"mb": path.stat().st_size // 10**6, "first_s": first, "cached_s": cached}


def main() -> None:
    parser = Parser("read_speed.py", __doc__)
    add = parser.add_argument
    add("corpus", help="tokenised text, one story a line")
    add("-dims", type=positive, nargs="+", default=[100, 300], help="(default 100 300)")
    what = "lines of the GloVe file (default 400000)"
    add("-words", type=positive, default=400000, help=what)
    args = parser.parse_args()
    record = {f"glove_{dim}": read_vectors(args.words, dim) for dim in args.dims}
    token2idx, _, _ = lstlm.build_vocab_and_embeddings(None, args.corpus, 10000)
    stories = lstlm.tokenize_corpus(args.corpus, token2idx)
    record["corpus_tokens"] = sum(len(story) - 1 for story in stories)
    record["corpus_s"] = seconds(lstlm.tokenize_corpus, args.corpus, token2idx)
    print(json.dumps(record))


if __name__ == "__main__":
    sys.exit(guarded("read_speed.py", main))
