"""Files and words from a stranger: status 0 or 2, no traceback, no foreign code, little memory.

The short form has some hundred cases; 10,000 are in the slow suite, 200 of them in processes of
their own.
"""

import contextlib
import copy
import hashlib
import io
import json
import os
import pickle
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import backstage.bookkeeping
import backstage.defaults
import lstlm
import pytest
import safetensors.torch
import torch
from backstage.bpe import WordPieces
from backstage.glove import LARGEST
from backstage.glove_cache import cache_folder, glove_key
from backstage.repl import COMMANDS
from backstage.sealed import KEY, digest_of, read_metadata, seal, unseal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stopping import stop_at

SMALL = ["-H", "1", "-N", "4", "-EDim", "3", "-E", "1", "-B", "4"]
CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and new line
CORPUS = "the cat saw the dog\nthe dog saw a cat\na dog ran\n" * 3


@dataclass
class Case:
    """A command with its files by name; an argument @name is the path of one of them.

    It is `bad` if it must fail.
    """

    argv: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    typed: bytes = b""
    bad: bool = False
    cache: Callable[[bytes], bytes] | None = None  # of "glove": its content for a key


def call(argv: list[str], typed: bytes = b"") -> tuple[int, str, str]:
    """lstlm.main in this process: its status, output and errors."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in "12")
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(typed), "utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = lstlm.main(argv)
    finally:
        sys.stdin = before
    for stream in (out, err):
        stream.flush()
    return status, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()


class Lab:
    """A folder with a corpus, two models and a stopped training, where cases are tried."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.kept = {}
        (folder / "corpus").write_text(CORPUS)
        for name, more in (("m", ["-a"]), ("gru", ["-cell", "gru", "-tie"])):
            argv = ["-train", *SMALL, *more, *self.corpora(), "-model", f"@{name}.pt"]
            assert call(self.argv(argv))[0] == 0
        self.resume = ["-train", *SMALL, "-E", "2", *self.corpora(), "-model", "@r.pt"]
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, 4)
            assert call(self.argv(self.resume))[0] == 130
        self.resume.append("-resume")
        self.kept = {path.name: path.read_bytes() for path in folder.iterdir()}

    def corpora(self) -> list[str]:
        """The flags for its corpus."""
        return ["-train_corpus", "@corpus", "-valid_corpus", "@corpus"]

    def argv(self, argv: list[str]) -> list[str]:
        """The arguments with paths for names."""
        return [re.sub("^@", f"{self.folder}/", arg) for arg in argv]

    def prepare(self, case: Case) -> None:
        """The folder as it was made, and the files of the case."""
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in self.kept:
                path.unlink()
        for name, content in {**self.kept, **case.files}.items():
            (self.folder / name).write_bytes(content)
        if case.cache:
            key = glove_key(self.folder / "glove", ["the", "dog", "cat", "saw", "a", "ran"])
            (cache_folder() / f"vectors.{key.hex()}").write_bytes(case.cache(key))

    def check(self, case: Case, run=call) -> str:
        """Try a case; returns what it printed."""
        self.prepare(case)
        status, out, err = run(self.argv(case.argv), case.typed)
        assert status in ((2,) if case.bad else (0, 2)), (status, err)
        assert "Traceback" not in err
        assert not CONTROL.search(out), out
        assert not CONTROL.search(err.replace("\r", "")), err
        if status:
            assert err.splitlines()[-1].startswith("lstlm.py: error: "), err
            assert len(err.splitlines()[-1]) < 2000
        return out + err


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The folder. Pictures and waiting for the disk would take longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backstage.bookkeeping, "draw_curve", lambda *_: None)
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(backstage.defaults, "DATA", tmp_path_factory.mktemp("none"))
        yield Lab(tmp_path_factory.mktemp("hostile"))


# ---- What strangers may send --------------------------------------------------------------------

