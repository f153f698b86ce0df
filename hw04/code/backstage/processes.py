"""Several processes that train one model, as `torchrun` starts them."""

import contextlib
import os
import sys
import traceback
from argparse import Namespace

import torch
from torch import distributed as dist

from backstage.device import choose_device


def rank_and_world_size() -> tuple[int, int]:
    """The number of this process, from 0, and how many train together: 0 and 1 if it is alone."""
    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def rank_of_environment() -> int:
    """The number that `torchrun` gave this process, before it has joined the others."""
    return int(os.environ.get("RANK", 0))


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
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    device = choose_device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    stack.push(leave_group)
    if dist.get_rank():
        args.out = stack.enter_context(open(os.devnull, "w"))  # noqa: SIM115 - closed with `stack`
        stack.enter_context(contextlib.redirect_stdout(args.out))


def leave_group(_kind, _error, trace) -> None:
    """Leave the other processes, with the exception that ends the training, if any.

    Its traceback keeps the model, which must go first: a model in DistributedDataParallel that goes
    after its group sometimes waits for ever.
    """
    traceback.clear_frames(trace)
    dist.destroy_process_group()


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
