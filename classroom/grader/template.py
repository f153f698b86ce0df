"""The process from which those that run students' code are forked: PyTorch is loaded once.

It reads the folder of a job and its limits, a JSON object a line, and prints one when the job is
done: `ended` ("", "time", "killed by signal N"), `seconds` and `confined`. It knows
nothing that a student's code should not see.
"""

import ctypes
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from grader import confine, kernel, worker  # noqa: E402 - found by the line above

SYSTEM = (  # what PyTorch and NumPy may read of it
    "/usr", "/lib", "/lib64", "/etc", "/sys", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/proc/sys", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom",
)


def main() -> None:
    """Carry out jobs until there are no more."""
    preload()
    for line in sys.stdin:
        job = json.loads(line)
        watcher = os.fork()
        if watcher == 0:
            try:
                watch(job)
            finally:
                os._exit(0)
        os.waitpid(watcher, 0)


def preload() -> None:
    """Load what students' code will need."""
    import numpy  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import torch._dynamo  # which the first optimizer loads
    import torch.nn.parallel
    import torch.utils.checkpoint
    import torch.utils.data
    import torch.utils.serialization
    import tqdm  # noqa: F401

    torch.set_num_threads(1)


def watch(job: dict) -> None:
    """Fork the process that runs the student's code, wait for it, print what became of it."""
    os.setsid()
    namespace = confine.new_process_namespace()
    ready, done = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(ready)
        run(job, done, namespace)
        os._exit(0)
    os.close(done)
    ended, used = wait(child, job["seconds"])
    confined = os.read(ready, 100).decode()
    wall = time.monotonic() - started
    record = {"ended": ended, "seconds": round(used, 2), "wall": round(wall, 2)}
    print(json.dumps({**record, "confined": confined}), flush=True)


def wait(child: int, seconds: float) -> tuple[str, float]:
    """Wait for a process, at most for so many seconds, not counting those that it is kept waiting.

    Returns how it ended, and its seconds.
    """
    started = time.monotonic()
    used = 0.0
    late = False
    while True:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            break
        wall = time.monotonic() - started
        used = max(used, wall - kept_waiting(child))
        if used > seconds or wall > 6 * seconds:
            late = True
            os.kill(child, 9)
            os.waitpid(child, 0)
            status = 0
            break
        time.sleep(0.005)
    if late:
        return "time", used
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "time" if number == 24 else f"killed by signal {number}", used
    return "", used


def kept_waiting(process: int) -> float:
    """For how many seconds a process would have run, had a processor been free."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def run(job: dict, done: int, namespace: bool) -> None:
    """In the new process: read the request, shut this process in, run the student's code."""
    folder = job["folder"]
    request = Path(folder, "request").read_bytes()
    results = os.open(f"{folder}/results", os.O_WRONLY)
    work, files = f"{folder}/work", f"{folder}/files"
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    sys.stdin = open(0)  # noqa: SIM115 - it lives as long as the process
    network = confine.unshare(confine.NEWNET)
    python = [sys.prefix, sys.base_prefix, *site_folders()]
    hidden = confine.hide(job["hidden"], [files, work, *python], work)
    os.chdir(work)
    confine.limit(int(job["seconds"]) + 2, job["megabytes"])
    confine.drop_rights(python)
    os.environ.update(HOME=work, TMPDIR=work, USER="student", MPLBACKEND="Agg")
    own = f"/proc/{os.readlink('/proc/self')}"
    readable = [files, *python, *SYSTEM, own]
    bound = kernel.allow_files(readable, [work, os.devnull]) and kernel.refuse_calls()
    words = {"processes": namespace, "network": network, "files": hidden, "kernel": bound}
    os.write(done, " ".join(word for word, fine in words.items() if fine).encode())
    os.close(done)
    confine.guard(readable, work)
    worker.work(request, files, results)


def site_folders() -> list[str]:
    """Where Python finds modules, apart from this program's own folder."""
    own = str(Path(__file__).resolve().parent.parent)
    return [path for path in sys.path if path and os.path.isdir(path) and path != own]


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody looks into this process
    main()
