"""MUNIT's generator: a content code and a style, which sets the norms of residual blocks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from ..annotations import AtLeast, Halvings, Positive
from ..networks import tiling
from ..networks.layers import AdaptiveResidual, initialise
from ..networks.tower import Tower
from .generator import register
from .upsampling import doublings


@register
def adain(
    in_channels: int,
    out_channels: int,
    *,
    blocks: Annotated[int, AtLeast(1, most=32)] = 4,
    ups: Halvings = 2,
    style: Positive = 8,
    mlp: Positive = 256,
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> Tower:
    """The decoder of MUNIT: AdaIN residual blocks, upsampling and convs 5x5 with layer norm, conv 7x7, tanh.

    Huang, Liu, Belongie and Kautz, ECCV 2018, section 5.1. Stages: 1 + blocks + ups + 1; the first makes the shifts
    and scales of all blocks from the style. Scales start around 1, where the released code has them around 0, so that
    the style 0 is a network too before anything is learnt.

    Args:
        blocks: residual blocks.
        ups: doublings by the nearest pixel, each with a conv that halves the width.
        style: channels of the style code.
        mlp: features of the hidden layers that read the style.
        init: how weights are drawn, see `initialise`.
    """
    read = FromStyle(style, mlp, blocks, in_channels)
    stages: list[nn.Module] = [read, *(AdaptiveResidual(in_channels) for _ in range(blocks))]
    stages += doublings(in_channels, out_channels, ups)
    tower = initialise(Tower(stages, channels=out_channels, stride=2**ups, style=style), init)
    read.start()
    return tower


class FromStyle(nn.Module):
    """(content, style) to (content, the parameters of a number of `AdaptiveResidual`), by three linear layers."""

    def __init__(self, style: int, hidden: int, blocks: int, channels: int) -> None:
        super().__init__()
        sizes = ((style, hidden), (hidden, hidden))
        layers = [layer for size in sizes for layer in (nn.Linear(*size), nn.ReLU(inplace=True))]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(hidden, blocks * AdaptiveResidual.wants(channels))
        self.channels = channels

    def start(self) -> None:
        """Let shifts start around 0 and scales around 1."""
        with torch.no_grad():
            by_kind = rearrange(self.last.bias, "(norms two c) -> two norms c", two=2, c=self.channels)
            by_kind[0], by_kind[1] = 0, 1

    def forward(self, value: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        content, style = value
        return content, self.last(self.hidden(rearrange(style, "n c 1 1 -> n c")))


@tiling.rule(FromStyle)
def _in_tiles(layer: FromStyle, value: Any) -> Any:
    return layer(value)  # the content only passes through
