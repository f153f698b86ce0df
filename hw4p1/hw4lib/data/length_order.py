"""Batches of similar length, so that little of them is padding."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

# Batches that are sorted together: enough that each is even, few enough that they differ between
# epochs.
POOL = 50


class LengthOrder(Sampler[int]):
    """An order in which the sequences of each batch have similar lengths.

    A `sampler` for a DataLoader.

    With `shuffle` it is random, in each epoch anew, from torch's global generator; else the longest
    come first.
    """

    def __init__(self, lengths: list[int], batch_size: int, shuffle: bool):
        self.lengths, self.batch_size, self.shuffle = torch.tensor(lengths), batch_size, shuffle

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """All indices, once each."""
        if not self.shuffle:
            return iter(self.lengths.argsort(descending=True, stable=True).tolist())
        order = torch.randperm(len(self))
        whole = len(self) - len(self) % self.batch_size  # what does not fill a batch comes last
        batches: list[torch.Tensor] = []
        for pool in order[:whole].split(POOL * self.batch_size):
            batches += pool[self.lengths[pool].argsort()].split(self.batch_size)
        shuffled = [batches[i] for i in torch.randperm(len(batches))]
        return iter(torch.cat([*shuffled, order[whole:]]).tolist())
