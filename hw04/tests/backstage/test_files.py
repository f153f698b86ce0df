"""backstage/files.py: a file is the old one or the new one, whole."""

import hashlib
import json
import math
import os
import stat

import pytest
from backstage.errors import UserError
from backstage.files import atomic_write, digest, side_file, to_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half(file):
        file.write(b"ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        atomic_write(path, half)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_text() == "new"


def test_what_was_there_before_is_kept_under_another_name(tmp_path):
    path, kept = tmp_path / "file", tmp_path / "kept"
    for content in ("first", "second"):
        atomic_write(path, lambda file, text=content: file.write(text.encode()), keep=kept)
        assert kept.exists() == (content == "second")
    assert (path.read_text(), kept.read_text()) == ("second", "first")


def test_what_is_written_is_on_the_disk_before_it_gets_its_name_and_the_name_after(
    tmp_path, monkeypatch
):
    synced = []

    def fsync(file):
        about = os.fstat(file)
        synced.append("folder" if stat.S_ISDIR(about.st_mode) else about.st_size)
        synced.append((tmp_path / "file").exists())

    monkeypatch.setattr("backstage.files.os.fsync", fsync)
    atomic_write(tmp_path / "file", lambda file: file.write(b"new"))
    expected = [3, False, "folder", True] if hasattr(os, "O_DIRECTORY") else [3, False]
    assert synced == expected


def test_names_and_digests(tmp_path):
    path = tmp_path / "X.pt"
    path.write_bytes(b"abc")
    assert side_file(path, ".log.jsonl") == tmp_path / "X.log.jsonl"
    assert side_file(tmp_path / "X.model", ".prev.pt") == tmp_path / "X.model.prev.pt"
    assert digest(path) == hashlib.sha256(b"abc").hexdigest()[:16]
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            digest(missing)


def test_json_has_null_for_what_is_no_number():
    record = {"a": math.nan, "b": math.inf, "c": 0.5, "d": "é", "e": None}
    line = to_json(record)
    assert "\n" not in line
    assert json.loads(line) == {"a": None, "b": None, "c": 0.5, "d": "é", "e": None}
