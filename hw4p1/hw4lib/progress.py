"""Progress bars on standard error, and warnings that do not spoil them."""

import contextlib
import shutil
import sys

from tqdm import tqdm

from .output import Outlived, folded

ROOM = 75  # columns that a bar, rates and a loss take


def progress_bar(*items, title: str, **more) -> tqdm:
    """tqdm's; without the bar itself on a terminal that is too narrow for all that it shows."""
    if sys.stderr.isatty() and shutil.get_terminal_size().columns < ROOM:
        more["bar_format"] = "{desc}: {n_fmt}/{total_fmt}, {remaining} left{postfix}"
    return tqdm(*items, desc=title, file=Outlived(sys.stderr), **more)


def warn(line: str) -> None:
    """Print a warning above the bars, if anybody is there to read it."""
    with contextlib.suppress(OSError, ValueError):
        tqdm.write(folded(f"warning: {line}", sys.stderr), file=sys.stderr)
