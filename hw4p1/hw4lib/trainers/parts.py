"""A batch in parts, where all of it would take too much memory at once."""

from collections.abc import Callable, Iterator

from torch import Tensor

FLOATS = 2**27  # numbers that a tensor may have, if it can be done in parts: half a gigabyte


def row_groups(
    lengths: Tensor, floats: Callable[[int], int], most: int
) -> Iterator[tuple[Tensor, int]]:
    """Rows of a batch in groups, each with the length of its longest, the longest come first.

    A group of rows of length T has no tensor of more than `most` numbers, of which a row needs
    `floats(T)`; it has one row at least. So a long sequence beside short ones takes what it has
    itself, and not its length for each of them.
    """
    order = lengths.argsort(descending=True, stable=True)
    while len(order):
        longest = int(lengths[order[0]])
        rows, order = order.tensor_split([max(1, most // floats(longest))])
        yield rows, longest
