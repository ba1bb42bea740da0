"""PNG of 16 bits a channel in colours, or with transparency, over white."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...system.errors import UserError, pass_on_failure
from .header import PNG_HEAD, Header

CHANNELS = {2: 3, 4: 2, 6: 4}  # by the kind of colours in the header
TOP = 65535


def probe(path: Path, channels: int | None = None) -> Header:
    """The header. Raises `UserError` for a damaged one."""
    with open(path, "rb") as file:
        head = file.read(26)
    if len(head) < 26 or not head.startswith(PNG_HEAD):
        raise UserError(f"the image '{path}' is damaged or truncated: replace or remove it")
    width, height = struct.unpack(">II", head[16:24])
    return Header(width, height, 1 if head[25] == 4 else 3, "uint16")


def read(path: Path, frame: int = 0, channels: int | None = None) -> np.ndarray:
    """The image (1 or 3, H, W). Raises `UserError` for a damaged file."""
    import imagecodecs

    try:
        array = imagecodecs.png_decode(path.read_bytes())
    except OSError as error:
        pass_on_failure(f"cannot read the image '{path}'", error)
        raise UserError(f"cannot read the image '{path}': {error.strerror or error}") from None
    except Exception as error:  # of a codec
        pass_on_failure(f"cannot read the image '{path}'", error)
        raise UserError(f"the image '{path}' is damaged or truncated ({error}): replace or remove it") from None
    return over_white(np.ascontiguousarray(array.transpose(2, 0, 1)), TOP)


def write(path: Path, frames: Sequence[np.ndarray], like: Path | None = None) -> None:
    """One frame, uint8 or uint16 (1 or 3, H, W)."""
    import imagecodecs

    (image,) = frames
    path.write_bytes(
        imagecodecs.png_encode(np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)))
    )


def over_white(array: np.ndarray, top: int) -> np.ndarray:
    """An image (C, H, W) whose last channel is opacity where C is 2 or 4, over white."""
    if len(array) not in (2, 4):
        return array
    opacity = array[-1:].astype(np.float64) / top
    return np.rint(array[:-1] * opacity + top * (1 - opacity)).astype(array.dtype)
