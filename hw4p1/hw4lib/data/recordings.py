"""Recordings -> samples: one channel of 16 kHz, with a note of what had to be changed for that."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .front_end import RATE

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff")
LONGEST = 3600  # seconds of a recording
SHORTEST = 0.1
FULL = 0.999  # of the range; a sample beyond it may have been cut
CLIPPED = 0.001  # share of such samples that is worth a word


def read_recording(path: str | Path) -> tuple[Tensor, list[str]]:
    """Samples (n,) float32 of RATE, and notes: another rate or more channels, clipping, silence.

    UserError that names the file if it is no sound, shorter than SHORTEST or longer than LONGEST.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a .wav or .flac, or a folder of them")
    try:
        with soundfile.SoundFile(path) as file:
            rate, seconds = file.samplerate, file.frames / file.samplerate
            _check_length(path, seconds)
            samples = file.read(dtype="float32", always_2d=True)  # (n, channels)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ZeroDivisionError) as error:
        why = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a sound file ({why}); give a .wav or .flac") from None
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: a sample of it is no number; save it again")
    _check_length(path, len(samples) / rate)  # which may be less than its header says
    notes = _notes(samples)
    if rate != RATE:
        notes.insert(0, f"resampled from {rate:,} Hz to {RATE:,}")
    mono = samples.mean(1)
    return torch.from_numpy(resampled(mono, rate)), notes


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples (n,) of any rate as samples of RATE."""
    if rate == RATE:
        return samples
    import soxr

    return soxr.resample(samples, rate, RATE)


def _check_length(path: Path, seconds: float) -> None:
    """UserError for a recording that is too short to have a word, or too long."""
    if seconds < SHORTEST:
        raise UserError(f"{path}: {seconds:.2f} s long, too short for a word; give a longer one")
    if seconds > LONGEST:
        raise UserError(f"{path}: {seconds / 3600:.1f} h long; cut it into hours")


def _notes(samples: np.ndarray) -> list[str]:
    """What is to be said of samples (n, channels)."""
    notes = []
    channels = samples.shape[1]
    if channels > 1:
        notes.append(f"the mean of its {channels} channels")
    if not samples.any():
        notes.append("silence alone")
    share = (np.abs(samples) >= FULL).mean()
    if share >= CLIPPED:
        notes.append(f"{share:.1%} of its samples are clipped, which costs words")
    return notes


def recordings_of(path: str | Path) -> list[Path]:
    """The file itself, or the recordings of a folder by name. UserError if it has none."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = sorted(
        file for file in path.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )
    if not found:
        raise UserError(f"{path}: a folder without {', '.join(SUFFIXES)}; give one that has some")
    return found