PIECES = [
    "a", "the", "cat", " ", " ", " ", "\n", "\n", "\r\n", "\t", "<eos>", "<bos>", "<unk>",
    "<|endoftext|>", "\n = ", " = \n\n", "\n\n = A = \n \n", "\x1b[31m", "\x1b]0;x\x07", "\x9b2J",
    "\x85", "\u202e", "\ufeff", "\0", "'", '"', "n't", "...", "\u0130", "\u1e9e", "\u2028",
    "\U0001d4b3", "-" * 99, "word" * 200, "\x1c", "1e5", "\ud800",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=25).map("".join)
BYTES = TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)
WORDS = st.sampled_from(["the", "cat", "\x1b[31mred", "a\x07b", "saw", "\n"])
GOOD = st.lists(WORDS, min_size=3, max_size=30)
CORPORA = BYTES | GOOD.map(lambda words: " ".join(["x", *words]).encode())


@st.composite
def corpora(draw, lab: Lab) -> Case:
    """A training on any bytes, then a look at its model."""
    switches = ["", "-a", "-cased", "-cell gru", "-bptt 1", "-precision bf16"]
    flags = draw(st.sampled_from(switches)).split()
    how = draw(st.sampled_from(["auto", "auto", "line", "eos", "article", "stream"]))
    files = {"train": draw(CORPORA), "valid": draw(CORPORA)}
    if draw(st.booleans()):
        argv = ["-evaluate", "-model", "@m.pt", "-test_corpus", "@valid", "-stories", how]
        return Case(argv, files)
    named = ["-train_corpus", "@train", "-valid_corpus", "@valid", "-stories", how]
    return Case(["-train", *SMALL, *flags, *named, "-model", "@new.pt"], files)


NUMBERS = [
    "1", "0", "-0.25", "0.5", "3e38", "-3e38", "1e-45", "1e39", "1e400", "nan", "-inf", "", "x",
    "1_0", "0x1", "\u0663", "9" * 400, "\0", "\x1b[0m",
]
LINES = st.builds(
    lambda word, numbers, end: " ".join([word, *numbers]) + end,
    st.sampled_from(["the", "cat", "dog", "", "400000", "\x1b", "saw"]),
    st.lists(st.sampled_from(NUMBERS[:4]), min_size=2, max_size=2)
    | st.lists(st.sampled_from(NUMBERS), max_size=4),
    st.sampled_from(["\n", "\n", "\n", "\r\n", " \n", ""]),
)


@st.composite
def glove(draw, lab: Lab) -> Case:
    """A training with any GloVe file, sometimes with any cache of it.

    Even one that knows the digests.
    """
    text = draw(st.lists(LINES, max_size=6).map("".join).map(str.encode) | BYTES)
    numbers = draw(st.binary(max_size=60))
    cut = draw(st.sampled_from([None, slice(None), slice(-1), slice(64, None)]))

    def cache(key: bytes) -> bytes:
        return (key + hashlib.sha256(numbers).digest() + numbers)[cut]

    flags = [flag for flag in SMALL if flag not in ("-EDim", "3")]
    flags += ["-embeddings_file", "@glove"]
    more = draw(st.sampled_from([[], ["-glove_only"], ["-VSize", "2"]]))
    argv = ["-train", *flags, *lab.corpora(), *more, "-model", "@new.pt"]
    return Case(argv, {"glove": text}, cache=cache if cut else None)


VALUES = [
    "", "on", "off", "nan", "inf", "-1", "0", "0.5", "1", "2", "1e-320", "1e308", "9" * 30,
    "9" * 5000, "1e999", "x", "\x1b[0m", "1 2", "\u0663",
]
TYPED = st.builds(
    "{} {}".format, st.sampled_from([*COMMANDS, ":show", ":help", ":quit", ":", ":x"]),
    st.sampled_from(VALUES),
)


@st.composite
def prompts(draw, lab: Lab) -> Case:
    """Words and commands, typed or as a flag."""
    switches = st.sampled_from(["-greedy", "-json", "-continue", "-cased"])
    flags = draw(st.lists(switches, max_size=2, unique=True))
    argv = [
        draw(st.sampled_from(["-use", "-prompt"])), "-model",
        draw(st.sampled_from(["@m.pt", "@gru.pt"])), *flags, "-max_tokens", "2", "-samples",
        str(draw(st.integers(1, 2))),
    ]
    if draw(st.integers(0, 3)) == 0:
        return Case([*argv, f"-text={draw(TEXTS)}"])
    lines = draw(st.lists(TYPED | TEXTS, max_size=5))
    typed = "\n".join(lines).encode("utf-8", "surrogatepass")
    return Case(argv, typed=typed + draw(st.just(b"") | st.binary(max_size=3)))


