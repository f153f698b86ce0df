"""backstage/glove_cache.py: vectors are read once, and a change is noticed."""

import os
import threading
from pathlib import Path

import pytest
import torch
from backstage.glove_cache import cached_vectors
from lstlm import read_glove

GLOVE = "dog 1.5 -2 0.1\nbird 9 9 9\nthe 0.1 0.2 0.3\nsaw 1e-3 7 8\nthe 5 5 5\n"


class Reader:
    """`read_glove` that notes which files it has read, past the cache."""

    def __init__(self):
        self.paths: list[str] = []

    def __call__(self, path: Path, words: list[str]) -> torch.Tensor:
        self.paths.append(path.name)
        return read_glove(path, words)


def test_glove_vectors_are_cached_and_a_change_is_noticed(write):
    path, words, read = write("glove", GLOVE), ["the", "cat", "nowhere"], Reader()
    first = cached_vectors(path, words, read)
    assert torch.equal(first, read_glove(path, words))
    again = cached_vectors(path, words, read)
    assert torch.equal(again, first)
    assert again.dtype == torch.float32
    assert len(read.paths) == 1
    other = cached_vectors(path, ["cat", "the", "nowhere"], read)
    assert torch.equal(other, first[[1, 0, 2]])
    assert len(read.paths) == 2
    status, text = path.stat(), path.read_text()
    path.write_text(text.replace("1", "7"))  # same size and time, another content
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not torch.equal(cached_vectors(path, words, read), first)
    path.write_text(text)
    os.utime(path, ns=(1, 1))  # another time
    cached_vectors(path, words, read)
    path.write_text(text + "more" + " 1" * first.shape[1] + "\n")  # another size
    cached_vectors(path, words, read)
    assert len(read.paths) == 5
    cached_vectors(path, words, read)
    assert len(read.paths) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"", lambda data: data[:-3], lambda data: data[:40],
        lambda data: data[:-1] + b"x", lambda data: data + b"more", lambda data: b"\x80\x04" * 100,
    ],
)
def test_a_damaged_cache_is_made_anew(write, damage):
    path, read = write("glove", GLOVE), Reader()
    first = cached_vectors(path, ["the"], read)
    cache = path.with_name(".glove.cache")
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    assert torch.equal(cached_vectors(path, ["the"], read), first)
    assert len(read.paths) == 2
    assert cache.read_bytes() == whole


def test_a_cache_that_cannot_be_written_or_read_is_no_error(write):
    path = write("glove", GLOVE)
    path.with_name(".glove.cache").mkdir()
    assert torch.equal(cached_vectors(path, ["the"], read_glove), read_glove(path, ["the"]))
    assert not list(path.parent.glob("*.tmp"))


def test_a_pipe_is_read_once_and_has_no_cache(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(GLOVE,))
    writer.start()
    vectors = cached_vectors(path, ["the"], read_glove)
    writer.join()
    assert vectors.any()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]
