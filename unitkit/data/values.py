"""What the values of stored images mean: their type, and the values that are -1 and 1 to networks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..system.errors import UserError

DTYPES = ("uint8", "uint16", "float16", "float32")
TOP = {"uint8": 255.0, "uint16": 65535.0}
HALF = float(np.finfo(np.float16).max)
LEVELS = 128  # into which a translation is rounded, at least
CHANNELS = 64  # of an image at most; more is an axis that means something else
ROBUST = (0.1, 99.9)  # percentiles
NO_NUMBERS = "values that are no numbers"
NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
RANGE = re.compile(rf"{NUMBER},{NUMBER}(;{NUMBER},{NUMBER})*", re.ASCII)
LUMA = (19595, 38470, 7471)  # ITU-R 601, of 2**16, as Pillow has it


@dataclass(frozen=True)
class Values:
    """How the values of images are stored and what they mean.

    Attributes:
        dtype: uint8, uint16, float16 or float32.
        low: the value that means -1, of all channels or one of each. What is below it is taken for it.
        high: the value that means 1, likewise.
        nan: what stands for values that are not a number; None refuses images that hold some.
    """

    dtype: str = "uint8"
    low: tuple[float, ...] = (0.0,)
    high: tuple[float, ...] = (255.0,)
    nan: float | None = None

    def __post_init__(self) -> None:
        pairs = list(zip(self.low, self.high, strict=False))
        if len(self.low) != len(self.high) or not all(low < high and math.isfinite(high - low) for low, high in pairs):
            raise UserError(f"the values {self} have no range: expected low ones below high ones, as many of both")

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return np.dtype(self.dtype).itemsize

    @property
    def whole(self) -> bool:
        """Whether they are whole numbers, and so rounded."""
        return self.dtype in TOP

    def normalised(self, images: Tensor) -> Tensor:
        """Stored images (..., C, H, W) as networks see them: float32 in [-1, 1]."""
        if self == BYTES:  # a formula that never changes, for its rounding
            return images.float().div_(127.5).sub_(1) if images.dtype == torch.uint8 else images.float() / 127.5 - 1
        images = signed(images)
        low, half = self._span(images)
        return ((images.float() - low) / half - 1).clamp(-1, 1)

    def restored(self, images: Tensor) -> np.ndarray:
        """float (..., C, H, W) in [-1, 1], clipped, as values of this type."""
        images = images.detach().float().clamp(-1, 1)
        if self == BYTES:
            return ((images + 1) * 127.5).round().to(torch.uint8).cpu().contiguous().numpy()
        low, half = self._span(images)
        values = (images + 1) * half + low
        values = values.round().clamp(0, TOP[self.dtype]) if self.whole else values
        return values.to(getattr(torch, self.dtype)).cpu().contiguous().numpy()

    def compared(self, images: np.ndarray) -> np.ndarray:
        """Stored images (..., C, H, W) on the scale of metrics, 0 to 255: bytes as they are, others as float32."""
        if self == BYTES:
            return images
        return ((self.normalised(torch.from_numpy(images)) + 1) * 127.5).numpy()

    def compared_tensor(self, images: Tensor) -> np.ndarray:
        """float (..., C, H, W) in [-1, 1], clipped, on the scale of metrics, as `compared`."""
        if self.dtype == "uint8":
            return BYTES.restored(images)
        return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).cpu().contiguous().numpy()

    def of_type(self, dtype: str) -> Values:
        """What values of another type mean to a model that was trained on these.

        Whole numbers are shares of their types' largest, and so are floats within [0, 1]; those within [-1, 1] are
        shares of what they are above -1. Other floats mean what they are.
        """
        if dtype == self.dtype or not (self.whole or dtype in TOP):
            return replace(self, dtype=dtype)
        base, span = self._shares()
        top = TOP.get(dtype, 1.0) if self.whole or self.pictures else span
        low, high = (tuple((each - base) / span * top for each in side) for side in (self.low, self.high))
        return replace(self, dtype=dtype, low=low, high=high)

    def for_output(self, dtype: str) -> Values:
        """Those of translations of images of a type: of that type where it holds them, of whole numbers in
        `LEVELS` at least; else as these are."""
        found = self.of_type(dtype)
        if dtype in TOP:
            fine = min(high - low for low, high in zip(found.low, found.high, strict=True)) >= LEVELS
            holds = fine and (self.whole or self.pictures)
        else:
            holds = dtype != "float16" or max(map(abs, (*found.low, *found.high))) <= HALF
        return found if holds or dtype == self.dtype else self

    @property
    def pictures(self) -> bool:
        """Whether they are floats within [-1, 1], and so shares of a range rather than what they are."""
        return not self.whole and min(self.low) >= -1 and max(self.high) <= 1

    def _shares(self) -> tuple[float, float]:
        """The least and the span of the values of which these are shares; 0 and 1 of floats that mean what they are."""
        if self.whole:
            return 0.0, TOP[self.dtype]
        return (-1.0, 2.0) if self.pictures and min(self.low) < 0 else (0.0, 1.0)

    def filled(self, array: np.ndarray, name: str) -> np.ndarray:
        """An array with what stands for values that are not a number in their places. `name` is the image's.

        Raises:
            UserError: such values, where nothing stands for them.
        """
        if array.dtype.kind != "f" or np.isfinite(array).all():
            return array
        if self.nan is None:
            count = int((~np.isfinite(array)).sum())
            raise UserError(
                f"the image '{name}' holds {count} {NO_NUMBERS} (NaN or infinite): mend them, or say "
                f"what stands for them, such as nan=0"
            )
        return np.where(np.isfinite(array), array, np.asarray(self.nan, array.dtype))

    def stored(self, array: np.ndarray, name: str) -> np.ndarray:
        """An array (C, H, W) of an image of this or another type, as these. `name` is the image's, for messages.

        Raises:
            UserError: as `filled`, and floats where these are whole numbers.
        """
        array, kind = self.filled(array, name), np.dtype(self.dtype)
        if array.dtype == kind:
            return array
        if array.dtype.kind == "f":
            if kind.kind == "f":
                return array.astype(kind)
            raise UserError(f"the image '{name}' holds {array.dtype} values, and others of its domain {self.dtype}")
        if kind.kind == "f" and not self.pictures:
            return array.astype(kind)
        base, span = self._shares()
        found = array * np.float64(span / TOP[str(array.dtype)]) + base
        return (np.rint(found) if self.whole else found).astype(kind)

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return {"dtype": self.dtype, "low": list(self.low), "high": list(self.high), "nan": self.nan}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Values:
        """Those that `to_json` gave."""
        return cls(value["dtype"], tuple(value["low"]), tuple(value["high"]), value["nan"])

    def __str__(self) -> str:
        pairs = ";".join(f"{low:.6g},{high:.6g}" for low, high in zip(self.low, self.high, strict=False))
        return f"{self.dtype} {pairs}"

    def _span(self, images: Tensor) -> tuple[Tensor | float, Tensor | float]:
        if len(self.low) == 1:
            return self.low[0], (self.high[0] - self.low[0]) / 2
        low, high = (torch.tensor(side, device=images.device).view(-1, 1, 1) for side in (self.low, self.high))
        return low, (high - low) / 2


BYTES = Values()


def signed(images: Tensor) -> Tensor:
    """Images of 16 bits as int32, others as they are: a GPU has few operations on uint16."""
    return images.view(torch.int16).int().bitwise_and_(0xFFFF) if images.dtype == torch.uint16 else images


def values_of(images: Any) -> Values:
    """Those of a source of images, which are bytes unless it says otherwise."""
    found: Values = getattr(images, "values", BYTES)
    return found


def supported(array: np.ndarray, name: str) -> np.ndarray:
    """An array of numbers in one of the types that images are stored in: truth values as bytes, signed and longer
    numbers as float32. Raises `UserError` for anything else."""
    kind = array.dtype.kind
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if str(array.dtype) in DTYPES:
        return array
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind in "iuf":
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    raise UserError(f"'{name}' holds {described(array.dtype)}: expected numbers, whole or floating")


def described(dtype: np.dtype) -> str:
    """A type in words, where it is none of numbers."""
    words = {"O": "objects", "U": "text", "S": "text in bytes", "c": "complex numbers", "M": "dates", "m": "times"}
    return words.get(dtype.kind, "records of several fields" if dtype.names else f"values of type {dtype}")


def common_type(found: Mapping[str, str]) -> str:
    """The type that holds images of all these. `found` are types, with the name of an image of each.

    Raises `UserError` where some are whole numbers and others are not.
    """
    whole = [dtype for dtype in found if dtype in TOP]
    if whole and len(whole) < len(found):
        other = next(dtype for dtype in found if dtype not in TOP)
        raise UserError(
            f"'{found[whole[0]]}' holds {whole[0]} and '{found[other]}' {other} values, whose ranges have nothing in "
            f"common: save all images of a domain in one type"
        )
    return max(found, key=DTYPES.index)


def parse_range(text: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The low and high values of `range=`, of each channel; None of auto. Raises `UserError` for another text."""
    if text == "auto":
        return None
    expected = "expected auto, LOW,HIGH, or for each channel LOW,HIGH with ; between, such as -1000,400"
    if not RANGE.fullmatch(text):
        raise UserError(f"range='{text}' is not possible: {expected}")
    pairs = [tuple(float(number) for number in pair.split(",")) for pair in text.split(";")]
    for low, high in pairs:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(f"range='{text}' is not possible: {low:g} is not below {high:g}; {expected}")
    return tuple(low for low, _ in pairs), tuple(high for _, high in pairs)


