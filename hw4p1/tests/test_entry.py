"""The end of a program: one line and an exit status, whatever happens in it."""

import contextlib
import errno
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import make_data
import make_speech
import pytest
import run_asr
import run_lm
import train_tokenizers
from hw4lib.entry import REQUIREMENTS, guarded, importing
from hw4lib.errors import Stopped, UserError
from hw4lib.output import outlived_output

HW4P1 = Path(__file__).resolve().parent.parent
FULL = Path("/dev/full")  # a disk that is always full
PROGRAMS = ["run_lm", "make_data", "train_tokenizers", "run_asr", "make_speech"]
INSTALL = shlex.join(["pip", "install", "-r", str(REQUIREMENTS)])
LITTLE = "p.py: error: too little memory; buy some\n"


def raising(error):
    """An action that fails."""

    def action():
        raise error

    return action


@pytest.mark.parametrize(("error", "status", "line"), [
    (UserError("a: no"), 2, "p.py: error: a: no\n"),
    (UserError("a\x1b[2J: no\nb"), 2, "p.py: error: a\\x1b[2J: no\\nb\n"),
    (FileNotFoundError(2, "No such file", "f"), 2, "p.py: error: [Errno 2] No such file: 'f'\n"),
    (OSError(28, "No space left"), 1, "p.py: error: [Errno 28] No space left\n"),
    (MemoryError(), 1, LITTLE),
    (RuntimeError("not enough memory"), 1, LITTLE),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), 1, LITTLE),
    (RuntimeError("std::bad_alloc"), 1, LITTLE),
    (RuntimeError("bad allocation"), 1, LITTLE),
    (RuntimeError("could not create a primitive"), 1, LITTLE),  # of oneDNN
    (OSError("libtorch_cpu.so: failed to map segment from shared object"), 1, LITTLE),
    (OSError(28, "No space left", "memory.txt"), 1,
     "p.py: error: [Errno 28] No space left: 'memory.txt'\n"),
    (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), 1, LITTLE),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, LITTLE),
    (ModuleNotFoundError("No", name="yaml"), 2,
     f"p.py: error: this Python has no yaml; {INSTALL}\n"),
    (ImportError("libgomp.so.1: cannot open it\n\nand a page more"), 2,
     f"p.py: error: libgomp.so.1: cannot open it; {INSTALL}\n"),
    (UnicodeEncodeError("ascii", "\u00e9", 0, 1, "no"), 2, "p.py: error: '\u00e9' cannot be "
     "written in this system's encoding, ascii; set PYTHONUTF8=1\n"),
    (KeyboardInterrupt(), 130, "\np.py: interrupted\n"),
    (BrokenPipeError(), 0, ""),
    (Stopped(signal.SIGTERM), 143, "\np.py: stopped and saved; go on with: p.py 'a b' --resume\n"),
    (Stopped(signal.SIGHUP), 129, "\np.py: stopped and saved; go on with: p.py 'a b' --resume\n"),
])  # fmt: skip
def test_each_end_has_its_status_and_one_line(capsys, error, status, line):
    assert guarded("p.py", raising(error), ["--resume", "a b"], smaller="buy some") == status
    assert capsys.readouterr() == ("", line)


def test_a_fault_of_the_program_is_not_hidden():
    for error in (RuntimeError("shapes"), KeyError("x")):
        with pytest.raises(type(error)):
            guarded("p.py", raising(error))


def test_a_package_that_is_missing_or_broken_is_told_with_the_remedy(capsys):
    broken = ImportError("two\nlines"), ModuleNotFoundError("x", name="torch"), OSError(12, "none")
    lines = f"two; {INSTALL}", f"this Python has no torch; {INSTALL}", "too little memory; close"
    for error, line, status in zip(broken, lines, (2, 2, 1), strict=True):
        with pytest.raises(SystemExit) as end, importing("p.py"):
            raise error
        assert end.value.code == status
        assert capsys.readouterr().err.startswith(f"p.py: error: {line}")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_missing_package_is_told_by_each_program(program, tmp_path):
    """Also where Python leaves out the program's folder, from which hw4lib comes."""
    path = HW4P1 / f"{program}.py"
    code = f"import runpy, sys; sys.modules['torch'] = None; runpy.run_path({str(path)!r})"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    line = f"{program}.py: error: this Python has no torch; {INSTALL}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_limit_that_is_too_low_is_told_before_torch_aborts(tmp_path):
    command = f"ulimit -v 500000; '{sys.executable}' '{HW4P1 / 'run_lm.py'}' -h"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    line = "run_lm.py: error: too little memory; close other programs, or raise the limit of "
    assert (done.returncode, done.stdout) == (1, "") and done.stderr == f"{line}ulimit -v\n"


