"""Formats of images that are more than 8 bits in grey or RGB: arrays, TIFF, NIfTI, DICOM, and PNG of 16 bits.

A format is a module with these functions. An image file may hold several images, its frames: the pages of a TIFF, the
slices of a volume.

    probe(path, channels) -> Header                 from the file's head
    read(path, frame, channels) -> array (C, H, W)  in one of the types of `data.values`
    write(path, frames, like)                       arrays (C, H, W), with what `like` says of its geometry

`channels` are those that are wanted, where that is known: they may say what an array's axes are.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from ...system.errors import pass_on_failure
from .header import ARRAYS, DICOM, PNG_HEAD, TIFF, VOLUMES, suffix_of


def format_of(path: Path) -> ModuleType | None:
    """The module that reads a file; None of pictures, which `data.files.decode` reads.

    Raises `UserError` for a format whose package is not installed.
    """
    suffix = suffix_of(path)
    if suffix in ARRAYS:
        from . import npy

        return npy
    if suffix in TIFF:
        from . import tiff

        return tiff if _claimed(path, *_changed(path)) else None
    if suffix in VOLUMES:
        from . import nifti

        return nifti
    if suffix in DICOM:
        from . import dicom

        return dicom
    if suffix == ".png" and _deep_colours(path):
        from . import png

        return png
    return None


def _changed(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=1024)  # it is asked of each image of a stack
def _claimed(path: Path, size: int, changed: int) -> bool:
    from . import tiff

    return tiff.claims(path)


def _deep_colours(path: Path) -> bool:
    """Whether a PNG has 16 bits and several channels, of which Pillow keeps 8."""
    try:
        with open(path, "rb") as file:
            head = file.read(26)
    except OSError as error:
        pass_on_failure(f"cannot read the image '{path}'", error)
        return False
    return head.startswith(PNG_HEAD) and head[24:25] == b"\x10" and head[25:26] in (b"\x02", b"\x04", b"\x06")
