#!/usr/bin/env python3
"""Bring a model, or an unfinished run, that torch.save wrote over to safetensors.

    python convert.py OLD.pt NEW.pt

Models were such files before they were safetensors files. With OLD.pt come OLD.prev.pt, the model
before it, OLD.state.pt and OLD.state.prev.pt, an unfinished run, and its log, where they are there;
go on with that run by -resume -model NEW.pt. OLD stays as it is, and NEW must not be there yet.

What torch.save wrote is a pickle. With `weights_only` it runs no foreign code, but may ask for any
amount of memory or time. So it is read by a process of its own, with limits on both.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HW04 = Path(__file__).resolve().parent
sys.path.append(str(HW04 / "code"))
import fflm  # noqa: E402 - found by the line above
import lstlm  # noqa: E402
import torch  # noqa: E402
from backstage.checkpoint import check_checkpoint  # noqa: E402
from backstage.errors import UserError  # noqa: E402
from backstage.files import atomic_write, digest_if_there, side_file  # noqa: E402
from backstage.parser import Parser  # noqa: E402
from backstage.run_state import STATE_KIND, check_state, digest_of_words  # noqa: E402
from backstage.sealed import OLD_START, VERSION, seal, unseal  # noqa: E402
from backstage.shell import guarded  # noqa: E402

OLD_VERSION = 2
SECONDS = 120  # of a processor's time that reading an old file may take
ENDINGS = (".pt", ".prev.pt", ".state.pt", ".state.prev.pt")  # models come before states
LACKED = {"model": "", "words": "", "carried": {}}  # by old states; see `converted_state`
CHECKS = {
    "lstlm": lambda content: check_checkpoint(content, lstlm.LSTMLM), "fflm": fflm.built,
    STATE_KIND: lambda content: check_state({**LACKED, **content}),
}
READER = "import sys; sys.path.append(sys.argv[1]); import convert; convert.reseal(*sys.argv[2:])"


def reseal(old: str, made: str) -> None:
    """Read what torch.save wrote, and write it as a sealed file; for a process of its own."""
    limit_process(Path(old).stat().st_size)
    content = torch.load(old, map_location="cpu", weights_only=True)
    Path(made).write_bytes(seal(content))


def limit_process(size: int) -> None:
    """Limit this process's time, and the memory and files that it adds, to what `size` needs."""
    if os.name != "posix":  # Windows has no such limits, only the one on the time of `old_content`
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    more = 10 * size + (256 << 20)
    resource.setrlimit(resource.RLIMIT_FSIZE, (more, more))
    with contextlib.suppress(OSError):  # where there is no /proc
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def old_content(path: Path) -> dict:
    """The content of a file that torch.save wrote. Raises UserError if it is not one of ours."""
    data = path.read_bytes()
    if not data.startswith(OLD_START):
        raise UserError(f"{path}: not a file of torch.save; only those are converted")
    try:
        if hashlib.sha256(data[:-32]).digest() != data[-32:]:
            raise ValueError("other bytes")
        content = {**resealed(path), "version": VERSION}
        CHECKS[content["format"]](content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        why = "no model or unfinished run of lstlm.py or fflm.py, or damaged"
        raise UserError(f"{path}: {why}; train again with -train") from None
    return content


def resealed(path: Path) -> dict:
    """The content of an old file, read by a process with limits; ValueError if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        command = [sys.executable, "-c", READER, str(HW04), str(path), str(made)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, timeout=2 * SECONDS, capture_output=True)
        content = unseal(made.read_bytes())
    if content["version"] != OLD_VERSION:
        raise ValueError("another version")
    return content


def converted_state(content: dict, model: Path) -> dict:
    """An unfinished run with what states of the old kind lack; `model` is its converted model."""
    numbers = content["numbers"]
    more = {"part": 0, "reported": numbers["step"]}
    words = unseal(model.read_bytes())["words"] if model.exists() else []
    return {
        **content, "numbers": {**numbers, **more}, "model": digest_if_there(model), "carried": {},
        "words": digest_of_words(words) if words else "",
    }


def convert(old: Path, new: Path) -> None:
    """Convert all that is there of a model and its run. Raises UserError if that cannot be."""
    there = [ending for ending in ENDINGS if side_file(old, ending).exists()]
    if not there:
        raise UserError(f"{old}: no such model")
    for path in [side_file(new, ending) for ending in ENDINGS]:
        if path.exists():
            raise UserError(f"{path}: is there already; give another path for NEW")
    for ending in there:
        source = side_file(old, ending)
        target = side_file(new, ending)
        content = old_content(source)
        if content["format"] == STATE_KIND:
            content = converted_state(content, new)
        write(target, seal(content))
        print(f"{source} -> {target}")
    log = side_file(old, ".log.jsonl")
    if log.exists():
        write(side_file(new, ".log.jsonl"), log.read_bytes())


def write(path: Path, data: bytes) -> None:
    """Write a file as a whole. Raises UserError if its folder cannot be written."""
    try:
        atomic_write(path, lambda file: file.write(data))
    except (FileNotFoundError, PermissionError) as error:
        why = f"cannot be written ({error.strerror}); give another path for NEW"
        raise UserError(f"{path}: {why}") from None


def main(argv: list[str] | None = None) -> int:
    """Convert what the command line names; returns the exit status."""

    def run() -> None:
        parser = Parser("convert.py", __doc__)
        parser.add_argument("old", type=Path, metavar="OLD", help="a model that torch.save wrote")
        parser.add_argument("new", type=Path, metavar="NEW", help="the path of what it becomes")
        args = parser.parse_args(argv)
        convert(args.old, args.new)

    return guarded("convert.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
