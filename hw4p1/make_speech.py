#!/usr/bin/env python3
"""Make a folder of synthetic speech: features and transcripts as run_asr.py reads them."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which `python -P` leaves out

from hw4lib.entry import Parser, guarded, importing

with importing("make_speech.py"):
    from hw4lib.asr_schema import ASR
    from hw4lib.config import load_config
    from hw4lib.data.speech import SIZES, described, make_speech
    from hw4lib.flags import positive

USAGE = """Short sentences of the embedded stories, read by espeak-ng in 36 voices, rates, pitches.

    python make_speech.py ../build/speech
    python make_speech.py ../build/more --train 6000

What is written is another task for each version of espeak-ng. Where that is not installed, each
letter becomes a tone or a noise, which is no speech.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "make_speech.py", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what is made; it must not be there")
    for name, count in SIZES.items():
        what = f"sentences of {name} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=positive, metavar="N", default=count, help=what)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""

    def run() -> None:
        args = parse_args(argv)
        data = load_config(ASR.shipped, schema=ASR)["data"]
        names = {name: data[f"{name}_partition"] for name in SIZES}
        print(described())
        record = make_speech(args.folder, {name: getattr(args, name) for name in SIZES}, names)
        counts = ", ".join(f"{name} {count:,}" for name, count in record["utterances"].items())
        print(f"{args.folder}: {counts}")

    return guarded("make_speech.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
