#!/usr/bin/env python3
"""Pack build/autograder.zip, which Gradescope takes as it is.

    python classroom/autograder.py                     # writes build/autograder.zip
    python classroom/autograder.py -o FILE.zip --rubric FILE

setup.sh and run_autograder stand at its root, beside the grader, the rubric and the reference. The
same files give the same bytes.
"""

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "hw04" / "code")]
from backstage.errors import UserError  # noqa: E402 - found by the line above
from backstage.files import atomic_write  # noqa: E402
from backstage.parser import Parser  # noqa: E402
from backstage.shell import guarded  # noqa: E402

PACKAGES = ("pyyaml", "tokenizers", "torchinfo", "matplotlib")  # beside requirements.txt
FOLDERS = (  # of the repository, and the files of them that are packed
    ("classroom", "*.py"), ("classroom/checks", "*.py"), ("classroom/grader", "*.py"),
    ("classroom/handout", "*"), ("hw04/code", "lstlm.py"), ("hw04/code/backstage", "*.py"),
    ("hw04/data/sample", "*.tokens"), ("hw4p1/mytorch", "**/*.py"), ("hw4p1/hw4lib", "**/*.py"),
    ("hw4p1", "config.yaml"),
)


def files(rubric: Path) -> Iterator[tuple[str, bytes, int]]:
    """Name, content and mode of each file of the archive."""
    for name in ("setup.sh", "run_autograder"):
        yield name, (HERE / "gradescope" / name).read_bytes(), 0o755
    needed = (ROOT / "requirements.txt").read_text() + "".join(f"{name}\n" for name in PACKAGES)
    yield "requirements.txt", needed.encode(), 0o644
    yield "classroom/rubric.yaml", rubric.read_bytes(), 0o644
    for folder, pattern in FOLDERS:
        for path in sorted((ROOT / folder).glob(pattern)):
            if path.is_file():
                yield str(path.relative_to(ROOT)), path.read_bytes(), 0o644


def pack(out: Path, rubric: Path) -> int:
    """Write the archive; returns how many files are in it."""
    entries = list(files(rubric))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)  # of 1 January 1980
            entry.create_system = 3  # Unix
            entry.external_attr = mode << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, lambda file: file.write(packed.getvalue()))
    return len(entries)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""

    def run() -> None:
        parser = Parser("autograder.py", __doc__)
        default = ROOT / "build" / "autograder.zip"
        what = "what to write (default: %(default)s)"
        parser.add_argument("-o", type=Path, metavar="FILE", default=default, help=what)
        what = "points and limits (default: %(default)s)"
        rubric = HERE / "rubric.yaml"
        parser.add_argument("--rubric", type=Path, metavar="FILE", default=rubric, help=what)
        args = parser.parse_args(argv)
        if not args.rubric.is_file():
            raise UserError(f"{args.rubric}: no such file; name another with --rubric")
        count = pack(args.o, args.rubric)
        print(f"{args.o}: {count} files, {args.o.stat().st_size:,} bytes")

    return guarded("autograder.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
