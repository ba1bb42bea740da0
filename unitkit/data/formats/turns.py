"""The orientation that a file states, and images turned by it, as arrays."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..files.walk import check_block

ORIENTATION = 0x0112
# What is done to the rows as they are stored: turned top to bottom, left to right, and transposed.
STEPS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}


def orientation_of(image: Image.Image) -> int:
    """That of a picture which Pillow has opened and does not turn by itself, 1 to 8."""
    if image.format == "TIFF":
        return 1
    try:
        check_block(image.info.get("exif") or b"")
        # The method of the base class: that of a PNG decodes the whole image in search of late metadata.
        value = Image.Image.getexif(image).get(ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # unreadable metadata is no reason to refuse the image
        return 1
    return value if value in STEPS else 1  # viewers leave an image as it is where the value means nothing


def seen(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height as an image of this orientation is seen."""
    return (height, width) if orientation >= 5 else (width, height)


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """An image (..., H, W) as it is seen: a view."""
    down, across, transposed = STEPS[orientation]
    array = array[..., ::-1, :] if down else array
    array = array[..., ::-1] if across else array
    return array.swapaxes(-1, -2) if transposed else array


def stored_window(rows: range, columns: range, size: tuple[int, int], orientation: int) -> tuple[range, range]:
    """Where a window of an image as it is seen lies in the stored one of a size (H, W)."""
    down, across, transposed = STEPS[orientation]
    rows, columns = (columns, rows) if transposed else (rows, columns)
    height, width = size
    rows = range(height - rows.stop, height - rows.start) if down else rows
    return rows, range(width - columns.stop, width - columns.start) if across else columns
