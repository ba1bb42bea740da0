"""One split of one domain: images from files or from an array, all brought to one size and number of channels."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from ..system.errors import UserError
from .files.decode import decode
from .files.scale import fit, fit_array, to_array, to_image
from .folders.listing import Frame, Paths, key_of
from .formats.windows import read_window
from .values import BYTES, CHANNELS, Values, in_channels, supported, values_of


class Images(Protocol):
    """The images of one split of one domain, by index; any object with these members is a source of training data.

    One whose images are no bytes has `values` besides, which says what they are.
    """

    @property
    def channels(self) -> int:
        """Of every image."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every image."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What an error or a report calls image `i`: its path, say."""

    def load(self, i: int) -> np.ndarray:
        """Image `i`, (channels, H, W), uint8 or the type of `values`. Called from several threads. Raises `UserError`
        naming a broken file."""

    def fingerprint(self) -> str:
        """A short hash that changes when the images do."""

    def at(self, size: tuple[int, int]) -> Images:
        """The same images at another size (H, W)."""


class Rows(Images, Protocol):
    """Images that lie in rows, of an array say, and can be had with other channels and values."""

    label: str
    values: Values

    def unscaled(self, i: int) -> np.ndarray:
        """Image `i` of its own size."""

    def at(self, size: tuple[int, int], channels: int | None = None, values: Values | None = None) -> Rows: ...


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
        values: the type that images are brought to, and what it means.
        frames: which image of its file each is, or the corner (top, left) of its window in one that is too large to be
            read whole; none where every file holds one.
        broken: the images, by index, whose headers cannot be read, and why.
        window: (H, W) of windows, which are scaled to other sizes as images are: a larger window of a training image
            would reach into held-out ones.
        short: JPEGs that lack their last bytes and are used all the same; `load` fills it in.
        marks: the files' sizes and times as of `FileSet`; without them `fingerprint` asks the disk.
    """

    paths: Sequence[Path]
    channels: int
    size: tuple[int, int]
    keys: Sequence[str] = ()
    values: Values = BYTES
    frames: Sequence[Frame] = ()
    window: tuple[int, int] = (0, 0)
    broken: Mapping[int, UserError] = field(default_factory=dict)
    short: list[Path] = field(default_factory=list, compare=False)
    marks: np.ndarray | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.window == (0, 0):
            object.__setattr__(self, "window", self.size)
        if self.paths and not self.keys:
            root = os.path.commonpath([path.parent for path in self.paths])
            object.__setattr__(self, "keys", [key_of(path.relative_to(root)) for path in self.paths])

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        if not self.frames:
            return str(self.paths[i])
        frame = self.frames[i]
        return f"{self.paths[i]}[{'{},{}'.format(*frame) if isinstance(frame, tuple) else frame}]"

    def load(self, i: int) -> np.ndarray:
        if not self.values.whole:  # floats are mended before they are scaled, where one that is no number would spread
            return fit_array(self.unscaled(i), self.size)
        return self.values.stored(self._decoded(i, self.size), self.name(i))

    def unscaled(self, i: int) -> np.ndarray:
        """Image `i` of the size that it has in its file, or as a window."""
        return self.values.stored(self._decoded(i, None), self.name(i))

    def _decoded(self, i: int, size: tuple[int, int] | None) -> np.ndarray:
        frame = self.frames[i] if self.frames else 0
        if isinstance(frame, tuple):
            window = in_channels(read_window(self.paths[i], frame, self.window), self.channels, self.name(i))
            return window if size is None else fit_array(window, size)
        return decode(self.paths[i], self.channels, size, self.short, frame)

    def fingerprint(self) -> str:
        """Over the files' names, sizes and times of change, not their folder: a folder may move."""
        more = (*self.frames, *_meaning(self.values))
        if self.marks is None:
            return digest(*(_trace(path) for path in self.paths), *more)
        names = self.paths.names if isinstance(self.paths, Paths) else map(str, self.paths)
        rows = zip(map(os.path.basename, names), self.marks.tolist(), strict=True)
        return digest("\0".join([str((name, size, written)) for name, (size, written, _) in rows]), *more)

    def at(self, size: tuple[int, int]) -> ImageFiles:
        return replace(self, size=size)

    def pick(self, rows: Sequence[int]) -> ImageFiles:
        """Only these of its images."""
        keys = [self.keys[i] for i in rows]
        broken = {new: self.broken[old] for new, old in enumerate(rows) if old in self.broken}
        frames = [self.frames[i] for i in rows] if self.frames else ()
        marks = None if self.marks is None else self.marks[rows]
        paths = [self.paths[i] for i in rows]
        return replace(self, paths=paths, keys=keys, frames=frames, broken=broken, marks=marks)


