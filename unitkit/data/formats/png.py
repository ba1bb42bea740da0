"""PNG of 16 bits a channel in colours, or with transparency, over white."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ...system.errors import UserError, pass_on_failure
from ..files.bounds import UNPACKED, open_ordinary
from ..files.colour import output_profile
from ..files.walk import TooMuch, check_parts
from .header import MAX_PIXELS, PNG_HEAD, Header
from .samples import over_white
from .turns import orientation_of, seen, turned

CHANNELS = {2: 3, 4: 2, 6: 4}  # by the kind of colours in the header
HEAD = 33  # bytes before the chunk that follows the header
DEFLATED = 1100  # times the size of a file that its pixels may have: the most that deflate makes of blank ones


def probe(path: Path, channels: int | None = None) -> Header:
    """The header. Raises `UserError` for a damaged one."""
    with open_ordinary(path, "an image file") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(26)
        if len(head) < 26 or not head.startswith(PNG_HEAD):
            raise _damaged(path)
        width, height = struct.unpack(">II", head[16:24])
        if not 0 < width * height <= MAX_PIXELS:
            raise UserError(
                f"the image '{path}' has {width}x{height} pixels: expected 1 to {MAX_PIXELS // 10**6} million, scale "
                f"it down first"
            )
        if width * height * 2 * CHANNELS[head[25]] > max(UNPACKED, DEFLATED * size):
            raise _damaged(path, f"{width}x{height} pixels in {size} bytes")
        try:
            file.seek(0)
            check_parts(file, size, pixels=False)
            with Image.open(file, formats=("PNG",)) as image:
                width, height = seen(width, height, orientation_of(image))
        except TooMuch as error:
            raise UserError(f"the image '{path}' {error}: save it anew, or remove it") from None
        except Exception as error:  # of a parser
            raise _damaged(path, error) from None
    return Header(width, height, 1 if head[25] == 4 else 3, "uint16")


def read(path: Path, frame: int = 0, channels: int | None = None) -> np.ndarray:
    """The image (1 or 3, H, W). Raises `UserError` for a damaged file."""
    array = _stored(path)
    found = over_white(array[:-1], array[-1:]) if len(array) in (2, 4) else array
    return np.ascontiguousarray(found)


def alpha_of(path: Path, frame: int = 0) -> np.ndarray | None:
    """The opacity uint16 (H, W), None where there is none. Raises `UserError`, as `read`."""
    array = _stored(path)
    return np.ascontiguousarray(array[-1]) if len(array) in (2, 4) else None


def write(
    path: Path, frames: Sequence[np.ndarray], like: Path | None = None, alphas: Sequence[np.ndarray] | None = None
) -> None:
    """One frame, uint8 or uint16 (1 or 3, H, W), with an opacity (H, W) where there is one, and `like`'s profile."""
    import imagecodecs

    (image,) = frames
    image = image if alphas is None else np.concatenate([image, alphas[0][None]])
    laid = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    data = imagecodecs.png_encode(np.ascontiguousarray(laid))
    profile = output_profile(like, len(frames[0])) if like else None
    if profile is not None:
        content = b"iCCPprofile\0\0" + zlib.compress(profile)
        chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
        data = data[:HEAD] + chunk + data[HEAD:]
    path.write_bytes(data)


def _stored(path: Path) -> np.ndarray:
    """All channels, upright."""
    import imagecodecs

    try:
        data = path.read_bytes()
        check_parts(BytesIO(data), len(data), pixels=True)
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            orientation = orientation_of(image)
        array = imagecodecs.png_decode(data)
    except TooMuch as error:
        raise UserError(f"the image '{path}' {error}: save it anew, or remove it") from None
    except OSError as error:
        pass_on_failure(f"cannot read the image '{path}'", error)
        raise UserError(f"cannot read the image '{path}': {error.strerror or error}") from None
    except Exception as error:  # of a codec
        pass_on_failure(f"cannot read the image '{path}'", error)
        raise _damaged(path, error) from None
    return turned(array.transpose(2, 0, 1), orientation)


def _damaged(path: Path, reason: Exception | str = "") -> UserError:
    return UserError(
        f"the image '{path}' is damaged or truncated{f' ({reason})' if reason else ''}: replace or remove it"
    )
