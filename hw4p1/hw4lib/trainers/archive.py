"""What `torch.save` writes, read without `torch.load`: nothing in a file can run, grow or repeat.

A checkpoint is a ZIP archive of a pickle and of the numbers of each tensor. With `weights_only`
PyTorch runs no code of it. But a few kilobytes may still become gigabytes (an expanded view, a
compressed member, a storage that a thousand tensors share) or hours (a list that holds the one
before it twice, fifty times over), and two readers of one archive may find two pickles. Here one
reader, Python's `zipfile`, finds all members, and the pickle is a list of steps of which only those
are taken that `torch.save` needs.
"""

import io
import math
import pickletools
import zipfile
from typing import NamedTuple

import torch
from torch import Tensor

DTYPES = {
    "torch DoubleStorage": torch.float64, "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16, "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64, "torch IntStorage": torch.int32,
    "torch ByteStorage": torch.uint8,
}
GIVEN = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE")  # their own values
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
MARK = object()  # where the items of a list or tuple begin
STEPS = 500_000  # of a pickle; a model of 1,000 parameters has a third of that
DEEPEST = 30  # containers, each in the next
LARGEST_KEY = 2**31  # larger ones could all have one hash


class Global(NamedTuple):
    """The name of a class or function, which is never looked up."""

    name: str


class Storage(NamedTuple):
    """The numbers of a tensor, still in the archive."""

    dtype: torch.dtype
    member: str
    count: int


def unpack(data: bytes) -> object:
    """The content of a file that `torch.save` wrote, on the CPU.

    It is a tree of dicts, lists, tuples, numbers, strings and tensors, each of its own memory, all
    tensors together at most twice as large as the file (a tied weight has two names). Raises
    ValueError or the like for anything else.
    """
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = archive.infolist()
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise ValueError("a member twice")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("a compressed member")
    if sum(member.file_size for member in members) > len(data):
        raise ValueError("members larger than the file")
    pickles = [name for name in names if name.lower().endswith(".pkl")]
    if len(pickles) != 1 or pickles[0].partition("/")[2] != "data.pkl":
        raise ValueError("not one data.pkl")
    folder = pickles[0].partition("/")[0]
    if f"{folder}/byteorder" in names and archive.read(f"{folder}/byteorder") != b"little":
        raise ValueError("another order of bytes")
    unpickler = Unpickler(archive, folder, room=2 * len(data))
    content = unpickler.load(archive.read(pickles[0]))
    check_tree(content)
    return content


