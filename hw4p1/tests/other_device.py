"""A second device where there is no GPU.

Its tensors compute on the CPU, but refuse to meet those of the CPU.

    with other_device():
        x = torch.ones(2, device=OTHER)
        x + torch.ones(2)  # RuntimeError, as on a GPU
"""

import contextlib
from collections.abc import Iterator

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

OTHER = torch.device("lazy")  # a name that torch knows, takes gradients on, and has nothing behind
# What may go between devices.
COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
# So does a GPU.
TAKES_CPU_INDICES = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}


class OtherTensor(torch.Tensor):
    """A tensor of the other device; `inner` is a CPU tensor with its content."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype,
            device=OTHER
        )

    def __init__(self, inner: torch.Tensor):
        self.inner = inner

    def tolist(self):
        return self.inner.tolist()

    def __reduce_ex__(self, protocol):
        return self.inner.__reduce_ex__(protocol)  # in a checkpoint it is as any tensor

    def __repr__(self, **kwargs):
        return f"OtherTensor({self.inner})"

    # Operations are seen below, and no functions.
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


@contextlib.contextmanager
def other_device() -> Iterator[torch.device]:
    """Where it is active, functions that take a device take OTHER too."""
    with Calls(), FromLists():
        yield OTHER


class Calls(TorchDispatchMode):
    """Sees each operation, those that are given no tensor too."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


class FromLists(TorchFunctionMode):
    """Sees `torch.tensor`, which is no operation; it goes by the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.tensor and torch.device(kwargs.get("device") or "cpu") == OTHER:
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(OTHER)
        return function(*args, **kwargs)


def compute(function, args: tuple, kwargs: dict):
    """The function's results, on the device that they belong to.

    RuntimeError if its tensors are of two devices.
    """
    given, structure = tree_flatten((args, kwargs))
    others = [x for x in given if isinstance(x, OtherTensor)]
    if others:
        refuse_a_mixture(function, given, isinstance(args[0], OtherTensor))
    args, kwargs = tree_unflatten(
        [x.inner if isinstance(x, OtherTensor) else x for x in given], structure
    )
    target = kwargs.get("device")
    there = bool(others) if target is None else torch.device(target) == OTHER
    if there and target is not None:
        kwargs["device"] = torch.device("cpu")
    results = function(*args, **kwargs)
    if function is torch.ops.aten.copy_.default:
        there = isinstance(given[0], OtherTensor)
    # What changes a tensor in its place gives that tensor back.
    known = {id(x.inner): x for x in others}

    @torch.inference_mode(False)  # else torch misses what it keeps of a tensor beside its content
    def place(result):
        if there:
            return known[id(result)] if id(result) in known else OtherTensor(result)
        return result

    return tree_map_only(torch.Tensor, place, results)


def refuse_a_mixture(function, given: list, first_is_other: bool) -> None:
    """RuntimeError if there are tensors of the CPU among `given`.

    Numbers, which have no dimension, may be.
    """
    allowed = function in COPIES or (function in TAKES_CPU_INDICES and first_is_other)
    ours = [
        x for x in given
        if isinstance(x, torch.Tensor) and not isinstance(x, OtherTensor) and x.dim() > 0
    ]
    if ours and not allowed:
        raise RuntimeError(f"Expected all tensors to be on the same device: {function}")