CHECKPOINTS = ["m.pt", "gru.pt", "r.state.pt", "r.pt"]  # the last two of the stopped training


def taken_apart(data: bytes) -> tuple[dict, bytes]:
    """The header of a safetensors file and the bytes behind it."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def put_together(header: dict | bytes, behind: bytes) -> bytes:
    """A safetensors file of a header, right or not, and the bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + behind


def resealed(data: bytes) -> bytes:
    """The same tensors and JSON with the digest that a stranger can make as well as we can.

    As they are, if there is no such thing in them.
    """
    try:
        header, behind = taken_apart(data)
        sealed, _ = read_metadata(data)
        sealed["sha256"] = digest_of(sealed, safetensors.torch.load(data))
        header["__metadata__"][KEY] = json.dumps(sealed)
        return put_together(header, behind)
    except (ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError):
        return data


def same_content(data: bytes, whole: bytes) -> bool:
    """Whether a file holds what it held: white space or the order of keys in JSON is no content."""
    try:
        return seal(unseal(data)) == whole
    except Exception:  # safetensors, JSON and ours have many
        return False


def commands(lab: Lab, name: str) -> list[list[str]]:
    """What can be done with a model, or a stopped run of which this is a file."""
    if name.startswith("r."):
        return [lab.resume]
    model = f"@{name}"
    return [
        ["-use", "-model", model, "-text", "the"],
        ["-prompt", "-model", model, "-text", "the", "-max_tokens", "2"],
        ["-evaluate", "-model", model, "-test_corpus", "@corpus"],
    ]


@st.composite
def damaged(draw, lab: Lab) -> Case:
    """A checkpoint with flipped, lost, added or exchanged bytes, or another file in its place."""
    name = draw(st.sampled_from(CHECKPOINTS))
    whole = data = lab.kept[name]
    place = draw(st.integers(0, len(data) - 1))
    size = draw(st.integers(1, 300))
    way = draw(st.sampled_from(["flip", "flip", "cut", "lose", "add", "exchange", "swap"]))
    if way == "flip":
        flipped = data[place] ^ 1 << draw(st.integers(0, 7))
        data = data[:place] + bytes([flipped]) + data[place + 1 :]
    elif way == "cut":
        data = data[:place]
    elif way == "lose":
        data = data[:place] + data[place + size :]
    elif way == "add":
        data = data[:place] + draw(st.binary(min_size=1, max_size=40)) + data[place:]
    elif way == "exchange":
        middle = data[place + size : place + 2 * size] + data[place : place + size]
        data = data[:place] + middle + data[place + 2 * size :]
    else:
        data = lab.kept[draw(st.sampled_from([other for other in lab.kept if other != name]))]
    bad = way != "swap" and not same_content(data, whole)
    if bad and draw(st.booleans()):
        data = resealed(data)
        bad = False
    files = {name: data}
    if name.startswith("r."):
        files["r.log.jsonl"] = draw(st.just(lab.kept["r.log.jsonl"]) | st.binary(max_size=40))
    return Case(draw(st.sampled_from(commands(lab, name))), files, bad=bad)


ODD = [
    None, -1, 0, 1, 7, 2**40, 2**2000, True, 1.5, float("nan"), float("inf"), "x", "\x1b[31m",
    "dot", "rnn", [], {}, ["a"], torch.zeros(3), torch.zeros(3, dtype=torch.complex64),
    torch.full((4, 4), 3e38), torch.zeros(9, 3), torch.zeros(()),
    torch.zeros(5056, dtype=torch.uint8), torch.full((9, 4), 3e38), torch.full((9,), 3e38),
]


