"""Image files as arrays: a look at the header, the full decode, and the way back to an image."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ...system.errors import UserError, pass_on_failure
from ..formats import format_of, header
from ..formats.header import MAX_PIXELS, Header
from ..formats.samples import full_range
from ..formats.turns import orientation_of, seen
from ..values import in_channels
from . import short_jpeg
from .bounds import open_ordinary, refuse_unusable, room
from .colour import in_srgb
from .quiet import silence_libtiff
from .scale import fit, fit_array, to_array
from .walk import TooMuch, check_parts

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")
SUFFIXES = (*PICTURES, *header.SUFFIXES)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
KINDS = "jpg, png, webp, bmp or tiff"
EXPECTED = f"an image file ({KINDS})"
SPECIAL = (*header.SUFFIXES, *header.TIFF, ".png")  # of files that Pillow may not read, or not whole
# Bytes a pixel that a decode takes at most: what Pillow keeps, the same in grey or RGB, that turned, and the decoder's
# own; of a progressive JPEG, whose coefficients wait for the last scan, for each pixel of the file beside.
PIXEL, PROGRESSIVE = 20, 8
BAND = 2**20  # pixels that are converted at once
MAX_RLE = 4_000_000  # pixels of a BMP in run-length code, which Pillow decodes in Python
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


class Encoded(NamedTuple):
    """The bytes of an image file that lies in no folder, and what messages call it."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


def probe(path: str | Path | Encoded, channels: int | None = None) -> Header:
    """The header of an image file, without decoding its pixels.

    `channels` are those that are wanted, if it is known, by which the axes of an array are told. Raises `UserError`,
    naming the path, for what is no image, is empty, or has more pixels than can be read.
    """
    if (reader := _reader(path)) is not None:
        found: Header = reader.probe(Path(str(path)), channels)
        return found
    with _opened(path, pixels=False) as image:
        width, height = _upright(image)
        if image.mode.startswith("I"):
            return Header(width, height, 1, "uint16")
        return Header(width, height, 1 if image.mode in ("1", "L", "LA", "La") else 3)


def decode(
    path: str | Path | Encoded,
    channels: int,
    size: tuple[int, int] | None = None,
    short: list[Path] | None = None,
    frame: int = 0,
) -> np.ndarray:
    """The image as an array (channels, H, W) of the type that `probe` tells, upright and over white where transparent.

    With `size` (H, W) it is scaled, antialiased, until it covers the size and cut to its centre. A JPEG that lacks no
    more than its last bytes is decoded as viewers do, grey where they are missing, and its path appended to `short`.
    `frame` says which image of the file it is. Raises `UserError`, naming the path, for a file that is damaged or no
    image.
    """
    if (reader := _reader(path)) is not None:
        found: Header = reader.probe(Path(str(path)), channels)
        with room.of(PIXEL * found.width * found.height * found.channels, f"the image '{path}'"):
            array = in_channels(reader.read(Path(str(path)), frame, channels), channels, str(path))
            return array if size is None else fit_array(array, size)
    with _opened(path) as image:
        orientation = orientation_of(image)  # before the pixels, as `probe`: a PNG may tell another one behind them
        progressive = PROGRESSIVE * image.width * image.height if "progressive" in image.info else 0
        reduced = None if size is None else _reduced(image, size)
        if reduced:
            image.draft(None, reduced)
        with room.of(PIXEL * image.width * image.height + progressive, f"the image '{path}'"):
            whole: Image.Image = image
            try:
                image.load()
            except OSError as error:
                pass_on_failure(f"cannot read the image '{path}'", error)
                if (completed := _completed(image, path, reduced)) is None:
                    raise
                if short is not None:
                    short.append(Path(str(path)))
                whole = completed
            if whole.mode.startswith("I"):
                deep = in_channels(_sixteen_bit(whole, orientation, path), channels, str(path))
                return deep if size is None else fit_array(deep, size)
            plain = _turned(_plain(whole, channels), orientation)
            return to_array(plain if size is None else fit(plain, size))


def pixels_of(image: Image.Image, channels: int, name: str) -> np.ndarray:
    """An image of any mode as an array (channels, H, W), channels 1 or 3: EXIF-turned, over white where transparent.

    Raises `UserError`, naming it by `name`, for values that are no 8 or 16 bits, and for other channels.
    """
    orientation = orientation_of(image)
    if image.mode.startswith("I"):
        return in_channels(_sixteen_bit(image, orientation, name), channels, name)
    return to_array(_turned(_plain(image, channels), orientation))


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _reader(path: str | Path | Encoded) -> ModuleType | None:
    """The module that reads a file which Pillow does not read, or not whole."""
    if isinstance(path, Encoded) or header.suffix_of(path) not in SPECIAL:
        return None
    refuse_unusable(path, EXPECTED, "image")
    return format_of(Path(path))


