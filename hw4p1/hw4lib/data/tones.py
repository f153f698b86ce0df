"""A text as tones and noises, one for each letter: no speech, but a task of the same kind.

As in speech, sounds have energy in two bands (formants) that a speaker shifts, some have a pitch
and others are noise, they flow into each other, and last longer in slow speech.
"""

import zlib

import numpy as np

from .front_end import RATE

VOICED = "ABDEGIJLMNORUVWYZ"  # the others are noise
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
WIDTH = 120.0  # hertz of a band
FADE = 0.012  # seconds in which one sound becomes the next
NOISE = 0.003  # of a room


def tones(text: str, voice: str, rate: int, pitch: int) -> np.ndarray:
    """Samples (n,) float32 of a text, 160 as the `rate` being 0.09 s for a letter; pitch 0 to 99.

    The `voice`, any text, decides how far the bands are shifted. The same arguments, the same
    samples.
    """
    draw = np.random.default_rng(zlib.crc32(f"{text} {voice} {rate} {pitch}".encode()))
    shift = 0.85 + 0.3 * np.random.default_rng(zlib.crc32(voice.encode())).random()
    fade = int(FADE * RATE)
    total = np.zeros(0)
    for letter in f" {text} ":
        seconds = 0.09 * 160 / rate * draw.uniform(0.8, 1.25)
        sound = _sound(letter, int(seconds * RATE) + fade, 80 + 1.6 * pitch, shift, draw)
        ramp = np.minimum(1, np.minimum(np.arange(len(sound)), np.arange(len(sound))[::-1]) / fade)
        start = max(0, len(total) - fade)
        total = np.pad(total, (0, start + len(sound) - len(total)))
        total[start:] += sound * ramp
    total = total / max(1e-9, np.abs(total).max()) * 0.5
    return (total + NOISE * draw.standard_normal(len(total))).astype(np.float32)


def _sound(
    letter: str, size: int, pitch: float, shift: float, draw: np.random.Generator
) -> np.ndarray:
    """Samples (size,) of one letter; a space is silent."""
    if letter == " ":
        return np.zeros(size)
    number = LETTERS.index(letter)
    # Each pair of bands belongs to one letter: 6 places of the lower, 5 of the upper.
    bands = shift * np.array([300 + 130 * (number % 6), 1300 + 500 * (number // 6)])
    if letter in VOICED:
        harmonics = pitch * np.arange(1, int(4500 / pitch))
        phases = 2 * np.pi * np.arange(size)[:, None] / RATE * harmonics
        return np.sin(phases) @ _strength(harmonics, bands)
    frequencies = np.fft.rfftfreq(size, 1 / RATE)
    spectrum = np.exp(2j * np.pi * draw.random(len(frequencies)))
    return np.fft.irfft(spectrum * _strength(frequencies, bands), size) * size**0.5 * 0.5


def _strength(frequencies: np.ndarray, bands: np.ndarray) -> np.ndarray:
    """How strong frequencies are in a sound that has these bands."""
    return np.exp(-(((frequencies[:, None] - bands) / WIDTH) ** 2)).sum(1)
