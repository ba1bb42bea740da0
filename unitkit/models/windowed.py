"""The map of a picture that is read window by window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..networks.maps import Limits, Map


class Picture(Protocol):
    """What a window (C, h, w) can be read of; its shape is (C, H, W)."""

    shape: tuple[int, int, int]
    dtype: str

    def read(self, rows: range, columns: range) -> np.ndarray: ...


class Converted:
    """A picture with so many channels, whose windows are what `convert` makes of those of another."""

    def __init__(self, picture: Picture, channels: int, convert: Callable[[np.ndarray], np.ndarray]) -> None:
        self.picture, self.convert = picture, convert
        self.shape, self.dtype = (channels, *picture.shape[1:]), picture.dtype

    def read(self, rows: range, columns: range) -> np.ndarray:
        return self.convert(self.picture.read(rows, columns))


class Windowed(Map):
    """A picture as the map (1, C, H + below, W + right), its edges repeated below and on the right."""

    def __init__(self, picture: Picture, below: int, right: int, device: torch.device, limits: Limits) -> None:
        channels, height, width = picture.shape
        shape = torch.Size((1, channels, height + below, width + right))
        super().__init__(shape, getattr(torch, picture.dtype), device, limits, 0, shape.numel())
        self.picture = picture

    def read(self, rows: range, columns: range) -> Tensor:
        _, height, width = self.picture.shape
        ys, xs = _clipped(rows, height), _clipped(columns, width)
        window = self.picture.read(ys, xs)
        more = ((0, 0), (0, len(rows) - len(ys)), (0, len(columns) - len(xs)))
        return torch.from_numpy(np.pad(window, more, mode="edge")[None]).to(self.device)


def _clipped(wanted: range, length: int) -> range:
    """The part of a range that is there, or the last of what is."""
    return range(min(wanted.start, length - 1), min(wanted.stop, length))
