"""One split of one domain: images from files or from an array, all brought to one size and number of channels."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ..system.errors import UserError
from .files.decode import decode, fit, to_array, to_image
from .folders.listing import Paths, key_of


class Images(Protocol):
    """The images of one split of one domain, by index; any object with these members is a source of training data."""

    @property
    def channels(self) -> int:
        """1 or 3."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every image."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What an error or a report calls image `i`: its path, say."""

    def load(self, i: int) -> np.ndarray:
        """Image `i`, uint8 (channels, H, W). Called from several threads. Raises `UserError` naming a broken file."""

    def fingerprint(self) -> str:
        """A short hash that changes when the images do."""

    def at(self, size: tuple[int, int]) -> Images:
        """The same images at another size (H, W)."""


def digest(*parts: object) -> str:
    """A hash of 16 hexadecimal digits over the parts' text, or over their bytes where they are arrays."""
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        total.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else os.fsencode(f"{part}\0"))
    return total.hexdigest()


@dataclass(frozen=True)
class ImageFiles:
    """Image files, decoded when they are asked for.

    Attributes:
        keys: what the files of one scene have in common in several domains or sets: the path below the domain's folder
            without its suffix. Where none are given, below the deepest folder that holds all files.
        broken: the images, by index, whose headers cannot be read, and why.
        short: JPEGs that lack their last bytes and are used all the same; `load` fills it in.
        marks: the files' sizes and times as of `FileSet`; without them `fingerprint` asks the disk.
    """

    paths: Sequence[Path]
    channels: int
    size: tuple[int, int]
    keys: Sequence[str] = ()
    broken: Mapping[int, UserError] = field(default_factory=dict)
    short: list[Path] = field(default_factory=list, compare=False)
    marks: np.ndarray | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.paths and not self.keys:
            root = os.path.commonpath([path.parent for path in self.paths])
            object.__setattr__(self, "keys", [key_of(path.relative_to(root)) for path in self.paths])

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        return str(self.paths[i])

    def load(self, i: int) -> np.ndarray:
        return decode(self.paths[i], self.channels, self.size, self.short)

    def fingerprint(self) -> str:
        """Over the files' names, sizes and times of change, not their folder: a folder may move."""
        if self.marks is None:
            return digest(*(_trace(path) for path in self.paths))
        names = self.paths.names if isinstance(self.paths, Paths) else map(str, self.paths)
        rows = zip(map(os.path.basename, names), self.marks.tolist(), strict=True)
        return digest("\0".join([str((name, size, written)) for name, (size, written, _) in rows]))

    def at(self, size: tuple[int, int]) -> ImageFiles:
        return replace(self, size=size)

    def pick(self, rows: Sequence[int]) -> ImageFiles:
        """Only these of its images."""
        keys = [self.keys[i] for i in rows]
        broken = {new: self.broken[old] for new, old in enumerate(rows) if old in self.broken}
        marks = None if self.marks is None else self.marks[rows]
        return replace(self, paths=[self.paths[i] for i in rows], keys=keys, broken=broken, marks=marks)


def _trace(path: Path) -> tuple[object, ...]:
    try:
        status = os.stat(path)
    except OSError:  # gone since the data were opened, which must not end a training that has decoded it
        return path.name, None
    return path.name, status.st_size, status.st_mtime_ns


class ImageArray:
    """Images of one array: (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3.

    Integers of 8 or 16 bits are spread over 0..255 from their type's whole range, floats from [0, 1]; other values
    raise `UserError`. `label` names the array in messages; `size` and `channels` default to the array's own.
    """

    def __init__(
        self,
        array: np.ndarray,
        label: str,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
    ) -> None:
        self.array = _to_bytes(_channels_first(array, label), label)
        self.label = label
        self.size = size or (self.array.shape[2], self.array.shape[3])
        self.channels = channels or self.array.shape[1]
        self.rows = np.arange(len(self.array))

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        return f"{self.label}[{self.rows[i]}]"

    def load(self, i: int) -> np.ndarray:
        image = to_image(self.array[self.rows[i]]).convert("L" if self.channels == 1 else "RGB")
        return to_array(fit(image, self.size))

    def fingerprint(self) -> str:
        return digest(self.array.shape, self.array[self.rows])

    def at(self, size: tuple[int, int], channels: int | None = None) -> ImageArray:
        """The same images at another size (H, W), and in grey (1) or RGB (3) where `channels` says so."""
        other = copy.copy(self)
        other.size, other.channels = size, channels or self.channels
        return other

    def pick(self, rows: np.ndarray) -> ImageArray:
        """Only these of its images."""
        other = copy.copy(self)
        other.rows = self.rows[rows]
        return other


def _channels_first(array: np.ndarray, label: str) -> np.ndarray:
    if array.size and array.ndim == 3:
        return array[:, None]
    if array.size and array.ndim == 4 and array.shape[3] in (1, 3):
        return array.transpose(0, 3, 1, 2)
    if array.size and array.ndim == 4 and array.shape[1] in (1, 3):
        return array
    raise UserError(f"'{label}' has shape {array.shape}: expected images (N,H,W), (N,H,W,C) or (N,C,H,W), C 1 or 3")


def _to_bytes(array: np.ndarray, label: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # a NaN fails this too
            raise UserError(f"'{label}' holds {array.dtype} values {low:.4g}..{high:.4g}: expected [0, 1], or uint8")
        return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 2:
        if low < 0:
            raise UserError(f"'{label}' holds negative values (from {low}): shift them to 0 or above, or save as uint8")
        return np.rint(array * np.float32(255 / np.iinfo(array.dtype).max)).astype(np.uint8)
    raise UserError(f"'{label}' holds {array.dtype}: expected uint8, 16-bit integers, or floats in [0, 1]")
