"""What surrounds a program: streams, the interpreter's switches, pipes, launchers, memory, threads.

It is right all the same, or ends with one line.
"""

import os
import resource
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import backstage.sealed
import fflm
import lstlm
import pytest
from backstage.corpora import CorpusPath
from backstage.defaults import check_no_pipe
from backstage.errors import UserError
from backstage.launched import launched
from backstage.shell import guarded
from small import ONE_THREAD, content_of
from stopping import equal_weights, flags, read_log, read_weights

ROOT = Path(lstlm.__file__).parents[2]
MAIN = 'if __name__ == "__main__"'  # those that are no program say so there
PROGRAMS = sorted(
    path for folder in ("hw04", "bench/lstlm") for path in (ROOT / folder).glob("**/*.py")
    if "tests" not in path.parts and MAIN in path.read_text("utf-8")
    and "error: no program" not in path.read_text("utf-8")
)
TINY = ["-H", "1", "-N", "4", "-EDim", "3", "-E", "1", "-B", "2"]  # a training of no time


def thorough(value):
    """A value of a parameter that is tried with the thorough tests."""
    return pytest.param(value, marks=pytest.mark.thorough)


def python(*args, **more) -> subprocess.CompletedProcess:
    """Run Python on these."""
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, **more)


def one_line(err: str, program: str = "lstlm.py") -> str:
    """The line on standard error, which has but one of the program and no traceback."""
    assert "Traceback" not in err, err
    lines = [line for line in err.splitlines() if line.startswith(f"{program}: ")]
    assert len(lines) == 1, err
    return lines[0]


# ---- The interpreter ----------------------------------------------------------------------------


def test_without_docstrings_and_with_a_safe_path_it_runs(trained):
    model = ["-model", trained / "m.pt"]
    done = python("-OO", "-P", lstlm.__file__, "-use", "-greedy", "-text", "a", *model)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tokens: a\nnext: ")
    done = python("-OO", "-P", fflm.__file__, "-h")
    assert done.returncode == 0 and "-lstm PATH" in done.stdout


@pytest.mark.thorough
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_each_program_runs_without_docstrings_and_with_a_safe_path(path):
    done = python("-OO", "-P", path, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-h" in done.stdout


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", *map(thorough, ("<&-", ">&-", "2>&-"))])
def test_streams_that_are_closed_from_the_beginning(trained, streams):
    """In the shell, as nothing else closes a stream before Python starts."""
    program = [sys.executable, lstlm.__file__, "-prompt", "-greedy", "-text", "a", "-model"]
    for model, status in ((trained / "m.pt", 0), (trained / "none.pt", 2)):
        command = ["sh", "-c", f'"$@" {streams}', "sh", *program, str(model)]
        done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD)
        assert done.returncode == status
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr
        if streams == "<&-" and not status:
            assert done.stdout.startswith("tokens: a\nA")


