"""Sealed files: safetensors with JSON and a digest, so that a stranger's can be read safely.

A file holds nested dicts. Their tensors are those of the safetensors file, named by their path as
in `weights/output.bias`; all else is JSON in its metadata, with a SHA-256 of everything.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from backstage.errors import UserError, lacks_memory

VERSION = 3  # of the format
KEY = "lstlm"  # the one key of the metadata, as safetensors writes several in any order
OLD_START = b"PK\3\4"  # of files that torch.save wrote, those of versions 1 and 2


def seal(content: dict) -> bytes:
    """The bytes of a sealed file: of the same content the same bytes.

    A tensor at several paths, as a tied weight is, is stored once.
    """
    found: dict[str, Tensor] = {}
    rest = without_tensors(content, "", found)
    tensors: dict[str, Tensor] = {}
    first: dict[tuple, str] = {}  # where in memory a tensor is -> the path where it was seen first
    same = {}
    for path, x in sorted(found.items()):
        original = first.setdefault((x.data_ptr(), x.shape, x.stride(), x.dtype), path)
        if original != path and x.numel():
            same[path] = original
        else:
            tensors[path] = x.detach().cpu().contiguous()
    sealed = {"content": rest, "same": same}
    sealed["sha256"] = digest_of(sealed, tensors)
    return save_tensors(tensors, {KEY: json.dumps(sealed, sort_keys=True)})


def without_tensors(content: dict, path: str, found: dict[str, Tensor]) -> dict:
    """A copy of nested dicts without their tensors, which are put into `found` by their paths."""
    rest = {}
    for key, value in content.items():
        if isinstance(value, Tensor):
            found[f"{path}{key}"] = value
        elif isinstance(value, dict):
            rest[str(key)] = without_tensors(value, f"{path}{key}/", found)
        else:
            rest[str(key)] = value
    return rest


def digest_of(sealed: dict, tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of the JSON, and of each tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(sealed, sort_keys=True).encode())
    for name, x in sorted(tensors.items()):
        digest.update(json.dumps([name, str(x.dtype), *x.shape]).encode())
        digest.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def unseal(data: bytes) -> dict:
    """The content of `seal`. Raises ValueError or the like if the bytes are anything else.

    JSON has no code and no references, and safetensors sees to it that tensors are as large as the
    bytes in the file that are theirs. So nothing takes more memory than the file's size allows.
    """
    sealed, digest = read_metadata(data)
    tensors = load_tensors(data)
    if digest_of(sealed, tensors) != digest:
        raise ValueError("its bytes are not those that were written")
    content = sealed["content"]
    for path, x in tensors.items():
        put_tensor(content, path, x)
    for path, original in sealed["same"].items():
        put_tensor(content, path, tensors[original])
    return content


def read_metadata(data: bytes) -> tuple[dict, str]:
    """The JSON in the metadata, without the digest, and the digest."""
    size = int.from_bytes(data[:8], "little")  # of the header, which is JSON
    if not 0 < size <= len(data) - 8:
        raise ValueError("not a safetensors file")
    sealed = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][KEY])
    return sealed, sealed.pop("sha256")


def put_tensor(content: dict, path: str, x: Tensor) -> None:
    """Put a tensor in its place. Raises KeyError or the like if there is none."""
    *folders, name = path.split("/")
    for folder in folders:
        content = content[folder]
    if name in content:
        raise ValueError(f"{path} is there twice")
    content[name] = x


def read_sealed(
    path: Path, kind: str, missing: str, check: Callable[[dict], object] = lambda content: None,
    instead: str = "name another with -model, or train again",
) -> dict:
    """The content of a file of ours of this kind.

    Raises UserError if it is `missing`, damaged or something else; it says what to do `instead`.
    `check` raises ValueError, KeyError or the like if the content cannot be right.
    """
    if not path.exists():
        raise UserError(f"{path}: {missing}")
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        data = path.read_bytes()
        if data.startswith(OLD_START):
            why = "written by torch.save, as models were before they were safetensors files"
            raise UserError(f"{path}: {why}; convert it: python hw04/convert.py {path} NEW")
        content = unseal(data)
        if content["format"] != kind:
            raise ValueError("something else")
        version = content["version"]
        if type(version) is not int:
            raise ValueError("something else")
        if version == VERSION:
            check(content)
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:
        if lacks_memory(error):
            raise
        why = f"no {kind} file, or damaged ({' '.join(str(error).split())[:200]})"
        raise UserError(f"{path}: {why}; {instead}") from None
    if version != VERSION:
        why = f"format version {str(version)[:9]}, this program reads {VERSION}"
        raise UserError(f"{path}: {why}; train again with -train")
    return content


def check_parts(content: dict, parts: dict[str, type]) -> None:
    """Raise ValueError or the like unless each of these parts is there and of its type."""
    wrong = [name for name, kind in parts.items() if type(content[name]) is not kind]
    if wrong:
        raise ValueError(f"a wrong value of {wrong}")


def made_alike(content, like) -> bool:
    """Whether something read is made like `like`: types, keys, plain counts, shapes of tensors."""
    if type(content) is not type(like):
        return False
    if isinstance(like, dict):
        same_keys = content.keys() == like.keys()
        return same_keys and all(made_alike(content[key], like[key]) for key in like)
    if isinstance(like, Tensor):
        return (content.shape, content.dtype) == (like.shape, like.dtype)
    return type(like) is not int or 0 <= content < 1 << 53
