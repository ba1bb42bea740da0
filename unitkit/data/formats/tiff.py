"""TIFF of any number of channels and pages, in 8, 16 or 32 bits, whole or floating.

What Pillow reads as viewers show it (8 bits a channel in grey, RGB, a palette or CMYK, and one page of 16 bits) is left
to it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from ...system.errors import UserError
from ..values import CHANNELS, described, supported
from .header import MAX_PIXELS, Header
from .pages import opened, pages_of
from .png import over_white

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters of it becomes an error here

MAX_VALUES = 400_000_000  # of an image that is read whole
# What a copy keeps besides its resolution: colour profile, and what places an image on the earth.
KEPT = (34675, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
WHITE_IS_ZERO = 0
ALPHA = (1, 2)


class Layout(NamedTuple):
    """How the images of a file lie in its pages.

    Attributes:
        pages: the numbers of the pages (frames, pages of one frame), whose channels follow one another.
        axes: of one page, with S for channels.
    """

    header: Header
    pages: np.ndarray
    axes: str


def claims(path: Path) -> bool:
    """Whether a file is one that Pillow reads not at all, or not whole. What is no TIFF is none of ours."""
    try:
        with opened(path) as file:
            page = file.pages.first
            bits = page.bitspersample
            alpha = any(int(kind) in ALPHA for kind in page.extrasamples)
            plain = page.samplesperpixel in (1, 3) or (page.samplesperpixel in (2, 4) and alpha)
            plain |= page.photometric in (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.PALETTE)
            grey16 = (
                page.samplesperpixel == 1 and bits in (12, 16) and page.dtype is not None and page.dtype.kind == "u"
            )
            small = bits <= 8 and (page.dtype is None or page.dtype.kind in "ub")
            several = len(file.pages) > 1 and _frames(file.series[0]) * _pages_of_a_frame(file.series[0]) > 1
            large = page.imagewidth * page.imagelength > MAX_PIXELS
            return several or large or not ((small and plain) or grey16)
    except Exception:  # of a damaged file, of which Pillow says what is wrong
        return False


def probe(path: Path, channels: int | None = None) -> Header:
    """The header. Raises `UserError` for a file that is damaged, or whose axes are not those of images."""
    return layout_of(path, path.stat().st_mtime_ns).header


def read(path: Path, frame: int = 0, channels: int | None = None) -> np.ndarray:
    """A frame (C, H, W), over white where it is transparent. Raises `UserError`, as `probe`."""
    layout = layout_of(path, path.stat().st_mtime_ns)
    if layout.header.width * layout.header.height * layout.header.channels > MAX_VALUES:
        raise UserError(
            f"the image '{path}' has more than {MAX_VALUES // 10**6} million values: cut it into pieces first"
        )
    try:
        pages = pages_of(path)
        found = [_channels(page, layout.axes) for page in pages.read(path, layout.pages[frame].tolist())]
        if pages.first.photometric == WHITE_IS_ZERO and found[0].dtype.kind == "u":
            found = [np.iinfo(each.dtype).max - each for each in found]
        array = supported(np.concatenate(found), str(path))
        if any(int(kind) in ALPHA for kind in pages.first.extrasamples) and array.dtype.kind == "u":
            array = over_white(array, np.iinfo(array.dtype).max)
        return np.ascontiguousarray(array)
    except UserError:
        raise
    except Exception as error:
        raise damaged(path, error) from None


def write(path: Path, frames: Sequence[np.ndarray], like: Path | None = None) -> None:
    """Frames (C, H, W), a page each, compressed, with the resolution and place on the earth of `like`."""
    whole = np.stack(frames)
    rgb = whole.shape[1] == 3 and whole.dtype.kind == "u"
    more: dict[str, Any] = {"photometric": "rgb", "planarconfig": "contig"} if rgb else {"photometric": "minisblack"}
    if rgb:
        whole = whole.transpose(0, 2, 3, 1)
    elif whole.shape[1] > 1:
        more |= {"planarconfig": "separate"}
    else:
        whole = whole[:, 0]
    tifffile.imwrite(
        path,
        whole[0] if len(whole) == 1 else whole,
        compression="zlib",
        predictor=True,
        bigtiff=whole.nbytes > 2**31,
        metadata=None,
        **kept_tags(like),
        **more,
    )


def kept_tags(like: Path | None) -> dict[str, Any]:
    """The tags of a file that its copy keeps, as `imwrite` takes them."""
    try:
        with tifffile.TiffFile(like) as file:  # type: ignore[arg-type]
            page = file.pages.first
            found: dict[str, Any] = {
                "extratags": [(t.code, t.dtype, t.count, t.value, True) for code in KEPT if (t := page.tags.get(code))]
            }
            if "XResolution" in page.tags:
                found |= {"resolution": page.resolution, "resolutionunit": page.resolutionunit}
            return found
    except Exception:  # no TIFF
        return {}


@lru_cache(maxsize=256)  # a stack is read frame by frame
def layout_of(path: Path, changed: int) -> Layout:
    """How the images of a file lie, which was last changed at that time. Raises `UserError`, as `probe`."""
    try:
        with opened(path) as file:
            series = file.series[0]
            page = series.keyframe
            sizes = dict(zip(series.axes, series.shape, strict=True))
            dtype = page.dtype
            if dtype is None or dtype.kind not in "biuf":
                raise UserError(f"the image '{path}' holds {described(np.dtype(dtype))}: expected numbers")
            if not {"X", "Y"} <= sizes.keys():
                raise UserError(f"'{path}' has the axes {series.axes}, of which none are height and width (Y, X)")
            within = page.axes
            outer = series.axes[: len(series.axes) - len(within)]
            lengths = [sizes[axis] for axis in outer]
            if len(series.pages) != math.prod(lengths) or series.axes[len(outer) :] != within:
                raise UserError(
                    f"'{path}' has the axes {series.axes} in {len(series.pages)} pages, which are not understood: save "
                    "each image as a page of its own"
                )
            numbers = np.arange(math.prod(lengths)).reshape(lengths)
            for place, axis in enumerate(outer):
                if axis == "C":
                    numbers = np.moveaxis(numbers, place, -1)
            ours = sizes.get("C", 1) if "C" in outer else 1
            pages = numbers.reshape(-1, ours)
            samples = math.prod(size for axis, size in zip(within, page.shape, strict=True) if axis not in "YX")
            alpha = any(int(kind) in ALPHA for kind in page.extrasamples) and dtype.kind == "u"
            channels = ours * samples - (1 if alpha and samples in (2, 4) else 0)
            if channels > CHANNELS:
                raise UserError(f"'{path}' has images of {channels} channels: expected at most {CHANNELS}")
            kind = str(supported(np.empty(0, dtype), str(path)).dtype)
            header = Header(sizes["X"], sizes["Y"], channels, kind, len(pages))
            return Layout(header, pages, within)
    except UserError:
        raise
    except Exception as error:
        raise damaged(path, error) from None


def _frames(series: Any) -> int:
    return math.prod(size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXSC")


def _pages_of_a_frame(series: Any) -> int:
    return math.prod(size for axis, size in zip(series.axes, series.shape, strict=True) if axis == "C")


def _channels(array: np.ndarray, axes: str) -> np.ndarray:
    """A page as (C, H, W)."""
    order = [place for place, axis in enumerate(axes) if axis not in "YX"]
    array = array.transpose(*order, axes.index("Y"), axes.index("X"))
    return array.reshape(-1, *array.shape[-2:])


def damaged(path: Path, error: Exception) -> UserError:
    """The error for a file whose codec or parser raised another."""
    if isinstance(error, OSError) and error.errno is not None:
        return UserError(f"cannot read the image '{path}': {error.strerror}")
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(f"the image '{path}' is damaged or truncated ({reason}): replace or remove it")