def places(content, path=()) -> list[tuple]:
    """The paths to all that is in nested dicts and lists."""
    items = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    found = []
    for key, value in items:
        found += [(*path, key), *places(value, (*path, key))]
    return found


def changed(content, path: tuple, how: str, value):
    """A copy in which the value at a path is replaced, left out, or has a neighbour."""
    copy = dict(content) if isinstance(content, dict) else list(content)
    if len(path) > 1:
        copy[path[0]] = changed(copy[path[0]], path[1:], how, value)
    elif how == "leave out":
        del copy[path[0]]
    elif how == "add":
        if isinstance(copy, dict):
            copy["more"] = value
        else:
            copy.append(value)
    else:
        copy[path[0]] = value
    return copy


@st.composite
def crafted(draw, lab: Lab) -> Case:
    """A checkpoint that is whole but for values that no training has written."""
    name = draw(st.sampled_from(CHECKPOINTS))
    content = unseal(lab.kept[name])
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(content)))
        how = draw(st.sampled_from(["replace"] * 3 + ["leave out", "add"]))
        content = changed(content, path, how, draw(st.sampled_from(ODD)))
    argv = draw(st.sampled_from(commands(lab, name)))
    try:
        return Case(argv, {name: seal(content)})
    except TypeError:  # a tensor in a list, which JSON has no way to hold
        return Case(argv)


LIES = [
    -1, 0, 1, 7, 2**31, 2**63, 2**64, 2**70, 1.5, None, "x", [], {}, [0], [2**40, 2**40],
    [0, 2**63], [-1, 4], [4, 0], "F64", "BOOL", "F8_E4M3", "C64", "I4",
]


@st.composite
def lying(draw, lab: Lab) -> Case:
    """A checkpoint whose header lies: types, shapes, offsets, overlaps, its own length, names."""
    name = draw(st.sampled_from(CHECKPOINTS))
    header, behind = taken_apart(lab.kept[name])
    tensors = [key for key in header if key != "__metadata__"]
    for _ in range(draw(st.integers(1, 3))):
        about = header[draw(st.sampled_from(tensors))]
        part = draw(st.sampled_from(["dtype", "shape", "data_offsets", "both"]))
        lie = copy.deepcopy(draw(st.sampled_from(LIES)))
        if part == "both":  # another's bytes
            header[draw(st.sampled_from(tensors))] = copy.deepcopy(about)
        elif draw(st.booleans()) or part == "dtype":
            about[part] = lie
        elif isinstance(about[part], list) and about[part]:
            about[part][draw(st.integers(0, len(about[part]) - 1))] = lie
    way = draw(st.sampled_from(["none", "none", "longer", "cut", "size", "twice"]))
    if way == "longer":
        behind += draw(st.binary(min_size=1, max_size=64))
    elif way == "cut":
        behind = behind[: draw(st.integers(0, len(behind)))]
    data = put_together(header, behind)
    if way == "size":
        size = draw(st.sampled_from([0, 1, 7, len(data), 2**31, 10**8 + 1, 2**63, 2**64 - 1]))
        data = size.to_bytes(8, "little") + data[8:]
    elif way == "twice":
        text = data[8 : 8 + int.from_bytes(data[:8], "little")]
        data = put_together(text[:-1] + b"," + text[1:], behind)
    if draw(st.booleans()):
        data = resealed(data)
    return Case(draw(st.sampled_from(commands(lab, name))), {name: data})


KINDS = {  # and how many cases of it are in the slow suite; 200 more are processes
    "corpora": (corpora, 2600), "glove": (glove, 1600), "prompts": (prompts, 2600),
    "damaged": (damaged, 1000), "crafted": (crafted, 1000), "lying": (lying, 1000),
}


def try_cases(lab: Lab, strategy, count: int, run=call) -> None:
    """Try so many cases."""
    tried = []

    @settings(max_examples=count, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy(lab))
    def one(case):
        tried.append(case)
        lab.check(case, run)

    one()
    assert len(tried) >= count


@pytest.mark.parametrize("kind", KINDS)
def test_some_cases(lab, kind):
    try_cases(lab, KINDS[kind][0], 50)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_cases(lab, kind):
    try_cases(lab, *KINDS[kind])


