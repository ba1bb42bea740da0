"""The generator of the authors' later UNIT: residual blocks, and doublings by the nearest pixel."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..annotations import Blocks, Halvings
from ..kernels.norms import LayerNorm
from ..networks.convolutions import Doubling
from ..networks.layers import Padding, Residual, conv, double, initialise
from ..networks.tower import Tower
from .generator import register


@register
def upsampling(
    in_channels: int,
    out_channels: int,
    *,
    blocks: Blocks = 4,
    ups: Halvings = 2,
    padding: Padding = "zero",
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> Tower:
    """The decoder of the later UNIT: residual blocks, upsampling and convs 5x5 with layer norm, conv 7x7, tanh.

    As published with MUNIT (Huang, Liu, Belongie and Kautz, ECCV 2018). Layer norm keeps how channels differ from one
    another, and with it colours, which instance norm takes away. Stages: blocks + ups + 1, so that the first `n` stages
    are residual blocks while n <= blocks.

    Args:
        blocks: residual blocks.
        ups: doublings by the nearest pixel, each with a conv that halves the width.
        padding: of convolutions: zero or reflect (the released code).
        init: how weights are drawn, see `initialise`.
    """
    stages: list[nn.Module] = [Residual(in_channels, padding=padding) for _ in range(blocks)]
    stages += doublings(in_channels, out_channels, ups, padding=padding)
    return initialise(Tower(stages, channels=out_channels, stride=2**ups), init)


def doublings(in_channels: int, out_channels: int, ups: int, *, padding: Padding = "zero") -> list[nn.Module]:
    """The stages from a latent to an image: `ups` doublings, each of half the width before it, and the last conv."""
    stages: list[nn.Module] = []
    channels = in_channels
    for _ in range(ups):
        out = max(1, channels // 2)
        if padding == "reflect":
            larger = double(channels, out, "nearest", kernel=5, padding=padding)
        else:
            larger = [Doubling(channels, out)]
        stages.append(nn.Sequential(*larger, LayerNorm(out), nn.ReLU(inplace=True)))
        channels = out
    return [*stages, nn.Sequential(*conv(channels, out_channels, 7, padding=padding), nn.Tanh())]
