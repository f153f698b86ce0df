"""Samples of sound -> the features of the course's files.

Those are decibels of 80 mel bands, 8 ms apart, below the loudest value of the utterance and no
lower than 80: librosa's `melspectrogram` and `power_to_db` at 16 kHz. The window of the course is
not known; a window of 512 samples changes as fast from frame to frame as its files do.
"""

import functools
import math

import torch
from torch import Tensor

from .feature_files import SILENCE

RATE = 16_000  # samples a second
HOP, WINDOW, BINS = 128, 512, 80
FAINTEST = 1e-10  # power; less is silence
# Slaney's scale (Auditory Toolbox, 1998): linear to 1 kHz, then 27 steps to 6.4 times that.
LINEAR, CORNER, STEPS = 200 / 3, 1000.0, 27 / math.log(6.4)


def log_mel(samples: Tensor) -> Tensor:
    """Samples (n,) of RATE -> features (80, 1 + n // 128) float32."""
    spectrum = torch.stft(
        samples.double(), WINDOW, HOP, window=torch.hann_window(WINDOW, dtype=torch.float64),
        center=True, pad_mode="constant", return_complex=True,
    )  # (257, T)
    power = mel_filters() @ spectrum.abs().square()
    loudest = power.max().clamp(min=FAINTEST)
    decibels = 10 * (power.clamp(min=FAINTEST) / loudest).log10()
    return decibels.clamp(min=SILENCE).float()


@functools.cache
def mel_filters() -> Tensor:
    """Weights (80, 257) of the spectrum's frequencies in each band: triangles of equal area."""
    edges = to_hertz(torch.linspace(0, to_mel(RATE / 2), BINS + 2, dtype=torch.float64))
    frequencies = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - low) / (middle - low)
    falling = (high - frequencies) / (high - middle)
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)


def to_mel(hertz: float) -> float:
    """A frequency on Slaney's scale."""
    if hertz < CORNER:
        return hertz / LINEAR
    return CORNER / LINEAR + STEPS * math.log(hertz / CORNER)


def to_hertz(mel: Tensor) -> Tensor:
    """Frequencies of places on Slaney's scale."""
    above = CORNER * ((mel - CORNER / LINEAR) / STEPS).exp()
    return torch.where(mel < CORNER / LINEAR, mel * LINEAR, above)
