"""What is said in a recording, by a trained model, however long it is."""

from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d
from torch.nn.utils.rnn import pad_sequence

from .data.front_end import BINS, HOP, RATE, log_mel
from .data.normalisation import Stats, normalised
from .data.recordings import read_recording
from .errors import UserError
from .trainers import ASRTrainer

PAUSE, QUIET = 0.2, 1e-4  # seconds of a pause, and its power as a share of the loudest there is
OVERLAP = 2.0  # seconds that two parts of a long recording share where there is no pause
REACH = 12  # words at the end of one part, and at the beginning of the next, that may be the same
SIDE_BY_SIDE = 8  # parts


class Recogniser:
    """A trained model with what its features were normalised by, and how it is to search.

    `max_length` is that of a transcript of one part, in tokens. Recordings that are longer than the
    model's longest utterance are cut into parts, at pauses where there are some.
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
        spans = cut(samples, self.longest())
        parts = [samples[begin:end] for begin, end in spans]
        if len(parts) > 1:
            seconds = self.longest() / RATE
            how = f"of up to {seconds:.0f} s, at pauses or where there are none with an overlap"
            notes.append(f"cut into {len(parts)} parts {how}")
        try:
            texts = [
                text for begin in range(0, len(parts), SIDE_BY_SIDE)
                for text in self._texts(parts[begin : begin + SIDE_BY_SIDE])
            ]
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        shared = [begin < end for (_, end), (begin, _) in pairwise(spans)]
        return joined(texts, shared), notes

    def longest(self) -> int:
        """Samples of the longest recording that the model takes in one."""
        return (self.trainer.model.max_len - 1) * HOP

    def _texts(self, parts: list[Tensor]) -> list[str]:
        """What is said in each of some parts."""
        feats = [normalised(log_mel(part)[: self.bins], self.norm, self.stats) for part in parts]
        lengths = torch.tensor([feat.shape[1] for feat in feats])
        padded = pad_sequence([feat.T for feat in feats], batch_first=True)
        batch = (padded, None, None, lengths, None)
        found = self.trainer.recognize([batch], self.settings, max_length=self.max_length)
        return [result["generated"] for result in found]


def cut(samples: Tensor, longest: int) -> list[tuple[int, int]]:
    """Begin and end of parts of samples (n,), none longer than `longest`.

    A part ends at the last pause in its second half. Where there is none the next one begins before
    its end: they share OVERLAP seconds, or half of a part where that is less.
    """
    shared = min(int(OVERLAP * RATE), longest // 2)
    quiet = pauses(samples)
    spans, begin = [], 0
    while len(samples) - begin > longest:
        within = (quiet > begin + longest // 2) & (quiet <= begin + longest)
        places = quiet[within]
        end = int(places[-1]) if len(places) else begin + longest
        spans.append((begin, end))
        begin = end if len(places) else end - shared
    return [*spans, (begin, len(samples))]


def pauses(samples: Tensor) -> Tensor:
    """The middle of each PAUSE seconds that are quiet, every tenth of these looked at."""
    width = int(PAUSE * RATE)
    if len(samples) < width:
        return torch.empty(0)
    power = avg_pool1d(samples.double().square()[None], width, width // 10)[0]
    quiet = power < QUIET * power.max()
    return quiet.nonzero()[:, 0] * (width // 10) + width // 2


def joined(texts: list[str], shared: list[bool]) -> str:
    """The texts of parts as one; `shared` says of each seam whether the parts overlap there.

    What two of these have in common at their seam comes once.
    """
    words: list[str] = []
    for text, overlap in zip(texts, [False, *shared], strict=True):
        new = text.split()
        tail = words[-REACH:] if overlap else []
        match = SequenceMatcher(None, tail, new[:REACH], autojunk=False).find_longest_match()
        if match.size:
            kept = len(words) - len(tail) + match.a + match.size
            words = words[:kept] + new[match.b + match.size :]
        else:
            words += new
    return " ".join(words)
