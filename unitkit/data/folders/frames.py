"""The images of files that hold several, and the windows of pictures that are too large to be read whole."""

from __future__ import annotations

import numpy as np

from ...system.errors import UserError
from ..formats import header as formats
from ..formats.header import Header
from .held_out import hold_out
from .index import Headers
from .listing import FileSet, Frame, frame_key

WINDOWS = 2**19  # of all pictures of a set, evenly spread over each: each window has a name and a place in memory


def all_frames(raw: FileSet, headers: Headers, size: tuple[int, int]) -> tuple[FileSet, list[int] | None]:
    """The files, those with several images once for each of them, and those too large to be read whole once for each
    window of the size, side by side; and of which file each is, None where all are as they were."""
    pixels = headers.column("width").astype(np.int64) * headers.column("height")
    if raw.frames or not ((headers.column("frames") > 1) | (pixels > formats.MAX_PIXELS)).any():
        return raw, None
    most = WINDOWS // max(1, int((pixels > formats.MAX_PIXELS).sum()))
    frames = [_frames(headers[i], size, most) for i in range(len(raw))]
    rows = [(i, frame) for i, each in enumerate(frames) for frame in each]
    keys = [f"{raw.keys[i]}/{frame_key(frame)}" if len(frames[i]) > 1 else raw.keys[i] for i, frame in rows]
    if raw.part:
        held = hold_out(keys)
        chosen = [n for n, test in enumerate(held) if test == (raw.part == "test")]
        rows, keys = [rows[n] for n in chosen], [keys[n] for n in chosen]
    found = raw.pick([i for i, _ in rows])
    return FileSet(found.paths, keys, found.marks, raw.root, raw.passed, [frame for _, frame in rows]), [
        i for i, _ in rows
    ]


def _frames(header: Header | UserError, size: tuple[int, int], most: int) -> list[Frame]:
    if isinstance(header, UserError):
        return [0]
    if header.large and header.frames == 1:
        tops, lefts = (
            range(0, max(1, whole - edge + 1), edge)
            for whole, edge in ((header.height, size[0]), (header.width, size[1]))
        )
        total = len(tops) * len(lefts)
        count = min(total, max(1, most))
        places = (divmod(place * total // count, len(lefts)) for place in range(count))
        return [(tops[down], lefts[across]) for down, across in places]
    return list(range(header.frames))
