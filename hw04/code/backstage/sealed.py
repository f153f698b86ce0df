"""Sealed files: what `torch.save` writes, with a digest; a stranger's can be read safely."""

import hashlib
import io
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from backstage.errors import UserError
from backstage.words import printable

VERSION = 2  # of the format
# What the pickle of a file of ours names.
ALLOWED_NAMES = {
    "torch._utils _rebuild_tensor_v2", "collections OrderedDict", "torch FloatStorage",
    "torch HalfStorage", "torch BoolStorage", "torch ByteStorage",
}


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU; two that are one, as tied weights are, stay one."""
    moved = {x.data_ptr(): x.cpu() for x in tensors.values()}
    return {name: moved[x.data_ptr()] for name, x in tensors.items()}


def seal(content: dict) -> bytes:
    """What `torch.save` makes of it, a ZIP archive, with the SHA-256 of its bytes as comment."""
    file = io.BytesIO()
    torch.save(content, file)
    data = file.getvalue()[:-2] + b"\x20\0"  # an archive ends with the size of its comment
    return data + hashlib.sha256(data).digest()


def unseal(data: bytes) -> dict:
    """The content of `seal`. Raises ValueError or the like if the bytes are anything else.

    With `weights_only` a stranger's file runs no code. But it may still be inflated, or call
    allowed functions such as codecs again and again, until a few bytes are gigabytes: so nothing in
    it is compressed, and no other call is made than those of `torch.save`.
    """
    if hashlib.sha256(data[:-32]).digest() != data[-32:] or data[:4] != b"PK\3\4":
        raise ValueError("its bytes are not those that were written")
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = archive.infolist()
    compressed = any(member.compress_type for member in members)
    if compressed or sum(member.file_size for member in members) > len(data):
        raise ValueError("it is compressed")
    for member in members:
        if member.filename.lower().endswith(".pkl"):
            check_pickle(archive.read(member))
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    weights = content["weights"].values()
    if sum(tensor.nbytes for tensor in weights) > 2 * len(data):  # two names, with -tie, for one
        raise ValueError("more weights than bytes")
    return content


def check_pickle(data: bytes) -> None:
    """Raise ValueError if a pickle has more than dicts, lists, numbers, strings, and tensors.

    A tensor is, as `torch.save` has it, the call _rebuild_tensor_v2(..., OrderedDict()), and there
    is no other call. It takes four tuples. A million of them, each in the next, would crash Python
    where they are a key.
    """
    before = ["", "", ""]
    tuples = 0
    for code, value, _ in pickletools.genops(data):
        tuples += "TUPLE" in code.name
        if tuples > 30_000:
            raise ValueError("more tuples than a file of ours has")
        unknown = code.name == "GLOBAL" and value not in ALLOWED_NAMES
        if unknown or code.name in ("BUILD", "NEWOBJ"):
            raise ValueError("an object that no file of ours has")
        rebuilds = before[2] == "EMPTY_TUPLE" or before == ["EMPTY_TUPLE", "REDUCE", "TUPLE"]
        if code.name == "REDUCE" and not rebuilds:
            raise ValueError("a call that no file of ours has")
        if code.name not in ("BINPUT", "LONG_BINPUT"):
            before = [*before[1:], code.name]


def read_sealed(
    path: Path, kind: str, missing: str, check: Callable[[dict], object] = lambda content: None
) -> dict:
    """The content of a file of ours of this kind.

    Raises UserError if it is `missing`, damaged or something else. `check` raises ValueError,
    KeyError or the like if the content cannot be right.
    """
    if not path.exists():
        raise UserError(f"{path}: {missing}")
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        content = unseal(path.read_bytes())
        if content["format"] != kind:
            raise ValueError("something else")
        version = str(content["version"])[:9]
        if version == str(VERSION):
            check(content)
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:
        why = f"no {kind} file, or damaged ({' '.join(str(error).split())[:200]})"
        raise UserError(f"{path}: {why}; name another with -model, or train again") from None
    if version != str(VERSION):
        why = f"format version {version}, this program reads {VERSION}; train again with -train"
        raise UserError(f"{path}: {why}")
    return content


def read_newest(path: Path, previous: Path, kind: str, missing: str, check) -> tuple[dict, str]:
    """`read_sealed` of `path`, or of the `previous` one if that is bad and this one is there.

    Returns the content and a note that says so, which is empty if all is well.
    """
    try:
        return read_sealed(path, kind, missing, check), ""
    except UserError as error:
        if not previous.exists():
            raise
        content = read_sealed(previous, kind, missing, check)
        return content, f"note: {printable(str(error))}; using {previous}, the one before it"


def made_alike(content, like) -> bool:
    """Whether something read is made like `like`: types, keys, plain counts, shapes of tensors.

    These have no gaps: the optimizer writes to as many numbers as there should be, from the first
    on.
    """
    if type(content) is not type(like):
        return False
    if isinstance(like, dict):
        same_keys = content.keys() == like.keys()
        return same_keys and all(made_alike(content[key], like[key]) for key in like)
    if isinstance(like, Tensor):
        about = content.shape, content.dtype, content.is_contiguous()
        return about == (like.shape, like.dtype, True)
    return type(like) is not int or 0 <= content < 1 << 53
