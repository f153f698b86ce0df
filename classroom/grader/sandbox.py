"""Running jobs in processes that are shut in, two at a time; what they write is only read."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from backstage.errors import UserError
from checks import exchange
from checks.case import Outcome

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MOST_BYTES = 64 << 20  # of the results of a job
PROCESSES = 2
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")


@dataclass(frozen=True)
class Limits:
    """What a process may use."""

    item_seconds: float = 10.0  # for all cases of an item
    case_seconds: float = 3.0  # for one case
    import_seconds: float = 6.0  # for importing the student's file
    megabytes: int = 3000  # of memory, beyond what Python and PyTorch have


@dataclass
class Ran:
    """What came of a job: an outcome for each case that was reached."""

    outcomes: list[Outcome] = field(default_factory=list)
    imported: Outcome | None = None  # what went wrong when the student's file was imported
    ended: str = ""  # "", "time", or "killed by signal N"
    seconds: float = 0.0
    confined: str = ""  # which of "processes network files" namespaces shut it in


class Template:
    """A process from which jobs are forked, one at a time."""

    SCRIPT = HERE / "template.py"

    def __init__(self):
        environment = {
            "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1", "HOME": "/nonexistent", "PYTHONPATH": installed_packages(),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(self.SCRIPT)], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True,
        )

    def run(self, job: dict) -> dict:
        """Carry out a job; returns what the template says of it."""
        print(json.dumps(job), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise UserError("the grader's own process ended; is there memory enough?")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Sandbox:
    """Runs jobs, two at a time, in folders that are removed afterwards."""

    def __init__(self, limits: Limits = Limits()):  # noqa: B008 - it cannot be changed
        self.limits = limits
        self.pool = ThreadPoolExecutor(PROCESSES)
        self.idle: SimpleQueue[Template] = SimpleQueue()
        self.templates: list[Template] = []
        self.lock = threading.Lock()

    def __enter__(self) -> "Sandbox":
        # Not under /tmp itself, of which a student's process sees nothing.
        self.root = Path(tempfile.mkdtemp(prefix="classroom-"))
        self.root.chmod(0o755)
        return self

    def __exit__(self, *_) -> None:
        self.pool.shutdown()
        for template in self.templates:
            template.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def submit(self, request: dict, fill: Callable[[Path], None], seconds: float | None = None):
        """Start a job as soon as a process is free; returns a future of `Ran`.

        `fill` puts files into the folder that the student's code sees.
        """
        return self.pool.submit(self.run, request, fill, seconds)

    def run(
        self, request: dict, fill: Callable[[Path], None], seconds: float | None = None
    ) -> Ran:
        """Carry out a job: `request` goes to `worker.work`."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        template = self.take()
        try:
            for name in ("files", "work"):
                (folder / name).mkdir()
            fill(folder / "files")
            make_readable(folder)
            times = {"case_seconds": self.limits.case_seconds}
            times["import_seconds"] = self.limits.import_seconds
            (folder / "request").write_bytes(exchange.dump({**times, **request}))
            (folder / "results").touch()
            said = template.run({
                "folder": str(folder), "seconds": seconds or self.limits.item_seconds,
                "megabytes": self.limits.megabytes, "hidden": hidden_folders(),
            })
            return read_results(folder / "results", said)
        finally:
            self.idle.put(template)
            shutil.rmtree(folder, ignore_errors=True)

    def take(self) -> Template:
        """A template that has nothing to do."""
        with self.lock:
            if self.idle.empty() and len(self.templates) < PROCESSES:
                template = Template()
                self.templates.append(template)
                return template
        return self.idle.get()


def installed_packages() -> str:
    """Where this Python finds packages, as PYTHONPATH has it: not in the repository itself."""
    prefixes = (sys.prefix, sys.base_prefix)
    folders = [
        path for path in sys.path if os.path.isdir(path)
        and (path.startswith(prefixes) or not Path(path).is_relative_to(ROOT))
    ]
    return os.pathsep.join(folders)


def make_readable(folder: Path) -> None:
    """Let another user read all files of a job, and write in its working folder."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "work").chmod(0o777)


def hidden_folders() -> list[str]:
    """What a student's process should not see: the reference, home, the current folder, others.

    Some are folders that all users may write in, where one item's process could leave an answer
    for another's.
    """
    return [str(ROOT), str(Path.home()), os.getcwd(), tempfile.gettempdir(), *SHARED]


def read_results(path: Path, said: dict) -> Ran:
    """What a job wrote, up to where it makes sense: it comes from the student's process."""
    ran = Ran(ended=said["ended"], seconds=said["seconds"], confined=said["confined"])
    data = path.read_bytes()[:MOST_BYTES]
    while len(data) >= 8:
        size = int.from_bytes(data[:8], "little")
        frame, data = data[8 : 8 + size], data[8 + size :]
        try:
            tree = exchange.load(frame)
            if "import" in tree:
                ran.imported = Outcome.of(tree["import"])
                break
            ran.outcomes.append(Outcome.of(tree))
        except (ValueError, TypeError, AttributeError):
            break
    return ran
