"""What is known of an image file before it is read: its format, and its header."""

from __future__ import annotations

import os
from typing import NamedTuple

from ...system.errors import UserError

TIFF = (".tif", ".tiff")
ARRAYS = (".npy",)
VOLUMES = (".nii", ".nii.gz")
DICOM = (".dcm", ".ima")
SUFFIXES = (*ARRAYS, *VOLUMES, *DICOM)  # besides those of pictures
MAX_PIXELS = 100_000_000  # of an image that is read whole
SIDE = 2**24  # pixels of the longest side of any other
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

    @property
    def large(self) -> bool:
        """Whether an image is too large to be read whole."""
        return self.width * self.height > MAX_PIXELS


def suffix_of(path: str | os.PathLike[str]) -> str:
    """A file's suffix in lower case, where `.nii.gz` is one."""
    suffix = os.path.splitext(path)[1].lower()
    return ".nii.gz" if suffix == ".gz" and os.fspath(path)[:-3].lower().endswith(".nii") else suffix


def missing(package: str, what: str) -> UserError:
    """The error for a format whose package is not there."""
    return UserError(f"{what} is read with {package}, which is not installed: pip install 'unitkit[medical]'")
