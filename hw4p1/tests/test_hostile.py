"""Files from strangers: status 0 or 2, one line, no foreign code, little memory and time.

Each case is a process with limits. The short form has some dozen of each kind, the slow one 4,000.
"""

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.strangers import (
    BEST,
    CONFIG,
    GENERATE,
    LAST,
    TRAIN,
    Case,
    Lab,
    archive,
    load,
    saved,
    taken_apart,
    tensor,
    text,
    trapped,
    within,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")

TOKENIZER = Path(__file__).with_name("stored") / "tokenizer_0.15.2.json"
RESUME = [*TRAIN, "r", "--resume"]
EVALUATE = ["evaluate", "--run", "r", "--device", "cpu"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("hostile"), TOKENIZER.read_bytes())


# ---- Any change


@st.composite
def damaged(draw, lab: Lab) -> Case:
    """A checkpoint with flipped, lost, added or exchanged bytes."""
    name = draw(st.sampled_from([BEST, LAST]))
    data = lab.kept[name]
    place = draw(st.integers(0, len(data) - 1))
    size = draw(st.integers(1, 300))
    way = draw(st.sampled_from(["flip", "flip", "cut", "lose", "add", "exchange"]))
    if way == "flip":
        flipped = data[place] ^ 1 << draw(st.integers(0, 7))
        data = data[:place] + bytes([flipped]) + data[place + 1 :]
    elif way == "cut":
        data = data[:place]
    elif way == "lose":
        data = data[:place] + data[place + size :]
    elif way == "add":
        data = data[:place] + draw(st.binary(min_size=1, max_size=40)) + data[place:]
    else:
        middle = data[place + size : place + 2 * size] + data[place : place + size]
        data = data[:place] + middle + data[place + 2 * size :]
    return Case(RESUME if name == LAST else GENERATE, {name: data}, what=(way, place, size))


ODD = [
    None, -1, 0, 1, 7, 2**31, 2**62, True, 1.5, 0.0, float("nan"), float("inf"), -1e308, "x",
    "\x1b[31m", "\ud800", "min", [], {}, (), ["a"], {"a": 1}, torch.zeros(3), torch.zeros(()),
    torch.full((8, 8), 3e38), torch.tensor(float("nan")), torch.zeros(5056, dtype=torch.uint8),
    torch.full((8,), float("inf")), torch.zeros(2, dtype=torch.int64),
]  # fmt: skip


def places(content, path=()) -> list[tuple]:
    """The paths to all that is in nested dicts, lists and tuples."""
    items = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, (list, tuple)) and len(content) < 100:
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
    return tuple(copy) if isinstance(content, tuple) else copy


@st.composite
def crafted(draw, lab: Lab) -> Case:
    """A checkpoint that is whole but for values that no training has written."""
    name = draw(st.sampled_from([BEST, LAST]))
    content, what = load(lab.kept[name]), []
    for _ in range(draw(st.integers(1, 2))):
        part = draw(st.sampled_from([*content]))  # as most of all values are the configuration's
        inner = [path for path in places(content) if path[0] == part]
        how = draw(st.sampled_from(["replace"] * 3 + ["leave out", "add"]))
        what.append((draw(st.sampled_from(inner)), how, draw(st.sampled_from(ODD))))
        content = changed(content, *what[-1])
        if not content:
            break
    argv = RESUME if name == LAST else draw(st.sampled_from([GENERATE, EVALUATE]))
    return Case(argv, {name: saved(content)}, what=what)


OPCODES = [
    b"(", b"]", b"}", b")", b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"q\0", b"q\1",
    b"h\0", b"h\0", b"h\1", b"N", b"\x88", b"K\7", b"G" + bytes(8), text("a"), text("epoch"),
    b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"ccollections\nOrderedDict\n", b"R", b"b", b"Q", b"0",
    b"2", b"r\xff\xff\xff\x7f", b"j\0\0\0\0", b"I99999999999\n", b"\x8e" + b"\xff" * 8, b"\x93",
    b"cos\nsystem\n", b"\x81", tensor(4, b"K\4\x85", b"K\1\x85"),
    tensor(4, b"J\xff\xff\xff\x7f\x85", b"K\0\x85"), tensor(4, b"K\2K\2\x86", b"K\2K\1\x86"),
]  # fmt: skip