def forked(launch, folder):
    """A function that runs a command in a fork of killing.py; it types nothing."""

    def run(argv: list[str], typed: bytes) -> tuple[int, str, str]:
        status = launch(argv, folder / "output")
        told = (folder / "output").read_text()
        return status, "", told.rpartition("{")[0]  # without the counts at its end

    return run


def process(argv: list[str], typed: bytes) -> tuple[int, str, str]:
    """A process of its own."""
    words = [os.fsencode(arg.replace("\0", "")) for arg in argv]
    done = subprocess.run(
        [sys.executable, lstlm.__file__, *words], input=typed, capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_five_cases_as_processes(lab, launch):
    try_cases(lab, damaged, 5, forked(launch, lab.folder))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["corpora", "glove", "damaged", "lying"])
def test_two_hundred_cases_as_processes(lab, launch, kind):
    try_cases(lab, KINDS[kind][0], 40, forked(launch, lab.folder))
    try_cases(lab, prompts, 10, process)


# ---- What must not happen, one by one -----------------------------------------------------------


def check_refused(lab: Lab, data: bytes, *reasons: str) -> None:
    """A file in the place of a model or of a state is refused, with little memory.

    It is for one of the reasons.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    use = commands(lab, "m.pt")[0]
    for argv, name in ((use, "m.pt"), (lab.resume, "r.state.pt")):
        told = lab.check(Case(argv, {name: data}, bad=True))
        assert any(reason in told for reason in reasons), told
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


class Evil:
    """What makes a file where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_code_of_a_checkpoint_runs(lab, tmp_path):
    evil = Evil(tmp_path / "made")
    file = io.BytesIO()
    torch.save({"weights": evil}, file)
    check_refused(lab, file.getvalue(), "written by torch.save")
    check_refused(lab, pickle.dumps(evil), "no safetensors file", "not a safetensors file")
    assert not (tmp_path / "made").exists()
    file.seek(0)
    torch.load(file, weights_only=False)  # as it would have been
    assert (tmp_path / "made").exists()


def test_few_bytes_do_not_become_many(lab):
    model = unseal(lab.kept["m.pt"])
    header, behind = taken_apart(lab.kept["m.pt"])
    name = "weights/output.weight"
    for shape in ([10**6, 10**9], [2**63, 2], [2**32, 2**32, 0]):
        for dtype in ("F32", "BOOL"):
            odd = {**header[name], "shape": shape, "dtype": dtype}
            check_refused(lab, put_together({**header, name: odd}, behind), "damaged")
    everywhere = {key: {**about, "data_offsets": [0, 10**12]} for key, about in header.items()}
    check_refused(lab, put_together(everywhere, behind), "damaged")
    same = {**model, "words": ["same"] * 10**5}
    check_refused(lab, seal(same), "vocabulary", "something else")
    for sizes in ({"H": 10**6}, {"N": 10**6}, {"EDim": 2**40}, {"H": -1}, {"N": 0}):
        changed = {**model, "config": {**model["config"], **sizes}}
        check_refused(lab, seal(changed), "match", "something else", "greater than zero")


def test_a_file_that_claims_to_be_larger_than_it_is_takes_no_memory(lab):
    for size in (0, 10**8, 2**40, 2**63, 2**64 - 1):
        check_refused(lab, size.to_bytes(8, "little") + b"{}", "not a safetensors file")
    bombs = [b"[" * 10**6, b'{"a":' * 10**5, b"9" * 10**6, b'"' + b"\\u0000" * 10**5 + b'"']
    for bomb in bombs:
        check_refused(lab, put_together(bomb, b""), "damaged")
        metadata = {"__metadata__": {KEY: bomb.decode()}}
        check_refused(lab, put_together(metadata, b""), "damaged")


