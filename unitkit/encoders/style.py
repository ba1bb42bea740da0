"""MUNIT's style encoder: what an image has beside its content, as one short code."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..annotations import Halvings, Positive
from ..networks.layers import initialise
from ..networks.tower import Tower
from .encoder import register


@register
def style(
    in_channels: int,
    *,
    width: Positive = 64,
    downs: Halvings = 4,
    style: Positive = 8,
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> Tower:
    """The style encoder of MUNIT: conv 7x7, strided convs without norm, the mean over the image, and a 1x1 conv.

    Norms would take away the means and variances of features, which hold the style (Huang, Liu, Belongie and Kautz,
    ECCV 2018, section 5.1). Stages: 1 + downs + 1.

    Args:
        width: channels after the first convolution.
        downs: convs 4x4 of stride 2, of which the first two double the width.
        style: channels of the code (N, style, 1, 1).
        init: how weights are drawn, see `initialise`.
    """
    stages: list[nn.Module] = [nn.Sequential(nn.Conv2d(in_channels, width, 7, padding=3), nn.ReLU(inplace=True))]
    channels = width
    for down in range(downs):
        out = width * 2 ** min(down + 1, 2)
        stages.append(nn.Sequential(nn.Conv2d(channels, out, 4, stride=2, padding=1), nn.ReLU(inplace=True)))
        channels = out
    stages.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, style, 1)))
    return initialise(Tower(stages, channels=style, stride=2**downs, pools=True), init)
