"""The vectors that a vocabulary takes from a GloVe file, kept for the next training."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from backstage.files import atomic_write


def cached_vectors(
    path: Path, words: list[str], read: Callable[[Path, list[str]], Tensor]
) -> Tensor:
    """`read(path, words)`, whose result is kept in a file beside `path`, for the same words.

    That file is two SHA-256 digests and the float32 numbers: the first digest is of what they were
    made from, the second is of the numbers. If it cannot be read it is made anew, and if it cannot
    be written that is no error.
    """
    if not path.is_file():  # nor is a pipe read twice
        return read(path, words)
    cache = path.with_name(f".{path.name}.cache")
    key = None
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        key = glove_key(path, words)
        numbers = read_cache(cache, key)
        if numbers:
            return torch.frombuffer(numbers, dtype=torch.float32).view(len(words), -1)
    vectors = read(path, words)
    if key is None:
        return vectors
    with contextlib.suppress(OSError):
        numbers = vectors.numpy().tobytes()
        content = key + hashlib.sha256(numbers).digest() + numbers
        atomic_write(cache, lambda file: file.write(content))
    return vectors


def read_cache(cache: Path, key: bytes) -> bytearray | None:
    """The numbers of a cache file, if it is whole and made from what `key` says."""
    with cache.open("rb") as file:
        if file.read(32) != key:
            return None
        check = file.read(32)
        numbers = bytearray(file.read())
    if hashlib.sha256(numbers).digest() != check:
        return None
    return numbers


def glove_key(path: Path, words: list[str]) -> bytes:
    """A digest of the words and of what tells GloVe files apart: size, time, first and last MiB."""
    about = path.stat()
    with path.open("rb") as file:
        first = file.read(1 << 20)
        file.seek(max(0, about.st_size - (1 << 20)))
        last = file.read()
    made_from = about.st_size, about.st_mtime_ns, first, last, words
    return hashlib.sha256(repr(made_from).encode()).digest()
