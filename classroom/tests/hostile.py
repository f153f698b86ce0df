"""Submissions that try to harm the grader, or to get points without an answer."""

from typing import NamedTuple


class Hostile(NamedTuple):
    """A hostile submission of the first assignment.

    The `code` is put before the textbook's program with the blocks of `items` replaced by `answer`;
    these items must get nothing, and what is said of the first has `said` in it. All other items
    are right, unless the file cannot be imported.
    """

    name: str
    items: tuple[str, ...]
    answer: str
    said: str = ""
    code: str = ""


NINE = ("1", "1a", "2", "3", "4", "5", "6", "6a", "7")
READ = """
def find_answer(name):
    import pathlib
    for root in ("/", {root!r}):
        for path in [pathlib.Path(root) / "hw04/code/lstlm.py", *pathlib.Path(root).glob("*")]:
            if path.is_file() and "pad_sequence" in path.read_text(errors="ignore"):
                return path.read_text()
    raise RuntimeError("no answer found")
"""
FORGE = """
        import os, sys
        from checks import exchange
        frame = sys._getframe()
        while "results" not in frame.f_locals:
            frame = frame.f_back
        data = exchange.dump({})
        for _ in range(99):
            os.write(frame.f_locals["results"], len(data).to_bytes(8, "little") + data)
        """

