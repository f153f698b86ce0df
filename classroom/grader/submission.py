"""What a student handed in, as files in memory: found, unpacked, mended where that is harmless."""

import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from backstage.errors import UserError

MOST_BYTES = 400 << 20  # of all files of a submission, unpacked
MOST_FILES = 5000
MOST_NOTES = 20
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")
LITTER = ("__MACOSX", ".git", "__pycache__", ".venv", ".ipynb_checkpoints")


@dataclass
class Submission:
    """A submission's files by their path in it, and what is to be said of it."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    size: int = 0  # bytes of all files

    def find(self, *names: str) -> str | None:
        """The path of the file of one of these names; of several the one that is least deep.

        One in a folder `code` comes before others. The first name counts most.
        """
        for name in names:
            paths = [path for path in self.files if PurePosixPath(path).name == name]
            if paths:
                chosen = min(paths, key=lambda p: (p.count("/") - 2 * ("code/" in p), p))
                if len(paths) > 1:
                    self.note(f"there are {len(paths)} files {name}; {chosen} is graded")
                return chosen
        return None

    def note(self, text: str) -> None:
        """Add a note, once; of very many the first ones."""
        if len(self.notes) < MOST_NOTES and text not in self.notes:
            self.notes.append(text)

    def folder(self, name: str) -> dict[str, bytes]:
        """The files of a folder of this name, by their path in it; of the one least deep."""
        parents = {
            parent for path in self.files for parent in PurePosixPath(path).parents
            if parent.name == name
        }
        if not parents:
            return {}
        parent = min(parents, key=lambda path: (len(path.parts), path))
        return {
            str(PurePosixPath(path).relative_to(parent)): data for path, data in self.files.items()
            if PurePosixPath(path).is_relative_to(parent)
        }


def read_submission(path: Path) -> Submission:
    """The submission that is a file, an archive or a folder."""
    submission = Submission(path.stem if path.is_file() else path.name)
    try:
        add(submission, path)
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, RuntimeError,
            NotImplementedError) as error:
        submission.note(f"{path.name} cannot be read: {type(error).__name__} {error}"[:200])
    unpack_inner(submission)
    return submission


def add(submission: Submission, path: Path) -> None:
    """Add what a path is or has."""
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            name = str(inner.relative_to(path))
            if inner.is_symlink():
                submission.note(f"{name} is a link; it was left out")
            elif inner.is_file() and not is_litter(name):
                put(submission, name, inner.stat().st_size, inner.read_bytes)
        return
    content = path.read_bytes()
    if zipfile.is_zipfile(path) and path.suffix not in (".pt", ".pth", ".npz"):
        add_zip(submission, content)
    elif is_tar(path):
        add_tar(submission, content)
    else:
        put(submission, path.name, len(content), lambda: content)


def is_litter(name: str) -> bool:
    """Whether a file is one that systems and editors leave."""
    parts = PurePosixPath(name).parts
    return any(part in LITTER or part.startswith("._") for part in parts)


def is_tar(path: Path) -> bool:
    """Whether a file is an archive that tar made."""
    return path.suffix in ARCHIVES and tarfile.is_tarfile(path)


def put(submission: Submission, name: str, size: int, read) -> None:
    """Add a file under a path that does not lead out of the submission."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        submission.note(f"{name[:80]!r} leads out of the archive; it was left out")
        return
    if submission.size + size > MOST_BYTES or len(submission.files) >= MOST_FILES:
        submission.note(f"more than {MOST_BYTES >> 20} MB or {MOST_FILES} files; the rest is left "
                        "out")
        return
    submission.files[str(path)] = content = read()
    submission.size += len(content)


def add_zip(submission: Submission, content: bytes, prefix: str = "") -> None:
    """Add the files of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist()[: 2 * MOST_FILES]:
            if stat.S_ISLNK(entry.external_attr >> 16):
                submission.note(f"{entry.filename[:80]!r} is a link; it was left out")
            elif not entry.is_dir() and not is_litter(entry.filename):
                read = bounded(archive.open, entry, entry.file_size)
                put(submission, prefix + entry.filename, entry.file_size, read)


def add_tar(submission: Submission, content: bytes, prefix: str = "") -> None:
    """Add the files of a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        total = 0
        for number, entry in enumerate(archive):
            total += entry.size
            if entry.isfile() and not is_litter(entry.name):
                read = bounded(archive.extractfile, entry, entry.size)
                put(submission, prefix + entry.name, entry.size, read)
            elif not entry.isdir():
                submission.note(f"{entry.name[:80]!r} is no ordinary file; it was left out")
            if number >= 2 * MOST_FILES or total > 2 * MOST_BYTES:
                break  # before what is left is decompressed


def bounded(opener, entry, size: int):
    """A function that reads an entry, and no more than the size that the archive gives for it."""

    def read() -> bytes:
        with opener(entry) as file:
            return file.read(size)

    return read


def unpack_inner(submission: Submission) -> None:
    """Unpack archives that are in a submission, such as handin.tar; a notebook into a program."""
    for name in [*submission.files]:
        path = PurePosixPath(name)
        if path.suffix in ARCHIVES:
            adder = add_zip if path.suffix == ".zip" else add_tar
            prefix = "" if str(path.parent) == "." else f"{path.parent}/"
            try:
                adder(submission, submission.files[name], prefix)
            except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
                submission.note(f"{name} cannot be unpacked: {error}"[:200])
        if path.suffix == ".ipynb" and submission.find("lstlm.py") is None:
            program = notebook_code(submission.files[name])
            if program is not None:
                submission.files[str(path.parent / "lstlm.py")] = program
                submission.note(f"lstlm.py is made of the code cells of {name}")


def notebook_code(content: bytes) -> bytes | None:
    """The code cells of a notebook as a program; None if it is not one, or not of this course."""
    try:
        cells = json.loads(content.decode("utf-8", "replace"))["cells"]
        codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        return None
    text = "\n\n".join(codes)
    return text.encode() if "collate_stories" in text else None


def source_text(content: bytes) -> str:
    """A program's text: whatever its encoding and line ends, without a notebook's commands."""
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16" if marked else "utf-8-sig", "latin-1"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    lines = text.split("\n")
    return "\n".join(f"# {line}" if line.startswith(("%", "!")) else line for line in lines)


def find_submissions(path: Path) -> Iterator[Path]:
    """The submissions of a path: itself, or what is in it if it is a folder of several."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file() or is_one(path):
        yield path
        return
    inner = [each for each in sorted(path.iterdir()) if not each.name.startswith(".")]
    if not inner:
        raise UserError(f"{path}: an empty folder")
    yield from inner


def is_one(folder: Path) -> bool:
    """Whether a folder is one submission and not a folder of several."""
    marks = ("lstlm.py", "code/lstlm.py", "hw04/code/lstlm.py", "mytorch", "hw4lib", "handin",
             "test_metrics.json", "hw4p1/mytorch", "handin.tar")
    return any((folder / mark).exists() for mark in marks)
