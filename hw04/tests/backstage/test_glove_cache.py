"""backstage/glove_cache.py: vectors are read once, a change is noticed, and none but we write."""

import os
import stat
import sys
import threading
from pathlib import Path

import pytest
import torch
from backstage import glove_cache
from backstage.glove_cache import cached_vectors, user_caches
from lstlm import read_glove

GLOVE = "dog 1.5 -2 0.1\nbird 9 9 9\nthe 0.1 0.2 0.3\nsaw 1e-3 7 8\nthe 5 5 5\n"
posix = pytest.mark.skipif(os.name != "posix", reason="only there files have owners and modes")


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """The folder of the user's caches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


class Reader:
    """`read_glove` that notes which files it has read, past the cache."""

    def __init__(self):
        self.paths: list[str] = []

    def __call__(self, path: Path, words: list[str]) -> torch.Tensor:
        self.paths.append(path.name)
        return read_glove(path, words)


def files(folder: Path) -> list[Path]:
    """The files in a folder and below."""
    return [path for path in folder.rglob("*") if not path.is_dir()]


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


@posix
def test_a_change_in_the_middle_of_a_large_file_is_noticed(write):
    line = "dog 1 2 3" + " " * 1000 + "\n"
    lines = [line] * 3000
    path, read = write("glove", "".join([*lines[:1500], "the 1 2 3\n", *lines])), Reader()
    before = path.stat()
    assert cached_vectors(path, ["the"], read).tolist() == [[1, 2, 3]]
    path.write_text("".join([*lines[:1500], "the 4 5 6\n", *lines]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size > 4 << 20
    assert cached_vectors(path, ["the"], read).tolist() == [[4, 5, 6]]


def test_the_cache_is_in_a_folder_of_the_user_and_nothing_is_beside_the_file(write, caches):
    path = write("glove", GLOVE)
    before = files(path.parent)
    cached_vectors(path, ["the"], read_glove)
    (cache,) = files(caches)
    assert cache.parent == caches / "lstlm"
    assert files(path.parent) == [*before, cache]
    if os.name == "posix":
        assert stat.S_IMODE(cache.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("variables", "platform", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x/y"}, "linux", "/x/y"),
        ({"XDG_CACHE_HOME": "x/y"}, "linux", "/home/me/.cache"),
        ({"XDG_CACHE_HOME": ""}, "linux", "/home/me/.cache"),
        ({}, "linux", "/home/me/.cache"),
        ({}, "darwin", "/home/me/Library/Caches"),
        ({"LOCALAPPDATA": "/home/me/local"}, "win32", "/home/me/local"),
        ({}, "win32", "/home/me/AppData/Local"),
    ],
)
@posix
def test_where_the_users_caches_are(monkeypatch, variables, platform, expected):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert user_caches() == Path(expected)


@posix
def test_a_home_that_is_none_is_no_error(write, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.chdir(tmp_path)
    path, read = write("glove", GLOVE), Reader()
    for home in ("nowhere", "/dev/null"):
        monkeypatch.setenv("HOME", home)
        assert cached_vectors(path, ["the"], read).any()
    assert len(read.paths) == 2
    assert files(tmp_path) == [path]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"", lambda data: data[:-3], lambda data: data[:40],
        lambda data: data[:-1] + b"x", lambda data: data + b"more", lambda data: b"\x80\x04" * 100,
    ],
)
def test_a_damaged_cache_is_made_anew(write, caches, damage):
    path, read = write("glove", GLOVE), Reader()
    first = cached_vectors(path, ["the"], read)
    (cache,) = files(caches)
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    assert torch.equal(cached_vectors(path, ["the"], read), first)
    assert len(read.paths) == 2
    assert cache.read_bytes() == whole


def not_cached(path: Path) -> bool:
    """Whether the vectors of a file are right, and read each time."""
    read = Reader()
    for _ in range(2):
        assert torch.equal(cached_vectors(path, ["the"], read), read_glove(path, ["the"]))
    return len(read.paths) == 2


def test_a_cache_that_cannot_be_written_or_read_is_no_error(write, caches):
    path = write("glove", GLOVE)
    caches.write_text("")  # a file where the folder should be
    assert not_cached(path)
    caches.unlink()
    cached_vectors(path, ["the"], read_glove)
    (cache,) = files(caches)
    cache.unlink()
    cache.mkdir()
    assert not_cached(path)
    assert not files(caches)


@posix
def test_a_folder_that_is_a_link_or_open_to_others_is_not_used(write, caches, tmp_path):
    path = write("glove", GLOVE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    caches.mkdir()
    ours = caches / "lstlm"
    for target in (elsewhere, tmp_path / "missing"):
        ours.symlink_to(target)
        assert not_cached(path)
        ours.unlink()
    for mode in (0o770, 0o702, 0o777):
        ours.mkdir()
        ours.chmod(mode)
        assert not_cached(path)
        assert stat.S_IMODE(ours.stat().st_mode) == mode
        ours.rmdir()
    assert files(tmp_path) == [path]
    caches.rmdir()
    caches.symlink_to(elsewhere)  # the user's own choice, as to a larger disk
    assert not not_cached(path)
    assert len(files(elsewhere)) == 1


@posix
def test_a_folder_of_another_user_is_not_used_and_none_is_made_there(write, caches, monkeypatch):
    path = write("glove", GLOVE)
    cached_vectors(path, ["the"], read_glove)
    (cache,) = files(caches)
    about = cache.stat()
    monkeypatch.setattr(os, "geteuid", lambda: about.st_uid + 1)
    assert not_cached(path)
    assert files(caches) == [cache]
    assert cache.stat() == about
    cache.unlink()
    cache.parent.rmdir()
    assert not_cached(path)
    assert not list(caches.iterdir())


@posix
def test_a_file_of_another_user_is_cached_among_our_own(write, caches):
    """Also one that is a link, and in a folder to which we could write."""
    path = write("glove", GLOVE)
    shared = path.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "link").symlink_to(path)
    assert not not_cached(shared / "link")
    assert not not_cached(path)
    assert len(files(caches)) == 1
    assert [entry.name for entry in shared.iterdir()] == ["link"]


def test_old_caches_are_removed_and_leftovers_too(write, caches, monkeypatch):
    path, read = write("glove", GLOVE), Reader()
    monkeypatch.setattr(glove_cache, "MOST_FILES", 3)
    words = [[word] for word in ("the", "dog", "bird", "saw")]
    for time, some in enumerate(words[:3]):
        cached_vectors(path, some, read)
        (new,) = [cache for cache in files(caches) if cache.stat().st_mtime > 100]
        os.utime(new, (time, time))
    (caches / "lstlm" / ".vectors.0a.999999999.tmp").write_bytes(b"of a process that was killed")
    (caches / "lstlm" / "other").write_text("not ours")
    cached_vectors(path, words[0], read)  # the oldest is used, and the second is the oldest then
    cached_vectors(path, words[3], read)
    assert len(read.paths) == 4
    assert len(files(caches)) == 3 + 1
    for some in (words[0], words[2], words[3]):
        cached_vectors(path, some, read)
    assert len(read.paths) == 4
    cached_vectors(path, words[1], read)
    assert len(read.paths) == 5
    monkeypatch.setattr(glove_cache, "MOST_BYTES", 2 * (64 + 12))
    cached_vectors(path, ["the", "dog"], read)
    assert len(files(caches)) == 1 + 1  # 64 + 24 bytes, with which another would be too much
    assert (caches / "lstlm" / "other").read_text() == "not ours"


def test_a_pipe_is_read_once_and_has_no_cache(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(GLOVE,))
    writer.start()
    vectors = cached_vectors(path, ["the"], read_glove)
    writer.join()
    assert vectors.any()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]