@st.composite
def pickles(draw, lab: Lab) -> Case:
    """A checkpoint of any steps, with a member that is sometimes of another size than it says."""
    steps = draw(st.lists(st.sampled_from(OPCODES), max_size=30).map(b"".join))
    size = draw(st.sampled_from([0, 15, 16, 17, 4096]))
    how = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    data = archive(within(steps), {"archive/data/0": bytes(size)}, how)
    return Case(GENERATE, {BEST: data}, what=steps)


SCALARS = st.sampled_from([
    "1", "0", "-1", "0x", "0x_", "0b_", "1e400", "1e-4", ".nan", ".inf", "2001-01-01", "2001-99-99",
    "1:30", "9" * 30, "9" * 5000, "1:" * 3000 + "1", "~", "yes", "*a", "&a 1", "!!int x",
    "!!python/object:os.system x", "!!timestamp x", "<<", "=", "\x1b[31m", "\\", '"\\ud800"', "'",
    "\t", "\ufeff", "{", "}", "[", "]", "[" * 3000, "- " * 500, "? ", ": ", "0.5", "cosine", "sgd",
])  # fmt: skip
VALUES = SCALARS | st.lists(SCALARS, max_size=3).map(lambda items: f"[{', '.join(items)}]")
KEYS = [
    f"{section}: {{{key}: %s}}" for section, keys in {
        "model": ["d_model", "dropout", "weight_tying"], "training": ["epochs", "resume"],
        "data": ["root", "subset", "batch_size", "train_partition"],
        "optimizer": ["lr", "adam", "param_groups", "layer_decay", "name"],
        "scheduler": ["name", "cosine", "warmup"], "tokenization": ["token_map", "token_type"],
    }.items() for key in keys
] + ["scheduler: {cosine: {T_max: %s}}", "optimizer: {adam: {betas: %s}}", "Name: %s", "%s: 1"]


@st.composite
def configurations(draw, lab: Lab) -> Case:
    """A training with any settings; it is one of another run, and so ends early."""
    small = lab.kept["small.yaml"].decode()
    line = draw(st.sampled_from(KEYS)) % draw(VALUES)
    if draw(st.booleans()):
        key, _, value = line.replace("{", "").replace("}", "").rpartition(": ")
        setting = f"{key.replace(': ', '.')}={value}".replace("\0", "")
        return Case([*RESUME, "--set", setting], what=setting)
    section = line.partition(":")[0]
    kept = "".join(f"{part}\n" for part in blocks(small) if not part.startswith(f"{section}:"))
    content = (kept + line + draw(st.text(max_size=3))).encode()
    return Case(RESUME, {"small.yaml": content}, what=line)


def blocks(config: str) -> list[str]:
    """The sections of a configuration."""
    return config.replace("\n  ", "\0").replace("\n", "\1").replace("\0", "\n  ").split("\1")


HEADERS = st.builds(
    "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}".format,
    st.sampled_from(["'<U3'", "'<U0'", "'>U1'", "'|O'", "'<f4'", "'U99999999999'", "[('a', '<U1')]",
                     "'<U1', " * 90, "(" * 300, "'|V0'"]),
    st.sampled_from(["False", "True", "0"]),
    st.sampled_from(["()", "(1,)", "(3,)", "(300000000,)", "(-1,)", "(2**99,)", "(1, 1)",
                     "(9" + "9" * 300 + ",)", "(True,)", "(1.0,)", "None"]),
)  # fmt: skip