def _trace(path: Path) -> tuple[object, ...]:
    try:
        status = os.stat(path)
    except OSError:  # gone since the data were opened, which must not end a training that has decoded it
        return path.name, None
    return path.name, status.st_size, status.st_mtime_ns


def _meaning(values: Values) -> tuple[object, ...]:
    """What of the values a fingerprint is made of: nothing of bytes, whose data have older ones."""
    return () if values == BYTES else (values,)


class ImageArray:
    """Images of one array: (N, H, W), (N, H, W, C) or (N, C, H, W), of numbers.

    `label` names the array in messages; `size` and `channels` default to the array's own, as do `values`, of which the
    range has yet to be told where the array holds no bytes.
    """

    def __init__(
        self,
        array: np.ndarray,
        label: str,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
    ) -> None:
        self.array = supported(_channels_first(array, label), label)
        self.label = label
        self.size = size or (self.array.shape[2], self.array.shape[3])
        self.channels = channels or self.array.shape[1]
        self.rows = np.arange(len(self.array))
        self.values = BYTES if self.array.dtype == np.uint8 else Values(str(self.array.dtype))

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        return f"{self.label}[{self.rows[i]}]"

    def load(self, i: int) -> np.ndarray:
        array = self.array[self.rows[i]]
        if array.dtype == np.uint8 and len(array) in (1, 3) and self.values == BYTES:
            return to_array(fit(to_image(in_channels(array, self.channels, self.name(i))), self.size))
        return fit_array(self.unscaled(i), self.size)

    def unscaled(self, i: int) -> np.ndarray:
        """Image `i` of the array's size."""
        name = self.name(i)
        return self.values.stored(in_channels(self.array[self.rows[i]], self.channels, name), name)

    def fingerprint(self) -> str:
        return digest(self.array.shape, self.array[self.rows], *_meaning(self.values))

    def at(self, size: tuple[int, int], channels: int | None = None, values: Values | None = None) -> ImageArray:
        """The same images at another size (H, W), in grey (1) or RGB (3) where `channels` says so, or as `values`."""
        other = copy.copy(self)
        other.size, other.channels, other.values = size, channels or self.channels, values or self.values
        return other

    def in_bytes(self) -> ImageArray:
        """The same images in 8 bits, from floats in [0, 1] or from all of 16 bits.

        Raises `UserError` for other values.
        """
        if self.array.dtype == np.uint8:
            return self
        low, high = self.array.min(), self.array.max()
        top = 65535 if self.array.dtype == np.uint16 else 1
        if not (low >= 0 and high <= top):  # a NaN fails this too
            found = f"{self.array.dtype} values {low:.4g}..{high:.4g}"
            raise UserError(f"'{self.label}' holds {found}: expected [0, 1], or uint8")
        return ImageArray(np.rint(self.array * np.float32(255 / top)).astype(np.uint8), self.label).pick(self.rows)

    def pick(self, rows: np.ndarray) -> ImageArray:
        """Only these of its images."""
        other = copy.copy(self)
        other.rows = self.rows[rows]
        return other


def as_values(images: Images, values: Values) -> Images:
    """The images with values of another type or meaning; those of a source that knows none stay as they are."""
    if values_of(images) == values:
        return images
    if isinstance(images, ImageFiles):
        return replace(images, values=values)
    return cast(Rows, images).at(images.size, values=values) if hasattr(images, "values") else images


def _channels_first(array: np.ndarray, label: str) -> np.ndarray:
    if array.size and array.ndim == 3:
        return array[:, None]
    if array.size and array.ndim == 4:
        first, last = array.shape[1], array.shape[3]
        # Grey and RGB before all other numbers of channels; of those the shorter axis.
        last_is = last in (1, 3) or (first not in (1, 3) and last <= first)
        if (last if last_is else first) <= CHANNELS:
            return array.transpose(0, 3, 1, 2) if last_is else array
    raise UserError(
        f"'{label}' has shape {array.shape}: expected images (N,H,W), (N,H,W,C) or (N,C,H,W), C at most {CHANNELS}"
    )
