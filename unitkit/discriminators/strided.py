"""Discriminators of strided convolutions: the released code's "plain" and "coupled" layouts."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..annotations import Layers, Positive, Share
from ..networks.layers import Padding, conv, initialise
from ..networks.tower import Tower
from .augment import Augment
from .discriminator import register


def strided_stages(
    in_channels: int, width: int, layers: int, *, first_kernel: int = 3, padding: Padding = "zero", augment: float = 0.0
) -> list[nn.Module]:
    """`layers` convs of stride 2, the width doubling each time, LeakyReLU 0.01; then a 1x1 conv to one logit map. The
    first opens with `Augment`, where there is a share of it."""
    stages: list[nn.Module] = []
    channels, kernel = in_channels, first_kernel
    for layer in range(layers):
        out = width * 2**layer
        stages.append(nn.Sequential(*conv(channels, out, kernel, 2, padding=padding), nn.LeakyReLU(0.01, inplace=True)))
        channels, kernel = out, 3
    if augment:
        stages[0] = nn.Sequential(Augment(augment), *stages[0].children())
    return [*stages, nn.Conv2d(channels, 1, 1)]


@register
def strided(
    in_channels: int,
    *,
    width: Positive = 64,
    layers: Layers = 6,
    augment: Share = 0.0,
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> Tower:
    """The plain discriminator: convs 3x3 of stride 2 and a 1x1 head. Stages: layers + 1.

    Args:
        width: channels after the first layer, doubling with each.
        layers: strided convolutions, the depth that the poster's ablation varies from 3 to 6.
        augment: the probability of each change that images are seen with while training, see `Augment`.
        init: how weights are drawn, see `initialise`.
    """
    return initialise(Tower(strided_stages(in_channels, width, layers, augment=augment), channels=1), init)


@register
def coupled(
    in_channels: int,
    *,
    width: Positive = 64,
    front: Layers = 2,
    back: Layers = 4,
    augment: Share = 0.0,
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> Tower:
    """The coupled layout: a front that stays private and a back that domains share. Stages: front + back + 1.

    The front opens with a conv 7x7. Couple the backs with the strategy `tie(discriminator=back + 1)`; in the
    released code (CelebA) front is 2 and back is 4. `augment` is as of `strided`.
    """
    stages = strided_stages(in_channels, width, front + back, first_kernel=7, augment=augment)
    return initialise(Tower(stages, channels=1), init)
