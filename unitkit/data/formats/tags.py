"""What a TIFF says besides its values, and what of it a copy keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from ..files.colour import output_profile

PLACE = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)  # what puts an image on the earth
IMAGEJ = ("spacing", "unit", "finterval", "tunit", "fps")
SIZES = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement")  # of an OME file, with a unit each


class Stack(NamedTuple):
    """How a stack is laid out that says what its axes are.

    Attributes:
        shape: its axes besides those of an image, whose lengths make up the number of images.
        channels: where among these the axis of channels is, None where there is none.
        options: of `imwrite`.
    """

    shape: tuple[int, ...]
    channels: int | None
    options: dict[str, Any]

    def laid(self, whole: np.ndarray) -> np.ndarray:
        """Images (N, ...) in these axes."""
        array = whole.reshape(*self.shape, *whole.shape[1:])
        return array if self.channels is None else np.moveaxis(array, len(self.shape), self.channels)


def kept_tags(like: Path | None, channels: int) -> dict[str, Any]:
    """The tags of a file that its copy of so many channels keeps, as `imwrite` takes them."""
    profile = output_profile(like, channels) if like else None
    found: dict[str, Any] = {}
    try:
        with tifffile.TiffFile(like) as file:  # type: ignore[arg-type]
            page: Any = file.pages.first
            found["extratags"] = [(t.code, t.dtype, t.count, t.value, True) for c in PLACE if (t := page.tags.get(c))]
            if "XResolution" in page.tags:
                found |= {"resolution": page.resolution, "resolutionunit": page.resolutionunit}
    except Exception:  # no TIFF
        found = {}
    return found | ({"iccprofile": profile} if profile else {})


def stack_of(like: Path | None, count: int, channels: int, dtype: np.dtype) -> Stack | None:
    """How so many images are laid out as those of a file of ImageJ or OME, with its axes and the size of its voxels.

    None of other files, and where the images are not those of its axes, or their type not one of ImageJ's.
    """
    rgb = channels == 3 and dtype.kind == "u"
    try:
        with tifffile.TiffFile(like) as file:  # type: ignore[arg-type]
            series: Any = file.series[0]
            outer = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if a not in "YXS"]
            shape = tuple(n for axis, n in outer if axis != "C")
            if math.prod(shape) != count or not (file.is_imagej or file.is_ome):
                return None
            if file.is_imagej:
                if dtype not in ("uint8", "uint16", "float32"):
                    return None
                rgb = rgb and dtype == np.uint8  # of more bits it has channels
                known: Any = file.imagej_metadata or {}
                kept: dict[str, Any] = {key: known[key] for key in IMAGEJ if key in known}
                options: dict[str, Any] = {"imagej": True}
            else:
                pixels = _first(tifffile.xml2dict(file.ome_metadata or "")["OME"]["Image"])["Pixels"]
                kept = {key: pixels[key] for name in SIZES for key in (name, f"{name}Unit") if key in pixels}
                options = {"ome": True}
            letters = "".join(axis for axis, _ in outer if axis != "C")
            place = None
            if channels > 1 and not rgb:
                place = next((n for n, (axis, _) in enumerate(outer) if axis == "C"), len(shape))
                letters = letters[:place] + "C" + letters[place:]
            return Stack(shape, place, options | {"metadata": kept | {"axes": f"{letters}YX{'S' if rgb else ''}"}})
    except Exception:  # no TIFF
        return None


def _first(found: Any) -> Any:
    return found[0] if isinstance(found, Sequence) and not isinstance(found, str) else found
