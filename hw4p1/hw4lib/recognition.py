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
BEFORE, AFTER = 0.05, 0.35  # seconds of silence that a part may have around what is said
OVERLAP = 2.0  # seconds that two parts of a long recording share where there is no pause
REACH = 12  # words at the end of one part, and at the beginning of the next, that may be the same
SIDE_BY_SIDE = 8  # parts
STEP = int(PAUSE * RATE) // 10  # samples from one place that is looked at to the next


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
        spans = with_sound(samples, cut(samples, self.longest(), self.usual()))
        parts = [trimmed(samples[begin:end]) for begin, end in spans]
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

    def usual(self) -> int:
        """Samples of an utterance of the training, on the average; the longest where not known."""
        trained_on = self.trainer.config.get("trained_on", {})
        frames, utterances = (trained_on.get(name, 0) for name in ("frames", "utterances"))
        return min(frames * HOP // utterances, self.longest()) if utterances else self.longest()

    def _texts(self, parts: list[Tensor]) -> list[str]:
        """What is said in each of some parts."""
        feats = [normalised(log_mel(part)[: self.bins], self.norm, self.stats) for part in parts]
        lengths = torch.tensor([feat.shape[1] for feat in feats])
        padded = pad_sequence([feat.T for feat in feats], batch_first=True)
        batch = (padded, None, None, lengths, None)
        found = self.trainer.recognize([batch], self.settings, max_length=self.max_length)
        return [result["generated"] for result in found]


def cut(samples: Tensor, longest: int, usual: int) -> list[tuple[int, int]]:
    """Begin and end of parts of samples (n,), none longer than `longest`.

    A model hears best what is as long as what it has learned from: a part ends with the first pause
    after half of the `usual` length. Where there is none the next one begins before its end: they
    share OVERLAP seconds, or half of a part where that is less.
    """
    shared = min(int(OVERLAP * RATE), longest // 2)
    quiet = pauses(samples)
    spans, begin = [], 0
    while len(samples) - begin > longest:
        places = quiet[(quiet > begin + usual // 2) & (quiet <= begin + longest)]
        if not len(places):
            spans.append((begin, begin + longest))
            begin += longest - shared
            continue
        within = (places.diff() > STEP).cumsum(0) == 0  # the same pause as the first place
        end = int(places[int(within.sum())])  # at the end of it
        spans.append((begin, end))
        begin = end
    return [*spans, (begin, len(samples))]


def with_sound(samples: Tensor, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of some parts that are not a pause as a whole: of silence a model makes words."""
    power = samples.square()
    least = QUIET * power.max()
    return [(begin, end) for begin, end in spans if power[begin:end].max() > least]


def trimmed(samples: Tensor) -> Tensor:
    """Samples (n,) with little silence around them.

    A model that has learned from utterances which all begin at once takes a later begin for none.
    """
    loud = samples.square()
    places = (loud > QUIET * loud.max()).nonzero()[:, 0]
    begin, end = int(places[0]) - int(BEFORE * RATE), int(places[-1]) + 1 + int(AFTER * RATE)
    return samples[max(0, begin) : end]


def pauses(samples: Tensor) -> Tensor:
    """The middle of each PAUSE seconds that are quiet, every tenth of these looked at."""
    width = 10 * STEP
    if len(samples) < width:
        return torch.empty(0)
    power = avg_pool1d(samples.double().square()[None], width, STEP)[0]
    quiet = power < QUIET * power.max()
    return quiet.nonzero()[:, 0] * STEP + width // 2


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
