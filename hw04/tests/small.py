"""Small models, trainings and stories for tests."""

import os
from pathlib import Path

import lstlm
import torch
from backstage.sealed import unseal
from lstlm import LSTMLM

SAMPLE = Path(lstlm.__file__).parents[1] / "data" / "sample"  # the embedded stories
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # no waiting for a core that is busy
# Flags of the training of a small model, of a second.
SMALL = ["-H", 1, "-N", 32, "-EDim", 16, "-E", 2, "-B", 4, "-lr", 0.02, "-seed", 0]
RAGGED = [5, 1, 9, 9, 3, 2]  # words of each story; 9 twice, as equal lengths must keep their order
KINDS = {  # of models: the switches of LSTMLM
    "plain": {}, "attention": {"attention": "dot"}, "gru": {"cell": "gru"}, "rnn": {"cell": "rnn"},
    "gru-attention": {"attention": "dot", "cell": "gru"}, "bilinear": {"attention": "bilinear"},
    "additive": {"attention": "additive"}, "tied": {"tie": True},
    "tied-attention": {"attention": "dot", "tie": True}, "positions": {"positions": True},
}
ALL_KINDS = {
    **KINDS, "bidirectional": {"bidirectional": True},
    "tied-bidirectional-gru": {"bidirectional": True, "tie": True, "cell": "gru"},
}


def content_of(path: str | Path) -> dict:
    """What a checkpoint or a state file holds."""
    return unseal(Path(path).read_bytes())


def make_stories(lengths: list[int], V: int, seed: int = 0) -> list[list[int]]:
    """Random stories of ids `<bos> ... <eos>` with so many words."""
    generator = torch.Generator().manual_seed(seed)
    return [[1, *torch.randint(3, V, (n,), generator=generator).tolist(), 2] for n in lengths]


def make_model(
    attention: str | None = None, V: int = 40, N: int = 12, H: int = 2, dtype=torch.float64,
    model_class: type[LSTMLM] = LSTMLM, **switches,
) -> LSTMLM:
    """A model with random weights; the vectors of words 10 to 19 are learned, the others frozen."""
    torch.manual_seed(1)
    embeddings = torch.randn(V, 8)
    embeddings[10:20] = 0
    return model_class(embeddings, N, H, attention, **switches).to(dtype)
