"""The multi-scale discriminator of the released code (street scenes)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from ..annotations import Layers, Positive, Share
from ..networks.layers import Padding, initialise
from ..networks.tower import Tower
from .augment import Augment
from .discriminator import register
from .strided import strided_stages


class Pyramid(nn.Module):
    """An image as itself, 1/2, 1/4, ...: each Gaussian-smoothed (5x5 binomial, edges repeated) before it is halved."""

    kernel: Tensor

    def __init__(self, scales: int) -> None:
        super().__init__()
        self.scales = scales
        line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("kernel", line[:, None] * line, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = [x]
        for _ in range(self.scales - 1):
            channels = x.shape[1]
            kernel = self.kernel.to(x.dtype).expand(channels, 1, 5, 5)
            x = conv2d(pad(x, (2, 2, 2, 2), mode="replicate"), kernel, stride=2, groups=channels)
            levels.append(x)
        return tuple(levels)


class PerScale(nn.ModuleList):
    """One module for each scale of a pyramid."""

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(module(level) for module, level in zip(self, levels, strict=True))


@register
def multiscale(
    in_channels: int,
    *,
    width: Positive = 64,
    layers: Layers = 4,
    scales: Layers = 3,
    padding: Padding = "zero",
    augment: Share = 0.0,
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> Tower:
    """A plain discriminator on each scale of an image pyramid; the losses of the scales add up.

    Stages: 1 + layers + 1, the first of which makes the pyramid and has no weights; stage i holds layer i of every
    scale.

    Args:
        width: channels after the first layer of each scale, doubling with each layer.
        layers: strided convolutions on each scale.
        scales: the image, its half, its quarter, ...
        padding: of convolutions, zero (the 2017 code) or reflect (the later one).
        augment: as of `strided`, of an image before its pyramid.
        init: how weights are drawn, see `initialise`.
    """
    per_scale = [strided_stages(in_channels, width, layers, padding=padding) for _ in range(scales)]
    first = nn.Sequential(Augment(augment), Pyramid(scales)) if augment else Pyramid(scales)
    stages: list[nn.Module] = [first, *(PerScale(modules) for modules in zip(*per_scale, strict=True))]
    return initialise(Tower(stages, channels=1), init)
