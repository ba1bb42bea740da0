"""JPEGs that lack their last bytes, as an interrupted copy leaves them: viewers show these, and PIL refuses them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from .walk import LONE, MARKER, SCAN, START

BLOCK = 16  # pixels on a side of what a JPEG stores as one piece
MOST = 0.01  # share of the pixels that may be missing ...
MOST_SMALL = 1 / 16  # ... or, in a small image, one block up to this share
SHOWN = 5  # files that a note names
END = b"\xff\xd9"
FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # Huffman or arithmetic, sequential or progressive
PROGRESSIVE = {0xC2, 0xCA}
ZEROS = re.compile(rb"\x00{4,}\Z")  # room that was made for bytes which never came


def completed(data: bytes, reduced: tuple[int, int] | None = None) -> Image.Image | None:
    """The image in the bytes of a JPEG whose end is missing, grey where it is; None where more is missing than that.

    At most 1% of the pixels may be missing, of a small image one block of 16x16. `reduced` is the size for `draft`.
    """
    data = ZEROS.sub(b"", data).removesuffix(b"\xff")  # a marker that was cut in two
    if not _ends_in_last_scan(data):
        return None
    # What the decoder makes of two different continuations is the same as far as the file's own data reach.
    other = b"\x55" * (1024 + len(data) // 8)
    try:
        image, continued = (_decoded(data + more + END, reduced) for more in (b"", other))
    except MemoryError:
        raise
    except Exception:  # a decoder raises nearly anything on a damaged file
        return None
    return image if _missing(np.asarray(image), np.asarray(continued)) <= _limit(data) else None


def short_note(paths: Sequence[Path]) -> str:
    """That these files were completed, in one line."""
    names = sorted({str(path) for path in paths})
    some = ", ".join(f"'{name}'" for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"images without their last bytes, used as viewers show them, grey there: {len(names)} ({some})"


def _decoded(data: bytes, reduced: tuple[int, int] | None) -> Image.Image:
    image = Image.open(BytesIO(data), formats=("JPEG",))
    if reduced:
        image.draft(None, reduced)
    image.load()
    return image


def _limit(data: bytes) -> float:
    """The share of the pixels that may be missing."""
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        return max(MOST, min(BLOCK * BLOCK / (image.width * image.height), MOST_SMALL))


def _missing(image: np.ndarray, continued: np.ndarray) -> float:
    """The share of the pixels from the first that differs, in the order in which blocks are stored."""
    differs = (image != continued).reshape(*image.shape[:2], -1).any(axis=2)
    if not differs.any():
        return 0.0
    height, width = len(differs), len(differs[0])
    top = int(differs.any(axis=1).argmax())
    bottom = min(top + BLOCK, height)
    left = int(differs[top:bottom].any(axis=0).argmax())
    return ((bottom - top) * (width - left) + (height - bottom) * width) / (height * width)


def _ends_in_last_scan(data: bytes) -> bool:
    """Whether the data stop within the compressed data of a scan, and none is needed behind it."""
    if not data.startswith(START):
        return False
    at, missing, progressive = len(START), set[tuple[int, int]](), False
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF or kind in LONE:
            at += 1 if kind == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        body = data[at + 4 : end]
        if end > len(data) or kind == END[1]:
            return False
        at = end
        if kind in FRAMES:
            progressive = kind in PROGRESSIVE
            missing = {(part, coefficient) for part in body[6::3] for coefficient in range(64)}
        elif kind == SCAN:
            parts = body[1 : 1 + 2 * body[0] : 2]
            first, last, precision = body[1 + 2 * body[0] :] if progressive else (0, 63, 0)
            if precision & 15 == 0:  # to the last bit
                missing -= {(part, coefficient) for part in parts for coefficient in range(first, last + 1)}
            following = MARKER.search(data, at)
            if following is None:
                return not missing
            at = following.start()
    return False
