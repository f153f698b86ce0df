"""Transcripts on disk, as the course lays them out: `<root>/<partition>/<name>.npy`, one text each.

A file holds a 0-dimensional array of text; a 1-dimensional one of single characters, as the second
part of the homework has, reads the same, and so does one of words.
"""

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import write_json
from ..reading import read_file
from .text import pieces, read_bytes, stretches, units_of

PARTITIONS = ("train", "val", "test")
RECORD = "source.json"  # beside the partitions: which files they were made of
LARGEST = 4_000_200  # bytes of a transcript: a million characters
LARGEST_RECORD = 10_000_000
REMEDY = "make it again with make_data.py"
SAMPLE = Path(__file__).resolve().parents[3] / "hw04" / "data" / "sample"

Unit = tuple[str, str]  # name and text of a book or story


def load_transcript(path: str | Path) -> str:
    """The text in a file. UserError that names the file if it is not one."""
    return parse_transcript(read_transcript(path), path)


def read_transcript(path: str | Path) -> bytes:
    """The bytes of a file. UserError that names it if they cannot be read, or are too many."""
    return read_file(path, REMEDY, LARGEST)


def parse_transcript(content: bytes, path: str | Path) -> str:
    """The text that a file of these bytes has; nothing is ever unpickled.

    What its header says is compared with the bytes that there are before anything is made of it.
    """
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("not of the format 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=1000)
        if dtype.hasobject:
            raise ValueError("pickled objects")
        start = file.tell()
    except Exception as error:  # what NumPy raises for a damaged file is of many classes
        why = str(error)[:100]
        raise UserError(f"{path}: not a .npy file of text ({why}); {REMEDY}") from None
    if dtype.kind != "U" or len(shape) > 1:
        what = f"an array of {dtype} and shape {shape}"
        raise UserError(f"{path}: {what[:100]} is no transcript; {REMEDY}")
    if dtype.itemsize * math.prod(shape) != len(content) - start:
        raise UserError(f"{path}: not a .npy file of text (of another size than it says); {REMEDY}")
    try:
        return joined(np.frombuffer(content, dtype, offset=start).tolist())
    except Exception as error:  # numbers that are no characters, or characters of no bytes
        why = str(error)[:100]
        raise UserError(f"{path}: not a .npy file of text ({why}); {REMEDY}") from None


def joined(elements: list[str]) -> str:
    """The text of an array: its characters in a row, or its words with a space between two."""
    characters = all(len(element) <= 1 for element in elements)
    return "".join(elements) if characters else " ".join(filter(None, elements))


def transcript_files(folder: Path) -> list[str]:
    """The names of a folder's .npy files, sorted; hidden ones, as macOS's ._0.npy, are none."""
    return sorted(path.name for path in folder.glob("*.npy") if not path.name.startswith("."))


def first_share(names: list[str], subset: float) -> list[str]:
    """The first `subset` of the names."""
    # Rounded first: 0.29 * 100 is 28.999999999999996.
    return names[: int(round(subset * len(names), 9))]


def made_of(record: Path, partition: str) -> list[str]:
    """The names of the files that a partition was made of, by the record beside the partitions.

    An empty list if there is no record; UserError if there is something else in its place.
    """
    if not record.is_file():
        return []
    remedy = "remove it, or make the data again with make_data.py"
    content = read_file(record, remedy, LARGEST_RECORD)
    try:
        sources = json.loads(content)["sources"]
        names = [source["file"] for source in sources.get(partition, sources.get("train", []))]
        if not all(type(name) is str for name in names):
            raise TypeError("a name that is no text")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{record}: no record of make_data.py; {remedy}") from None
    return names


def read_sources(paths: list[Path]) -> tuple[list[Unit], list[dict]]:
    """The books and stories of text files, and a record of the files.

    Of a folder these are its *.txt and *.tokens*.
    """
    files = [file for path in paths for file in text_files(path)]
    stems = [file.stem for file in files]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise UserError(
            f"{min(twice)}: two texts of this name in one partition; rename one of them"
        )
    units: list[Unit] = []
    record = []
    for path in files:
        content = read_bytes(path)
        texts = units_of(content, path)
        units += [(f"{path.stem}-{i:06d}", text) for i, text in enumerate(texts)]
        digest = hashlib.sha256(content).hexdigest()
        record.append({"file": path.name, "sha256": digest, "books_or_stories": len(texts)})
    return units, record


def text_files(path: Path) -> list[Path]:
    """The path itself, or the texts in that folder in the order of their names."""
    if not path.is_dir():
        return [path]
    files = sorted({*path.glob("*.txt"), *path.glob("*.tokens*")})
    files = [file for file in files if not file.name.startswith(".")]  # such as macOS's ._book.txt
    if not files:
        raise UserError(
            f"{path}: a folder without any .txt or .tokens file; give one that has some"
        )
    return files


def split_units(units: list[Unit]) -> dict[str, list[Unit]]:
    """Part books or stories: of every twenty the 10th goes to val, the 20th to test.

    The others go to train. Fewer than twenty are cut into stretches first.
    """
    if len(units) < 20:
        print(
            f"note: {len(units)} books or stories, fewer than 20: cut into stretches, so that "
            "train, val and test have parts of the same; --val and --test name others"
        )
        total = sum(len(text) for _, text in units)
        units = [
            (f"{name}-{i:02d}", stretch)
            for name, text in units
            for i, stretch in enumerate(stretches(text, -(-20 * len(text) // total)))
        ]
    parts = {"train": [], "val": units[9::20], "test": units[19::20]}
    parts["train"] = [unit for i, unit in enumerate(units) if i % 20 not in (9, 19)]
    return parts


def transcripts(units: list[Unit]) -> Iterator[Unit]:
    """Name and text of each piece. Names sort in the order of the text."""
    for name, text in units:
        for i, piece in enumerate(pieces(text)):
            yield f"{name}-{i:06d}", piece


def write_partition(folder: Path, named_pieces: list[Unit]) -> dict:
    """Write one file for each piece; returns their count and that of their characters."""
    if not named_pieces:
        raise UserError(
            f"{folder.name}: no piece of text is left; give texts of 60 letters or more that train "
            "has not"
        )
    folder.mkdir(parents=True)
    for name, piece in named_pieces:
        np.save(folder / f"{name}.npy", np.array(piece))
    return {"pieces": len(named_pieces), "characters": sum(len(piece) for _, piece in named_pieces)}


def write_dataset(root: str | Path, parts: dict[str, list[Unit]], record: dict) -> dict:
    """Write each partition and `source.json` under `root`, which appears only when it is complete.

    A piece that train has is left out of val and test. Returns the record with the counts.
    """
    root = Path(root)
    made = {part: list(transcripts(parts[part])) for part in PARTITIONS}
    in_train = {piece for _, piece in made["train"]}
    for part in ("val", "test"):
        made[part] = [(name, piece) for name, piece in made[part] if piece not in in_train]
    building = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    shutil.rmtree(building, ignore_errors=True)  # of a process of the same number that was killed
    try:
        record = record | {
            "partitions": {
                part: write_partition(building / part, made[part]) for part in PARTITIONS
            }
        }
        write_json(building / RECORD, record)
        building.rename(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return record


def make_dataset(root: str | Path, train: list[Path], val: list[Path], test: list[Path]) -> dict:
    """Turn text files into transcripts under `root`.

    Without `val` and `test`, those of `train` are split. UserError if `root` is there already:
    nothing is ever mixed or replaced.
    """
    if Path(root).exists():
        raise UserError(f"{root}: is there already; remove it, or choose another folder")
    if bool(val) != bool(test):
        raise UserError("give both --val and --test, or neither and the texts of --train are split")
    sources = {
        part: read_sources(paths)
        for part, paths in zip(PARTITIONS, (train, val, test), strict=True)
    }
    if val:
        parts = {part: units for part, (units, _) in sources.items()}
    else:
        parts = split_units(sources["train"][0])
    record = {"sources": {part: files for part, (_, files) in sources.items() if files}}
    return write_dataset(root, parts, record)


def make_sample(root: str | Path) -> dict:
    """Turn the stories embedded in the repository, hw04/data/sample, into transcripts in `root`."""
    return make_dataset(root, *([SAMPLE / f"{part}.tokens"] for part in ("train", "valid", "test")))
