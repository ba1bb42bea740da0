"""Images at other sizes, and between Pillow's and arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image scaled to cover `size` (H, W), its proportions kept, and cut to its centre."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    box_width, box_height = min(width * scale, image.width), min(height * scale, image.height)
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    box = (left, top, min(left + box_width, image.width), min(top + box_height, image.height))
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def fit_array(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An array (C, H, W) of any type scaled and cut as `fit` does, each channel by itself, with no value that was not
    within those of its channel. What is not a number spreads to its neighbours: replace it before."""
    if array.shape[1:] == size:
        return array
    return _scaled(array, lambda plane: fit(plane, size))


def resized(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An array (C, H, W) of any type at another size (H, W), whatever its proportions."""
    return _scaled(array, lambda plane: plane.resize(size[::-1], Image.Resampling.BICUBIC))


def _scaled(array: np.ndarray, scale: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """What becomes of the planes of an array: of bytes as Pillow has it, of others in float32."""
    if array.dtype == np.uint8:
        return np.stack([np.asarray(scale(Image.fromarray(plane))) for plane in array])
    planes = []
    for each in array:
        plane = np.ascontiguousarray(each, np.float32)  # which Pillow reads where it lies
        image = Image.frombuffer("F", plane.shape[::-1], plane, "raw", "F", 0, 1)
        found = np.asarray(scale(image)).clip(np.fmin.reduce(each, None), np.fmax.reduce(each, None))
        planes.append(np.rint(found) if array.dtype.kind == "u" else found)
    return np.stack(planes).astype(array.dtype)


def to_array(image: Image.Image) -> np.ndarray:
    """An 8-bit grey or RGB image as a uint8 array (1 or 3, H, W)."""
    array = np.asarray(image)
    # A copy in every case: what PIL gives cannot be written to, and torch warns of that.
    return np.array(array[None] if array.ndim == 2 else array.transpose(2, 0, 1), order="C")


def to_image(array: np.ndarray) -> Image.Image:
    """A uint8 array (1 or 3, H, W) as a grey or RGB image."""
    assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[0] in (1, 3), (array.dtype, array.shape)
    return Image.fromarray(np.ascontiguousarray(array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)))