# ---- Signals


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_program_that_tidies_up(capsys, number):
    before, tidied = signal.getsignal(number), []

    def action():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGHUP)  # of a closed terminal, which may send two
            tidied.append(True)

    assert guarded("p.py", action) == 128 + number
    assert tidied and capsys.readouterr().err == "\np.py: interrupted\n"
    assert signal.getsignal(number) == before


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert guarded("p.py", lambda: signal.raise_signal(signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_program_in_another_thread(tmp_path):
    (tmp_path / "a.txt").write_text("No story. " * 9)
    calls = (
        lambda: guarded("p.py", lambda: None), lambda: run_lm.main(["generate", "--run", "never"]),
        lambda: make_data.main([str(tmp_path / "out"), "--train", str(tmp_path / "a.txt")]),
    )
    statuses = []
    for call in calls:
        thread = threading.Thread(target=lambda call=call: statuses.append(call()))
        thread.start()
        thread.join()
    assert statuses == [0, 2, 2]


# ---- Output


def run(program: str, shell: str = "{}", **env: str) -> subprocess.CompletedProcess:
    """A program that prints, in a process of its own, with its streams as the shell has them."""
    code = f"import sys; from hw4lib.entry import guarded; sys.exit(guarded('p.py', {program}))"
    command = f'"{sys.executable}" -c "$CODE"'
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", "set -o pipefail; " + shell.format(command)], capture_output=True,
        text=True, cwd=HW4P1, env={**kept, "CODE": code, **env},
    )


def test_letters_that_the_terminal_does_not_have():
    done = run("lambda: print('\u00e9')", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xe9\n", "")


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-"])
def test_streams_may_be_closed(stream):
    done = run("lambda: print(sys.stdin.read(), file=sys.stderr)", f"{{}} {stream}")
    assert done.returncode == 0 and "Traceback" not in done.stderr


@pytest.mark.parametrize("flush", [False, True])
def test_a_reader_may_leave_early(flush):
    program = f"lambda: (__import__('time').sleep(0.2), print('a' * 9, flush={flush}))"
    done = run(program, "{} | true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("action", [
    "lambda: print('a')", "lambda: print('a', flush=True)",
    "lambda: (print('a'), __import__('sys').exit(0))",  # as argparse does after -h
])
def test_a_full_disk_is_told_in_one_line(action):
    done = run(action, "{} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "p.py: error: [Errno 28] No space left on device\n"


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_status_does_not_depend_on_standard_error():
    done = run("lambda: open('/nowhere/at/all')", "{} 2> /dev/full")
    assert done.returncode == 2


@contextlib.contextmanager
def taken_away(monkeypatch, stream: str = "stdout"):
    """The stream as one that nobody reads, as in `| head` when head is done."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as pipe:
        monkeypatch.setattr(sys, stream, pipe)
        yield
        with contextlib.suppress(OSError):
            pipe.close()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_work_goes_on_when_nobody_reads_what_it_says(monkeypatch, stream):
    done = []

    def action():
        with outlived_output():
            for part in range(3):
                print("part", part, file=getattr(sys, stream))
                done.append(part)

    with taken_away(monkeypatch, stream):
        assert guarded("p.py", action) == 0
    assert done == [0, 1, 2]


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_work_that_could_not_say_all_is_done_and_tells_why(monkeypatch, capsys):
    done = []

    def action():
        with outlived_output():
            print("part")
            done.append(True)

    with FULL.open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert guarded("p.py", action) == 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert done and capsys.readouterr().err == (
        "p.py: error: [Errno 28] No space left on device\n")  # fmt: skip


# ---- Threads that wait


@pytest.mark.thorough
@pytest.mark.parametrize("program", ["run_lm", "run_asr"])
@pytest.mark.parametrize(
    ("command", "own", "spin"),
    [("train", {}, "1000"), ("train", {"GOMP_SPINCOUNT": "7"}, "7"), ("evaluate", {}, "300000")],
)
def test_a_training_leaves_the_processor_to_others_while_it_waits(program, command, own, spin):
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("GOMP")}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", "OMP_NUM_THREADS": "1", **own}
    arguments = [sys.executable, HW4P1 / f"{program}.py", command, "-h"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("PyTorch's threads are not those of libgomp here")
    assert f"GOMP_SPINCOUNT = '{spin}'" in done.stderr


# ---- The command line

USES = [
    (run_lm.main, ["run_lm.py"], []),
    *((run_lm.main, ["run_lm.py", command], [command]) for command in
      ("train", "evaluate", "generate", "handin")),
    *((run_asr.main, ["run_asr.py", command], [command]) for command in
      ("train", "evaluate", "recognise", "handin")),
    (make_speech.main, ["make_speech.py"], []),
    (make_data.main, ["make_data.py"], []), (train_tokenizers.main, ["train_tokenizers.py"], []),
]  # fmt: skip


@pytest.mark.parametrize(("main", "program", "command"), USES)
def test_help_states_the_default_of_each_option(capsys, main, program, command):
    with pytest.raises(SystemExit) as end:
        main([*command, "-h"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {' '.join(program)} [-h]")
    options = text.partition("\noptions:\n")[2].split("\n  -")
    assert options[0].lstrip().startswith("-h, --help")
    for option in options[1:]:
        assert "default" in option or option.startswith("-sample"), option


@pytest.mark.parametrize(("main", "program", "command"), USES)
@pytest.mark.parametrize("wrong", [["--nonsense"], ["--nonsense=\n\x1b[2J"]])
def test_a_usage_error_is_one_line(capsys, main, program, command, wrong):
    assert main([*command, *wrong]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"{program[0]}: error: ") and err.count("\n") == 1
    assert err.endswith(" -h tells what there is\n")


@pytest.mark.thorough
@pytest.mark.parametrize("program", PROGRAMS)
def test_python_without_its_folder_and_docstrings(program, tmp_path):
    command = [sys.executable, "-P", "-OO", HW4P1 / f"{program}.py", "-h"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"    python {program}.py" in done.stdout
    if program == "run_lm":
        assert "    handin    Evaluate the best model and pack what is handed in." in done.stdout