def robust_values(dtype: str, samples: Iterable[np.ndarray], *, each: bool, window: Sequence[float] | None) -> Values:
    """Values whose range is chosen from samples of the training images.

    Bytes have all of their range, and so have 16-bit values that use its upper half. Floats that lie in [0, 1] and
    reach beyond its middle, or in [-1, 1], have these. Else the range is from the 0.1st to the 99.9th percentile, or
    to the very least and largest where these are no more than a tenth further.

    Args:
        samples: values (C, n) of some images.
        each: a range of its own for each channel.
        window: a range that the files state.
    """
    if dtype == "uint8":
        return BYTES
    if window is not None:
        return Values(dtype, (float(window[0]),), (float(window[1]),))
    values = np.concatenate([sample.astype(np.float64) for sample in samples], axis=1)
    values = values if each else values.reshape(1, -1)
    pairs = [_range(dtype, row[np.isfinite(row)]) for row in values]
    low, high = zip(*pairs, strict=True)
    return Values(dtype, low, high)


def _range(dtype: str, values: np.ndarray) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    least, most = float(values.min()), float(values.max())
    if dtype in TOP and most > TOP[dtype] / 2:
        return 0.0, TOP[dtype]
    if dtype not in TOP and -1 <= least < -0.5 and most <= 1:
        return -1.0, 1.0
    if dtype not in TOP and least >= 0 and 0.5 < most <= 1:
        return 0.0, 1.0
    low, high = (float(each) for each in np.percentile(values, ROBUST))
    margin = (high - low) / 10
    low, high = (least if least >= low - margin else low), (most if most <= high + margin else high)
    return (low, high) if high > low else (low, low + 1)


def in_channels(array: np.ndarray, channels: int, name: str) -> np.ndarray:
    """An image (C, H, W) with so many channels: grey as RGB, RGB as grey. Raises `UserError` for other changes."""
    if len(array) == channels:
        return array
    if len(array) == 1 and channels == 3:
        return np.repeat(array, 3, axis=0)
    if len(array) == 3 and channels == 1:
        if array.dtype.kind == "u":
            return ((np.tensordot(LUMA, array.astype(np.int64), 1)[None] + 2**15) >> 16).astype(array.dtype)
        return (np.tensordot(LUMA, array.astype(np.float64), 1)[None] / 2**16).astype(array.dtype)
    raise UserError(f"the image '{name}' has {len(array)} channels, and {channels} are expected")
