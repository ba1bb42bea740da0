"""Image files as uint8 arrays: a look at the header, the full decode, and the way back to an image."""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...system.errors import UserError
from .quiet import silence_libtiff
from .short_jpeg import completed

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 100_000_000
ORIENTATION = 0x0112
BITS, PHOTOMETRIC = 258, 262
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# PIL warns on stderr about odd metadata and large images. What matters of it becomes an error here, and
# `catch_warnings` around each decode would not be thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")
silence_libtiff()


class Header(NamedTuple):
    """What a file's header tells: width and height as the image is seen (EXIF-turned), and 1 or 3 channels."""

    width: int
    height: int
    channels: int


def probe(path: str | Path) -> Header:
    """The header of an image file, without decoding its pixels.

    Raises `UserError`, naming the path, for what is no image, is empty, or has more than `MAX_PIXELS` pixels.
    """
    with _opened(path) as image:
        width, height = _upright(image)
        grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
        return Header(width, height, 1 if grey else 3)


def decode(
    path: str | Path, channels: int, size: tuple[int, int] | None = None, short: list[Path] | None = None
) -> np.ndarray:
    """The image as a uint8 array (channels, H, W), upright and over white where it is transparent.

    With `size` (H, W) it is scaled, antialiased, until it covers the size and cut to its centre. One 16-bit channel is
    scaled by 1/257 and rounded; three keep their high bytes, which is all that PIL reads of them. A JPEG that lacks no
    more than its last bytes is decoded as viewers do, grey where they are missing, and its path appended to `short`.
    Raises `UserError`, naming the path, for a file that is damaged or no image.
    """
    with _opened(path) as image:
        orientation = _orientation(image)  # before the pixels, as `probe`: a PNG may tell another one behind them
        reduced = None if size is None else _reduced(image, size)
        if reduced:
            image.draft(None, reduced)
        try:
            image.load()
        except OSError:
            if (whole := _completed(image, path, reduced)) is None:
                raise
            if short is not None:
                short.append(Path(path))
        else:
            whole = image
        image = _turned(_eight_bit(whole, path), orientation, channels)
        return to_array(image if size is None else fit(image, size))


def upright(image: Image.Image, channels: int, name: str | Path) -> Image.Image:
    """An image of any mode in 8-bit grey (`channels` 1) or RGB (3): EXIF-turned, over white where transparent.

    Raises `UserError`, naming it by `name`, for values that are no 8 or 16 bits.
    """
    return _turned(_eight_bit(image, name), _orientation(image), channels)


def _turned(image: Image.Image, orientation: int, channels: int) -> Image.Image:
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    return image.convert("L" if channels == 1 else "RGB")


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image scaled to cover `size` (H, W), its proportions kept, and cut to its centre."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    box_width, box_height = min(width * scale, image.width), min(height * scale, image.height)
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    box = (left, top, min(left + box_width, image.width), min(top + box_height, image.height))
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def to_array(image: Image.Image) -> np.ndarray:
    """An 8-bit grey or RGB image as a uint8 array (1 or 3, H, W)."""
    array = np.asarray(image)
    # A copy in every case: what PIL gives cannot be written to, and torch warns of that.
    return np.array(array[None] if array.ndim == 2 else array.transpose(2, 0, 1), order="C")


def to_image(array: np.ndarray) -> Image.Image:
    """A uint8 array (1 or 3, H, W) as a grey or RGB image."""
    assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[0] in (1, 3), (array.dtype, array.shape)
    return Image.fromarray(np.ascontiguousarray(array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)))


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """The file, its header checked. Whatever goes wrong in the block becomes a `UserError` that names the path."""
    kinds = "jpg, png, webp, bmp or tiff"
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise UserError(f"'{path}' is {kind}, not an image file ({kinds})")
        if status.st_size == 0:
            raise UserError(f"the image '{path}' is empty (0 bytes): remove it or fetch it again")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if image.width * image.height == 0:
                raise UserError(f"the image '{path}' has no pixels ({image.width}x{image.height}): remove it")
            if image.mode == "F":
                raise UserError(f"the image '{path}' holds floating-point values: save it with 8 or 16 bits a channel")
            yield image
    except UserError:
        raise
    except Image.DecompressionBombError:
        limit = MAX_PIXELS // 1_000_000
        raise UserError(f"the image '{path}' has more than {limit} million pixels: scale it down first") from None
    except UnidentifiedImageError:
        raise UserError(f"'{path}' is not an image that can be read ({kinds}), or its header is damaged") from None
    except Exception as error:  # a decoder raises nearly anything on a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"cannot read the image '{path}': {error.strerror}") from None
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"the image '{path}' is damaged or truncated ({reason}): replace or remove it") from None


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # PIL turns these itself
        return 1
    try:
        # The method of the base class: that of a PNG decodes the whole image in search of late metadata.
        value = Image.Image.getexif(image).get(ORIENTATION)
    except Exception:  # unreadable metadata is no reason to refuse the image
        return 1
    return value if value in TURNS else 1  # viewers leave an image as it is where the value means nothing


def _upright(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) >= 5 else (width, height)


def _reduced(image: Image.Image, size: tuple[int, int]) -> tuple[int, int] | None:
    """A fraction of a JPEG's size to decode it at, no smaller than twice what is needed. Other formats ignore it."""
    width, height = _upright(image)
    scale = 2 * max(size[0] / height, size[1] / width)
    return (math.ceil(image.width * scale), math.ceil(image.height * scale)) if scale < 1 else None


def _completed(image: Image.Image, path: str | Path, reduced: tuple[int, int] | None) -> Image.Image | None:
    return completed(Path(path).read_bytes(), reduced) if image.format in ("JPEG", "MPO") else None


def _eight_bit(image: Image.Image, path: str | Path) -> Image.Image:
    """The image with 8 bits a channel, over white where it is transparent."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            found = f"{values.min()}..{values.max()}"
            raise UserError(f"the image '{path}' holds values {found}: save it with 8 or 16 bits a channel (0..65535)")
        tags = getattr(image, "tag_v2", {})  # of a TIFF
        top = 4095 if tags.get(BITS) == (12,) else 65535
        if tags.get(PHOTOMETRIC) == 0:
            values = top - values  # "white is zero", which PIL leaves as it is at 16 bits
        if isinstance(clear := image.info.get("transparency"), int):
            values = np.where(values == clear, top, values)
        return Image.fromarray(((values * 255 + top // 2) // top).astype(np.uint8))
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image
