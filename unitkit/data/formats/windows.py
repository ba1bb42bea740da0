"""Pictures read window by window, so that one larger than memory can be translated, and written likewise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import tifffile

from ...networks.maps import mapped, release, tracked
from ...system.errors import UserError
from ...system.files import replacing, temporary
from ..values import supported
from .header import ARRAYS, MAX_PIXELS, TIFF, Header, suffix_of
from .npy import axes_for, images_of, in_order
from .tags import kept_tags
from .tiff_windows import TiffWindows

TILE = 512  # of what is written


class Windows(Protocol):
    """A picture of which windows are read.

    Attributes:
        shape: (C, H, W).
        dtype: as in `data.values`.
    """

    shape: tuple[int, int, int]
    dtype: str

    def read(self, rows: range, columns: range) -> np.ndarray:
        """A window (C, len(rows), len(columns))."""


class ArrayWindows:
    """Those of one image of an `.npy`."""

    def __init__(self, path: Path, channels: int | None = None) -> None:
        self.path, self.image = path, tracked(images_of(path, channels)[0])
        self.shape = self.image.shape
        self.dtype = str(supported(self.image[:0], str(path)).dtype)

    def read(self, rows: range, columns: range) -> np.ndarray:
        window = self.image[:, rows.start : rows.stop, columns.start : columns.stop]
        return supported(np.array(window, order="C"), str(self.path))


def windows_of(path: Path, channels: int | None = None) -> Windows:
    """The windows of a picture. Raises `UserError` for a format of which none can be read."""
    if suffix_of(path) in TIFF:
        return TiffWindows(path)
    if suffix_of(path) in ARRAYS:
        found: Windows = ArrayWindows(path, channels)
        return found
    raise UserError(f"'{path}' is read whole alone: save it as a .tif in tiles, or as .npy")


def has_windows(path: Path) -> bool:
    """Whether files of this suffix are read, and written, by windows."""
    return suffix_of(path) in (*TIFF, *ARRAYS)


def refuse_too_large(path: Path, header: Header) -> None:
    """Raise `UserError` for an image that is too large to be read whole, and of which no windows can be read."""
    if not header.large:
        return
    if max(header.width, header.height) >= 2**31:
        raise UserError(f"the image '{path}' announces {header.width}x{header.height} pixels: remove it")
    what = f"the image '{path}' of {header.width}x{header.height} has more than {MAX_PIXELS // 10**6} million pixels"
    if header.frames > 1:
        raise UserError(f"{what}, of which the file holds {header.frames} images: save each in one of its own")
    if not has_windows(path):
        raise UserError(f"{what}: scale it down, or save it as a .tif in tiles, or as .npy")
    windows_of(path)


def refuse_unwritable_windows(path: Path, height: int, width: int) -> None:
    """Raise `UserError` for a file that no picture larger than memory is written to."""
    if not has_windows(path):
        raise UserError(f"a picture of {height}x{width} is written as .tif or .npy, not as {path}")


@lru_cache(maxsize=4)
def _opened(path: Path, changed: int) -> Windows:
    return windows_of(path)


def read_window(path: Path, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """A window (C, *size) of a picture, whose corner is (top, left), or as near as the picture allows.

    Raises `UserError` for a picture that is smaller, and as `windows_of`.
    """
    picture = _opened(path, path.stat().st_mtime_ns)
    rows, columns = (
        range(min(first, length - wanted), min(first, length - wanted) + wanted)
        for first, length, wanted in zip(corner, picture.shape[1:], size, strict=True)
    )
    if rows.start < 0 or columns.start < 0:
        raise UserError(f"'{path}' of {picture.shape[1]}x{picture.shape[2]} has no windows of {size[0]}x{size[1]}")
    return picture.read(rows, columns)


Write = Callable[[range, range, np.ndarray], None]


def write_windows(
    path: Path, shape: tuple[int, int, int], dtype: str, work: Callable[[Write], None], like: Path | None = None
) -> os.stat_result:
    """Write a picture (C, H, W) that is made window by window, whole or not at all, as `.tif` in tiles or `.npy`.
    Returns the file's status.

    Args:
        work: is given a function that takes rows, columns and a window (C, h, w), in any order.
        like: the file whose resolution and place on the earth a TIFF keeps, and whose order of axes an array.

    Raises:
        UserError: another format; a disk that refuses.
    """
    channels, height, width = shape
    refuse_unwritable_windows(path, height, width)
    with replacing(path) as file, temporary(path.parent) as place:
        array = suffix_of(path) in ARRAYS
        axes = axes_for(shape, 1, like) if array else "HWC"
        sizes = dict(zip("NCHW", (1, *shape), strict=True))
        sink = in_order(mapped(file if array else place, tuple(sizes[axis] for axis in axes), dtype, array), axes)[0]

        def write(rows: range, columns: range, window: np.ndarray) -> None:
            sink[:, rows.start : rows.stop, columns.start : columns.stop] = window
            release()

        work(write)
        if suffix_of(path) in TIFF:
            rgb = channels == 3 and np.dtype(dtype).kind == "u"
            tifffile.imwrite(
                file,
                _tiles(sink.transpose(1, 2, 0)),
                shape=(height, width, channels) if channels > 1 else (height, width),
                dtype=dtype,
                tile=(TILE, TILE),
                photometric="rgb" if rgb else "minisblack",
                planarconfig="contig" if channels > 1 else None,
                compression="zlib",
                predictor=True,
                bigtiff=sink.nbytes > 2**31,
                metadata=None,
                **kept_tags(like, channels),
            )
        return file.stat()


def _tiles(sink: np.ndarray) -> Iterator[np.ndarray]:
    height, width, channels = sink.shape
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = np.zeros((TILE, TILE, channels), sink.dtype)
            part = sink[top : top + TILE, left : left + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            release()
            yield tile if channels > 1 else tile[..., 0]
