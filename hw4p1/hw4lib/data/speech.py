"""Speech to learn from where there is none: short sentences of the embedded stories, read aloud.

espeak-ng reads them, if it is installed: a small synthesiser with many voices. Else each letter is
a tone or a noise of its own, which is no speech, but a task of the same kind.
"""

import contextlib
import functools
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..errors import UserError
from ..files import write_json
from .front_end import RATE, log_mel
from .npy_files import RECORD, SAMPLE
from .recordings import read_recording
from .text import UNSAYABLE, read_units, sentences, words_of
from .tones import tones

ESPEAK = "espeak-ng"
ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland")
SPEAKERS = ("m1", "m2", "m3", "m4", "m7", "f1", "f2", "f3", "f4")
HELD_OUT = ("en-us+m5", "en-gb+f5", "en-gb-x-rp+m6")  # who read the test set alone
RATES, PITCHES = (130, 190), (25, 75)  # words a minute; of 0 to 99
SHORTEST, LONGEST = 3, 9  # words of a sentence
SIZES = {"train": 1500, "val": 80, "test": 80}  # sentences
SOURCES = {"train": "train.tokens", "val": "valid.tokens", "test": "test.tokens"}
RECORDINGS = 5  # of the test sentences are kept as sound too
SEED = 0


class Utterance(NamedTuple):
    """A sentence and how it is read; what `rate` and `pitch` mean depends on the reader."""

    text: str
    voice: str
    rate: int
    pitch: int


def has_espeak() -> bool:
    """Whether espeak-ng is installed."""
    return shutil.which(ESPEAK) is not None


def described() -> str:
    """What the speech is that is made here, to be said with everything that is learned of it."""
    if has_espeak():
        version = subprocess.run([ESPEAK, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"[0-9]+\.[0-9.]+", version.stdout)
        return f"synthetic speech, read by espeak-ng {found[0] if found else ''}".rstrip()
    return "tones and noises, one for each letter, which are no speech (espeak-ng is not installed)"


@functools.cache
def short_sentences(path: Path) -> tuple[str, ...]:
    """The sentences of a corpus that have SHORTEST to LONGEST words, each once, in its order."""
    found = {}
    for unit in read_units(path):
        for sentence in sentences(unit):
            words = [word for word, _ in words_of(sentence)]
            if SHORTEST <= len(words) <= LONGEST and not UNSAYABLE.search(sentence):
                found[" ".join(words)] = None
    return tuple(found)


def plan(sizes: dict[str, int]) -> dict[str, list[Utterance]]:
    """What each partition has: no sentence twice, and other voices in test than in the rest."""
    draw = random.Random(SEED)
    voices = [f"{accent}+{speaker}" for accent in ACCENTS for speaker in SPEAKERS]
    taken: set[str] = set()
    planned = {}
    for partition, count in sizes.items():
        texts = [t for t in short_sentences(SAMPLE / SOURCES[partition]) if t not in taken]
        if count > len(texts):
            raise UserError(f"{count:,} sentences for {partition}; there are {len(texts):,}")
        chosen = draw.sample(texts, count)
        taken |= set(chosen)
        readers = HELD_OUT if partition == "test" else voices
        planned[partition] = [
            Utterance(text, draw.choice(readers), draw.randint(*RATES), draw.randint(*PITCHES))
            for text in chosen
        ]
    return planned


def read_aloud(utterance: Utterance) -> torch.Tensor:
    """Samples (n,) of RATE."""
    if not has_espeak():
        return torch.from_numpy(tones(*utterance))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        command = [
            ESPEAK, "-v", utterance.voice, "-s", str(utterance.rate), "-p", str(utterance.pitch),
            "-w", str(path), "--", utterance.text.lower(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not path.is_file():
            why = done.stderr.strip()[:100] or f"status {done.returncode}"
            raise UserError(f"{ESPEAK}: cannot read a sentence ({why}); install it anew")
        return read_recording(path)[0]


def make_speech(
    root: str | Path, sizes: dict[str, int] | None = None, names: dict[str, str] | None = None
) -> dict:
    """Write utterances under `root`, in the course's layout; it appears only when it is complete.

    `sizes` has the sentences of train, val and test, and `names` the folders of the three. The
    first ones of test are in `recordings/` too, as sound. Returns the record that is written beside
    them. UserError if `root` is there already.
    """
    root = Path(root)
    if root.exists():
        raise UserError(f"{root}: is there already; remove it, or choose another folder")
    planned = plan(sizes or SIZES)
    names = names or {name: name for name in planned}
    record = {
        "what": described(),
        "sources": {
            names[name]: [{"file": f"{described()}: {SOURCES[name]}"}] for name in planned
        },
        "utterances": {names[name]: len(utterances) for name, utterances in planned.items()},
        "rate": RATE,
    }  # fmt: skip
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as folder:
        building = Path(folder) / root.name
        for name, utterances in planned.items():
            write_utterances(building / names[name], utterances)
        write_recordings(building / "recordings", planned.get("test", [])[:RECORDINGS])
        write_json(building / RECORD, record)
        building.rename(root)
    return record


def write_utterances(folder: Path, utterances: list[Utterance]) -> None:
    """Write features and transcripts of a partition, as many at once as there are processors."""
    for part in ("fbank", "text"):
        (folder / part).mkdir(parents=True)

    def write(item: tuple[str, Utterance]) -> None:
        name, utterance = item
        np.save(folder / "fbank" / name, log_mel(read_aloud(utterance)).numpy())
        np.save(folder / "text" / name, np.array(list(utterance.text)))

    with side_by_side() as pool:
        done = pool.map(write, named(utterances))
        for _ in tqdm(done, desc=folder.name, total=len(utterances), disable=None):
            pass


@contextlib.contextmanager
def side_by_side() -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which PyTorch has one thread; an error ends those that wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def write_recordings(folder: Path, utterances: list[Utterance]) -> None:
    """Write utterances as sound."""
    import soundfile

    folder.mkdir(parents=True)
    for name, utterance in named(utterances):
        soundfile.write(folder / f"{Path(name).stem}.wav", read_aloud(utterance).numpy(), RATE)


def named(utterances) -> Iterator[tuple[str, Utterance]]:
    """Each with the name of its files: number and voice."""
    for number, utterance in enumerate(utterances):
        yield f"{number:05d}-{utterance.voice.replace('+', '-')}.npy", utterance
