"""Write digests.json: what tells the files behind the README's figures from others.

    python make_digests.py FOLDER             # with tiny/tiny.*.tokens.* and wiki/wiki.*.tokens
    python make_digests.py FOLDER --check     # write nothing; exit 1 if digests.json would change

It has none of their text. By name of the file: its SHA-256, and for the stories also the first 6
bytes of the SHA-256 of each line, in base64 and in the order of the lines. `get_data.py tiny -same`
finds the stories by them in the public set.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
from get_data import (
    DIGESTS,
    SOURCES,
    Parser,
    UserError,
    atomic,
    file_digest,
    guarded,
    story_digest,
)

DIGESTS_A_LINE = 14  # to keep the lines of the file short


def describe(folder: Path, name: str) -> dict:
    """The record of one file."""
    record = {"sha256": file_digest(folder / name)}
    if name in SOURCES["tiny"].targets:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        digests = [story_digest(line) for line in lines]
        rows = range(0, len(digests), DIGESTS_A_LINE)
        record["stories"] = ["".join(digests[row : row + DIGESTS_A_LINE]) for row in rows]
    return record


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("make_digests.py", __doc__)
    add = parser.add_argument
    add("folder", type=Path, help="with the folders tiny/ and wiki/")
    add("-o", type=Path, metavar="FILE", default=DIGESTS, help="(default: %(default)s)")
    what = "write nothing; exit 1 if the file would change (default: write)"
    add("--check", action="store_true", help=what)
    args = parser.parse_args(argv)
    args.names = [name for source in ("tiny", "wiki") for name in SOURCES[source].targets]
    missing = [name for name in args.names if not (args.folder / name).is_file()]
    if missing:
        how = "no such file; get_data.py says how to get it"
        raise UserError(f"{args.folder / missing[0]}: {how}")
    return args


def make(args: argparse.Namespace) -> int:
    """Write or check the file; returns the exit status."""
    records = {name: describe(args.folder, name) for name in args.names}
    text = json.dumps(records, indent=1) + "\n"
    if args.check:
        same = args.o.is_file() and args.o.read_text() == text
        return 0 if same else 1
    with atomic(args.o) as file:
        file.write(text.encode())
    print(f"{args.o}: {len(text):,} bytes")
    return 0


def main(argv: list[str] | None = None) -> int:
    return guarded("make_digests.py", lambda: make(parse(argv)), argv)


if __name__ == "__main__":
    sys.exit(main())
