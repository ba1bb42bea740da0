"""An image path as one module that needs nothing around it: stored values in, stored values out, images of any size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..data.values import Values
from ..models import ImagePaths
from .plain import make_plain

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Pad = Callable[[Tensor, int, int], Tensor]


class Portable(nn.Module):
    """Images (N, C, H, W), float32 values as they are stored, to their translations along a path, likewise.

    As `Inference`, in one pass over the whole image: sides that the strides do not divide, or that are too small, are
    padded by the image's edge, and the result is cropped to the image.

    Args:
        model: which this takes a copy of, with the path's towers.
        path: an image path from a real domain.
        source: what the values of the images mean.
        target: those of the translations.
        styles: what the model is given besides, `style:b` (1, C, 1, 1).
        least: the least side that the networks take; 0 for those of one size, which are given no other.
        precision: "fp32", "fp16" or "bf16": of the weights, and of what is computed between the first and last step.
    """

    source_low: Tensor
    source_half: Tensor
    target_low: Tensor
    target_half: Tensor

    def __init__(
        self,
        model: ImagePaths,
        path: str,
        source: Values,
        target: Values,
        *,
        styles: Mapping[str, Tensor],
        least: int,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.path, self.dtype, self.nan = path, DTYPES[precision], source.nan
        self.stride, self.least = model.stride, least
        self.pads = model.size is None
        self.model = copy.deepcopy(model).eval()
        make_plain(self.model)
        self.model.to(self.dtype).requires_grad_(False)
        self.styles = {name: f"style_{name[-1]}" for name in styles}
        for name, place in self.styles.items():
            self.register_buffer(place, styles[name].to(self.dtype))
        for place, values in ("source", source), ("target", target):
            low, high = (torch.tensor(side).view(-1, 1, 1) for side in (values.low, values.high))
            self.register_buffer(f"{place}_low", low)
            self.register_buffer(f"{place}_half", (high - low) / 2)
        self.pad: Pad = padded

    def forward(self, images: Tensor) -> Tensor:
        x = images if self.nan is None else torch.where(torch.isfinite(images), images, self.nan)
        x = ((x - self.source_low) / self.source_half - 1).clamp(-1, 1).to(self.dtype)
        if self.pads:
            x = self.pad(x, self.stride, self.least)
        batch: dict[str, Any] = {self.path[0]: x, **{name: getattr(self, at) for name, at in self.styles.items()}}
        found: Tensor = self.model.read(batch, [self.path])[self.path]
        found = found[:, :, : images.shape[2], : images.shape[3]]
        return (found.float().clamp(-1, 1) + 1) * self.target_half + self.target_low


def padded(x: Tensor, stride: int, least: int) -> Tensor:
    """Images with their edges repeated below and on the right, to sides that a stride divides, of `least` or more."""
    height, width = x.shape[2], x.shape[3]
    below, right = max(-height % stride, least - height), max(-width % stride, least - width)
    return pad(x, (0, right, 0, below), mode="replicate")


def padded_symbolically(x: Tensor, stride: int, least: int) -> Tensor:
    """`padded` where the sides are symbols, of which `max` would choose one for good.

    Said as a number of strides, which torch.export follows in half the time that remainders take it.
    """
    height, width = x.shape[2], x.shape[3]
    fewest = -(-least // stride)
    below = torch.sym_max((height + stride - 1) // stride, fewest) * stride - height
    right = torch.sym_max((width + stride - 1) // stride, fewest) * stride - width
    return pad(x, (0, right, 0, below), mode="replicate")  # type: ignore[arg-type]  # symbols, which it takes
