"""A set of images that belongs to no training: a folder or an .npz, at its own size or another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...system.errors import UserError
from ..sources import ImageArray, ImageFiles, Images
from .index import headers
from .kinds import images_of_kind, kind_of, values_for
from .listing import passed_over
from .locations import flat


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
        kind = kind_of([raw], {}, location)
        array = raw.at(shape) if shape else raw
        return array.at(array.size, values=values_for(array, kind, location, None, None))
    if notes is not None:
        notes += passed_over(raw.passed, location)
    (found,) = headers([raw])
    if found.broken:
        raise found.broken[min(found.broken)]
    known = {id(raw): found}
    kind = kind_of([raw], known, location)
    sizes = np.unique(np.stack([found.column("height"), found.column("width")], axis=1), axis=0)
    if shape is None and len(sizes) > 1:
        raise UserError(f"the images of '{location}' differ in size, {_listed(sizes)}: give one, such as --size 256")
    images = images_of_kind(raw, known, kind.channels, shape or (int(sizes[0][0]), int(sizes[0][1])))
    assert isinstance(images, ImageFiles), "of a set of files"
    return replace(images, values=values_for(images, kind, location, None, None))


def _listed(sizes: np.ndarray) -> str:
    words = [f"{height}x{width}" for height, width in sizes[:3]]
    return ", ".join(words) + (", ..." if len(sizes) > 3 else "")
