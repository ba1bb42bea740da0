"""The pages of a TIFF: its directories are read once for all of its images, of which a stack has many."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import tifffile

from ...system.errors import UserError
from ..files.bounds import open_ordinary
from ..files.walk import TooMuch, check_directories


class Segments(NamedTuple):
    """Where the strips or tiles of a page lie in the file, and the tables of those that are JPEG."""

    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    tables: bytes | None


class Pages(NamedTuple):
    """The pages of a file's first series.

    Attributes:
        first: the file's first page.
        keyframe: the page that says what all of them are.
        segments: of each.
    """

    first: Any
    keyframe: Any
    segments: tuple[Segments, ...]

    def read(self, path: Path, numbers: Sequence[int]) -> list[Any]:
        """The arrays of some pages, as `keyframe.axes` say."""
        found = []
        with tifffile.TiffFile(path) as file:  # which looks at its first page alone
            for number in numbers:
                offsets, counts, tables = self.segments[number]
                page: Any = tifffile.TiffFrame(
                    file, number, keyframe=self.keyframe, dataoffsets=offsets, databytecounts=counts
                )
                page.jpegtables = tables
                found.append(page.asarray())
        return found


@contextmanager
def opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """A file whose directories are as they may be. Raises `UserError` for one of which they are not."""
    with open_ordinary(path, "an image file") as file:
        try:
            check_directories(lambda at, count: os.pread(file.fileno(), count, at), os.fstat(file.fileno()).st_size)
        except (TooMuch, OverflowError) as error:
            raise UserError(f"the image '{path}' {error}: save it anew, or remove it") from None
    with tifffile.TiffFile(path) as found:
        yield found


def pages_of(path: Path) -> Pages:
    """The pages of a file, from memory where it is as it was. Raises as tifffile does, and as `opened`."""
    status = os.stat(path)
    return _pages(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _pages(path: Path, size: int, changed: int) -> Pages:
    with opened(path) as file:
        series: Any = file.series[0]
        segments = tuple(
            Segments(tuple(page.dataoffsets), tuple(page.databytecounts), page.jpegtables) for page in series.pages
        )
        keyframe: Any = series.keyframe
        _ = keyframe.decode, keyframe.nodata  # which are made when they are asked for, while the file is open
        return Pages(file.pages.first, keyframe, segments)
