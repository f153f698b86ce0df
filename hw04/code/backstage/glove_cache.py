"""The vectors that a vocabulary takes from a GloVe file, kept for the next training."""

import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from backstage.files import atomic_write, remove_leftovers

NAME = "vectors"  # begins the name of each cache file; the key follows
MOST_FILES = 8  # that are kept
MOST_BYTES = 1 << 30  # that they take


def cached_vectors(
    path: Path, words: list[str], read: Callable[[Path, list[str]], Tensor]
) -> Tensor:
    """`read(path, words)`, whose result is kept among the user's caches, for the same words.

    The cache file is two SHA-256 digests and the float32 numbers: the first digest is of what they
    were made from, the second is of the numbers. If it cannot be read it is made anew, and if it
    cannot be written that is no error.
    """
    if not path.is_file():  # nor is a pipe read twice
        return read(path, words)
    cache = None
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        key = glove_key(path, words)
        cache = cache_folder() / f"{NAME}.{key.hex()}"
        numbers = read_cache(cache, key)
        if numbers:
            return torch.frombuffer(numbers, dtype=torch.float32).view(len(words), -1)
    vectors = read(path, words)
    if cache is None:
        return vectors
    with contextlib.suppress(OSError):
        numbers = vectors.numpy().tobytes()
        content = key + hashlib.sha256(numbers).digest() + numbers
        atomic_write(cache, lambda file: file.write(content))
        remove_old(cache.parent)
    return vectors


def cache_folder() -> Path:
    """Our folder among the user's caches, made if it is missing, that only this user can write to.

    Raises OSError if it is a link, or somebody else owns it or may write to it, who could put other
    vectors there than those of the file. None is made for another user, as one who has become root
    may still have that user's home.
    """
    folder = user_caches() / "lstlm"
    if not os.path.lexists(folder):
        above = next(parent for parent in folder.parents if parent.exists())
        check_owner(above, above.stat())
        folder.mkdir(0o700, parents=True, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode):
        raise NotADirectoryError(f"{folder} is no folder")
    check_owner(folder, about)
    if os.name == "posix" and about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {folder}")
    return folder


def user_caches() -> Path:
    """The folder in which this user's programs keep what they can make again.

    Raises RuntimeError if the user has no home.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():  # another is to be ignored (XDG Base Directory Specification)
        return named
    home = Path.home()
    if not home.is_absolute():
        raise RuntimeError(f"{home} is no home")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    return home / ".cache"


def check_owner(path: Path, about: os.stat_result) -> None:
    """Raise OSError if another user owns this; Windows lets none into a user's own folders."""
    if os.name == "posix" and about.st_uid != os.geteuid():
        raise PermissionError(f"{path} is another user's")


def remove_old(folder: Path) -> None:
    """Remove the cache files that have not been used for longest, and what killed runs left."""
    remove_leftovers(folder / NAME)
    size = 0
    caches = {path: path.stat() for path in folder.glob(f"{NAME}.*")}
    by_use = sorted(caches.items(), key=lambda item: -item[1].st_mtime_ns)
    for place, (path, about) in enumerate(by_use, 1):
        size += about.st_size
        if place > MOST_FILES or size > MOST_BYTES:
            path.unlink()


def read_cache(cache: Path, key: bytes) -> bytearray | None:
    """The numbers of a cache file, if it is whole and made from what `key` says."""
    with cache.open("rb") as file:
        if file.read(32) != key:
            return None
        check = file.read(32)
        numbers = bytearray(file.read())
    if hashlib.sha256(numbers).digest() != check:
        return None
    with contextlib.suppress(OSError):
        os.utime(cache)  # the time of its last use
    return numbers


def glove_key(path: Path, words: list[str]) -> bytes:
    """A digest of the words and of what tells GloVe files apart.

    That is size, times, first and last MiB. The time of the last change, unlike that of the last
    modification, is the system's and cannot be set.
    """
    about = path.stat()
    with path.open("rb") as file:
        first = file.read(1 << 20)
        file.seek(max(0, about.st_size - (1 << 20)))
        last = file.read()
    made_from = about.st_size, about.st_mtime_ns, about.st_ctime_ns, first, last, words
    return hashlib.sha256(repr(made_from).encode()).digest()
