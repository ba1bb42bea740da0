"""Maps of images that are too large to compute at once, read window by window.

A `Map` stands for a tensor (N, C, H, W). A `Stored` one lies in memory or in a file; a `Layered` one is a layer that
waits on another map, and computes of it what a window asks for: each layer gets a window as wide as its reach, clipped
at the map's true borders, so that its own padding acts there and nowhere else. What it makes of a window's inner edges
is cut off again. Whatever the windows, the values are those of one pass over the whole, to rounding.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..kernels.layout import channels_last
from ..system.errors import TrainingError

DEEPEST = 48  # layers that wait on one another; more would read ever wider windows
SHALLOW = 12  # layers that are soon computed again


@dataclass(frozen=True)
class Limits:
    """How much memory maps take, in bytes.

    Attributes:
        tile: what the widest layer reads and writes of one tile, about.
        stored: a map that takes more lies in a temporary file (in the folder of `tempfile`) instead of on the device.
            Up to three are needed at a time.
        kept: a map that takes more, and is soon computed from what is kept, is computed each time that it is read.
    """

    tile: int = 32 * 2**20
    stored: int = 2**30
    kept: int = 2**33


@dataclass(frozen=True)
class Reach:
    """What a pixel of a layer's output depends on, along one side.

    Pixel o reads the input from o * down // up - before to o * down // up + after, where these are within the map.
    One of `down` and `up` is 1.
    """

    before: int = 0
    after: int = 0
    down: int = 1
    up: int = 1

    def behind(self, wanted: range, size: int) -> range:
        """The input, out of `size`, that `wanted` of the output depends on; it starts at a multiple of `down`."""
        first = wanted.start * self.down // self.up - self.before
        first = min(max(0, first), size - 1) // self.down * self.down
        last = (wanted.stop - 1) * self.down // self.up + self.after
        return range(first, max(first, min(last, size - 1)) + 1)

    def within(self, wanted: range, given: range) -> slice:
        """Where `wanted` lies in the output of `given` of the input."""
        start = given.start * self.up // self.down
        return slice(wanted.start - start, wanted.stop - start)


POINT = Reach()


class Map(ABC):
    """A tensor (N, C, H, W) of which windows are computed when they are read.

    Attributes:
        shape: its shape.
        dtype: of what is read.
        device: where it is read.
        limits: of memory.
        depth: how many layers wait on one another.
        load: the most numbers that one of these layers would read and write together for the whole map.
    """

    def __init__(
        self, shape: torch.Size, dtype: torch.dtype, device: torch.device, limits: Limits, depth: int, load: int
    ) -> None:
        self.shape, self.dtype, self.device, self.limits = shape, dtype, device, limits
        self.depth, self.load = depth, load

    @abstractmethod
    def read(self, rows: range, columns: range) -> Tensor:
        """A window, (N, C, len(rows), len(columns)), which of a `Stored` map is not to be changed."""

    def __len__(self) -> int:
        return self.shape[0]

    def new_zeros(self, shape: tuple[int, ...]) -> Tensor:
        """As a tensor's: what models make beside an image follows its type and device."""
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def tiles(self) -> Iterator[tuple[range, range]]:
        """Windows that cover it once, each as large as memory allows."""
        pixels = self.shape[2] * self.shape[3]
        height, width = tile_size(
            (self.shape[2], self.shape[3]), self.limits.tile * pixels // max(1, self.load * self.dtype.itemsize)
        )
        for top in range(0, self.shape[2], height):
            for left in range(0, self.shape[3], width):
                yield range(top, min(top + height, self.shape[2])), range(left, min(left + width, self.shape[3]))
                release()

    def seen(self, see: Callable[[Tensor], None]) -> Map:
        """The same map, of which `see` was shown every tile; kept, unless it is large and soon computed again."""
        size = self.shape.numel() * self.dtype.itemsize
        if size <= self.limits.kept or self.depth > SHALLOW:
            return self.stored(see)
        for rows, columns in self.tiles():
            see(self.read(rows, columns))
        return self

    def stored(self, see: Callable[[Tensor], None] | None = None) -> Stored:
        """All of it computed, tile by tile, and kept; `see` is shown each tile."""
        if isinstance(self, Stored) and see is None:
            return self
        target = None
        for rows, columns in self.tiles():
            tile = self.read(rows, columns)
            if target is None:
                target = empty(self.shape, tile, self.limits)
            target[:, :, rows.start : rows.stop, columns.start : columns.stop] = tile
            if see is not None:
                see(tile)
        assert target is not None, "a map has pixels"
        return Stored(target, self.device, self.limits)


class Stored(Map):
    """A map that is there.

    Args:
        tensor: (N, C, H, W), anywhere.
        device: where windows of it are wanted.
    """

    def __init__(self, tensor: Tensor, device: torch.device, limits: Limits = Limits()) -> None:
        super().__init__(tensor.shape, tensor.dtype, device, limits, 0, tensor.numel())
        self.tensor = tensor

    def read(self, rows: range, columns: range) -> Tensor:
        return self.tensor[:, :, rows.start : rows.stop, columns.start : columns.stop].to(self.device)


