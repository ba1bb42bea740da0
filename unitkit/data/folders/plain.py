"""A set of images that belongs to no training: a folder or an .npz, at its own size or another."""

from __future__ import annotations

import numpy as np

from ...system.errors import UserError
from ..files.decode import Header
from ..sources import ImageArray, ImageFiles, Images
from .index import headers
from .listing import passed_over
from .locations import flat

WIDTH, HEIGHT, CHANNELS = (Header._fields.index(name) for name in ("width", "height", "channels"))


def plain_images(location: str, size: int | tuple[int, int] | None = None, notes: list[str] | None = None) -> Images:
    """All images at a location, in the order of their names.

    Args:
        location: a folder (with the folders in it), or an .npz with one array.
        size: what they are brought to, a side or (H, W); None leaves them as they are, which must be all alike.
        notes: gets a line on what was passed over, if anything was.

    Raises:
        UserError: nothing there, a damaged header, images of different sizes where no size is given.
    """
    raw = flat(location)
    shape = (size, size) if isinstance(size, int) else size
    if isinstance(raw, ImageArray):
        return raw.at(shape) if shape else raw
    if notes is not None:
        notes += passed_over(raw.passed, location)
    (found,) = headers([raw])
    if found.broken:
        raise found.broken[min(found.broken)]
    channels = int(found.values[:, CHANNELS].max())
    sizes = np.unique(found.values[:, [HEIGHT, WIDTH]], axis=0)
    if shape is None and len(sizes) > 1:
        raise UserError(f"the images of '{location}' differ in size, {_listed(sizes)}: give one, such as --size 256")
    return ImageFiles(raw.paths, channels, shape or (int(sizes[0][0]), int(sizes[0][1])), raw.keys, marks=raw.marks)


def _listed(sizes: np.ndarray) -> str:
    words = [f"{height}x{width}" for height, width in sizes[:3]]
    return ", ".join(words) + (", ..." if len(sizes) > 3 else "")