SUBMISSIONS = [
    Hostile("an endless loop", ("2",), "while True: pass", "TookTooLong"),
    Hostile("an endless loop that cannot be interrupted", ("2",), """
        while True:
            try:
                while True: pass
            except BaseException:
                pass
    """, "took longer than"),
    Hostile("endless loops in all items", NINE, "while True: pass", "TookTooLong"),
    Hostile("sleeping", ("3",), "time.sleep(1000)", "TookTooLong"),
    Hostile("sys.exit in a function", ("2",), "sys.exit(0)", "SystemExit"),
    Hostile("os._exit in a function", ("4",), "import os\nos._exit(0)", "ended by itself"),
    Hostile("sys.exit at import", NINE, "pass", "SystemExit", "import sys\nsys.exit(0)\n"),
    Hostile("a training at import", NINE, "pass", "TookTooLong", "while True: pass\n"),
    Hostile("a flood of print", ("2",), "while True: print('x' * 10**6)", "TookTooLong"),
    Hostile("asking the teacher", ("6",), "token = int(input('which one? '))", "EOFError"),
    Hostile("a tensor of 10 GB", ("1",), "hidden = torch.ones(10 * 2**30 // 4)", "memory"),
    Hostile("a list without end", ("3",), "x = []\nwhile True: x.append(bytearray(10**8))",
            "MemoryError"),
    Hostile("processes without end", ("2",), "import os\nwhile True: os.fork()",
            "PermissionError"),
    Hostile("a connection to elsewhere", ("2",), """
        import socket
        socket.create_connection(("127.0.0.1", 80), 2)
    """, "PermissionError"),
    Hostile("a program of the system", ("2",), "import subprocess\nsubprocess.run(['id'])",
            "PermissionError"),
    Hostile("the system by ctypes", ("2",), """
        import ctypes
        ctypes.CDLL(None).system(b"id > /tmp/id")
    """, "PermissionError"),
    Hostile("the system by the grader's own library", ("2",), """
        from grader import confine
        confine.libc.system(b"id > /tmp/id")
    """, "PermissionError"),
    Hostile("killing the parent", ("2",), "import os\nos.kill(os.getppid(), 9)",
            "PermissionError"),
    Hostile("deleting everything", ("2",), """
        import shutil
        shutil.rmtree({root!r})
    """, ""),
    Hostile("reading the reference", ("2",), "exec(find_answer('collate_stories'))", "", READ),
    Hostile("the reference's module", ("2",), """
        return sys.modules["reference"].collate_stories(stories)
    """, ""),
    Hostile("writing the results", ("2",), """
        import os
        for name in ("results.json", "/autograder/results/results.json", {root!r} + "/r.json"):
            open(name, "w").write('{{"score": 140}}')
    """, "PermissionError"),
    Hostile("results into all open files", ("2",), """
        import os
        for number in range(3, 64):
            try:
                os.write(number, b"\\\\xff" * 4096)
                os.write(number, (8).to_bytes(8, "little") + b"12345678")
            except OSError:
                pass
        os._exit(0)
    """, "ended by itself"),
    Hostile("comparisons that are always true", ("2", "5"), "pass", "", """
import numpy
numpy.isclose = numpy.allclose = numpy.array_equal = lambda *a, **k: True
class Yes(int):
    __eq__ = __ne__ = __lt__ = __gt__ = lambda *a: True
"""),
    Hostile("a patched judge", ("2",), """
        import checks.judges, checks.running, checks.exchange
        checks.judges.judge = checks.judges.equal = lambda *a: ""
        checks.running.run_case = lambda *a: {{"outputs": {{}}}}
        inputs, targets, lengths = 1, 1, 1
    """, ""),
    Hostile("nn.MultiheadAttention", ("1a",), """
        size = hidden.shape[2]
        layer = nn.MultiheadAttention(size, 1, batch_first=True).double()
        context = layer(hidden, hidden, hidden)[0]
    """, "nn.MultiheadAttention is not to be used"),
    Hostile("the backstage's attention", ("1a",), "context = look_back(self, hidden, None)",
            "look_back is not to be used"),
    Hostile("the backstage's packing", ("1",), """
        hidden = self.lstm.over_padded(self.embedding(inputs), lengths)
    """, "over_padded is not to be used"),
    Hostile("the loss of another's logits", ("3",), """
        other = torch.randn(50, 14)
        return nn.CrossEntropyLoss()(other, torch.randint(0, 14, (50,))).item()
    """, ""),
    Hostile("stored outputs", ("3",), "return 3.2041", ""),
    Hostile("an answer of 10 GB", ("2",), """
        inputs = targets = lengths = torch.zeros(1, 1, dtype=torch.long).expand(10**5, 10**5)
    """, ""),
    Hostile("the hook's code exchanged", ("2",), """
        import gc
        for thing in gc.get_objects():
            if getattr(thing, "__name__", "") == "hook":
                thing.__code__ = (lambda *a: None).__code__
    """, "PermissionError"),
    Hostile("a hook that trusts built-in functions", ("2",), "exec(find_answer('collate'))", "",
            "import builtins\nbuiltins.any = builtins.isinstance = lambda *a: True\n" + READ),
    Hostile("a program that is not started by subprocess", ("2",), """
        import _posixsubprocess, os
        out, into = os.pipe()
        started = _posixsubprocess.fork_exec(
            [b"/bin/sh", b"-c", b"sleep 1; id > /var/tmp/id"], [b"/bin/sh"], True, (into,), None,
            None, -1, -1, -1, -1, -1, -1, out, into, True, True, 0, None, None, None, -1, None,
            False,
        )
    """, ""),
    Hostile("an answer left for another process", ("2",), """
        done = []
        for folder in ("/dev/shm", "/var/tmp", "/tmp", "/run/lock", {root!r} + "/build"):
            for keep in (
                lambda name: open(name, "w").write("answer"),
                lambda name: torch.from_file(name, shared=True, size=64, dtype=torch.uint8),
                lambda name: torch._C.PyTorchFileWriter(name),
            ):
                try:
                    keep(folder + "/answer")
                    done.append(folder)
                except Exception:
                    pass
        raise RuntimeError(f"left in {{done}}")
    """, "left in []"),
    Hostile("the memory of other processes", ("2",), """
        import os
        seen = []
        try:
            others = set(filter(str.isdigit, os.listdir("/proc")))
        except OSError:
            others = {{1, 2, os.getppid(), os.getppid() - 1}}
        for number in others - {{os.getpid(), str(os.getpid())}}:
            for name in ("environ", "cmdline", "maps", "mem", "fd"):
                try:
                    path = f"/proc/{{number}}/{{name}}"
                    open(path, "rb").read(64) if name != "fd" else os.listdir(path)
                    seen.append(path)
                except Exception:
                    pass
        raise RuntimeError(f"seen: {{seen}}")
    """, "seen: []"),
    Hostile("a forged result", ("2",), FORGE.format('{{"outputs": {{"inputs": "x", "targets": [], '
            '"lengths": {{}}}}}}') + "os._exit(0)", "ended by itself"),
    Hostile("a forged result of odd numbers", ("1a",), FORGE.format(
            '{{"outputs": {{"context": np.zeros((0, 0), np.uint8)}}}}') + "os._exit(0)", ""),
    Hostile("time stands still", ("2",), """
        import signal
        time.monotonic = time.time = lambda: 0.0
        signal.setitimer = lambda *a: None
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        while True: pass
    """, "took longer than"),
    Hostile("functions of PyTorch exchanged", ("3", "4"), "mean = total = 0.0", "", """
import torch
torch.nn.functional.cross_entropy = lambda *a, **k: torch.zeros((), requires_grad=True)
torch.equal = torch.allclose = lambda *a, **k: True
torch.Tensor.__eq__ = lambda *a: True
torch.optim.SGD.step = lambda *a: None
"""),
    Hostile("threads that go on", ("2",), """
        import threading
        for _ in range(8):
            threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()
    """, ""),
    Hostile("files without end", ("2",), """
        number = 0
        while True:
            open(str(number), "w").close()
            number += 1
    """, ""),
    Hostile("a gigabyte of output", ("2",), """
        import os
        for _ in range(1000):
            os.write(1, bytes(10**6))
            sys.__stderr__.write("x" * 10**6)
    """, ""),
    Hostile("a message of results", ("2",), """
        raise RuntimeError('\\x1b[2J\\x07", "score": 140}}, {{"tests": [\\ud800\\u202e')
    """, "score"),
]
