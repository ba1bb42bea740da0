"""A run's sample grids as a page can hold them: evenly spread ones, small, and the last one whole."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from ..samples import Layout, layout_of, name_of, sentence_of
from ..steps import step_of

MOST = 40  # grids in a page
LARGEST = 6_600_000  # characters of all of them
SMALL, WHOLE = 100_000, 1_000_000  # bytes of a grid, and of the last one
SIDE = 128  # pixels of an image to which grids that are too large are reduced
LEAST = 16  # pixels to which they are reduced at least
LONGEST = 65_000  # pixels of a side that JPEG can hold
COLUMNS = 8  # of a grid that does not say it
QUALITY = 88


@dataclass(frozen=True)
class Grid:
    """A grid for a page: where its images are in `uri`, an image that holds them side by side, and of which step.

    `layout` is None where the file does not say where they are: then `uri` is the whole file, as one image.
    """

    step: int
    layout: Layout | None
    size: tuple[int, int]  # width and height of what `uri` holds, before it was reduced
    uri: str


def spread(paths: Sequence[Path], most: int = MOST) -> list[Path]:
    """Every path, or every second, fourth, ... and the last: few enough, and nearly the same ones when more come."""
    stride = 1
    while len(paths[:-1:stride]) >= most:
        stride *= 2
    return [*paths[:-1:stride], *paths[-1:]]


def grids_of(paths: Sequence[Path]) -> list[Grid]:
    """What a page shows of these files, oldest first, at most `LARGEST` in all, without those that are no images."""
    found = [grid for path in spread(paths) if (grid := grid_of(path, whole=path == paths[-1])) is not None]
    if len({grid.layout for grid in found}) > 1:  # of a run that was resumed with others: as files, then
        again = (grid_of(path, whole=path == paths[-1], cut=False) for path in spread(paths))
        found = [grid for grid in again if grid is not None]
    while sum(len(grid.uri) for grid in found) > LARGEST and len(found) > 1:
        found = [*found[:-1:2], found[-1]] if len(found) > 2 else found[-1:]
    return found


def grid_of(path: Path, *, whole: bool, cut: bool = True) -> Grid | None:
    """A file as a page shows it: `whole` or small, `cut` into its images or as it is. None for one that is no image."""
    if not path.is_file():
        return None
    stamp = path.stat()
    read = _whole if whole else _small
    return read(path, (stamp.st_mtime_ns, stamp.st_size, stamp.st_ino), cut)


# A training writes its page again and again, each time with one more grid.
@lru_cache(maxsize=2 * MOST)
def _small(path: Path, stamp: tuple[int, ...], cut: bool) -> Grid | None:
    return _read(path, cut, SMALL)


@lru_cache(maxsize=2)
def _whole(path: Path, stamp: tuple[int, ...], cut: bool) -> Grid | None:
    return _read(path, cut, WHOLE)


def _read(path: Path, cut: bool, most: int) -> Grid | None:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            layout = layout_of(image) if cut else None
            shown = layout.cells(image) if layout else image.convert("RGB")
    except Exception:  # a decoder raises nearly anything on a damaged file
        return None
    side = max(layout.size) if layout else max(shown.size) // COLUMNS
    kind, data = encode(shown, side, most)
    step = step_of(path.stem)
    return Grid(step or 0, layout, shown.size, f"data:image/{kind};base64,{base64.b64encode(data).decode()}")


def encode(image: Image.Image, side: int, most: int) -> tuple[str, bytes]:
    """A sheet in at most so many bytes, about: without loss where that fits, else in JPEG; then its images are reduced,
    whose longer side is `side` pixels, and those of a small sheet in any case."""
    if image.width * image.height <= 2 * most:  # a photograph takes more than half a byte for each pixel
        data = _file(image, "PNG")
        if len(data) <= most:
            return "png", data
    data, limit = b"", side if most == WHOLE else SIDE
    while not data or (len(data) > most and limit > LEAST):
        factor = max(1, -(-side // limit), -(-max(image.size) // LONGEST))
        data = _file(image.reduce(factor), "JPEG", quality=QUALITY, subsampling=0)
        limit //= 2
    return "jpeg", data


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@dataclass(frozen=True)
class Row:
    """A row of a grid in a page: its path and what that is, and the place of each image as CSS has it: (x, y)."""

    path: str
    name: str
    sentence: str
    tiles: list[tuple[str, str]]


def shown_rows(layout: Layout | None, labels: Mapping[str, str]) -> list[Row]:
    """The rows of a grid; one, of one image, where it is not known where they are."""
    if layout is None:
        return [Row("", "all paths", "Each row is the path that stands before it.", [("0%", "0%")])]
    return [
        Row(
            path,
            name_of(path, labels),
            sentence_of(path, labels),
            [(_share(x, layout.columns), _share(y, len(layout.rows))) for x in range(count)],
        )
        for y, (path, count) in enumerate(layout.rows)
    ]


def wiped(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Every translation with the row of its inputs."""
    inputs = {row.path: row for row in rows if len(row.path) == 1}
    ways = (row for row in rows if len(row.path) == 2 and row.path[0] != row.path[1])
    return [(inputs[row.path[0]], row) for row in ways if row.path[0] in inputs]


def _share(place: int, count: int) -> str:
    """Where one of so many images begins, as `background-position` counts it."""
    return f"{100 * place / max(count - 1, 1):.4f}%"
