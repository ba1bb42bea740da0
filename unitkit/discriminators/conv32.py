"""The released code's discriminator for 32x32 digits, which also classifies."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..annotations import Positive
from ..networks.layers import initialise
from ..networks.tower import Tower
from .discriminator import register
from .heads import Heads


@register
def conv32(
    in_channels: int,
    *,
    width: Positive = 64,
    classes: Positive | None = None,
    init: Literal["gaussian", "kaiming"] = "gaussian",
) -> Tower:
    """The discriminator for 32x32 digits: (conv 5x5, ReLU, max-pool, dropout) four times, then its heads.

    Stages: 5; in the released code all but the first are shared.

    Args:
        width: channels after the first layer, doubling with each.
        classes: number of classes of a second head on the same features (10 for digits); None for no such head.
        init: how weights are drawn, see `initialise`.
    """
    stages: list[nn.Module] = []
    channels = in_channels
    for layer, dropout in enumerate((0.1, 0.3, 0.5, 0.5)):
        out = width * 2**layer
        stages.append(
            nn.Sequential(
                nn.Conv2d(channels, out, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(dropout)
            )
        )
        channels = out
    stages.append(Heads(channels * 2 * 2, classes))
    return initialise(Tower(stages, channels=1, size=(32, 32), classes=classes), init)
