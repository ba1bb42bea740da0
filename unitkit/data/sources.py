"""One split of one domain: images from files or from an array, all brought to one size and number of channels."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import UserError
from .decode import decode, fit, to_array, to_image


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
    """Image files, decoded when they are asked for."""

    paths: Sequence[Path]
    channels: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        return str(self.paths[i])

    def load(self, i: int) -> np.ndarray:
        return decode(self.paths[i], self.channels, self.size)

    def fingerprint(self) -> str:
        """Over the files' names, sizes and times of change, not their folder: a folder may move."""
        stats = [(path.name, os.stat(path)) for path in self.paths]
        return digest(*((name, s.st_size, s.st_mtime_ns) for name, s in stats))

    def at(self, size: tuple[int, int]) -> ImageFiles:
        return replace(self, size=size)


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
        picture = to_image(self.array[self.rows[i]]).convert("L" if self.channels == 1 else "RGB")
        return to_array(fit(picture, self.size))

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
