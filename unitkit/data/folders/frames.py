"""The images of files that hold several, and the windows of pictures that are too large to be read whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...system.errors import UserError
from ..formats.header import Header
from .held_out import hold_out
from .listing import FileSet, Frame


def all_frames(raw: FileSet, headers: Mapping[Path, Header | UserError], size: tuple[int, int]) -> FileSet:
    """The files, those with several images once for each of them, and those too large to be read whole once for each
    window of the size, side by side."""
    frames: list[list[Frame]] = []
    for path in raw.paths:
        header = headers[path]
        if not isinstance(header, Header) or not (header.large or header.frames > 1):
            frames.append([0])
        elif header.large and header.frames == 1:
            tops, lefts = (range(0, max(1, whole - edge + 1), edge) for whole, edge in _edges(header, size))
            frames.append([(top, left) for top in tops for left in lefts])
        else:
            frames.append(list(range(header.frames)))
    if raw.frames or all(len(each) == 1 for each in frames):
        return raw
    rows = [(i, frame) for i, each in enumerate(frames) for frame in each]
    keys = [f"{raw.keys[i]}/{_place(frame)}" if len(frames[i]) > 1 else raw.keys[i] for i, frame in rows]
    if raw.part:
        held = hold_out(keys)
        chosen = [n for n, test in enumerate(held) if test == (raw.part == "test")]
        rows, keys = [rows[n] for n in chosen], [keys[n] for n in chosen]
    return FileSet([raw.paths[i] for i, _ in rows], keys, raw.passed, [frame for _, frame in rows])


def _edges(header: Header, size: tuple[int, int]) -> list[tuple[int, int]]:
    return [(header.height, size[0]), (header.width, size[1])]


def _place(frame: Frame) -> str:
    return "{:06},{:06}".format(*frame) if isinstance(frame, tuple) else f"{frame:06}"
