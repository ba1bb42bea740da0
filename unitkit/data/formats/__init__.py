"""Formats of images that are more than 8 bits in grey or RGB: arrays, TIFF, NIfTI, DICOM, and PNG of 16 bits.

A format is a module with these functions. An image file may hold several images, its frames: the pages of a TIFF, the
slices of a volume.

    probe(path) -> Header                       from the file's head
    read(path, frame) -> array (C, H, W)        in one of the types of `data.values`
    write(path, frames, like)                   arrays (C, H, W), with what `like` says of its geometry
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ...system.errors import UserError

TIFF = (".tif", ".tiff")
ARRAYS = (".npy",)
VOLUMES = (".nii", ".nii.gz")
DICOM = (".dcm", ".ima")
SUFFIXES = (*ARRAYS, ".nii", ".gz", *DICOM)  # besides those of pictures; .gz is that of .nii.gz
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


class Header(NamedTuple):
    """What a file's header tells.

    Attributes:
        width: as the image is seen (EXIF-turned).
        height: likewise.
        channels: how many.
        dtype: of the values, as in `data.values`.
        frames: images in the file.
        window: the values that are the darkest and the brightest, where the file states them.
    """

    width: int
    height: int
    channels: int
    dtype: str = "uint8"
    frames: int = 1
    window: tuple[float, float] | None = None


def suffix_of(path: Path) -> str:
    """A file's suffix in lower case, where `.nii.gz` is one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


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

        return tiff if tiff.claims(path) else None
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


def missing(package: str, what: str) -> UserError:
    """The error for a format whose package is not there."""
    return UserError(f"{what} is read with {package}, which is not installed: pip install 'unitkit[medical]'")


def _deep_colours(path: Path) -> bool:
    """Whether a PNG has 16 bits and several channels, of which Pillow keeps 8."""
    try:
        with open(path, "rb") as file:
            head = file.read(26)
    except OSError:
        return False
    return head.startswith(PNG_HEAD) and head[24:25] == b"\x10" and head[25:26] in (b"\x02", b"\x04", b"\x06")
