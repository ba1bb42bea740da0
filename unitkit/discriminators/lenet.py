"""LeNet as a discriminator that also classifies: CoGAN's for digits."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..annotations import Positive, Share
from ..networks.layers import initialise
from ..networks.tower import Tower
from .discriminator import register
from .heads import Heads


@register
def lenet(
    in_channels: int,
    *,
    width: Positive = 20,
    classes: Positive | None = None,
    gan_classes: Positive = 1,
    dropout: Share = 0.5,
    init: Literal["gaussian", "kaiming", "uniform"] = "uniform",
) -> Tower:
    """The discriminator for 32x32 digits of CoGAN: (conv 5x5, ReLU, max-pool) twice, a hidden layer, then its heads.

    Stages: 4. At width 20 the layers have 20, 50 and 500 channels, as in Liu and Tuzel 2016.

    Args:
        width: channels after the first layer.
        classes: number of classes of a second head on the same features (10 for digits); None for no such head.
        gan_classes: outputs of the first head: 1 for real or generated, 3 for a ternary discriminator.
        dropout: in the heads, behind the top features; half of it before the hidden layer.
        init: how weights are drawn, see `initialise`.
    """
    middle, hidden = width * 5 // 2, width * 25

    def conv(channels: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2)]

    # 32 -> 28 -> 14 -> 10 -> 5
    stages: list[nn.Module] = [
        nn.Sequential(*conv(in_channels, width)),
        nn.Sequential(*conv(width, middle), nn.Dropout(dropout / 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(middle * 25, hidden), nn.ReLU(inplace=True)),
        Heads(hidden, classes, gan_classes, dropout),
    ]
    return initialise(Tower(stages, channels=gan_classes, size=(32, 32), classes=classes), init)
