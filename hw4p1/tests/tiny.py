"""Tiny models, data and token ids for the tests of the language model."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from hw4lib.model import DecoderOnlyTransformer

TEXTS = [
    "THE CAT SAT ON THE MAT AND SLEPT", "A DOG", "IT'S LATE",
    "THE DOG SAT ON THE CAT AND THEN IT RAN AWAY", "OH",
    "ONE MAT IS NOT ENOUGH FOR A CAT", "THEY RAN", "SO THE CAT AND THE DOG SAT TOGETHER",
]  # fmt: skip
SMALL = {
    "data": {"batch_size": 16}, "training": {"epochs": 2},
    "model": {"d_model": 16, "d_ff": 32, "num_layers": 1},
    "scheduler": {"warmup": {"epochs": 1}, "cosine": {"T_max": 1}},
}  # fmt: skip
WORDS = [
    "THE", "OLD", "CAT", "SAT", "ON", "A", "RED", "MAT", "AND", "SAW", "DOG'S", "BIG", "BONE",
    "RAN", "AWAY",
]
V = 11
TOKENIZER = SimpleNamespace(eos_id=4, sos_id=3, pad_id=0, vocab_size=V)


def make_model(
    num_layers=2, d_model=8, num_heads=2, d_ff=12, dropout=0.0, max_len=16, num_classes=V, **options
):
    """A float64 model in eval mode whose parameters are all random.

    No zeros or ones that would hide a mistake.
    """
    torch.manual_seed(5)
    model = DecoderOnlyTransformer(
        num_layers, d_model, num_heads, d_ff, dropout, max_len, num_classes, **options
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model.double().eval()


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random ids that are no special tokens."""
    return torch.randint(6, V, shape, generator=torch.Generator().manual_seed(seed))


def padded(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids (B, T), right-padded with 0, and their lengths (B,)."""
    lengths = torch.tensor(lengths)
    batch = ids(len(lengths), int(lengths.max()), seed=seed)
    return batch.masked_fill(torch.arange(batch.shape[1]) >= lengths[:, None], 0), lengths


def write_data(root: Path, counts=(40, 6, 6)) -> Path:
    """Transcripts of random words."""
    draw = np.random.default_rng(0)
    for partition, count in zip(("train", "val", "test"), counts, strict=True):
        (root / partition).mkdir(parents=True)
        for i in range(count):
            np.save(
                root / partition / f"{i:03d}.npy",
                np.array(" ".join(draw.choice(WORDS, draw.integers(6, 12)))),
            )
    return root