@contextmanager
def _opened(path: str | Path | Encoded, pixels: bool = True) -> Iterator[ImageFile.ImageFile]:
    """The file, its header checked, and its other parts where the `pixels` are wanted.

    Whatever goes wrong in the block becomes a `UserError` that names the path.
    """
    try:
        with _file(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if size == 0:
                raise UserError(f"the image '{path}' is empty (0 bytes): remove it or fetch it again")
            check_parts(file, size, pixels)
            with Image.open(file, formats=FORMATS) as image:
                _check_header(image, path)
                yield image
    except TooMuch as error:
        raise UserError(f"the image '{path}' {error}: save it anew, or remove it") from None
    except UserError:
        raise
    except Image.DecompressionBombError:
        limit = MAX_PIXELS // 1_000_000
        raise UserError(f"the image '{path}' has more than {limit} million pixels: scale it down first") from None
    except UnidentifiedImageError:
        raise UserError(f"'{path}' is not an image that can be read ({KINDS}), or its header is damaged") from None
    except Exception as error:  # a decoder raises nearly anything on a damaged file
        pass_on_failure(f"cannot read the image '{path}'", error)
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"cannot read the image '{path}': {error.strerror}") from None
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"the image '{path}' is damaged or truncated ({reason}): replace or remove it") from None


def alpha_of(path: str | Path, frame: int = 0) -> np.ndarray | None:
    """The opacity of a picture, uint8 or uint16 (H, W), upright; None of one that is opaque.

    Raises `UserError`, as `decode`.
    """
    if (reader := _reader(path)) is not None:
        found = reader.alpha_of(Path(path), frame) if hasattr(reader, "alpha_of") else None
        return found if found is not None and (found < np.iinfo(found.dtype).max).any() else None
    with _opened(path) as image:
        if not image.has_transparency_data or image.mode.startswith("I"):
            return None
        with room.of(PIXEL * image.width * image.height, f"the image '{path}'"):
            alpha = np.asarray(_turned(image.convert("RGBA").getchannel("A"), orientation_of(image)))
            return alpha if (alpha < 255).any() else None


def is_transparent(path: str | Path) -> bool:
    """Whether a picture's header speaks of opacity. Raises `UserError`, as `probe`."""
    if (reader := _reader(path)) is not None:
        return bool(getattr(reader, "is_transparent", lambda _: False)(Path(path)))
    with _opened(path, pixels=False) as image:
        return bool(image.has_transparency_data)


def _file(path: str | Path | Encoded) -> BinaryIO:
    return BytesIO(path.data) if isinstance(path, Encoded) else open_ordinary(path, EXPECTED)


def _check_header(image: ImageFile.ImageFile, path: str | Path | Encoded) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    if image.width * image.height == 0:
        raise UserError(f"the image '{path}' has no pixels ({image.width}x{image.height}): remove it")
    if image.width * image.height > MAX_RLE and any(tile.codec_name == "bmp_rle" for tile in image.tile):
        raise TooMuch(f"is a BMP in run-length code of more than {MAX_RLE // 1_000_000} million pixels")


def _upright(image: Image.Image) -> tuple[int, int]:
    return seen(*image.size, orientation_of(image))


def _reduced(image: Image.Image, size: tuple[int, int]) -> tuple[int, int] | None:
    """A fraction of a JPEG's size to decode it at, no smaller than twice what is needed. Other formats ignore it."""
    width, height = _upright(image)
    scale = 2 * max(size[0] / height, size[1] / width)
    return (math.ceil(image.width * scale), math.ceil(image.height * scale)) if scale < 1 else None


def _completed(image: Image.Image, path: str | Path | Encoded, reduced: tuple[int, int] | None) -> Image.Image | None:
    if image.format not in ("JPEG", "MPO"):
        return None
    return short_jpeg.completed(path.data if isinstance(path, Encoded) else Path(path).read_bytes(), reduced)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """The image in 8-bit grey or RGB, over white where it is transparent."""
    mode = "L" if channels == 1 else "RGB"
    if not image.has_transparency_data:
        image = in_srgb(image)
        return image if image.mode == mode else image.convert(mode)
    # In bands, as what comes between takes many times the memory of the image.
    made = Image.new(mode, image.size)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band.convert("RGBA"))
        made.paste(band.convert(mode), (0, top))
    made.info["icc_profile"] = image.info.get("icc_profile")
    return in_srgb(made)


def _sixteen_bit(image: Image.Image, orientation: int, name: str | Path | Encoded) -> np.ndarray:
    """An image of integers as uint16 (1, H, W), white where it is transparent."""
    if image.mode == "I":
        low, high = image.getextrema()
        assert isinstance(low, int | float) and isinstance(high, int | float), "of one channel"
        if low < 0 or high > 65535:
            found = f"{low}..{high}"
            raise UserError(f"the image '{name}' holds values {found}: save it with 8 or 16 bits a channel (0..65535)")
    values = np.asarray(_turned(image, orientation)).astype(np.uint16, copy=False)
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    top = np.uint16(65535)
    values = full_range(values, 12) if tags.get(BITS) == (12,) else values
    if tags.get(PHOTOMETRIC) == 0:
        values = top - values  # "white is zero", which PIL leaves as it is at 16 bits
    if isinstance(clear := image.info.get("transparency"), int):
        values = np.where(values == clear, top, values)
    return values[None]
