"""What a location's domains are read as, and the test split of one that has none: one image in ten by its name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np

from ...system.errors import UserError
from ..digits.arrays import Arrays
from ..sources import Rows
from .listing import FileSet

Raw = FileSet | Rows
Splits = tuple[Raw, Raw]
Readers = dict[str, Callable[[], Splits]]

SHARE = 0.1


def hold_out(names: Sequence[str]) -> np.ndarray:
    """Which of the images go to the test split: 1 in 10 by a hash of the name, a boolean per name.

    A name's side does not depend on the other names, so images that are added later move none across; only where one
    of the two sides would be empty does the name nearest to it go there.
    """
    places = np.array([int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6]) / 2**48 for name in names])
    different = np.unique(places)
    held: np.ndarray = places <= min(max(SHARE, different[0]), different[-2])
    return held


def split_files(files: FileSet, source: object) -> Splits:
    """By the keys, so that the two of a pair, satellite/0001.jpg and map/0001.png, stay on one side."""
    held = _held_out(files.keys, str(source))
    train, test = files.pick(np.flatnonzero(~held).tolist()), files.pick(np.flatnonzero(held).tolist())
    train.passed.update(files.passed)
    return train, test


def split_arrays(read: Callable[[], Arrays]) -> Splits:
    """The splits that `read` gives, or those of its only one by the rows' numbers."""
    train, test = read()
    if test is not None:
        return train, test
    held = _held_out([str(i) for i in range(len(train))], train.label)
    return train.pick(~held), train.pick(held)


def _held_out(names: Sequence[str], source: str) -> np.ndarray:
    if len(set(names)) < 2:
        raise UserError(f"'{source}' has {len(set(names))} image: it takes at least 2, one to train on and one to test")
    return hold_out(names)
