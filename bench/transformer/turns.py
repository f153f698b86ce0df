"""What the programs of this folder share: records that are printed when it is their turn."""

import sys

if __name__ == "__main__":
    print("turns.py: error: no program; train_speed.py uses it", file=sys.stderr)
    sys.exit(2)

import json
from collections.abc import Callable

import torch


def take_turns(measure: Callable[[], dict], turns: bool) -> None:
    """Print the record of one measurement, or with `turns` one for each line that is read.

    With it are printed the threads and the version of PyTorch.
    """
    for _ in sys.stdin if turns else [None]:
        here = {"threads": torch.get_num_threads(), "torch": str(torch.__version__)}
        print(json.dumps({**measure(), **here}), flush=True)
