"""`.npy`: an image (H, W), (H, W, C) or (C, H, W), or several, (N, H, W), (N, H, W, C) or (N, C, H, W).

Three axes are several grey images where none of them can be channels; and where one channel is asked for, but for those
of colours, which become grey as a picture's do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...system.errors import UserError, pass_on_failure
from ..values import CHANNELS, described, supported
from .header import ARRAYS, SIDE, Header, suffix_of


def probe(path: Path, channels: int | None = None) -> Header:
    """The header. Raises `UserError` for a file that is damaged, or whose shape is of no images."""
    images = images_of(path, channels)
    frames, channels, height, width = images.shape
    return Header(width, height, channels, str(supported(images[:0], str(path)).dtype), frames)


def read(path: Path, frame: int = 0, channels: int | None = None) -> np.ndarray:
    """A frame (C, H, W). Raises `UserError`, as `probe`."""
    return supported(np.array(images_of(path, channels)[frame], order="C"), str(path))


def write(path: Path, frames: Sequence[np.ndarray], like: Path | None = None) -> None:
    """Frames (C, H, W), with the axes of `like` where that is an array too, else such as are read as they are meant."""
    axes = axes_for(frames[0].shape, len(frames), like)
    whole = np.stack(frames)
    found = np.empty([whole.shape["NCHW".index(axis)] for axis in axes], whole.dtype)
    in_order(found, axes)[:] = whole
    with open(path, "wb") as file:
        np.save(file, found, allow_pickle=False)


def axes_for(shape: Sequence[int], frames: int, like: Path | None) -> str:
    """The axes, such as NHW, of an array for so many images of a shape (C, H, W), as `write` has them."""
    channels, height, width = shape
    if like is not None and suffix_of(like) in ARRAYS:
        axes = axes_of(array_of(like).shape, 1 if frames > 1 else None)
        return axes if channels == 1 or "C" in axes else f"{axes}C"
    several = "N" if frames > 1 else ""
    if channels == 1:
        return "NHWC" if several else "HW"
    return several + ("CHW" if channels_first((height, width, channels)) else "HWC")


def channels_first(shape: Sequence[int]) -> bool:
    """Whether the first of three axes are the channels of an image, rather than the last.

    Grey and RGB go before other numbers of channels, and of those the shorter axis.
    """
    first, _, last = shape
    return last not in (1, 3) and (first in (1, 3) or first < last)


def axes_of(shape: Sequence[int], channels: int | None = None) -> str:
    """The axes of an array of this shape, such as NHW, where so many channels are wanted."""
    if len(shape) == 2:
        return "HW"
    first = channels_first(shape[-3:])
    least = shape[-3] if first else shape[-1]
    if len(shape) == 3 and (least > CHANNELS or (channels == 1 and least not in (1, 3))):
        return "NHW"
    return ("N" if len(shape) == 4 else "") + ("CHW" if first else "HWC")


def in_order(array: np.ndarray, axes: str) -> np.ndarray:
    """A view of an array with these axes as images (N, C, H, W)."""
    array = array.transpose([axes.index(axis) for axis in "NCHW" if axis in axes])
    return np.expand_dims(array, [place for place, axis in enumerate("NCHW") if axis not in axes])


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
    expected = "expected (H, W), (H, W, C), (C, H, W), (N, H, W), (N, H, W, C) or (N, C, H, W)"
    if not array.size or not 2 <= array.ndim <= 4:
        raise UserError(f"'{path}' holds an array {list(array.shape)}, which is no image: {expected}")
    images = in_order(array, axes_of(array.shape, channels))
    if images.shape[1] > CHANNELS:
        raise UserError(
            f"'{path}' holds an array {list(array.shape)} whose second and last axes are both too long for "
            f"channels (at most {CHANNELS}): {expected}"
        )
    if max(images.shape) > SIDE:
        raise UserError(f"'{path}' holds an array {list(array.shape)}: expected at most {SIDE} along an axis")
    return images