def test_thousands_of_tiny_layers_are_refused_at_once(lab):
    """Which kilobytes can hold, and which would take minutes to make."""
    model = unseal(lab.kept["m.pt"])
    weights = {name: x for name, x in model["weights"].items() if "_l0" not in name}
    layer = {name: x for name, x in model["weights"].items() if "_l0" in name}
    for number in range(3000):
        weights |= {name.replace("_l0", f"_l{number}"): x for name, x in layer.items()}
    data = seal({**model, "weights": weights, "config": {**model["config"], "H": 3000}})
    assert len(data) < 3_000_000
    started = time.process_time()
    check_refused(lab, data, "layers do not match", "something else")
    assert time.process_time() - started < 5


def test_a_path_that_leads_nowhere_or_to_what_is_there_is_refused(lab):
    header, behind = taken_apart(lab.kept["m.pt"])
    about = header.pop("weights/output.bias")
    for path in ("nowhere/x", "words/0", "format", "facts/seed", "version/x", "weights"):
        check_refused(lab, resealed(put_together({**header, path: about}, behind)), "damaged")
    sealed, _ = read_metadata(lab.kept["m.pt"])
    for same in ({"weights/more": "weights/none"}, {"weights/v": "weights/output.bias"}, [], 7):
        changed = {**sealed, "same": same}
        changed["sha256"] = digest_of(changed, safetensors.torch.load(lab.kept["m.pt"]))
        text = json.dumps(changed)
        header, behind = taken_apart(lab.kept["m.pt"])
        header["__metadata__"] = {KEY: text}
        check_refused(lab, put_together(header, behind), "damaged")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_is_no_checkpoint_and_nobody_waits_for_it(lab):
    lab.prepare(Case([]))
    os.mkfifo(lab.folder / "pipe.pt")
    status, _, err = call(lab.argv(commands(lab, "pipe.pt")[0]))
    (lab.folder / "pipe.pt").unlink()
    assert status == 2
    assert "not a regular file" in err


ESCAPE = "\x1b[31mred\x07"


def test_escape_codes_in_words_and_facts_reach_no_terminal(lab):
    model = unseal(lab.kept["m.pt"])
    model["words"][3:5] = [ESCAPE, "\x9b2J"]
    model["facts"]["train_corpus"] = ESCAPE
    for argv in commands(lab, "m.pt"):
        more = ["-samples", "20", "-seed", "0"] if argv[0] == "-prompt" else []
        told = lab.check(Case([*argv, *more], {"m.pt": seal(model)}))
        assert "\\x1b[31mred" in told
    state = unseal(lab.kept["r.state.pt"])
    state["facts"]["torch"] = ESCAPE
    assert "note: torch was \\x1b" in lab.check(Case(lab.resume, {"r.state.pt": seal(state)}))
    state["facts"]["lr"] = ESCAPE
    assert "lr \\x1b" in lab.check(Case(lab.resume, {"r.state.pt": seal(state)}, bad=True))
    assert "control character" in lab.check(Case(["-use", "-model", f"@{ESCAPE}"], bad=True))
    assert "control character" in lab.check(Case(["-use", "-model", "@nul\0"], bad=True))


def test_pieces_of_a_stranger_are_pieces_and_nothing_else(lab):
    pytest.importorskip("tokenizers")
    pieces = ["-tokenizer", "bpe", "-VSize", "300"]
    argv = ["-train", *SMALL, *pieces, *lab.corpora(), "-model", "@bpe.pt"]
    lab.prepare(Case([]))
    assert call(lab.argv(argv))[0] == 0
    whole = unseal((lab.folder / "bpe.pt").read_bytes())
    use = commands(lab, "bpe.pt")[0]
    assert call(lab.argv(use))[0] == 0
    regex = '{"type":"Replace","pattern":{"Regex":"(a*)*b"},"content":""}'
    others = (
        whole["pieces"].replace('"normalizer":null', f'"normalizer":{regex}'), "", "[]",
        "[" * 10**5, 7, whole["pieces"].replace('"vocab":{', '"vocab":{"xyz":-1,'),
        WordPieces.empty().to_str(),
    )
    for pieces in others:
        assert pieces != whole["pieces"]
        data = seal({**whole, "pieces": pieces})
        assert "damaged" in lab.check(Case(use, {"bpe.pt": data}, bad=True))
    for place in (3, -1):
        words = [*whole["words"]]
        words[place] = "no piece"
        data = seal({**whole, "words": words})
        assert "not its pieces" in lab.check(Case(use, {"bpe.pt": data}, bad=True))


