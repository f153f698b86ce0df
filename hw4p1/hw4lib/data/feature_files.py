"""Filter banks on disk, as the course lays them out: `<root>/<partition>/fbank/<name>.npy`.

A file holds decibels below the loudest value of its utterance, float32 (bins, frames): 0 is the
loudest, SILENCE the quietest. Bins come first, time second.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError

SILENCE = -80.0  # decibels
REMEDY = "make it again from its recording"


class FeatureFiles(Sequence):
    """The features (num_feats, T) of an utterance for each path, mapped from its file when asked.

    So 100 hours, 14.5 GB, need no memory; and no file stays open, as a process may have a thousand.
    `frames` has the T of each. UserError that names the file for one that is no array of
    real numbers with `num_feats` bins and at least one frame, or has other bins than the first.
    """

    def __init__(self, paths: list[Path], num_feats: int):
        self.paths, self.num_feats = paths, num_feats
        self.layouts = [_layout(path, num_feats) for path in paths]
        self.frames = [shape[1] for _, shape, _, _ in self.layouts]
        for path, (_, shape, _, _) in zip(paths, self.layouts, strict=True):
            first = self.layouts[0][1][0]
            if shape[0] != first:
                what = f"{shape[0]} bins, but {paths[0].name} has {first}"
                raise UserError(f"{path}: {what}; make both in the same way")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        dtype, shape, fortran, start = self.layouts[index]
        path = self.paths[index]
        try:
            array = np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
        except (OSError, ValueError) as error:  # it was cut or removed since it was looked at
            raise UserError(f"{path}: cannot be read any more ({error}); {REMEDY}") from None
        return array[: self.num_feats]


def checked(features: np.ndarray, path: Path) -> np.ndarray:
    """The features of a file, all of which are finite numbers. UserError that names it if not."""
    if not np.isfinite(features).all():
        bin_, frame = np.argwhere(~np.isfinite(features))[0]
        what = f"bin {bin_} of frame {frame} is {features[bin_, frame]}"
        raise UserError(f"{path}: {what}, no finite number; {REMEDY}")
    return features


def _layout(path: Path, num_feats: int) -> tuple[np.dtype, tuple[int, int], bool, int]:
    """Type, shape, order and first byte of the array in a file, by its header."""
    try:
        with open(path, "rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("not of the format 1.0")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=1000)
            start, size = file.tell(), os.fstat(file.fileno()).st_size
    except Exception as error:  # what NumPy raises for a damaged file is of many classes
        raise UserError(f"{path}: not a .npy file ({str(error)[:100]}); {REMEDY}") from None
    if dtype.kind != "f" or len(shape) != 2:
        what = f"an array of {dtype} and shape {shape}"[:100]
        raise UserError(f"{path}: {what}; features are floats (bins, frames)")
    if dtype.itemsize * shape[0] * shape[1] != size - start:
        raise UserError(f"{path}: of another size than its header says; {REMEDY}")
    _check_shape(path, shape, num_feats)
    return dtype, shape, fortran, start


def _check_shape(path: Path, shape: tuple[int, int], num_feats: int) -> None:
    """UserError for features that are transposed, of too few bins or of no frames."""
    if shape[1] == num_feats != shape[0]:
        raise UserError(f"{path}: {shape} has time first; features are (bins, frames), transpose")
    if shape[0] < num_feats:
        why = f"{shape[0]} bins, but data.num_feats is {num_feats}"
        raise UserError(f"{path}: {why}; correct one of them")
    if shape[1] == 0:
        raise UserError(f"{path}: no frames; remove the utterance")
