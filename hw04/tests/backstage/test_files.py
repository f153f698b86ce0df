"""backstage/files.py: a file is the old one or the new one, whole."""

import hashlib
import json
import math
import os
import shutil
import stat

import pytest
from backstage.errors import UserError
from backstage.files import atomic_write, check_paths, digest, side_file, to_json


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


def test_a_temporary_file_is_made_anew_and_never_a_link_to_another(tmp_path):
    other = tmp_path / "other"
    other.write_text("somebody's")
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to(other)
    atomic_write(tmp_path / "file", lambda file: file.write(b"new"))
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()
    assert other.read_text() == "somebody's"


ENDINGS = (
    ".pt", ".prev.pt", ".log.jsonl", ".loss.png", ".state.pt", ".state.prev.pt",
)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("how", ["named", "symbolic link", "hard link", "by another way"])
def test_no_file_is_written_that_another_flag_names(tmp_path, ending, how):
    """Whatever a training of X.pt writes is neither read nor a trace."""
    path = other = tmp_path / f"X{ending}"
    path.write_text("x")
    if how == "by another way":
        (tmp_path / "folder").mkdir()
        other = tmp_path / "folder" / ".." / path.name
    elif how != "named":
        other = tmp_path / "link"
        (other.symlink_to if how == "symbolic link" else other.hardlink_to)(path)
    model = tmp_path / "X.pt"
    check_paths(model, tmp_path / "trace", [tmp_path / "corpus", None])
    with pytest.raises(UserError, match="two flags name it"):
        check_paths(model, other, [])
    with pytest.raises(UserError, match="two flags name it"):
        check_paths(model, None, [other])


def test_a_model_that_is_a_link_stays_one(tmp_path, tiny_flags, call):
    """The model is written where the link leads, and so is all that belongs to it."""
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "m.pt").symlink_to(place / "real.pt")
    done = call(*tiny_flags("-E", 1))
    assert done.returncode == 0, done.stderr
    assert f"m.pt is a link; the model and its side files are at {place / 'real.pt'}" in done.stderr
    assert (tmp_path / "m.pt").is_symlink()
    assert {path.name for path in place.iterdir()} == {"real.pt", "real.log.jsonl"}
    assert call("-use", "-model", tmp_path / "m.pt", "-text", "a").returncode == 0


def test_room_is_looked_for_where_a_link_leads(tmp_path, tiny_flags, call, monkeypatch):
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "m.pt").symlink_to(place / "real.pt")
    usage = shutil.disk_usage(tmp_path)
    little = {place: usage._replace(free=100)}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: little.get(path, usage))
    done = call(*tiny_flags("-E", 1))
    assert done.returncode == 2
    assert f"{place}: 0 MB free" in done.stderr
