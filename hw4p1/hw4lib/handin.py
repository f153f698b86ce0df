"""What is handed in: a tar, and whether its numbers are of text that the model has not seen."""

import hashlib
import io
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .data.lm_dataset import LMDataset
from .data.npy_files import first_share, parse_transcript, read_transcript, transcript_files
from .errors import UserError

# What Python, editors and file managers leave in folders, beside all that is hidden: .DS_Store,
# ._linear.py, .ipynb_checkpoints, .git.
LITTER = ("__pycache__", "__MACOSX", "Thumbs.db", "desktop.ini")
LITTER_ENDS = (".pyc", ".pyo", "~")
TOO_MUCH = 0.1  # share of a test: a few short transcripts are alike by chance, so many are not


class Seen(NamedTuple):
    """The share of a test that is known to be in the training, and what is to be said of it."""

    share: float
    what: str  # empty if there is nothing to say


def check_out(out: Path) -> None:
    """UserError if a tar cannot be written there, or would replace something else."""
    if not out.parent.is_dir():
        why = f"there is no folder {out.parent}; make it, or choose another"
        raise UserError(f"--out {out}: {why}")
    if out.is_dir() or (out.exists() and not tarfile.is_tarfile(out)):
        raise UserError(f"--out {out}: is there, and no handin.tar; choose another")


def pack(top: str, paths: dict[str, Path]) -> bytes:
    """An uncompressed tar with the given files and folders in the folder `top`, without litter."""

    def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if is_litter(PurePosixPath(member.name).name) else member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, path in sorted(paths.items()):
            tar.add(path, f"{top}/{name}", filter=keep)
    return buffer.getvalue()


def is_litter(name: str) -> bool:
    """Whether a file or folder of that name is nobody's work."""
    return name.startswith(".") or name in LITTER or name.endswith(LITTER_ENDS)


# ---- Trained on what it is tested on


def seen_before(test: LMDataset, trained_on: dict, train_folder: Path, subset: float) -> Seen:
    """What a training has seen of its test.

    `trained_on` is what the checkpoint says of the training, `train_folder` where its transcripts
    were, `subset` the share of them that it took: they are read if they are still the same.
    """
    if test.sha256 == trained_on["sha256"]:
        return Seen(1.0, "the model was trained on these very transcripts")
    if test.sha256 == trained_on["val_sha256"]:
        return Seen(0.0, "the best epoch was chosen on these very transcripts, by validation")
    texts = training_texts(train_folder, subset, trained_on["sha256"])
    if texts is None:
        what = "has not, or no longer, what the model was trained on, so no transcripts of it"
        return Seen(0.0, f"{train_folder} {what} were looked for in the test")
    decode = test.tokenizer.decode
    seen = [
        name for name, golden in zip(test.text_files, test.transcripts_golden, strict=True)
        if decode(golden[:-1]) in texts
    ]
    if not seen:
        return Seen(0.0, "")
    share = f"{len(seen):,} of its {len(test):,} transcripts, such as {seen[0]}"
    return Seen(len(seen) / len(test), f"the model was trained on {share}")


def training_texts(folder: Path, subset: float, sha256: str) -> set[str] | None:
    """The transcripts in a folder, if they have this digest, as LMDataset computes it."""
    names = first_share(transcript_files(folder), subset)
    digest, texts = hashlib.sha256(), set()
    try:
        for name in names:
            content = read_transcript(folder / name)
            digest.update(os.fsencode(name) + b"\0" + content)
            texts.add(parse_transcript(content, name))
    except UserError:  # damaged since
        return None
    return texts if digest.hexdigest() == sha256 else None
