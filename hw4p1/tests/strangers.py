"""Files as a stranger may craft them, and a place where the program tries them.

Each case runs in a fork of this process, with a limit on its memory and time.
"""

import io
import os
import pickle
import re
import resource
import shutil
import signal
import sys
import traceback
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.backends.backend_agg  # noqa: F401 - so that it is there before the forks
import matplotlib.figure  # noqa: F401
import numpy as np
import run_lm
import torch
import torch._dynamo
import torchinfo  # noqa: F401
import yaml

SECONDS, MEMORY = 20, 10**9  # of a case, the memory beyond what the libraries take
CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]")
CONFIG = {
    "tokenization": {"token_type": "1k", "token_map": {"1k": "tokens.json"}},
    "data": {"root": "data", "batch_size": 4}, "training": {"epochs": 2},
    "model": {"d_model": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1},
    "scheduler": {"warmup": {"epochs": 1}, "cosine": {"T_max": 1}},
}  # fmt: skip
GENERATE = ["generate", "--run", "r", "--device", "cpu"]
TRAIN = ["train", "--config", "small.yaml", "--device", "cpu", "--run"]
BEST = "expts/r/checkpoints/checkpoint-best-metric-model.pth"
LAST = "expts/r/checkpoints/checkpoint-last-epoch-model.pth"


@dataclass(repr=False)
class Case:
    """A command with the files that a stranger gave; it must fail if it is `bad`."""

    argv: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    bad: bool = False
    what: object = ""  # is odd about them

    def __repr__(self) -> str:
        return f"{' '.join(self.argv)} with {[*self.files]} {self.what}"[:2000]


class Lab:
    """A folder with data, a tokenizer and a training `r`, stopped in its second epoch.

    It is the current folder while cases are tried.
    """

    def __init__(self, folder: Path, tokenizer: bytes):
        self.folder = folder
        self.kept: dict[str, bytes] = {}
        self.changed: set[str] = set()
        draw = np.random.default_rng(0)
        for partition, count in (("train", 12), ("val", 2), ("test", 2)):
            (folder / "data" / partition).mkdir(parents=True)
            for i in range(count):
                text = " ".join(draw.choice(["THE", "CAT", "RAN", "ON", "A", "DOG"], 5))
                np.save(folder / "data" / partition / f"{i}.npy", np.array(text))
        (folder / "tokens.json").write_bytes(tokenizer)
        (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
        self.run([*TRAIN, "r"])
        content = load((folder / LAST).read_bytes())
        state = content["random_state"]
        progress = {"batches": 1, "nats": 9.0, "targets": 40, "sequences": 4, "random_state": state}
        (folder / LAST).write_bytes(saved({**content, "epoch": 1, "progress": progress}))
        self.kept = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"
        }

    def run(self, argv: list[str]) -> tuple[int, str]:
        """The status of a command in a fork, and what it printed; negative for a signal."""
        output = self.folder / "output"
        child = os.fork()
        if child == 0:
            status = 70
            try:
                limit()
                os.chdir(self.folder)
                with open(output, "w", encoding="utf-8", errors="backslashreplace") as file:
                    sys.stdout = sys.stderr = file
                    status = run_lm.main(argv)
            except SystemExit as end:
                status = end.code
            except BaseException:
                output.write_text(traceback.format_exc())
            finally:
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(ended), output.read_text(encoding="utf-8")

    def prepare(self, case: Case) -> None:
        """The folder as it was made, and the files of the case."""
        shutil.rmtree(self.folder / "expts" / "n", ignore_errors=True)
        for name in self.changed | {"expts/r/config.yaml"}:
            (self.folder / name).unlink(missing_ok=True)
            if name in self.kept:
                (self.folder / name).write_bytes(self.kept[name])
        for name, content in case.files.items():
            (self.folder / name).write_bytes(content)
        self.changed = {*case.files, BEST, LAST}

    def check(self, case: Case) -> str:
        """Try a case; returns what it printed."""
        self.prepare(case)
        status, told = self.run(case.argv)
        assert status in ((2,) if case.bad else (0, 2)), (status, case, told)
        assert "Traceback" not in told, told
        assert not CONTROL.search(told.replace("\r", "")), told
        if status:
            last = told.splitlines()[-1]
            assert last.startswith("run_lm.py: error: "), told
            assert len(last) < 1000
        return told


def limit() -> None:
    """From now on this process has little memory and time."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)


# ---- Checkpoints


def saved(content: object) -> bytes:
    """What `torch.save` makes of it."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def load(data: bytes) -> dict:
    """What PyTorch reads in a file of ours."""
    return torch.load(io.BytesIO(data), weights_only=True)


def taken_apart(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The pickle and the other members of a file."""
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        members = {f"archive/{name.partition('/')[2]}": made.read(name) for name in made.namelist()}
    return members.pop("archive/data.pkl"), members


def archive(
    pickled: bytes, members: dict[str, bytes] | None = None, how: int = zipfile.ZIP_STORED
) -> bytes:
    """A file as `torch.save` makes it, with any pickle and members in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as made:
        made.writestr("archive/data.pkl", pickled)
        for name, content in {"archive/version": b"3\n", **(members or {})}.items():
            made.writestr(name, content)
    return file.getvalue()


def text(value: str) -> bytes:
    """A text, pickled."""
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def within(pickled: bytes) -> bytes:
    """A pickle of a dict with weights and, as `more`, any other pickle."""
    return b"\x80\x02}(" + text("model_state_dict") + b"}" + text("epoch") + pickled + b"u."


def tensor(count: int, size: bytes, stride: bytes, offset: bytes = b"K\0") -> bytes:
    """A pickled tensor of the storage `0`; sizes, strides and offset are pickles themselves."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += b"J" + count.to_bytes(4, "little") + b"tQ"
    more = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride + more + b"tR"


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def trapped(path: Path) -> bytes:
    return pickle.dumps({"model_state_dict": Trap(path)}, protocol=2)
