"""TIFF of any number of channels and pages, in 8, 16 or 32 bits, whole or floating.

What Pillow reads as viewers show it (8 bits a channel in grey, RGB, a palette or CMYK, and one page of 16 bits) is left
to it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from ...system.errors import UserError, pass_on_failure
from ..files.bounds import UNPACKED
from ..values import CHANNELS, described
from .header import MAX_PIXELS, SIDE, Header
from .pages import opened, pages_of
from .samples import ALPHA, PREMULTIPLIED, Look, alpha_seen, as_seen, look_of
from .tags import kept_tags, stack_of
from .turns import seen, turned

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters of it becomes an error here

MAX_VALUES = 400_000_000  # of an image that is read whole
DENSE = 2000  # times the size of a file that its values may have: what codecs make of blank ones


class Layout(NamedTuple):
    """How the images of a file lie in its pages.

    Attributes:
        pages: the numbers of the pages (frames, pages of one frame), whose channels follow one another.
        axes: of one page, with S for channels.
        look: of a page.
    """

    header: Header
    pages: np.ndarray
    axes: str
    look: Look


def claims(path: Path) -> bool:
    """Whether a file is one that Pillow reads not at all, or not whole. What is no TIFF is none of ours."""
    try:
        with opened(path) as file:
            page = file.pages.first
            bits = page.bitspersample
            extra = [int(kind) for kind in page.extrasamples]
            grey = page.photometric == tifffile.PHOTOMETRIC.MINISBLACK and PREMULTIPLIED not in extra
            alpha = page.samplesperpixel == 4 or (page.samplesperpixel == 2 and grey)
            plain = page.samplesperpixel in (1, 3) or (alpha and any(kind in ALPHA for kind in extra))
            plain |= page.photometric in (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.PALETTE)
            grey16 = page.samplesperpixel == 1 and bits == 16 and page.dtype is not None and page.dtype.kind == "u"
            small = bits <= 8 and (page.dtype is None or page.dtype.kind in "ub")
            several = len(file.pages) > 1 and _frames(file.series[0]) * _pages_of_a_frame(file.series[0]) > 1
            large = page.imagewidth * page.imagelength > MAX_PIXELS
            return several or large or not ((small and plain) or grey16)
    except Exception as error:  # of a damaged file, of which Pillow says what is wrong
        pass_on_failure(f"cannot read the image '{path}'", error)
        return False


def probe(path: Path, channels: int | None = None) -> Header:
    """The header. Raises `UserError` for a file that is damaged, or whose axes are not those of images."""
    return layout_of(path, path.stat().st_mtime_ns).header


def read(path: Path, frame: int = 0, channels: int | None = None) -> np.ndarray:
    """A frame (C, H, W), over white where it is transparent. Raises `UserError`, as `probe`."""
    layout = layout_of(path, path.stat().st_mtime_ns)
    pages = [as_seen(page, look, str(path)) for page, look in _stored(path, frame, layout)]
    return np.ascontiguousarray(turned(np.concatenate(pages), layout.look.orientation))


def alpha_of(path: Path, frame: int = 0) -> np.ndarray | None:
    """The opacity (H, W) of a frame in its type, None where it has none. Raises `UserError`, as `probe`."""
    layout = layout_of(path, path.stat().st_mtime_ns)
    if not is_transparent(path) or layout.pages.shape[1] > 1:
        return None
    return np.ascontiguousarray(alpha_seen(_stored(path, frame, layout)[0][0], layout.look, str(path)))


def is_transparent(path: Path) -> bool:
    """Whether images of a file have an opacity. Raises `UserError`, as `probe`."""
    return layout_of(path, path.stat().st_mtime_ns).look.alpha


def _stored(path: Path, frame: int, layout: Layout) -> list[tuple[np.ndarray, Look]]:
    """The pages of a frame (samples, H, W), each with its look. Raises `UserError`, as `probe`."""
    if layout.header.width * layout.header.height * layout.header.channels > MAX_VALUES:
        raise UserError(
            f"the image '{path}' has more than {MAX_VALUES // 10**6} million values: cut it into pieces first"
        )
    with reading(path):
        if layout.look.palette is None:
            found = pages_of(path).read(path, layout.pages[frame].tolist())
            return [(_channels(each, layout.axes), layout.look) for each in found]
        with opened(path) as file:  # each page has a palette of its own
            pages: Any = file.series[0].pages
            coloured = [
                (_channels(p.asarray(), layout.axes), p.aspage()) for p in map(pages.__getitem__, layout.pages[frame])
            ]
            return [(array, look_of(page, len(array), str(path))) for array, page in coloured]


def write(
    path: Path, frames: Sequence[np.ndarray], like: Path | None = None, alphas: Sequence[np.ndarray] | None = None
) -> None:
    """Frames (C, H, W), a page each, compressed, with the resolution, place on the earth, axes and colours of `like`,
    and with an opacity (H, W) for each where there is one."""
    whole = np.stack(frames)
    count, channels, *_ = whole.shape
    small = whole.nbytes <= 2**31
    stack = stack_of(like, count, channels, whole.dtype) if alphas is None and small else None
    rgb = channels == 3 and whole.dtype.kind == "u" and (stack is None or stack.channels is None)
    more = kept_tags(like, channels)
    if alphas is not None:
        whole = np.concatenate([whole, np.stack(alphas)[:, None]], axis=1)
        more |= {"extrasamples": ["unassalpha"]}
    contiguous = rgb or alphas is not None
    if contiguous:
        whole = whole.transpose(0, 2, 3, 1)
    elif channels == 1:
        whole = whole[:, 0]
    more |= {"photometric": "rgb" if rgb else "minisblack"}
    if stack is not None:
        whole, options = stack.laid(whole), stack.options
    else:
        whole, options = whole[0] if count == 1 else whole, {"metadata": None}
        more |= {"planarconfig": "contig" if contiguous else "separate"} if contiguous or channels > 1 else {}
    tifffile.imwrite(path, whole, compression="zlib", predictor=True, bigtiff=not small, **options, **more)


@lru_cache(maxsize=256)  # a stack is read frame by frame
def layout_of(path: Path, changed: int) -> Layout:
    """How the images of a file lie, which was last changed at that time. Raises `UserError`, as `probe`."""
    with reading(path), opened(path) as file:
        series = file.series[0]
        page = series.keyframe
        sizes = dict(zip(series.axes, series.shape, strict=True))
        dtype = page.dtype
        if page.samplesperpixel < 1:  # tifffile takes it for 1 in places
            raise ValueError("pixels of no samples")
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
        look = look_of(page.aspage(), samples, str(path))
        if ours * look.channels > CHANNELS:
            raise UserError(f"'{path}' has images of {ours * look.channels} channels: expected at most {CHANNELS}")
        if max(sizes["X"], sizes["Y"]) > SIDE or math.prod(series.shape) * dtype.itemsize > max(
            UNPACKED, DENSE * path.stat().st_size
        ):
            raise UserError(
                f"the image '{path}' announces {'x'.join(map(str, series.shape))} values in a file of "
                f"{path.stat().st_size} bytes, as damaged or malicious files do: remove it"
            )
        width, height = seen(sizes["X"], sizes["Y"], look.orientation)
        return Layout(Header(width, height, ours * look.channels, look.dtype, len(pages)), pages, within, look)


def _frames(series: Any) -> int:
    return math.prod(size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXSC")


def _pages_of_a_frame(series: Any) -> int:
    return math.prod(size for axis, size in zip(series.axes, series.shape, strict=True) if axis == "C")


def _channels(array: np.ndarray, axes: str) -> np.ndarray:
    """A page's array as (C, H, W)."""
    order = [place for place, axis in enumerate(axes) if axis not in "YX"]
    array = array.transpose(*order, axes.index("Y"), axes.index("X"))
    return array.reshape(-1, *array.shape[-2:])


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Within the block whatever a codec or parser raises is a `UserError`: the file is damaged. What is no fault of
    the file is raised as it is."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        pass_on_failure(f"cannot read the image '{path}'", error)
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"cannot read the image '{path}': {error.strerror}") from None
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"the image '{path}' is damaged or truncated ({reason}): replace or remove it") from None