def test_scores_that_are_no_numbers_are_told(lab):
    """Weights that are finite, with scores that are not."""
    model = unseal(lab.kept["m.pt"])
    model["weights"]["lstm.bias_ih_l0"][:] = 100.0  # the states are near tanh(1)
    model["weights"]["output.weight"][:] = 3e38
    for argv in commands(lab, "m.pt")[:2]:
        assert "no finite numbers" in lab.check(Case(argv, {"m.pt": seal(model)}, bad=True))


def test_any_change_of_a_file_is_noticed(lab):
    """Or it changes nothing, as white space in JSON does not."""
    whole = lab.kept["m.pt"]
    content = unseal(whole)
    for place in range(0, len(whole), 7):
        try:
            changed = unseal(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        except (ValueError, KeyError, safetensors.SafetensorError):
            continue
        assert seal(changed) == seal(content)
        assert whole[place : place + 1].isspace()


def test_the_same_content_gives_the_same_bytes_and_tied_weights_are_stored_once(lab):
    whole = lab.kept["gru.pt"]
    content = unseal(whole)
    assert seal(content) == whole
    weights = content["weights"]
    backwards = {**content, "weights": dict(reversed(weights.items()))}
    mixed = dict(reversed(backwards.items()))
    assert seal(mixed)[:8] == whole[:8]
    assert unseal(seal(mixed)).keys() == content.keys()
    assert weights["output.weight"] is weights["embedding.weight"]
    header, _ = taken_apart(whole)
    assert list(header["__metadata__"]) == [KEY]
    assert ("weights/output.weight" in header) != ("weights/embedding.weight" in header)


def test_a_word_vector_of_any_length_is_refused(lab):
    line = b"the " + b" ".join([b"1"] * (LARGEST + 1)) + b"\n"
    flags = ["-H", "1", "-N", "4", "-embeddings_file", "@glove"]
    argv = ["-train", *flags, *lab.corpora(), "-model", "@new.pt"]
    assert "glove:1: not" in lab.check(Case(argv, {"glove": line}, bad=True))
    line = b"a 1 1\nthe 1 " + b"x" * 10**6
    assert "glove:2: could not convert" in lab.check(Case(argv, {"glove": line}, bad=True))


def test_a_log_without_its_last_new_line_is_mended(lab):
    argv = ["-train", *SMALL, *lab.corpora(), "-model", "@new.pt"]
    lab.check(Case(argv, {"new.log.jsonl": b'{"event": "start"}\n{"half": '}))
    lines = (lab.folder / "new.log.jsonl").read_text().splitlines()
    assert lines[0] == '{"event": "start"}'
    assert lines[1].startswith('{"event": "start", "EDim"')


def test_a_resumed_run_does_without_its_log(lab):
    lab.prepare(Case([]))
    (lab.folder / "r.log.jsonl").unlink()
    assert call(lab.argv(lab.resume))[0] == 0
    assert (lab.folder / "r.log.jsonl").read_bytes().startswith(b'{"mode": "train"')


def test_lists_as_deep_as_can_be_crash_nothing(lab):
    model, state = (unseal(lab.kept[name]) for name in ("m.pt", "r.state.pt"))
    for times in (500, 5000, 10**5):
        deep = "[" * times + "]" * times
        for name in ("version", "format", "words", "facts"):
            data = seal({**model, name: "MARK"}).replace(b'\\"MARK\\"', deep.encode())
            header_size = int.from_bytes(data[:8], "little") + 2 * times - len(r'\"MARK\"')
            data = resealed(header_size.to_bytes(8, "little") + data[8:])
            check_refused(lab, data, "damaged")
    state["numbers"]["records"] = ["MARK"]
    data = seal(state)
    assert "damaged" in lab.check(Case(lab.resume, {"r.state.pt": data}, bad=True))


def test_values_that_no_flag_and_no_training_has_are_refused(lab):
    model, state = (unseal(lab.kept[name]) for name in ("m.pt", "r.state.pt"))
    odds = (
        {"dropout": float("nan")}, {"dropout": 1.0}, {"dropout": -0.5}, {"a": "x"},
        {"cell": "Lstm"}, {"tokenizer": "x"},
    )
    for odd in odds:
        data = seal({**model, "config": {**model["config"], **odd}})
        check_refused(lab, data, "a wrong value", "something")
    bad = {**model["weights"], "output.bias": model["weights"]["output.bias"] * float("nan")}
    data = seal({**model, "weights": bad})
    check_refused(lab, data, "output.bias is not all finite", "something")
    for odd in ({"step": -1}, {"step": 2**53}, {"epoch": True}):
        data = seal({**state, "numbers": {**state["numbers"], **odd}})
        told = lab.check(Case(lab.resume, {"r.state.pt": data}, bad=True))
        assert "not a state of this model" in told
    data = seal({**state, "random": torch.zeros_like(state["random"])})
    assert "damaged" in lab.check(Case(lab.resume, {"r.state.pt": data}, bad=True))
    odds = (
        ("numbers", {"records": [[1]]}), ("numbers", {"records": [7]}),
        ("facts", {"lr": "x" * 10**5}),
    )
    for part, odd in odds:
        data = seal({**state, part: {**state[part], **odd}})
        assert "damaged" in lab.check(Case(lab.resume, {"r.state.pt": data}, bad=True))


def test_a_state_without_one_of_its_parts_or_with_a_wrong_one_is_refused(lab):
    state = unseal(lab.kept["r.state.pt"])
    assert len(state) == 11
    for name in state:
        for how in ("leave out", "replace"):
            odd = changed(state, (name,), how, 7)
            told = lab.check(Case(lab.resume, {"r.state.pt": seal(odd)}, bad=True))
            assert "damaged" in told or name == "version", told
    for name in state["numbers"]:
        odd = changed(state, ("numbers", name), "leave out", None)
        told = lab.check(Case(lab.resume, {"r.state.pt": seal(odd)}, bad=True))
        assert "damaged" in told or "not a state of this model" in told


def test_another_model_in_the_place_of_a_stopped_runs_own_is_refused(lab):
    own = unseal(lab.kept["r.pt"])
    odds = [changed(own, (name,), "leave out", None) for name in ("facts", "config", "words")]
    odds += [changed(own, ("facts", "step"), "replace", odd) for odd in ("4", None, [4], 2)]
    odds.append(changed(own, ("facts", "step"), "leave out", None))
    odds.append(changed(own, ("facts", "lr"), "replace", torch.zeros(3)))
    for odd in odds:
        told = lab.check(Case(lab.resume, {"r.pt": seal(odd)}, bad=True))
        assert "not the model that was there when the run stopped" in told


def test_white_space_and_the_order_of_keys_are_no_damage(lab):
    whole = lab.kept["r.state.pt"]
    changes = (
        (rb"\"sample\": false", rb"\"sample\" :false"), (rb"\"same\": {}", rb"\"same\":  {}"),
    )
    for old, new in changes:
        data = whole.replace(old, new)
        more = len(data) - len(whole)
        data = (int.from_bytes(data[:8], "little") + more).to_bytes(8, "little") + data[8:]
        assert data != whole
        assert same_content(data, whole)
        lab.prepare(Case([], {"r.state.pt": data}))
        assert call(lab.argv(lab.resume))[0] == 0
    assert not same_content(whole.replace(rb'\"lr\": 0.004', rb'\"lr\": 0.005'), whole)


def test_the_moments_of_the_optimizer_must_fit(lab):
    for value in (torch.zeros(2), 7, {}, torch.zeros(9, 3, dtype=torch.uint8)):
        state = unseal(lab.kept["r.state.pt"])
        state["moments"]["0"]["exp_avg"] = value
        told = lab.check(Case(lab.resume, {"r.state.pt": seal(state)}, bad=True))
        assert "not a state of this model" in told
