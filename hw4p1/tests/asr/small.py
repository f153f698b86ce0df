"""Small utterances, batches and models for the tests of speech recognition."""

from pathlib import Path

import numpy as np
import torch

BINS = 8
TEXTS = ["A CAT", "THE DOG RAN", "OH", "IT'S LATE NOW", "SO THE CAT SAT"]
FRAMES = [31, 64, 24, 70, 52]


def features_of(frames: list[int], bins: int = BINS, seed: int = 0) -> list[np.ndarray]:
    """Random decibels (bins, T) for each T."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-80, 0, (bins, T)).astype(np.float32) for T in frames]


def write_partition(
    root: Path, partition: str, texts: list[str] | None, features: list[np.ndarray]
) -> None:
    """Write utterances u0, u1, ... in the course's layout; without texts if these are None."""
    (root / partition / "fbank").mkdir(parents=True)
    for i, array in enumerate(features):
        np.save(root / partition / "fbank" / f"u{i}.npy", array)
    if texts is not None:
        (root / partition / "text").mkdir()
        for i, text in enumerate(texts):
            np.save(root / partition / "text" / f"u{i}.npy", np.array(list(text)))


def data_config(root: Path, **changed) -> dict:
    """A section `data`."""
    conf = {
        "apply_freq_mask": True, "freq_mask_width_range": 3, "num_freq_mask": 2,
        "apply_time_mask": True, "time_mask_width_range": 10, "num_time_mask": 2,
    }  # fmt: skip
    config = {
        "root": str(root), "subset": 1.0, "num_feats": BINS, "norm": "global_mvn",
        "specaug": False, "specaug_conf": conf, "batch_size": 2,
    }  # fmt: skip
    return {**config, **changed}


def randomised(model: torch.nn.Module, std: float = 0.4) -> torch.nn.Module:
    """The model with random parameters, so that no zero or one hides a mistake; float64, eval."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std)
    return model.double().eval()
