"""A small model, made by the reference in a process of its own: for items that need a model file.

    python -m grader.prepare FOLDER SEED        # writes FOLDER/small, what `checks.exchange` reads
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
from checks import exchange

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "ape", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "koi", "lark", "mole",
    "newt", "owl", "pig",
]
TRAIN = "-train -H 1 -N 6 -EDim 4 -VSize 30 -B 4 -E 1 -lr 0.1 -precision fp32 -device cpu"


def some_stories(rng: np.random.Generator, count: int) -> str:
    """A corpus of short stories."""
    lines = [" ".join(rng.choice(WORDS, int(rng.integers(2, 9)))) for _ in range(count)]
    return "\n".join([" ".join(WORDS), *lines]) + "\n"


def prepare(folder: Path, seed: int) -> dict:
    """Train the model in a folder; returns it as bytes, its words, two corpora and its nats there.

    `nats` has pairs of a story's ids and its mean nats per token.
    """
    sys.path.insert(0, str(ROOT / "hw04" / "code"))
    import lstlm

    rng = np.random.default_rng(seed)
    corpora = {name: some_stories(rng, count) for name, count in (("one", 12), ("other", 7))}
    for name, text in corpora.items():
        (folder / name).write_text(text)
    path, one, other = (str(folder / name) for name in ("small.pt", "one", "other"))
    flags = [*TRAIN.split(), "-train_corpus", one, "-valid_corpus", other, "-model", path]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = lstlm.main([*flags, "-seed", str(seed % 1000)])
        if status:
            raise RuntimeError("the reference did not train")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        lstlm.main(["-evaluate", "-model", path, "-test_corpus", one, other, "-json", "-precision",
                    "fp32", "-device", "cpu"])
    records = [json.loads(line) for line in printed.getvalue().splitlines()]
    loaded = lstlm.load(path)
    token2idx = loaded.loaded.token2idx
    stories = [s for text in (one, other) for s in lstlm.tokenize_corpus(text, token2idx)]
    return {
        "model": Path(path).read_bytes(), "words": [*token2idx], "corpora": corpora,
        "corpus_nats": [record["nats"] for record in records],
        "nats": [[np.array(s), lstlm.compute_loss(loaded.model, [s], 1)] for s in stories],
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    where, number = Path(sys.argv[1]), int(sys.argv[2])
    (where / "small").write_bytes(exchange.dump(prepare(where, number)))
