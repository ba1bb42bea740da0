"""The paper's generator: residual blocks and a transposed-convolution back."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..annotations import Blocks, Halvings, Positive, Share
from ..kernels.norms import InstanceNorm
from ..networks.convolutions import PixelwiseTransposed
from ..networks.layers import Padding, Placed, Residual, Up, double, initialise, mirrored
from ..networks.tower import Tower
from .generator import register


@register
def residual(
    in_channels: int,
    out_channels: int,
    *,
    width: Positive = 64,
    blocks: Blocks = 4,
    ups: Halvings = 2,
    up: Up = "transposed",
    kernel: Literal[3, 4] = 3,
    norm: bool = False,
    dropout: Share = 0.0,
    padding: Padding = "zero",
    placed: bool = False,
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> Tower:
    """The generator of UNIT: residual blocks on the latent, transposed convs that halve the width, 1x1 conv, tanh.

    Stages: blocks + ups + 1, so that the first `n` stages are residual blocks while n <= blocks.

    Args:
        width: channels before the last convolution.
        ups: doublings of height and width.
        up: how: by transposed convs of stride 2 (the paper's), by such ones of 4x4 and a filter (smooth), by the
            nearest pixel or a pixel shuffle and convs 3x3.
        kernel: of transposed convs, but smooth ones. 3 is the paper's; 4 covers every pixel equally often, which spares
            short trainings some of the checkerboard.
        norm: instance norm and ReLU after every doubling (the cats and dogs variant of the 2017 code),
            instead of LeakyReLU alone.
        dropout: in the residual blocks (0.5 for street scenes in the 2017 code).
        padding: of convolutions, but transposed ones: zero (the 2017 code) or reflect (the later one).
        placed: scale and shift the image last, see `Placed`; one stage more.
        init: how weights are drawn, see `initialise`.
    """
    stages: list[nn.Module] = [Residual(in_channels, dropout=dropout, padding=padding) for _ in range(blocks)]
    channels = in_channels
    for doubling in reversed(range(ups)):
        out = width * 2**doubling
        after = [InstanceNorm(), nn.ReLU(inplace=True)] if norm else [nn.LeakyReLU(0.01, inplace=True)]
        larger = double(channels, out, up, kernel=kernel if up == "transposed" else 3, padding=padding)
        stages.append(nn.Sequential(*larger, *after))
        channels = out
    stages.append(nn.Sequential(PixelwiseTransposed(channels, out_channels), nn.Tanh()))
    if placed:
        stages.append(Placed())
    tower = initialise(Tower(stages, channels=out_channels, stride=2**ups), init)
    return mirrored(tower) if up == "smooth" else tower
