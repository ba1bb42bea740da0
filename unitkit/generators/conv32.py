"""The released code's generator for 32x32 digits."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..annotations import Positive
from ..networks.convolutions import PixelwiseTransposed
from ..networks.layers import ShiftNorm, initialise
from ..networks.tower import Tower
from .generator import register


@register
def conv32(
    in_channels: int, out_channels: int, *, width: Positive = 96, init: Literal["gaussian", "kaiming"] = "gaussian"
) -> Tower:
    """The generator for 32x32 digits: four transposed convs 4x4 from a 1x1 latent, batch norm, 1x1 conv, tanh.

    Stages: 5; in the released code the first three are shared.

    Args:
        width: channels before the last convolution.
        init: how weights are drawn, see `initialise`.
    """
    # (in, out, padding): 1 -> 4 -> 8 -> 16 -> 32; the first has no padding, which makes 1x1 into 4x4.
    layers = [
        (in_channels, width * 8, 0),
        (width * 8, width * 4, 1),
        (width * 4, width * 2, 1),
        (width * 2, width, 1),
    ]
    stages: list[nn.Module] = [
        nn.Sequential(
            nn.ConvTranspose2d(i, o, 4, 1 if p == 0 else 2, p), ShiftNorm(o), nn.LeakyReLU(0.01, inplace=True)
        )
        for i, o, p in layers
    ]
    stages.append(nn.Sequential(PixelwiseTransposed(width, out_channels), nn.Tanh()))
    return initialise(Tower(stages, channels=out_channels, stride=32, size=(32, 32)), init)
