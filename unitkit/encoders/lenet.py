"""LeNet as an encoder: a feature vector of a digit."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..annotations import Positive
from ..networks.layers import initialise
from ..networks.tower import Tower
from .encoder import register


@register
def lenet(
    in_channels: int,
    *,
    width: Positive = 32,
    code: Positive = 128,
    init: Literal["gaussian", "kaiming", "uniform"] = "uniform",
) -> Tower:
    """The feature function for 32x32 digits: (conv 5x5, ReLU, max-pool) twice, and a ReLU layer of `code` features.

    Stages: 3. The code (N, code, 1, 1) has no learned variance; DTN keeps this network fixed after it has learnt to
    classify, and has 128 features (Taigman et al. 2017, section 5.1).

    Args:
        width: channels after the first layer, doubled by the second.
        code: channels of the code.
        init: how weights are drawn, see `initialise`.
    """
    # 32 -> 28 -> 14 -> 10 -> 5 -> 1: the last convolution covers its whole input.
    stages: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(in_channels, width, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(width, width * 2, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(width * 2, code, 5), nn.ReLU(inplace=True)),
    ]
    return initialise(Tower(stages, channels=code, stride=32, size=(32, 32)), init)
