"""The paper's encoder: a strided convolutional front and residual blocks."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..annotations import Blocks, Halvings, Positive, Share
from ..kernels.norms import InstanceNorm
from ..networks.layers import Padding, Placed, Residual, conv, initialise
from ..networks.tower import Tower
from .encoder import register


@register
def residual(
    in_channels: int,
    *,
    width: Positive = 64,
    blocks: Blocks = 4,
    downs: Halvings = 2,
    norm: bool = False,
    dropout: Share = 0.0,
    padding: Padding = "zero",
    placed: bool = False,
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> Tower:
    """The encoder of UNIT: conv 7x7, strided convs that double the width, residual blocks; variance fixed at 1.

    Stages: 1 + downs + blocks, so that the last `n` stages are residual blocks while n <= blocks.

    Args:
        width: channels after the first convolution; the latent has width * 2**downs.
        downs: convs 3x3 of stride 2.
        norm: instance norm and ReLU after every conv but the first (the cats and dogs variant of the 2017 code),
            instead of LeakyReLU alone.
        dropout: in the residual blocks (0.5 for street scenes in the 2017 code).
        padding: of convolutions, but transposed ones: zero (the 2017 code) or reflect (the later one).
        placed: scale and shift the image first, see `Placed`; one stage more.
        init: how weights are drawn, see `initialise`.
    """
    stages: list[nn.Module] = [
        nn.Sequential(*conv(in_channels, width, 7, padding=padding), nn.LeakyReLU(0.01, inplace=True))
    ]
    channels = width
    for _ in range(downs):
        after = [InstanceNorm(), nn.ReLU(inplace=True)] if norm else [nn.LeakyReLU(0.01, inplace=True)]
        stages.append(nn.Sequential(*conv(channels, channels * 2, 3, 2, padding=padding), *after))
        channels *= 2
    stages += [Residual(channels, dropout=dropout, padding=padding) for _ in range(blocks)]
    if placed:
        stages.insert(0, Placed())
    return initialise(Tower(stages, channels=channels, stride=2**downs), init)
