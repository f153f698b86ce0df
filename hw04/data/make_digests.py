"""Write digests.json: what tells the files behind the README's figures from others, with none of their text.

    python make_digests.py FOLDER             # FOLDER has tiny/tiny.*.tokens.* and wiki/wiki.*.tokens
    python make_digests.py FOLDER --check     # write nothing; exit 1 if digests.json is not what would be written

By name of the file: its SHA-256, and for the stories also the first 6 bytes of the SHA-256 of each line, in base64
and in the order of the lines. `get_data.py tiny -same` finds the stories by them in the public set.
"""

import argparse
import json
import sys
from pathlib import Path

from get_data import DIGESTS, SOURCES, atomic, file_digest, story_digest

DIGESTS_A_LINE = 14  # to keep the lines of the file short


def describe(folder: Path, name: str) -> dict:
    """The record of one file."""
    record = {"sha256": file_digest(folder / name)}
    if name in SOURCES["tiny"].targets:
        digests = [story_digest(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        rows = range(0, len(digests), DIGESTS_A_LINE)
        record["stories"] = ["".join(digests[row : row + DIGESTS_A_LINE]) for row in rows]
    return record


def main(argv: list[str] | None = None) -> int:
    """Write or check the file."""
    parser = argparse.ArgumentParser(description="Write the digests of the files behind the README's figures.")
    parser.add_argument("folder", type=Path, help="with the folders tiny/ and wiki/")
    parser.add_argument("-o", type=Path, metavar="FILE", default=DIGESTS, help="(default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file would change")
    options = parser.parse_args(argv)
    names = [name for source in ("tiny", "wiki") for name in SOURCES[source].targets]
    if missing := [name for name in names if not (options.folder / name).is_file()]:
        parser.error(f"{options.folder / missing[0]}: no such file; get_data.py says how to get it")
    text = json.dumps({name: describe(options.folder, name) for name in names}, indent=1) + "\n"
    if options.check:
        return int(not options.o.is_file() or options.o.read_text() != text)
    with atomic(options.o) as file:
        file.write(text.encode())
    print(f"{options.o}: {len(text):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