class Layered(Map):
    """What a layer makes of a map.

    Args:
        layer: a module, or a function of a tensor, that does the same everywhere but for its padding at the borders.
        height: its reach along height.
        width: likewise.
        keeps: whether the shape and type stay as they are.
    """

    def __init__(
        self,
        layer: Callable[[Tensor], Tensor],
        source: Map,
        height: Reach = POINT,
        width: Reach = POINT,
        *,
        keeps: bool = False,
    ) -> None:
        if source.depth >= DEEPEST:
            source = source.stored()
        like = source if keeps else _like(layer, source)
        load = max(source.load, source.shape.numel() + like.shape.numel())
        super().__init__(like.shape, like.dtype, source.device, source.limits, source.depth + 1, load)
        self.layer, self.source, self.height, self.width = layer, source, height, width

    def read(self, rows: range, columns: range) -> Tensor:
        above = self.height.behind(rows, self.source.shape[2])
        beside = self.width.behind(columns, self.source.shape[3])
        window = self.source.read(above, beside)
        if isinstance(self.source, Stored) and getattr(self.layer, "inplace", False):
            window = window.clone()
        found = self.layer(window)
        return found[:, :, self.height.within(rows, above), self.width.within(columns, beside)]


class Sum(Map):
    """The sum of two maps of one shape."""

    def __init__(self, one: Map, other: Map) -> None:
        load, depth = max(one.load, other.load, 2 * one.shape.numel()), max(one.depth, other.depth) + 1
        super().__init__(one.shape, torch.promote_types(one.dtype, other.dtype), one.device, one.limits, depth, load)
        self.one, self.other = one, other

    def read(self, rows: range, columns: range) -> Tensor:
        return self.one.read(rows, columns) + self.other.read(rows, columns)


def tile_size(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Height and width of tiles of at most so many pixels (or one): about square, and about even over the whole."""
    height, width = size
    tall = min(height, max(1, math.isqrt(pixels)))
    wide = min(width, max(1, pixels // tall))
    tall = min(height, max(1, pixels // wide))
    return math.ceil(height / math.ceil(height / tall)), math.ceil(width / math.ceil(width / wide))


def empty(shape: torch.Size, like: Tensor, limits: Limits) -> Tensor:
    """Room for a map of which `like` is a tile, with its type and layout: on its device, or in a file."""
    size = shape.numel() * like.dtype.itemsize
    if size <= limits.stored:
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format(like))
    flat = _file(size).view(like.dtype)
    n, c, h, w = shape
    if memory_format(like) == torch.channels_last:
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat.view(shape)


def memory_format(x: Tensor) -> torch.memory_format:
    """Whether a tensor's channels lie side by side, or its pixels."""
    return torch.channels_last if channels_last(x) else torch.contiguous_format


def _file(size: int) -> Tensor:
    """Bytes in a temporary file without a name, which is gone when nobody holds them any more."""
    with tempfile.TemporaryFile(prefix="unitkit-") as file:
        try:
            if hasattr(os, "posix_fallocate"):  # room that turns out to be missing later would end the process
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise TrainingError(
                f"{tempfile.gettempdir()} has no room for {size / 2**30:.1f} GiB of an image's maps "
                f"({error.strerror}): let TMPDIR name a folder on a larger disk"
            ) from None
        return torch.from_numpy(tracked(np.memmap(file, np.uint8, "r+", shape=(size,))))


def mapped(path: Path, shape: tuple[int, ...], dtype: str, header: bool) -> np.ndarray:
    """A new array in a file, with the header of an `.npy` or without. Raises `OSError`."""
    if header:
        return tracked(np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape))
    return tracked(np.memmap(path, dtype, "w+", shape=shape))


def release() -> None:
    """Let go of the memory in which parts of mapped files are; what is in them stays."""
    for each in list(_MAPPED):
        with suppress(ValueError, OSError):  # closed meanwhile
            each.madvise(mmap.MADV_DONTNEED)


def tracked(array: np.ndarray) -> np.ndarray:
    """An array that `release` knows of, if it lies in a file."""
    base: Any = array
    while isinstance(base, np.ndarray) and not isinstance(getattr(base, "_mmap", None), mmap.mmap):
        base = base.base
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        _MAPPED.add(base._mmap)
    return array


_MAPPED: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def _like(layer: Callable[[Tensor], Tensor], source: Map) -> Tensor:
    """What a layer would make of the whole, without its values."""
    if not isinstance(layer, nn.Module):
        return layer(torch.empty(source.shape, dtype=source.dtype, device="meta"))
    state = {name: t.to("meta") for name, t in (*layer.named_parameters(), *layer.named_buffers())}
    # Of the weights' type, as autocast would have it, which does not work on this device.
    dtype = next((t.dtype for t in state.values() if t.is_floating_point()), source.dtype)
    found: Tensor = functional_call(layer, state, (torch.empty(source.shape, dtype=dtype, device="meta"),))
    return found
