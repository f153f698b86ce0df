"""Several processes that train one model, as `torchrun` starts them."""

import contextlib
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import distributed as dist

from backstage.device import choose_device
from backstage.errors import UserError
from backstage.launched import launched
from backstage.lock import exclusive


def rank_and_world_size() -> tuple[int, int]:
    """The number of this process, from 0, and how many train together: 0 and 1 if it is alone."""
    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def sum_over_processes(*values: float) -> list[float]:
    """Each value summed over all processes."""
    if rank_and_world_size()[1] == 1:
        return list(values)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def join_processes(args: Namespace, stack: contextlib.ExitStack) -> None:
    """Join the processes that `torchrun` started, if it did, until `stack` is left.

    Only the first one prints.
    """
    rank, count = launched()
    if count == 1:
        return
    device = choose_device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(choose_gpu())
    stack.enter_context(group("nccl" if device.type == "cuda" else "gloo"))
    if rank:
        nowhere = stack.enter_context(open(os.devnull, "w"))  # noqa: SIM115 - closed with `stack`
        stack.enter_context(contextlib.redirect_stdout(nowhere))


def choose_gpu() -> int:
    """The number of the GPU that `torchrun` has for this process. UserError if it is not there."""
    number = os.environ.get("LOCAL_RANK", "")
    count = torch.cuda.device_count()
    if not (number.isascii() and number.isdecimal()) or int(number) >= count:
        why = f"there are {count} GPUs, one for each process; start so many, or use -device cpu"
        raise UserError(f"LOCAL_RANK={number} in the environment: {why}")
    return int(number)


@contextlib.contextmanager
def group(backend: str) -> Iterator[None]:
    """Within it this process is one of the group. Raises OSError when another one is lost."""
    try:
        dist.init_process_group(backend)
        yield
    except BaseException as error:
        # Its traceback keeps the model, which must go first: a model in DistributedDataParallel
        # that goes after its group sometimes waits for ever.
        traceback.clear_frames(error.__traceback__)
        if not lost_another(error):
            raise
        why = str(error).split("] ", 1)[-1].split(". ")[0].split("\n")[0]  # without the C++ file
        raise ConnectionError(f"another process has ended or cannot be reached ({why})") from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def lost_another(error: BaseException) -> bool:
    """Whether it is what torch.distributed raises where another process does not answer."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)


@contextlib.contextmanager
def exclusive_to_all(path: Path, instead: str) -> Iterator[None]:
    """`exclusive` for all processes that train together: the first one has it, or none goes on."""
    refusal = None
    with contextlib.ExitStack() as stack:
        if rank_and_world_size()[0] == 0:
            try:
                stack.enter_context(exclusive(path, instead))
            except UserError as error:
                refusal = error
        if any(sum_over_processes(refusal is not None)):
            raise refusal or UserError(f"{path}: not for the first process, which says why")
        yield


def leave(status: int) -> None:
    """End the process; one that torchrun started at once, without the clean-up of Python's end.

    While that goes on a thread of torch.distributed may still ask for Python, which aborted some
    that were done.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
