#!/usr/bin/env python3
"""The command line of hw4lib.data.npy_files: plain text becomes transcripts."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which `python -P` leaves out

from hw4lib.entry import Parser, guarded, importing
from hw4lib.errors import UserError
from hw4lib.output import outlived_output

with importing("make_data.py"):
    from hw4lib.data.npy_files import make_dataset, make_sample

USAGE = """Turn plain text into the transcripts that run_lm.py trains on.

    python make_data.py OUT --train BOOKS/train --val BOOKS/valid --test BOOKS/test
    python make_data.py OUT --train a.train.txt --val a.valid.txt --test a.test.txt
    python make_data.py OUT --train stories.txt   # every twentieth story to val, and to test
    python make_data.py OUT --train book.txt      # or every twentieth stretch, if there are few
    python make_data.py OUT --sample              # the stories embedded in this repository

A path is a UTF-8 file, or a folder of *.txt files. A file with `<|endoftext|>` marks holds stories;
a tokenised corpus (*.tokens*) has one a line; any other file is a book, and no book or story is in
two partitions, unless there are fewer than twenty to split. All becomes upper case, A-Z, space and
apostrophe, in pieces of 60 to 260 characters that end with a sentence where they can:
OUT/{train,val,test}/<name>.npy. OUT/source.json says what they were made of.
"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "make_data.py", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a folder that is not there yet")
    paths = {"metavar": "PATH", "type": Path, "nargs": "+"}
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--train", **paths, help="texts to train on (no default)")
    source.add_argument("--sample", action="store_true", help="instead, the embedded stories")
    without = "(default: every twentieth book or story of --train)"
    parser.add_argument("--val", **paths, default=[], help=f"texts to validate on {without}")
    parser.add_argument("--test", **paths, default=[], help=f"texts to test on {without}")
    return parser.parse_args(argv)


def make(args: argparse.Namespace) -> None:
    """Write the transcripts and say how many they are."""
    if args.sample and (args.val or args.test):
        raise UserError("--sample has stories for --val and --test too; leave these out")
    if args.sample:
        record = make_sample(args.out)
    else:
        record = make_dataset(args.out, args.train, args.val, args.test)
    for part, counts in record["partitions"].items():
        sizes = f"{counts['pieces']:,} pieces, {counts['characters']:,} characters"
        print(f"{args.out / part}: {sizes}")


def main(argv: list[str] | None = None) -> int:
    def run() -> None:
        args = parse(argv)
        with outlived_output():
            make(args)

    return guarded("make_data.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
