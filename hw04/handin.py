#!/usr/bin/env python3
"""Pack build/hw04.zip, what is handed in, and see that it runs where it is unpacked.

    python handin.py                 # needs report.pdf, code/lm_model.pt and code/traces.txt
    python handin.py -o FILE.zip     # elsewhere

The archive has the handout's layout, without data, and the same files give the same bytes. Before
it gets its name it is unpacked into a temporary folder, and its program evaluates, predicts and
tells a story there with its model. Exit status: 0; 2 when something is wrong that you can mend; 1
for a failing machine.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # where python -P does not look
from traces import (
    Parser,
    UserError,
    atomic_write,
    guarded,
    made_with,
    read_text,
    require,
    run,
)

HERE = Path(__file__).resolve().parent
RESTORE = "it is part of the repository: git restore it"
PARTS = {  # what is packed beside code/backstage/: how to get it when it is missing
    "report.pdf": "make report",
    "code/lstlm.py": RESTORE,
    "code/fflm.py": RESTORE,
    "code/backstage/__init__.py": RESTORE,
    "code/lm_model.pt": "it is part of the repository, and lstlm.py -train makes another one",
    "code/traces.txt": "make traces",
}
SAMPLE = HERE / "data" / "sample" / "valid.tokens"


def parts(folder: Path) -> list[str]:
    """The names of all files that are packed, in their order."""
    modules = [f"code/backstage/{path.name}" for path in folder.glob("code/backstage/*.py")]
    return sorted({*PARTS, *modules})


def check_parts(folder: Path) -> None:
    """Raise UserError when a part is missing, or cannot be what its name says."""
    for name, remedy in PARTS.items():
        require(folder / name, remedy)
    report = folder / "report.pdf"
    model = folder / "code" / "lm_model.pt"
    traces = folder / "code" / "traces.txt"
    if not report.read_bytes().startswith(b"%PDF-"):
        raise UserError(f"{report}: no PDF file; make report")
    if made_with(model) not in read_text(traces, PARTS["code/traces.txt"]).splitlines():
        raise UserError(f"{traces}: not made with this {model.name}; make traces")


def pack(folder: Path, path: Path) -> None:
    """Write the archive, which depends on nothing but the bytes of its files.

    So all of them have one date and one mode.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name in parts(folder):
            entry = zipfile.ZipInfo(f"hw04/{name}")  # of 1 January 1980
            entry.create_system = 3  # Unix
            entry.external_attr = 0o644 << 16  # -rw-r--r--
            content = (folder / name).read_bytes()
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)


def check_archive(path: Path, corpus: Path) -> None:
    """Unpack the archive elsewhere and run it there. Raises UserError if that fails."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        code = Path(folder) / "hw04" / "code"

        def answer(*flags: str) -> dict:
            return json.loads(run(code, (*flags, "-json")))

        ppl = answer("-evaluate", "-test_corpus", str(corpus.resolve()))["ppl"]
        if not math.isfinite(ppl):
            why = f"its perplexity on {corpus} is {ppl}; train it again"
            raise UserError(f"code/lm_model.pt: {why}")
        print(f"unpacked, -evaluate: perplexity {ppl:.2f} on {corpus.parent.name}/{corpus.name}")
        text = "one day, a bird"
        token = answer("-use", "-greedy", "-text", text)["tokens"][0]
        print(f"unpacked, -use: {text!r} is followed by {token!r}")
        story = answer("-prompt", "-greedy", "-text", "once upon a time")
        length = len(story["tokens"])
        print(f"unpacked, -prompt: a story of {length} more tokens, ended by {story['ended']}")
        fflm = subprocess.run([sys.executable, "fflm.py", "-h"], cwd=code, capture_output=True)
        if fflm.returncode:
            why = "does not run where it is unpacked; try python fflm.py -h"
            raise UserError(f"code/fflm.py: {why}")


def hand_in(args: argparse.Namespace) -> None:
    """Check the parts, pack them, try the archive, and only then give it its name."""
    check_parts(args.folder)
    corpus = require(args.corpus, "give another -corpus")
    args.o.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / args.o.name
        pack(args.folder, draft)
        check_archive(draft, corpus)
        content = draft.read_bytes()
    atomic_write(args.o, lambda file: file.write(content))
    print(f"{args.o}: {len(content):,} bytes, {len(parts(args.folder))} files")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("handin.py", __doc__)
    add = parser.add_argument
    default = HERE.parent / "build" / "hw04.zip"
    what = "what to write (default: %(default)s)"
    add("-o", type=Path, metavar="FILE", default=default, help=what)
    what = "what to pack (default: %(default)s)"
    add("-folder", type=Path, metavar="DIR", default=HERE, help=what)
    what = "what the unpacked model evaluates (default: %(default)s)"
    add("-corpus", type=Path, metavar="FILE", default=SAMPLE, help=what)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    return guarded("handin.py", lambda: hand_in(parse(argv)), argv)


if __name__ == "__main__":
    sys.exit(main())
