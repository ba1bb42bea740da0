"""The released code's encoder for 32x32 digits."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ..annotations import Positive
from ..networks.layers import Coordinates, ShiftNorm, initialise
from ..networks.tower import Tower
from .encoder import register


class Gaussian(nn.Module):
    """Two 1x1 convolutions: the posterior's mean and its standard deviation (softplus, so positive)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Conv2d(channels, channels, 1)
        self.spread = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x), nn.functional.softplus(self.spread(x))


@register
def conv32(
    in_channels: int,
    *,
    width: Positive = 96,
    coordinates: bool = False,
    init: Literal["gaussian", "kaiming"] = "gaussian",
) -> Tower:
    """The encoder for 32x32 digits: four convolutions down to 1x1, batch norm, a Gaussian with learned variance.

    Stages: 5; in the released code all but the first are shared.

    Args:
        width: channels after the first convolution; the latent has 8 * width.
        coordinates: append an x, y coordinate map to the image.
        init: how weights are drawn, see `initialise`.
    """
    # (in, out, kernel, stride, padding): 32 -> 16 -> 8 -> 1 -> 1
    layers = [
        (in_channels + 2 * coordinates, width, 5, 2, 2),
        (width, width * 2, 5, 2, 2),
        (width * 2, width * 4, 8, 1, 0),
        (width * 4, width * 8, 1, 1, 0),
    ]
    stages: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(i, o, k, s, p), ShiftNorm(o), nn.LeakyReLU(0.01, inplace=True))
        for i, o, k, s, p in layers
    ]
    if coordinates:
        stages[0] = nn.Sequential(Coordinates(), stages[0])
    stages.append(Gaussian(width * 8))
    return initialise(Tower(stages, channels=width * 8, stride=32, size=(32, 32)), init)
