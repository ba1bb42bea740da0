"""`.npy`: an image (H, W), (H, W, C) or (C, H, W), or several, (N, H, W, C) or (N, C, H, W).

Three axes are several grey images, (N, H, W), where one channel is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...system.errors import UserError, pass_on_failure
from ..values import CHANNELS, described, supported
from .header import Header


def probe(path: Path, channels: int | None = None) -> Header:
    """The header. Raises `UserError` for a file that is damaged, or whose shape is of no images."""
    images = images_of(path, channels)
    frames, channels, height, width = images.shape
    return Header(width, height, channels, str(supported(images[:0], str(path)).dtype), frames)


def read(path: Path, frame: int = 0, channels: int | None = None) -> np.ndarray:
    """A frame (C, H, W). Raises `UserError`, as `probe`."""
    return supported(np.array(images_of(path, channels)[frame], order="C"), str(path))


def write(path: Path, frames: Sequence[np.ndarray], like: Path | None = None) -> None:
    """Frames (C, H, W), in the order of axes of `like` where that is an array too, else (H, W, C); a single one
    without an axis for frames, one channel without one for channels."""
    whole = np.stack(frames)
    first = False
    if like is not None and like.suffix.lower() == ".npy":
        shape = array_of(like).shape
        first = len(shape) >= 3 and channels_first(shape[-3:]) and not (len(shape) == 3 and len(frames) > 1)
    whole = whole if first else whole.transpose(0, 2, 3, 1)
    if whole.shape[1 if first else 3] == 1:
        whole = whole[:, 0] if first else whole[..., 0]
    with open(path, "wb") as file:
        np.save(file, whole[0] if len(frames) == 1 else whole, allow_pickle=False)


def channels_first(shape: Sequence[int]) -> bool:
    """Whether the first of three axes are the channels of an image, rather than the last: the shorter of them."""
    return shape[0] < shape[2]


def array_of(path: Path) -> np.ndarray:
    """The array, as it lies in the file. Raises `UserError` for a file that is damaged or holds no numbers."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        pass_on_failure(f"cannot read the array '{path}'", error)
        raise UserError(f"cannot read the array '{path}': {error.strerror or error}") from None
    except Exception as error:  # a damaged header raises nearly anything
        pass_on_failure(f"cannot read the array '{path}'", error)
        reason = re.sub(r" object at 0x[0-9a-f]+", "", " ".join(str(error).split()))[:120]
        raise UserError(f"'{path}' is no .npy file, or is damaged ({reason}): save it again by numpy.save") from None
    if array.dtype.hasobject or array.dtype.kind not in "biuf":
        raise UserError(f"'{path}' holds {described(array.dtype)}: expected numbers, whole or floating")
    return array


def images_of(path: Path, channels: int | None = None) -> np.ndarray:
    """All of them, (N, C, H, W), as they lie in the file. Raises `UserError`, as `probe`."""
    array = array_of(path)
    expected = "expected (H, W), (H, W, C), (C, H, W), (N, H, W, C) or (N, C, H, W)"
    if not array.size or not 2 <= array.ndim <= 4:
        raise UserError(f"'{path}' holds an array {list(array.shape)}, which is no image: {expected}")
    if array.ndim == 2:
        return array[None, None]
    if array.ndim == 3 and channels == 1 and 1 not in (array.shape[0], array.shape[2]):
        return array[:, None]
    array = array if array.ndim == 4 else array[None]
    array = array if channels_first(array.shape[1:]) else array.transpose(0, 3, 1, 2)
    if array.shape[1] > CHANNELS:
        raise UserError(
            f"'{path}' holds an array {list(array.shape)} whose first and last axes are both too long for channels "
            f"(at most {CHANNELS}): {expected}; of many grey images make (N, 1, H, W), or name the file in data="
        )
    return array
