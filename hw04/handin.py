#!/usr/bin/env python3
"""Pack build/hw04.zip, what is handed in, and see that it runs where it is unpacked.

    python handin.py                 # needs report.pdf, code/lm_model.pt and code/traces.txt, each of which is checked
    python handin.py -o FILE.zip     # elsewhere

The archive has the handout's layout, without data, and the same files give the same bytes. Before it gets its name it
is unpacked into a temporary folder, and its program evaluates, predicts and tells a story there with its model.
Exit status: 0; 2 when something is wrong that you can mend.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from traces import UserError, atomic_write, made_with, read_text, require, run

HERE = Path(__file__).resolve().parent
PARTS = {  # what is packed: how to get it when it is missing
    "report.pdf": "make report",
    "code/lstlm.py": "it is part of the repository: git restore it",
    "code/fflm.py": "it is part of the repository: git restore it",
    "code/lm_model.pt": "it is part of the repository, and lstlm.py -train makes another one",
    "code/traces.txt": "make traces",
}
SAMPLE = HERE / "data" / "sample" / "valid.tokens"


def check_parts(folder: Path) -> None:
    """Raise UserError when a part is missing, or cannot be what its name says."""
    for name, remedy in PARTS.items():
        require(folder / name, remedy)
    report, model, traces = (folder / name for name in ("report.pdf", "code/lm_model.pt", "code/traces.txt"))
    if not report.read_bytes().startswith(b"%PDF-"):
        raise UserError(f"{report}: no PDF file; make report")
    if made_with(model) not in read_text(traces, PARTS["code/traces.txt"]).splitlines():
        raise UserError(f"{traces}: not made with this {model.name}; make traces")


def pack(folder: Path, path: Path) -> None:
    """Write the archive, with one date and one mode for all files, so that it depends on nothing but their bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(PARTS):
            entry = zipfile.ZipInfo(f"hw04/{name}")  # of 1 January 1980
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # Unix, -rw-r--r--
            archive.writestr(entry, (folder / name).read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


def check_archive(path: Path, corpus: Path) -> None:
    """Unpack the archive elsewhere and run it there. Raises UserError if it does not do what it should."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        code = Path(folder) / "hw04" / "code"

        def answer(*flags: str) -> dict:
            return json.loads(run(code, (*flags, "-json")))

        row = answer("-evaluate", "-test_corpus", str(corpus.resolve()))
        if not math.isfinite(row["ppl"]):
            raise UserError(f"code/lm_model.pt: its perplexity on {corpus} is {row['ppl']}; train it again")
        print(f"unpacked, -evaluate: perplexity {row['ppl']:.2f} on {corpus.parent.name}/{corpus.name}")
        text = "one day, a bird"
        print(f"unpacked, -use: {text!r} is followed by {answer('-use', '-greedy', '-text', text)['tokens'][0]!r}")
        story = answer("-prompt", "-greedy", "-text", "once upon a time")
        print(f"unpacked, -prompt: a story of {len(story['tokens'])} more tokens, ended by {story['ended']}")
        if subprocess.run([sys.executable, "fflm.py", "-h"], cwd=code, capture_output=True).returncode:
            raise UserError("code/fflm.py: does not run where it is unpacked; try python fflm.py -h")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    default = HERE.parent / "build" / "hw04.zip"
    add("-o", type=Path, metavar="FILE", default=default, help="what to write (default: %(default)s)")
    add("-folder", type=Path, metavar="DIR", default=HERE, help="what to pack (default: %(default)s)")
    what = "what the unpacked model evaluates (default: %(default)s)"
    add("-corpus", type=Path, metavar="FILE", default=SAMPLE, help=what)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        check_parts(args.folder)
        args.o.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / args.o.name
            pack(args.folder, draft)
            check_archive(draft, require(args.corpus, "give another -corpus"))
            atomic_write(args.o, lambda file: file.write(draft.read_bytes()))
    except (UserError, OSError) as error:
        print(f"handin.py: error: {error}", file=sys.stderr)
        return 2
    print(f"{args.o}: {args.o.stat().st_size:,} bytes, {len(PARTS)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
