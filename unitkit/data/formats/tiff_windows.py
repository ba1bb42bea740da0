"""Windows of a TIFF of one image: of its tiles or strips only those are decoded that a window needs."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ...system.errors import UserError
from ...system.sizes import show_size
from ..files.bounds import UNPACKED
from ..files.walk import TILE
from .pages import Segments, pages_of
from .samples import as_seen
from .tiff import layout_of, reading
from .turns import stored_window, turned

CACHED = 2**27  # bytes of decoded tiles of a file
ROWS = 2**20  # bytes of an uncompressed strip that are read at once
SPARSE = 1000  # times that a picture may be larger than its file, whose tiles may be left out


class TiffWindows:
    """Those of a TIFF in tiles or in strips, with a page for all channels or one for each.

    Raises `UserError` for a file that is damaged, holds several images, is far too small for what it announces, or
    whose strips cannot be decoded one by one.
    """

    def __init__(self, path: Path) -> None:
        with reading(path):
            self._open(path)

    def _open(self, path: Path) -> None:
        layout, found = layout_of(path, path.stat().st_mtime_ns), pages_of(path)
        header, self.look, self.path, self.page = layout.header, layout.look, path, found.keyframe
        if len(layout.pages) != 1:
            raise UserError(f"'{path}' holds {len(layout.pages)} images: expected one, to read windows")
        self.segments = [found.segments[int(number)] for number in layout.pages[0]]
        self.size = height, width = self.page.imagelength, self.page.imagewidth
        self.shape, self.dtype = (header.channels, header.height, header.width), header.dtype
        announced, size = math.prod(self.shape) * self.page.dtype.itemsize, path.stat().st_size
        if announced > max(UNPACKED, SPARSE * size):
            raise UserError(
                f"'{path}' announces {show_size(announced)} in {show_size(size)} of a file, more than {SPARSE} times "
                f"as much, as damaged or malicious files do: save it anew, or remove it"
            )
        tiled = self.page.is_tiled
        self.tall = self.page.tilelength if tiled else min(self.page.rowsperstrip, height)
        self.wide = self.page.tilewidth if tiled else width
        self.across, self.down = math.ceil(width / self.wide), math.ceil(height / self.tall)
        self.planes = self.page.samplesperpixel if self.page.planarconfig == 2 else 1
        self.samples = self.page.samplesperpixel // self.planes
        self.row = self.wide * self.samples * self.page.dtype.itemsize  # bytes, where nothing is packed
        plain = self._plain()
        self.step = max(1, min(self.tall, ROWS // self.row)) if plain else self.tall  # rows that are read at once
        if not plain and self.tall * self.wide > TILE:
            raise UserError(
                f"'{path}' is packed in strips of {self.wide}x{self.tall} pixels, each of which is decoded whole: save "
                f"it in tiles, or without compression"
            )
        self.file, self.lock = tifffile.TiffFile(path), threading.Lock()
        self.decoded: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self.room = CACHED

    def read(self, rows: range, columns: range) -> np.ndarray:
        """A window (C, len(rows), len(columns))."""
        pages = self._stored(*stored_window(rows, columns, self.size, self.look.orientation))
        seen = np.concatenate([as_seen(page, self.look, str(self.path)) for page in pages])
        return np.ascontiguousarray(turned(seen, self.look.orientation))

    def _stored(self, rows: range, columns: range) -> list[np.ndarray]:
        """A window (samples, h, w) of each page as it is stored."""
        of_page = self.planes * self.samples
        found = np.zeros((len(self.segments) * of_page, len(rows), len(columns)), self.page.dtype)
        for strip, top in self._tops(rows):
            for across in range(columns.start // self.wide, (columns.stop - 1) // self.wide + 1):
                for number in range(len(self.segments) * self.planes):
                    page, plane = divmod(number, self.planes)
                    tile = self._tile(page, (plane * self.down + strip) * self.across + across, top)
                    left, first = across * self.wide, page * of_page + plane
                    ys = range(max(rows.start, top), min(rows.stop, top + tile.shape[1]))
                    xs = range(max(columns.start, left), min(columns.stop, left + tile.shape[2]))
                    found[
                        first : first + self.samples,
                        ys.start - rows.start : ys.stop - rows.start,
                        xs.start - columns.start : xs.stop - columns.start,
                    ] = tile[:, ys.start - top : ys.stop - top, xs.start - left : xs.stop - left]
        return np.split(found, len(self.segments))

    def _plain(self) -> bool:
        """Whether the rows of a strip lie in the file as they are."""
        page = self.page
        whole = page.bitspersample == 8 * page.dtype.itemsize and page.predictor == 1 and page.fillorder == 1
        return bool(not page.is_tiled and page.compression == 1 and whole and not page.is_subsampled)

    def _tops(self, rows: range) -> Iterator[tuple[int, int]]:
        """Which tiles or strips rows lie in, and the first row of each, or of each part that is read at once."""
        row = rows.start
        while row < rows.stop:
            strip, within = divmod(row, self.tall)
            top = strip * self.tall + within // self.step * self.step
            yield strip, top
            row = min(top + self.step, (strip + 1) * self.tall)

    def _tile(self, page: int, index: int, top: int) -> np.ndarray:
        """A decoded tile, strip, or part of a strip that begins at a row, (samples, h, w)."""
        with self.lock:
            if (key := (page, index, top)) in self.decoded:
                self.decoded.move_to_end(key)
                return self.decoded[key]
            with reading(self.path):
                tile = self._decoded(self.segments[page], index, top)
            self.decoded[key] = tile
            self.room -= tile.nbytes
            while self.room < 0 and len(self.decoded) > 1:
                self.room += self.decoded.popitem(last=False)[1].nbytes
            return tile

    def _decoded(self, segments: Segments, index: int, top: int) -> np.ndarray:
        offset, count = segments.offsets[index], segments.counts[index]
        strip = top // self.tall * self.tall
        high = min(self.step, strip + self.tall - top, self.size[0] - top)
        if not count:  # left out, as of what is all one value
            return np.full((self.samples, self.tall if self.page.is_tiled else high, self.wide), self.page.nodata)
        if self.step < self.tall:
            data = self._bytes(offset + (top - strip) * self.row, high * self.row)
            kind = self.page.dtype.newbyteorder(self.file.byteorder)
            part = np.frombuffer(data, kind).reshape(high, self.wide, self.samples)
            return part.transpose(2, 0, 1).astype(self.page.dtype)
        decoded: Any = self.page.decode(
            self._bytes(offset, count), index, jpegtables=segments.tables, jpegheader=self.page.jpegheader
        )
        found: np.ndarray = decoded[0][0].transpose(2, 0, 1)
        return found

    def _bytes(self, offset: int, count: int) -> bytes:
        handle = self.file.filehandle
        handle.seek(offset)
        data: bytes = handle.read(count)
        if len(data) < count:
            raise ValueError(f"its data end {count - len(data)} bytes early")
        return data