@st.composite
def arrays(draw, lab: Lab) -> Case:
    """A transcript that is any array, or none."""
    header = draw(HEADERS).encode() + b"\n"
    size = draw(st.sampled_from([len(header), len(header), 0, 118, 65535])).to_bytes(2, "little")
    version = draw(st.sampled_from([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\0\0"]))
    body = draw(st.sampled_from(["CAT", "", "A", "ab", "\ufffd"])).encode("utf-32-le")
    array = b"\x93NUMPY" + version + size + header + body
    array = draw(st.just(array) | st.binary(max_size=20))
    return Case(EVALUATE, {"data/test/1.npy": array}, what=array)


# The library gives up after ten million steps, by an exception that is none of Python's.
SLOW = {"Regex": "(A+)+\\b!"}
REGEX = {"type": "Replace", "pattern": SLOW, "content": ""}
SPLIT = {"type": "Split", "pattern": SLOW, "behavior": "Isolated", "invert": False}


@st.composite
def tokenizers(draw, lab: Lab) -> Case:
    """A tokenizer with parts of others; with the digest that its checkpoint has, or without."""
    given = json.loads(TOKENIZER.read_text(encoding="utf-8"))
    odd = [
        None, [], {}, 0, -1, "x", REGEX, {"type": "Sequence", "normalizers": [REGEX]}, 2**32,
        {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}]}, [["A", "B"]], {"A": 0},
        {"type": "BertNormalizer"}, {"strategy": {"Fixed": 10**9}}, ["A B", "A"], 0.5, True,
        SPLIT,
    ]  # fmt: skip
    for _ in range(draw(st.integers(1, 2))):
        chosen = draw(st.sampled_from(places(given) or [("more",)]))
        how = draw(st.sampled_from(["replace", "replace", "add", "leave out"]))
        given = changed(given, chosen, how, draw(st.sampled_from(odd)))
        if not given:
            break
    content = draw(st.just(json.dumps(given)) | st.sampled_from(["[" * 10**5, "9" * 5000, "", "0"]))
    checkpoint = load(lab.kept[BEST])
    checkpoint["config"]["trained_on"].pop("tokenizer_sha256")
    files = {"tokens.json": content.encode(), BEST: saved(checkpoint)}
    return Case(GENERATE, files, what=content)


JSON = st.recursive(
    st.sampled_from([None, 1, "x", "\x1b", True]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["file", "train", "test", "a"]), inner, max_size=2),
    max_leaves=6,
)


@st.composite
def records(draw, lab: Lab) -> Case:
    """A `source.json` that is any JSON."""
    record = draw(JSON | JSON.map(lambda value: {"sources": value}))
    bombs = st.sampled_from(["[" * 10**5, "", "{", "9" * 5000])
    content = draw(st.just(json.dumps(record)) | bombs)
    return Case(EVALUATE, {"data/source.json": content.encode()}, what=content)


KINDS = {  # and how many cases of it are in the slow suite
    "damaged": (damaged, 800), "crafted": (crafted, 1000), "pickles": (pickles, 600),
    "configurations": (configurations, 600), "arrays": (arrays, 400),
    "tokenizers": (tokenizers, 400), "records": (records, 200),
}  # fmt: skip


def try_cases(lab: Lab, strategy, count: int) -> None:
    """Try so many cases."""
    tried = []

    @settings(
        max_examples=count, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # a smaller example would take longer than a look at this one
    )
    @given(strategy(lab))
    def one(case):
        tried.append(case)
        lab.check(case)

    one()
    assert len(tried) >= count


