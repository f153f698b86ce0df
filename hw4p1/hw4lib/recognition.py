"""What is said in a recording, by a trained model, however long it is."""

import math
from difflib import SequenceMatcher
from pathlib import Path

import torch
from torch import Tensor

from .data.front_end import BINS, HOP, RATE, log_mel
from .data.normalisation import Stats, normalised
from .data.recordings import read_recording
from .errors import UserError
from .trainers import ASRTrainer

OVERLAP = 2.0  # seconds that two parts of a long recording share
REACH = 12  # words at the end of one part, and at the beginning of the next, that may be the same
SIDE_BY_SIDE = 8  # parts


class Recogniser:
    """A trained model with what its features were normalised by, and how it is to search.

    `max_length` is that of a transcript of one part, in tokens. Recordings that are longer than the
    model's longest utterance are cut into overlapping parts.
    """

    def __init__(
        self, trainer: ASRTrainer, stats: Stats | None, settings: dict, max_length: int
    ):
        self.trainer, self.stats, self.settings = trainer, stats, settings
        self.max_length = max_length
        data = trainer.config["data"]
        self.bins, self.norm = data["num_feats"], data["norm"]
        if self.bins > BINS:
            raise UserError(f"the model wants {self.bins} bins, and recordings give {BINS}")

    def __call__(self, path: Path) -> tuple[str, list[str]]:
        """The text of a recording, and notes on it. UserError that names the file."""
        samples, notes = read_recording(path)
        if not samples.any():
            return "", notes
        parts = overlapping(samples, self.longest())
        if len(parts) > 1:
            seconds = len(parts[0]) / RATE
            notes.append(f"cut into {len(parts)} parts of {seconds:.0f} s that overlap")
        try:
            texts = [
                text for begin in range(0, len(parts), SIDE_BY_SIDE)
                for text in self._texts(parts[begin : begin + SIDE_BY_SIDE])
            ]
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        return joined(texts), notes

    def longest(self) -> int:
        """Samples of the longest recording that the model takes in one."""
        return (self.trainer.model.max_len - 1) * HOP

    def _texts(self, parts: list[Tensor]) -> list[str]:
        """What is said in each of some parts of one length."""
        feats = [normalised(log_mel(part)[: self.bins], self.norm, self.stats) for part in parts]
        lengths = torch.tensor([feat.shape[1] for feat in feats])
        batch = (torch.stack(feats).transpose(1, 2), None, None, lengths, None)
        found = self.trainer.recognize([batch], self.settings, max_length=self.max_length)
        return [result["generated"] for result in found]


def overlapping(samples: Tensor, longest: int) -> list[Tensor]:
    """Samples (n,) in parts of one length, no longer than `longest`, evenly spaced.

    Two neighbours share OVERLAP seconds or more, or half of a part where that is less.
    """
    if len(samples) <= longest:
        return [samples]
    shared = min(int(OVERLAP * RATE), longest // 2)
    count = math.ceil((len(samples) - shared) / (longest - shared))
    step = (len(samples) - longest) / (count - 1)
    starts = [round(i * step) for i in range(count)]
    return [samples[start : start + longest] for start in starts]


def joined(texts: list[str]) -> str:
    """The texts of overlapping parts as one: what two have in common at their seam comes once."""
    words: list[str] = []
    for text in texts:
        new = text.split()
        tail = words[-REACH:]
        head = new[:REACH]
        match = SequenceMatcher(None, tail, head, autojunk=False).find_longest_match()
        if match.size:
            kept = len(words) - len(tail) + match.a + match.size
            words = words[:kept] + new[match.b + match.size :]
        else:
            words += new
    return " ".join(words)