@pytest.mark.parametrize("name", ["m\udcff", thorough("mödel")])  # the first is no UTF-8
def test_names_that_the_output_cannot_show(trained, tmp_path, name):
    """Of files and of typed words, where all streams and names are ASCII."""
    ascii_only = {**ONE_THREAD, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    corpus = tmp_path / f"{name}.tokens"
    corpus.write_text("é b c\nb c é\n" * 4)
    model = tmp_path / f"{name}.pt"
    corpora = ["-train_corpus", corpus, "-valid_corpus", corpus]
    command = [sys.executable, lstlm.__file__, "-train", *corpora, *TINY, "-model", model]
    done = subprocess.run(
        command, capture_output=True, text=True, env=ascii_only, errors="surrogateescape"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(".pt") and done.stdout.isascii()
    assert content_of(model)["words"][3:] == ["é", "b", "c"]
    asked = [sys.executable, lstlm.__file__, "-use", "-greedy", "-text", "é", "-model", model]
    done = subprocess.run(asked, capture_output=True, text=True, env=ascii_only)
    assert done.returncode == 0 and done.stderr == ""


def test_a_training_in_another_thread(folder):
    """Where Python allows no handlers of signals."""
    assert lstlm.main(flags(folder, "whole")) == 0
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(lstlm.main(flags(folder, "m"))))
    thread.start()
    thread.join()
    assert statuses == [0]
    assert equal_weights(read_weights(folder / "m.pt"), read_weights(folder / "whole.pt"))


# ---- A pipe as a file ---------------------------------------------------------------------------


@pytest.fixture
def piped():
    """A function that gives the path of a pipe that has a text, as `<(...)` in the shell does."""
    opened = []

    def pipe(text: str) -> str:
        reader, writer = os.pipe()
        opened.append(reader)
        with open(writer, "w") as file:
            file.write(text)
        return f"/dev/fd/{reader}"

    yield pipe
    for reader in opened:
        os.close(reader)


needs_pipes = pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")


@needs_pipes
def test_a_pipe_is_read_once_and_gives_what_a_file_gives(folder, piped, capsys):
    text = (folder / "corpus").read_text()
    glove = "a 1 2 3 4 5 6\nb 0 1 0 1 0 1\n"
    (folder / "glove.txt").write_text(glove)
    common = ["-train", "-H", "1", "-N", "8", "-E", "1", "-B", "4"]
    corpus, vectors = str(folder / "corpus"), str(folder / "glove.txt")
    for name, train, valid, embeddings in (
        ("file", corpus, corpus, vectors), ("pipe", piped(text), piped(text), piped(glove)),
    ):
        corpora = ["-train_corpus", train, "-valid_corpus", valid]
        more = ["-embeddings_file", embeddings, "-model", str(folder / f"{name}.pt")]
        assert lstlm.main([*common, *corpora, *more]) == 0
    file, pipe = (content_of(folder / f"{name}.pt") for name in ("file", "pipe"))
    assert equal_weights(file["weights"], pipe["weights"])
    for key in ("train_digest", "valid_digest"):
        assert file["facts"][key] == pipe["facts"][key]
    assert pipe["facts"]["train_corpus"].startswith("/dev/fd/")
    capsys.readouterr()
    evaluate = ["-evaluate", "-model", str(folder / "pipe.pt"), "-test_corpus"]
    assert lstlm.main([*evaluate, corpus, piped(text), piped(text + "a b\n")]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.lstrip()[:1].isdigit()]
    assert rows[0][:5] == rows[1][:5] != rows[2][:5]
    assert out.count("not comparable") == 1  # the third has another text


@needs_pipes
def test_a_pipe_as_the_corpora_of_fflm(folder, piped, capsys):
    assert lstlm.main(flags(folder, "m")) == 0
    text = (folder / "corpus").read_text()
    small = ["-K", "2", "-N", "4", "-E", "1", "-lstm", str(folder / "m.pt")]
    corpora = ["-train_corpus", piped(text), "-valid_corpus", piped(text)]
    assert fflm.main(["-train", *small, *corpora, "-model", str(folder / "f.pt")]) == 0
    capsys.readouterr()
    test = ["-test_corpus", piped(text)]
    assert fflm.main(["-evaluate", "-model", str(folder / "f.pt"), *test]) == 0
    assert "not comparable" not in capsys.readouterr().out


@needs_pipes
def test_a_pipe_as_a_model_is_one_line(trained, piped, capsys):
    assert lstlm.main(["-use", "-text", "a", "-model", piped("x")]) == 2
    assert "not a regular file" in one_line(capsys.readouterr().err)


def test_several_processes_do_not_share_a_pipe(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("a")
    check_no_pipe([tmp_path / "file", tmp_path, tmp_path / "none", None])
    with pytest.raises(UserError, match="fifo: a pipe, which several processes cannot read"):
        check_no_pipe([tmp_path / "file", tmp_path / "fifo"])


def test_a_file_that_changes_is_read_anew(tmp_path):
    path = CorpusPath(tmp_path / "corpus")
    for text in (b"a", b"b"):
        path.write_bytes(text)
        assert path.read_bytes() == text


# ---- What a launcher left in the environment ----------------------------------------------------

LEFT = {
    "no address": ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "no MASTER_ADDR"),
    "no rank": ({"WORLD_SIZE": "2"}, "no RANK"),
    "no number": ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE=two"),
    "rank that is none": ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK=-1"),
    "rank too large": ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2"),
    "port that is none": ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "x"}, "MASTER_PORT=x"),
}
ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def set_environment(monkeypatch, values: dict[str, str]) -> None:
    """Have these of the launcher's variables, and no others."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("case", LEFT)
def test_several_processes_that_cannot_find_each_other_are_one_line(
    folder, monkeypatch, capsys, case
):
    values, said = LEFT[case]
    address = {} if "no MASTER_ADDR" in said else ADDRESS
    set_environment(monkeypatch, {**address, **values})
    assert lstlm.main(flags(folder, "m")) == 2
    line = one_line(capsys.readouterr().err)
    assert said in line and "unset WORLD_SIZE RANK LOCAL_RANK" in line
    assert not list(folder.glob("*m*"))


@pytest.mark.parametrize("values", [
    {"RANK": "1"}, {"RANK": "abc", "LOCAL_RANK": "7"}, {"WORLD_SIZE": "", "RANK": ""},
    {"WORLD_SIZE": "1", "RANK": "3"},
])
def test_what_does_not_say_that_there_are_several_changes_nothing(
    folder, monkeypatch, capsys, values
):
    set_environment(monkeypatch, values)
    assert launched() == (0, 1)
    trace = folder / "trace"
    assert lstlm.main([*flags(folder, "m"), "-trace", str(trace)]) == 0
    assert "best valid loss" in capsys.readouterr().out
    assert trace.read_text().startswith("$ python lstlm.py -train")
    assert read_log(folder / "m.pt")[0]["processes"] == 1


def test_who_asks_a_model_has_nothing_to_do_with_it(trained, monkeypatch, capsys):
    set_environment(monkeypatch, {"WORLD_SIZE": "2", "RANK": "1"})
    model = ["-model", str(trained / "m.pt")]
    assert lstlm.main(["-use", "-greedy", "-text", "a", *model]) == 0
    assert "next: " in capsys.readouterr().out


# ---- Too little memory --------------------------------------------------------------------------

NO_MEMORY = [
    MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("could not create a primitive"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("can't start new thread"),
]


def raising(error: BaseException):
    """A function that raises it, whatever it is called with."""

    def function(*_args, **_more):
        raise error

    return function


@pytest.mark.parametrize("error", NO_MEMORY, ids=repr)
def test_too_little_memory_is_one_line(error, capsys):
    assert guarded("lstlm.py", raising(error), smaller="make -H smaller") == 1
    assert one_line(capsys.readouterr().err) == (
        "lstlm.py: error: too little memory; make -H smaller"
    )


def test_a_fault_that_speaks_of_memory_is_not_called_too_little_of_it():
    for text in ("an illegal memory access was encountered", "refers to a single memory location"):
        with pytest.raises(RuntimeError, match=text):
            guarded("lstlm.py", raising(RuntimeError(text)))


@pytest.mark.parametrize("error", NO_MEMORY[:4], ids=repr)
def test_a_model_for_which_there_is_too_little_is_not_called_damaged(
    trained, monkeypatch, capsys, error
):
    monkeypatch.setattr(backstage.sealed, "unseal", raising(error))
    assert lstlm.main(["-use", "-text", "a", "-model", str(trained / "m.pt")]) == 1
    assert "too little memory" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("mode", "own", "spin"),
    [("-train", {}, "1000"), ("-train", {"GOMP_SPINCOUNT": "7"}, "7"), ("-evaluate", {}, "300000")],
)
def test_a_training_leaves_the_processor_to_others_while_it_waits(mode, own, spin):
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("GOMP")}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", "OMP_NUM_THREADS": "1", **own}
    command = [sys.executable, lstlm.__file__, mode, "-h"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("PyTorch's threads are not those of libgomp here")
    assert f"GOMP_SPINCOUNT = '{spin}'" in done.stderr


IMPORTS = "too little memory; close other programs, or raise the limit of ulimit -v"


@pytest.mark.parametrize("error", [
    "ImportError('libtorch_cpu.so: failed to map segment from shared object')",
    *map(thorough, ("OSError('x.so: cannot allocate memory in static TLS block')", "MemoryError()",
                    "RuntimeError('std::bad_alloc')", "OSError(12, 'Cannot allocate memory')")),
])
def test_too_little_memory_while_the_libraries_load(tmp_path, error):
    (tmp_path / "torch.py").write_text(f"raise {error}\n")
    command = [sys.executable, lstlm.__file__, "-h"]
    environment = {**ONE_THREAD, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"lstlm.py: error: {IMPORTS}\n"


def test_what_is_broken_in_another_way_is_not_called_too_little_memory(tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so: no such file')\n")
    command = [sys.executable, lstlm.__file__, "-h"]
    environment = {**ONE_THREAD, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("lstlm.py: error: libcudart.so: no such file; use .venv")


def limited_to(megabytes: int):
    """A function that a new process calls, to have no more memory than this."""
    limit = megabytes * 10**6
    return partial(resource.setrlimit, resource.RLIMIT_AS, (limit, limit))


@pytest.mark.parametrize("size", [25, 500, *map(thorough, (60, 100, 200, 400, 550, 600, 650, 699))])
def test_a_limit_with_which_the_libraries_cannot_load(size):
    done = python(lstlm.__file__, "-h", preexec_fn=limited_to(size))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"lstlm.py: error: {IMPORTS}\n"


@pytest.mark.thorough
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_each_program_with_a_limit_that_is_too_low_for_the_libraries(path):
    done = python(path, "-h", preexec_fn=limited_to(400))
    if done.returncode:
        assert (done.returncode, done.stdout) == (1, "")
        assert IMPORTS in one_line(done.stderr, path.name)
    else:  # it needs none of the large ones
        assert done.stderr == "" and done.stdout.startswith("usage: ")


@pytest.mark.thorough
@pytest.mark.parametrize("size", [700, 800, 1000, 1200])
def test_a_process_that_gets_so_many_megabytes(folder, size):
    limit = limited_to(size)
    large = ["-N", "1500", "-EDim", "2000", "-precision", "fp32"]
    plain = [flag for flag in flags(folder, "m") if flag != "-tie"]
    done = python(lstlm.__file__, *plain, *large, preexec_fn=limit)
    assert done.returncode == 1
    assert "too little memory; make -H, -N, -EDim" in one_line(done.stderr)