class Unpickler:
    """The steps of a pickle, of those opcodes alone that `torch.save` writes.

    What a pickle uses again is copied, so no value is in two places or in itself.
    """

    def __init__(self, archive: zipfile.ZipFile, folder: str, room: int):
        self.archive, self.folder = archive, folder
        self.room, self.left = room, STEPS  # bytes of tensors, and steps, that may still come
        self.stack: list = []
        self.memo: dict[int, object] = {}
        self.actions = {
            "PROTO": lambda _: None, "STOP": lambda _: None,
            "MARK": lambda _: self.stack.append(MARK),
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "TUPLE": lambda _: self.stack.append(tuple(self.items())),
            "TUPLE1": lambda _: self.stack.append(self.pop(1)),
            "TUPLE2": lambda _: self.stack.append(self.pop(2)),
            "TUPLE3": lambda _: self.stack.append(self.pop(3)),
            "APPEND": lambda _: self.extend(self.pop(1)),
            "APPENDS": lambda _: self.extend(self.items()),
            "SETITEM": lambda _: self.update(self.pop(2)),
            "SETITEMS": lambda _: self.update(self.items()),
            "GLOBAL": lambda name: self.stack.append(Global(name)),
            "BINPERSID": lambda _: self.stack.append(self.storage(*self.pop(1))),
            "REDUCE": lambda _: self.stack.append(self.call(*self.pop(2))),
            "BUILD": lambda _: self.build(*self.pop(1)),
            "BINPUT": self.remember, "LONG_BINPUT": self.remember,
            "BINGET": self.recall, "LONG_BINGET": self.recall,
        }  # fmt: skip

    def load(self, pickled: bytes) -> object:
        """The value of a pickle."""
        for opcode, argument, _ in pickletools.genops(pickled):
            self.count()
            if opcode.name in GIVEN:
                self.stack.append(argument)
            elif opcode.name in CONSTANTS:
                self.stack.append(CONSTANTS[opcode.name])
            elif opcode.name in self.actions:
                self.actions[opcode.name](argument)
            else:
                raise ValueError(f"the opcode {opcode.name}, which no checkpoint has")
        (content,) = self.stack
        return content

    def count(self) -> None:
        """One step more."""
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"more than {STEPS:,} values")

    def pop(self, n: int) -> tuple:
        """The last n values."""
        if len(self.stack) < n:
            raise ValueError("more values taken than there are")
        taken = tuple(self.stack[-n:])
        del self.stack[-n:]
        return taken

    def items(self) -> list:
        """The values after the last mark, which is taken away too."""
        n = 0
        while self.stack[-1 - n] is not MARK:
            n += 1
        taken = self.stack[len(self.stack) - n :]
        del self.stack[-1 - n :]
        return taken

    def extend(self, items: list | tuple) -> None:
        """Put items into the list before them."""
        if type(self.stack[-1]) is not list:
            raise ValueError("items of no list")
        self.stack[-1].extend(items)

    def update(self, items: list | tuple) -> None:
        """Put keys and values into the dict before them."""
        if type(self.stack[-1]) is not dict:
            raise ValueError("keys of no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and (type(key) is not int or not 0 <= key < LARGEST_KEY):
                raise ValueError("a key that is neither text nor a count")
            self.stack[-1][key] = value

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        self.stack.append(self.copy(self.memo[place], DEEPEST))

    def copy(self, value: object, deepest: int) -> object:
        """A value once more, in memory of its own; it counts as if it were in the file twice."""
        self.count()
        if deepest < 0:
            raise ValueError(f"more than {DEEPEST} containers in each other")
        if isinstance(value, Tensor):
            self.take(value.nbytes)
            return value.clone()
        if type(value) is dict:
            return {key: self.copy(item, deepest - 1) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)([self.copy(item, deepest - 1) for item in value])
        return value

    def storage(self, identity: tuple) -> Storage:
        """What a tensor's numbers are: ("storage", class, member, device, count)."""
        kind, dtype, member, _, count = identity
        if kind != "storage" or type(member) is not str or type(count) is not int:
            raise ValueError("a storage without a member")
        return Storage(DTYPES[dtype.name], f"{self.folder}/data/{member}", count)

    def call(self, function: object, arguments: tuple) -> object:
        """The results of the two functions that a pickle of `torch.save` names."""
        name = function.name if type(function) is Global else "something else"
        if name == "collections OrderedDict" and type(arguments) is tuple and not arguments:
            return {}
        if name == "torch._utils _rebuild_tensor_v2":
            return self.tensor(*arguments[:4])
        raise ValueError(f"a call of {name[:60]}, which no checkpoint has")

    def build(self, state: object) -> None:
        """Pass over `_metadata`, the versions of modules that a state_dict has as an attribute."""
        if type(self.stack[-1]) is not dict or type(state) is not dict or [*state] != ["_metadata"]:
            raise ValueError("an object with attributes")

    def tensor(self, storage: Storage, offset: int, size: tuple, stride: tuple) -> Tensor:
        """A tensor without gaps, whole inside a storage that is as large as it says."""
        counts = (offset, *size, *stride)
        if not all(type(n) is int and n >= 0 for n in counts) or len(size) != len(stride):
            raise ValueError("a tensor of no size")
        step = 1
        for n, its_step in zip(reversed(size), reversed(stride), strict=True):
            if n != 1 and its_step != step and 0 not in size:
                raise ValueError("a tensor with gaps or repeats")
            step *= n
        numel, width = math.prod(size), storage.dtype.itemsize
        stored = self.archive.getinfo(storage.member).file_size
        if stored != storage.count * width or (offset + numel) * width > stored:
            raise ValueError("a tensor that is not in the file")
        self.take(stored)
        if not numel:
            return torch.empty(size, dtype=storage.dtype)
        numbers = bytearray(self.archive.read(storage.member))
        flat = torch.frombuffer(numbers, dtype=storage.dtype, count=numel, offset=offset * width)
        return flat.reshape(size)

    def take(self, size: int) -> None:
        """Make room for so many bytes of a tensor."""
        self.room -= size
        if self.room < 0:
            raise ValueError("more tensors than the file has bytes")


def check_tree(content: object) -> None:
    """Raise ValueError unless all leaves are numbers, strings and tensors, none of them deep down.

    Whole numbers are of 64 bits.
    """
    level = [content]
    for _ in range(DEEPEST):
        inner: list = []
        for value in level:
            if type(value) is dict:
                inner.extend(value.values())
            elif type(value) in (list, tuple):
                inner.extend(value)
            elif type(value) is int and abs(value) >= 2**63:
                raise ValueError("a number of more than 64 bits")
            elif value is not None and type(value) not in (bool, int, float, str, Tensor):
                raise ValueError("a value that no checkpoint has")
        level = inner
    if level:
        raise ValueError(f"more than {DEEPEST} containers in each other")
