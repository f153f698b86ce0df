"""Files: written without ever leaving half a one, named beside a model, known by a digest."""

import glob
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from backstage.errors import UserError


def atomic_write(
    path: Path, write: Callable[[BinaryIO], object], keep: Path | None = None
) -> None:
    """Let `write(file)` fill a temporary file beside `path`, then put it there in one step.

    Whatever happens in between, `path` holds the old content or the new, whole, and on the disk for
    good. With `keep` what was there before stays under that name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb") as file:  # made anew: never a link to a file of somebody's
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder written to the disk; not on Windows, which offers no way."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove_leftovers(model: Path) -> None:
    """Remove temporary files of `atomic_write` for this model whose process was killed."""
    name = glob.escape(model.name.removesuffix(".pt"))
    for path in model.parent.glob(f".{name}.*.tmp"):
        process = path.suffixes[-2][1:]
        try:
            if process.isdecimal() and os.name == "posix":  # where one can ask
                os.kill(int(process), 0)  # sends nothing, but fails if there is no such process
        except PermissionError:  # there is, somebody else's
            pass
        except (ProcessLookupError, OverflowError):
            path.unlink(missing_ok=True)


def side_file(model: Path, ending: str) -> Path:
    """`X.log.jsonl`, `X.prev.pt` and so on, beside the model `X.pt`."""
    # Path.with_name would not take the model `.` or `/`.
    return model.parent / (model.name.removesuffix(".pt") + ending)


def follow_link(model: Path) -> Path:
    """Where a model is in truth, if its path is a link, which is to stay one."""
    if not model.is_symlink() or (model.exists() and not model.is_file()):  # /dev/fd/3, a pipe
        return model
    target = Path(os.path.realpath(model))
    print(f"note: {model} is a link; the model and its side files are at {target}", file=sys.stderr)
    return target


def lock_file(model: Path) -> Path:
    """The hidden file beside the model by which lock.py keeps other processes off."""
    return model.parent / f".{side_file(model, '.lock').name}"


def check_writable(model: Path) -> None:
    """Raise UserError now, not after hours of training, if the model could not be written."""
    probe = model.with_name(f".{side_file(model, '.probe').name}")
    try:
        model.parent.mkdir(parents=True, exist_ok=True)
        if model.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        for path in (model, side_file(model, ".prev.pt"), side_file(model, ".log.jsonl")):
            if path.exists() and not path.is_file():
                raise OSError(22, f"{path.name} is there and no regular file")
        atomic_write(probe, lambda file: file.write(b"x"))
        probe.unlink()
    except OSError as error:
        why = f"cannot be written ({error.strerror}); give another path with -model"
        raise UserError(f"{model}: {why}") from None


def refuse_unfinished(model: Path) -> None:
    """Raise UserError if a run of this model was stopped, and its state waits to be resumed."""
    states = [side_file(model, ending) for ending in (".state.pt", ".state.prev.pt")]
    left = [str(path) for path in states if path.exists()]
    if left:
        how = f"go on with it with -resume, or delete {' and '.join(left)}"
        raise UserError(f"{left[0]}: an unfinished run; {how}")


def check_paths(
    model: Path, trace: Path | None, read: list[Path | None], also: Iterable[Path] = ()
) -> None:
    """Raise UserError if a file that is written is one that is read, or is written twice.

    `also` is written beside the model's side files.
    """
    endings = (".prev.pt", ".log.jsonl", ".loss.png", ".state.pt", ".state.prev.pt")
    written = [*also, *(side_file(model, ending) for ending in endings)]
    written += [path for path in (model, lock_file(model), trace) if path]
    if re.search(r"[\0-\x1f\x7f-\x9f]", "".join(map(str, written + read))):
        raise UserError("a path with a control character in it; rename the file")
    taken = {file_identity(path) for path in read if path}
    for path in written:
        if file_identity(path) in taken:
            why = "two flags name it (-model names its side files too); give one another name"
            raise UserError(f"{path}: {why}")
        taken.add(file_identity(path))


def file_identity(path: Path) -> tuple:
    """What two paths have in common that are one file, by way of links, too."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return ("not there", os.path.realpath(path))
    return about.st_dev, about.st_ino


def digest_if_there(path: Path) -> str:
    """The SHA-256 of a file, empty if there is none."""
    if not path.exists():
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256. Raises UserError if it is no file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        why = f"cannot be read ({error.strerror}); give another path"
        raise UserError(f"{path}: {why}") from None
    return hashlib.sha256(content).hexdigest()[:16]


def to_json(record: dict) -> str:
    """A record as one line of JSON, which knows neither NaN nor infinity: null stands for them."""
    finite = {}
    for key, value in record.items():
        odd = isinstance(value, float) and not math.isfinite(value)
        finite[key] = None if odd else value
    return json.dumps(finite, allow_nan=False)
