"""What a launcher such as `torchrun` tells each of the processes that it starts."""

import os

from backstage.errors import UserError


def launched() -> tuple[int, int]:
    """The rank of this process, from 0, and how many are to train together: 0 and 1 if it is alone.

    Raises UserError if the environment says that there are several, but not all that they need to
    find each other, as something else may have left it there.
    """
    size = os.environ.get("WORLD_SIZE") or "1"
    if size == "1":
        return 0, 1
    how = "start several processes with torchrun; for one: unset WORLD_SIZE RANK LOCAL_RANK"
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise UserError(f"the environment has WORLD_SIZE={size}, but no {name}; {how}")
    for name in ("WORLD_SIZE", "RANK", "MASTER_PORT"):
        value = os.environ[name]
        if not (value.isascii() and value.isdecimal()):
            raise UserError(f"the environment has {name}={value}, which is no number; {how}")
    rank = int(os.environ["RANK"])
    if rank >= int(size):
        raise UserError(f"the environment has RANK={rank} and WORLD_SIZE={size}; {how}")
    return rank, int(size)
