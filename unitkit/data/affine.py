"""Augmentation by small rotations, changes of scale and shape, and shifts."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ..system.errors import UserError


@dataclass(frozen=True)
class Affine:
    """Each training image rotated, scaled, stretched, sheared and shifted, by amounts drawn evenly around none.

    Args:
        rotate: at most this many degrees.
        scale: at most this share larger or smaller, in [0, 1).
        stretch: wider and lower, or narrower and higher, by at most the factor exp(stretch) on each axis.
        shear: at most this share of a row's distance from the middle, sideways.
        shift: at most this share of the side, along each axis.
    """

    rotate: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        shares = all(0 <= share < 1 for share in (self.scale, self.stretch, self.shear, self.shift))
        if not (0 <= self.rotate <= 180 and shares):
            raise UserError(f"an affine transform needs rotate in [0, 180] and the other amounts in [0, 1), not {self}")

    def __bool__(self) -> bool:
        """Whether it moves anything."""
        return any(getattr(self, field.name) for field in fields(self))

    def __mul__(self, factor: float) -> Affine:
        return Affine(*(factor * getattr(self, field.name) for field in fields(self)))

    __rmul__ = __mul__

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (N, C, H, W) warped, bilinear; what comes in from outside is the border's colour."""
        count = len(images)
        angle, size, stretch, shear, across, down = torch.rand(6, count, generator=generator) * 2 - 1
        angle, size, stretch = angle * math.radians(self.rotate), 1 + size * self.scale, (stretch * self.stretch).exp()
        wide, high = size * stretch, size / stretch
        height, width = images.shape[2:]
        # In coordinates of [-1, 1] along each axis, where a turn of an image that is not square must be stretched.
        x = [angle.cos() / wide, (self.shear * shear - angle.sin()) / wide * height / width, 2 * self.shift * across]
        y = [angle.sin() / high * width / height, angle.cos() / high, 2 * self.shift * down]
        matrix = torch.stack([*x, *y], dim=1).view(count, 2, 3).to(images.device, non_blocking=True)
        grid = affine_grid(matrix, list(images.shape), align_corners=False)
        return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