@pytest.mark.parametrize("kind", KINDS)
def test_some_cases(lab, kind):
    try_cases(lab, KINDS[kind][0], 5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_cases(lab, kind):
    try_cases(lab, *KINDS[kind])


# ---- Checkpoints that would take gigabytes, hours, or a stranger's orders


COMMANDS = {BEST: GENERATE, LAST: RESUME}


def check_refused(lab: Lab, data: bytes, reason: str, places: tuple = (BEST,)) -> None:
    """A file in the place of a checkpoint is refused for that reason."""
    for name in places:
        argv = COMMANDS[name]
        told = lab.check(Case(argv, {name: data}, bad=True))
        assert f"{Path(name).name}: " in told
        assert reason in told


DOUBLED = b"]q\0" + b"".join(
    b"(h%ch%ceq%c" % (i, i, i + 1) if not i else b"](h%ch%ceq%c" % (i, i, i + 1)
    for i in range(60)
)
TENSORS = {
    "a view that repeats": (tensor(1, b"J\xff\xff\xff\x7f\x85", b"K\0\x85"), "gaps or repeats"),
    "a view with gaps": (tensor(16, b"K\4\x85", b"K\4\x85"), "gaps or repeats"),
    "more than there is": (tensor(4, b"K\5\x85", b"K\1\x85"), "not in the file"),
    "behind the end": (tensor(4, b"K\4\x85", b"K\1\x85", b"K\1"), "not in the file"),
    "a storage that lies": (tensor(10**9, b"K\4\x85", b"K\1\x85"), "not in the file"),
    "a negative size": (tensor(4, b"J\xff\xff\xff\xff\x85", b"K\1\x85"), "of no size"),
    "a negative offset": (tensor(4, b"K\4\x85", b"K\1\x85", b"J\xff\xff\xff\xff"), "of no size"),
}  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_lies_in_the_file(lab, name):
    pickled, reason = TENSORS[name]
    data = archive(within(pickled), {"archive/data/0": bytes(16)})
    check_refused(lab, data, reason)


PICKLES = {
    "lists of the one before, twice": (DOUBLED, "more than 500,000 values"),
    "lists in each other": (b"]" * 5000 + b"a" * 4999, "30 containers in each other"),
    "tuples in each other": (b")" + b"\x85" * 5000, "30 containers in each other"),
    "a tuple as a key": (b"}" + b")" + b"\x85" * 40 + b"K\1s", "neither text nor a count"),
    "keys of one hash": (
        b"}(" + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N"
                         for n in range(9)) + b"u", "neither text nor a count",
    ),
    "a number of many bits": (b"\x8a\xff" + b"\x7f" * 255, "more than 64 bits"),
    "a function": (b"cposix\nsystem\n" + text("true") + b"\x85R", "a call of posix system"),
    "a function of PyTorch": (b"c_codecs\nencode\n" + text("a") + b"\x85R", "_codecs encode"),
    "an instance": (b"(" + text("true") + b"ios\nsystem\n", "the opcode INST"),
    "an object": (b"ccollections\nOrderedDict\n)\x81", "the opcode NEWOBJ"),
    "attributes": (b"}}" + text("a") + b"K\1sb", "an object with attributes"),
    "a place far away": (b"]r\xff\xff\xff\x7f0", "the opcode POP"),
    "a class as a value": (b"cos\nsystem\n", "a value that no checkpoint has"),
    "zeros by the gigabyte": (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R", "bytearray"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_a_small_tree(lab, name):
    pickled, reason = PICKLES[name]
    check_refused(lab, archive(within(pickled)), reason)


def test_tensors_are_no_more_than_the_file(lab):
    many = b"](" + tensor(10**5, b"J\xa0\x86\1\0\x85", b"K\1\x85") * 1000 + b"e"
    data = archive(within(many), {"archive/data/0": bytes(4 * 10**5)})
    check_refused(lab, data, "more tensors than the file has bytes")
    one = tensor(10**5, b"J\xa0\x86\1\0\x85", b"K\1\x85")
    shared = b"]" + one + b"q\1a(" + b"h\1" * 9999 + b"e"
    data = archive(within(shared), {"archive/data/0": bytes(4 * 10**5)})
    check_refused(lab, data, "more tensors than the file has bytes")


def test_an_archive_is_one_pickle_and_plain_members(lab, tmp_path):
    pickled, members = taken_apart(lab.kept[BEST])
    deflated = archive(pickled, members, zipfile.ZIP_DEFLATED)
    check_refused(lab, deflated, "a compressed member", (BEST, LAST))
    other = {**members, "archive/DATA.PKL": pickled}  # names are matched in any case elsewhere
    check_refused(lab, archive(pickled, other), "not one data.pkl")
    check_refused(lab, archive(pickled, {**members, "b/data.pkl": b"N."}), "not one data.pkl")
    check_refused(
        lab, archive(pickled, {**members, "archive/byteorder": b"big"}), "another order of bytes"
    )
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = archive(pickled, members)
        with zipfile.ZipFile(tmp_path / "twice", "w") as made:
            for name in ("archive/data.pkl", "archive/data.pkl"):
                made.writestr(name, pickled)
    check_refused(lab, (tmp_path / "twice").read_bytes(), "a member twice")
    whole = lab.check(Case(GENERATE, {BEST: twice}))
    assert "log-probability" in whole


def test_no_code_of_a_checkpoint_runs(lab, tmp_path):
    evil = trapped(tmp_path / "made")
    check_refused(lab, archive(evil), "a call of posix mkdir", (BEST, LAST))
    check_refused(lab, evil, "BadZipFile")
    check_refused(lab, evil + archive(evil), "a call of posix mkdir")
    assert not (tmp_path / "made").exists()
    pickle.loads(evil)  # as it would have been
    assert (tmp_path / "made").exists()


def test_a_configuration_claims_no_more_than_the_weights(lab):
    content = load(lab.kept[BEST])
    for sizes, reason in (
        ({"num_layers": 900}, "1 layers in the checkpoint, but 900"),
        ({"num_layers": 8000}, "num_layers is 8000; give at most 1,000"),
        ({"d_model": 10**6}, "(8, 8) in the checkpoint, (8, 1000000) in the model"),
        ({"max_len": 10**6}, "positional_encoding.pe is (1, "),
        ({"num_classes": 10**6}, "made with 1000000 tokens"), ({"d_ff": 2**40}, "d_ff is 1099"),
        ({"num_heads": 3}, "does not divide into num_heads 3"), ({"d_model": "8"}, "which is text"),
    ):
        config = {**content["config"], "model": {**content["config"]["model"], **sizes}}
        data = saved({**content, "config": config})
        assert reason in lab.check(Case(GENERATE, {BEST: data}, bad=True))
    for config, reason in (
        (None, "no configuration"), ([], "no configuration"), ({}, "has no Name"),
    ):
        data = saved({**content, "config": config})
        assert reason in lab.check(Case(GENERATE, {BEST: data}, bad=True))


def test_escape_codes_reach_no_terminal(lab):
    content = load(lab.kept[BEST])
    red = "\x1b[31mred"
    config = {**content["config"], "data": {**content["config"]["data"], "root": red}}
    told = lab.check(Case(EVALUATE, {BEST: saved({**content, "config": config})}, bad=True))
    assert "data.root is '\\x1b[31mred'; take the control character out" in told
    weights = {**content["model_state_dict"], red: torch.zeros(1)}
    data = saved({**content, "model_state_dict": weights})
    told = lab.check(Case(GENERATE, {BEST: data}, bad=True))
    assert "\\x1b[31mred is (1,) in the checkpoint, missing in the model" in told
    last = load(lab.kept[LAST])
    last["surroundings"]["torch"] = red
    assert "note: torch was \\x1b[31mred, " in lab.check(Case(RESUME, {LAST: saved(last)}))


# ---- States that an optimizer, a schedule or a generator would take over as they are


def in_state(content: dict, path: tuple, value: object) -> dict:
    return changed(content, path, "replace", value)


@pytest.mark.thorough
def test_a_state_is_compared_with_what_it_is_loaded_into(lab):
    content = load(lab.kept[LAST])
    moments = ("optimizer_state_dict", "state", 0)
    group = ("optimizer_state_dict", "param_groups", 0)
    schedule = ("scheduler_state_dict", "_schedulers", 1)
    for path, value, reason in (
        ((*moments, "exp_avg"), torch.zeros(3), "exp_avg of a parameter is not as large as it"),
        ((*moments, "step"), torch.tensor(-1.0), "a negative number of steps"),
        (moments, {"step": torch.tensor(1.0)}, "it remembers ['step'] of a parameter"),
        ((*group, "betas"), (1.0, 0.999), "a beta of 1"),
        ((*group, "betas"), 7, "betas is 7"), ((*group, "lr"), float("nan"), "lr is nan"),
        ((*group, "params"), [5], "other parameters in a group"),
        ((*schedule, "T_max"), 0, "T_max is 0"), ((*schedule, "T_max"), "7", "T_max is '7'"),
        ((*schedule, "last_epoch"), 2**40, "last_epoch is 1099511627776"),
        (("scheduler_state_dict", "_schedulers"), [], "_schedulers is []"),
        (("random_state", "torch"), torch.zeros(5056, dtype=torch.uint8), "random_state does not"),
        (("random_state", "python"), (3, (-1,) * 625, None), "the state of Python's generator"),
        (("progress", "batches"), 4, "4 batches of an epoch that has 3"),
        (("progress", "random_state", "torch"), torch.zeros(9), "a damaged one"),
        (("progress", "nats"), float("inf"), "none that an epoch can have made"),
        (("progress", "targets"), 4, "none that an epoch can have made"),
        (("embedding_scale",), 0, "embedding_scale is 0"),
        (("embedding_scale",), float("nan"), "embedding_scale is nan"),
        (("embedding_scale",), "2", "embedding_scale is '2'"),
        (("epoch",), -1, "epoch is -1"), (("best_metric",), "1", "best_metric is '1'"),
        (("training_history", 0, "val"), {"ce_loss_char": "x"}, "is no number"),
        (("training_history", 0, "lr"), "x", "is no number"),
    ):
        told = lab.check(Case(RESUME, {LAST: saved(in_state(content, path, value))}, bad=True))
        assert reason in told, path


def test_a_history_without_what_is_asked_of_it(lab):
    content = load(lab.kept[BEST])
    for value in ({}, {"ce_loss_char": 1.0}):
        history = [{"epoch": 0, "val": value, "lr": None}]
        data = saved({**content, "training_history": history})
        assert "it has no training_history" in lab.check(Case(EVALUATE, {BEST: data}, bad=True))
    more = [{"epoch": 9, "test": {"ce_loss_char": 1.0}, "lr": None}]  # of a trainer's evaluate
    data = saved({**content, "training_history": [*content["training_history"], *more]})
    assert "numbers in" in lab.check(Case(EVALUATE, {BEST: data}))


def test_weights_are_finite_numbers(lab):
    content = load(lab.kept[BEST])
    for value, reason in (
        (float("nan"), "norm.weight is not all finite numbers in the checkpoint"),
        (float("inf"), "norm.weight is not all finite numbers in the checkpoint"),
        (3e38, "the model's scores are no finite numbers"),
    ):
        weights = {**content["model_state_dict"], "norm.weight": torch.full((8,), value)}
        data = saved({**content, "model_state_dict": weights})
        assert reason in lab.check(Case(GENERATE, {BEST: data}, bad=True))


# ---- Other files


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(lab):
    for name, argv, reason in (
        ("data/test/1.npy", EVALUATE, "1.npy: cannot be read (it is no regular file)"),
        ("tokens.json", GENERATE, "tokens.json: no such file"),
        (BEST, GENERATE, "no such checkpoint"),
        ("data/source.json", EVALUATE, "numbers in"),
    ):
        lab.prepare(Case(argv))
        (lab.folder / name).unlink(missing_ok=True)
        os.mkfifo(lab.folder / name)
        status, told = lab.run(argv)
        (lab.folder / name).unlink()
        if name in lab.kept:
            (lab.folder / name).write_bytes(lab.kept[name])
        assert (status, reason in told) == (0 if reason == "numbers in" else 2, True), told


def test_a_name_that_is_not_utf_8_is_a_name(lab):
    odd = os.fsdecode(b"data/test/\xff.npy")
    array = lab.kept["data/test/1.npy"]
    lab.prepare(Case(EVALUATE))
    (lab.folder / odd).write_bytes(array)
    status, told = lab.run(EVALUATE)
    (lab.folder / odd).unlink()
    assert (status, "loading 3 transcripts" in told) == (0, True), told


def test_few_bytes_of_an_array_are_few_texts(lab):
    header = b"{'descr': '<U0', 'fortran_order': False, 'shape': (300000000,), }"
    array = b"\x93NUMPY\1\0\x76\0" + header.ljust(117) + b"\n"
    assert len(array) == 128
    assert "of text" in lab.check(Case(EVALUATE, {"data/test/1.npy": array}, bad=True))
    np.save(lab.folder / "long.npy", np.array("A" * 1_100_000))
    content = (lab.folder / "long.npy").read_bytes()
    told = lab.check(Case(EVALUATE, {"data/test/1.npy": content}, bad=True))
    assert "more than 4,000,200 bytes" in told


@pytest.mark.thorough
def test_a_configuration_is_small_and_plain(lab):
    small = lab.kept["small.yaml"].decode()
    merged = "a0: &a0 {x: 1}\n" + "".join(
        f"a{i + 1}: &a{i + 1} {{<<: [*a{i}, *a{i}]}}\n" for i in range(40)
    )
    for line, reason in (
        ("Name: &a [*a]", "*a stands for a value elsewhere"), (merged, "*a0 stands for"),
        ("Name: 2001-99-99", "took it for"), ("Name: 0x_", "'0x_' looks like a number and is none"),
        ("Name: " + "[" * 5000, "more than 12 lists"), ("Name: " + "9" * 5000, "5,000 characters"),
        ("Name: " + "1:" * 40_000 + "1", "80,001 characters"), ("Name: !!int x", "the tag"),
        ("Name: " + "x" * 10**6, "more than 100,000 characters"),
        ("Name: !!python/object/apply:os.mkdir [x]", "the tag"),
        ("optimizer: {lr: .nan}", "finite"),
        ("optimizer: {lr: -.inf}", "finite"), ("training: {epochs: 1" + "0" * 30 + "}", "at most"),
        ("scheduler: {cosine: {T_max: 1.0e+308}}", "T_max is 1e+308 epochs"),
        ("model: {d_model: 2147483647}", "at most 1,000,000"), ("Name: \"\\e[31m\"", "control"),
        ("optimizer: {param_groups: [{layer_decay: 3, patterns: [w]}]}", "layer_decay: 3; give"),
        ("optimizer: {param_groups: [{patterns: [1]}]}", "a list of texts"),
    ):
        if reason == "took it for":  # a date is a text
            text = f"{small}\n{line}\n".encode()
            assert "best: " in lab.check(Case(RESUME, {"small.yaml": text}))
            continue
        kept = [part for part in blocks(small) if not part.startswith(line.partition(":")[0] + ":")]
        text = "\n".join([*kept, line, ""]).encode()
        told = lab.check(Case([*TRAIN, "n"], {"small.yaml": text}, bad=True))
        assert reason in told, line[:60]
    assert CONFIG["data"]["root"] == "data"


@pytest.mark.parametrize(("part", "value", "reason"), [
    ("normalizer", REGEX, "it has a normalizer"),
    ("normalizer", {"type": "Sequence", "normalizers": [REGEX] * 9}, "it has a normalizer"),
    ("padding", {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None,
                 "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}, "it has a padding"),
    ("truncation", {"max_length": 1, "strategy": "LongestFirst", "stride": 0,
                    "direction": "Right"}, "it has a truncation"),
    ("pre_tokenizer", SPLIT, "splits texts in another way"),
    ("added_tokens", [{"id": 90, "content": "(A+)+\\b!"}], "special tokens of its own"),
])  # fmt: skip
def test_a_tokenizer_is_its_tokens_and_merges(lab, part, value, reason):
    given = json.loads(TOKENIZER.read_text(encoding="utf-8")) | {part: value}
    np.save(lab.folder / "long.npy", np.array("A" * 60))  # where a regular expression takes hours
    files = {
        "tokens.json": json.dumps(given).encode(),
        "data/train/0.npy": (lab.folder / "long.npy").read_bytes(),
    }
    assert reason in lab.check(Case([*TRAIN, "n"], files, bad=True))


def test_a_record_is_a_record_or_told(lab):
    odd = '{"sources": []}', '{"sources": {"test": [1]}}', "\xff"
    for record in ("[]", "[" * 10**5, "{}", *odd):
        files = {"data/source.json": record.encode("latin1")}
        told = lab.check(Case(EVALUATE, files, bad=True))
        assert "source.json: no record of make_data.py; remove it" in told
