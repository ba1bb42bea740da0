"""What the stored samples of a TIFF's page look like: scaled to their type, in colours, over white, upright."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..files.colour import in_srgb
from ..values import supported
from .turns import ORIENTATION, STEPS, turned

ALPHA, PREMULTIPLIED = (1, 2), 1
WHITE_IS_ZERO, PALETTE, SEPARATED = 0, 3, 5
INK_SET = 332


class Look(NamedTuple):
    """How samples are seen.

    Attributes:
        channels: of what is seen.
        dtype: likewise.
        bits: of a stored whole number; 0 of others.
        alpha: whether the last sample is opacity, and whether colours are multiplied by it already.
        palette: the colours (3, n) of stored indices, uint8.
        profile: the colour profile, b"" for none. It is applied where the samples have 8 bits.
    """

    channels: int
    dtype: str
    bits: int
    photometric: int
    alpha: bool
    premultiplied: bool
    inks: bool
    palette: np.ndarray | None
    profile: bytes
    orientation: int


def look_of(page: Any, samples: int, name: str) -> Look:
    """That of a page, of which so many samples are one image. Raises `UserError` for values that are no numbers."""
    whole = page.dtype.kind in "ub" and page.dtype.itemsize <= 2
    bits = 0 if not whole else page.bitspersample if page.dtype.kind == "u" else 1
    extra = [int(kind) for kind in page.extrasamples]
    alpha = whole and samples in (2, 4) and bool(extra) and extra[-1] in ALPHA
    tag = page.tags.get(INK_SET)
    inks = page.photometric == SEPARATED and whole and samples == 4 and not alpha and (tag is None or tag.value == 1)
    palette = None
    if page.photometric == PALETTE and page.colormap is not None and whole and samples == 1:
        table = np.asarray(page.colormap)
        palette = (table >> 8 if table.max() > 255 else table).astype(np.uint8)  # some writers take 8 of 16 bits
    dtype = "uint8" if palette is not None else str(supported(np.empty(0, page.dtype), name).dtype)
    channels = 3 if palette is not None or inks else samples - alpha
    turn = page.tags.get(ORIENTATION)
    return Look(
        channels,
        dtype,
        bits,
        int(page.photometric),
        alpha,
        alpha and extra[-1] == PREMULTIPLIED,
        inks,
        palette,
        page.iccprofile or b"",
        turn.value if turn is not None and turn.value in STEPS else 1,
    )


def as_seen(stored: np.ndarray, look: Look, name: str) -> np.ndarray:
    """An image, or a window of it, (samples, H, W) as it is stored, as (C, H, W) but for its orientation."""
    if look.palette is not None:
        return _coloured(look.palette[:, np.minimum(stored[0], look.palette.shape[1] - 1)], "RGB", look.profile)
    array = full_range(supported(stored, name), look.bits)
    if not look.bits:
        return array
    top = np.iinfo(array.dtype).max
    colours, alpha = (array[:-1], array[-1:]) if look.alpha else (array, None)
    if look.photometric == WHITE_IS_ZERO:
        colours = top - colours
    if look.inks:
        colours = _without_inks(colours, look.profile)
    elif len(colours) == 3 and colours.dtype == np.uint8:
        colours = _coloured(colours, "RGB", look.profile)
    return colours if alpha is None else over_white(colours, alpha, premultiplied=look.premultiplied)


def alpha_seen(stored: np.ndarray, look: Look, name: str) -> np.ndarray:
    """The opacity (H, W) of an image that has some, upright."""
    return turned(full_range(supported(stored[-1], name), look.bits), look.orientation)


def full_range(array: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of fewer bits than their type has as shares of all of it; others as they are."""
    if not bits or array.dtype.kind != "u" or bits in (1, 8 * array.dtype.itemsize):  # truth values are full already
        return array
    share = np.float64(np.iinfo(array.dtype).max / (2**bits - 1))
    return np.rint(array * share).astype(array.dtype)


def over_white(colours: np.ndarray, alpha: np.ndarray, *, premultiplied: bool = False) -> np.ndarray:
    """Colours (C, H, W), whole numbers, with the opacity (1, H, W), over white."""
    top = np.iinfo(colours.dtype).max
    opacity = alpha.astype(np.float64) / top
    seen = colours if premultiplied else colours * opacity
    return np.rint(np.minimum(seen + top * (1 - opacity), top)).astype(colours.dtype)


def _coloured(array: np.ndarray, mode: str, profile: bytes) -> np.ndarray:
    """Colours uint8 (C, H, W) in sRGB."""
    if not profile and mode == "RGB":
        return array
    image = Image.frombytes(mode, array.shape[:0:-1], np.ascontiguousarray(array.transpose(1, 2, 0)).tobytes())
    image.info["icc_profile"] = profile
    return np.asarray(in_srgb(image).convert("RGB")).transpose(2, 0, 1)


def _without_inks(array: np.ndarray, profile: bytes) -> np.ndarray:
    """Cyan, magenta, yellow and black as RGB."""
    if array.dtype == np.uint8:
        return _coloured(array, "CMYK", profile)
    top = np.float64(np.iinfo(array.dtype).max)
    return np.rint((top - array[:3]) * (top - array[3:]) / top).astype(array.dtype)
