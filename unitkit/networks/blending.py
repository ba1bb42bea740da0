"""Large images in overlapping tiles that a network sees each by itself, blended linearly.

For networks of which `tiling` cannot make tiles equal to the whole: what they gather over an image, such as the
statistics of a norm, is of each tile alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

TILE = 512
OVERLAP = 64


def blended(pixels: np.ndarray, network: Callable[[np.ndarray], np.ndarray], stride: int) -> np.ndarray:
    """What a network makes of stored images (N, C, H, W). It takes about 32 bytes a pixel of an image.

    Args:
        network: from such images of at most 512x512 to others of the same height and width.
        stride: of its strided layers, which see the pixels of a tile as they see those of the whole.
    """
    height, width = pixels.shape[2:]
    total, weight = np.zeros((), np.float32), np.zeros((height, width), np.float32)
    for top, left in corners(height, width, stride):
        found = network(pixels[:, :, top : top + TILE, left : left + TILE])
        dtype = found.dtype
        if not total.ndim:
            total = np.zeros((*found.shape[:2], height, width), np.float32)
        ramp = _ramp(found.shape[2])[:, None] * _ramp(found.shape[3])
        total[:, :, top : top + TILE, left : left + TILE] += found * ramp
        weight[top : top + TILE, left : left + TILE] += ramp
    total /= weight
    return (np.rint(total, out=total) if dtype.kind == "u" else total).astype(dtype)


def corners(height: int, width: int, stride: int) -> Iterator[tuple[int, int]]:
    """The corners of overlapping tiles that cover the image, as few as can be, about evenly spread."""
    for top in _starts(height, stride):
        for left in _starts(width, stride):
            yield top, left


def _starts(length: int, stride: int) -> list[int]:
    count = max(1, math.ceil((length - OVERLAP) / (TILE - OVERLAP)))
    return [math.ceil(i * (length - TILE) / (max(count - 1, 1) * stride)) * stride for i in range(count)]


def _ramp(length: int) -> np.ndarray:
    """Weights of a tile along one side: 1 inside, falling linearly towards its edges, never 0."""
    from_edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1.0
    return np.minimum(from_edge / OVERLAP, 1.0).astype(np.float32)
