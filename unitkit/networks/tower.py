"""Towers: networks as ordered stages.

A value between two stages is a tensor or a tuple of tensors (the scales of a pyramid, the mean and spread of a
posterior), each with the batch along dimension 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from torch import Tensor, nn

Value: TypeAlias = "Tensor | tuple[Tensor, ...]"


class Tower(nn.Module):
    """One network of one domain: an ordered list of stages.

    Sharing is by stage: two towers share stage i when `stages[i]` is one and the same module in both.

    Args:
        stages: the modules, first to last; each maps a value to a value.
        channels: channels of the tower's output (of its first tensor).
        stride: by how much the tower shrinks height and width (an encoder) or grows them (a generator).
        size: the only (height, width) of image that it takes, or None for any that the stride divides.
        classes: of a discriminator whose last output is class logits: their number.
        pools: of an encoder whose code is one pixel of the whole image, a style; its stride is the least side then.
        style: of a generator that reads (latent, style) in place of a latent: the channels of the style.
    """

    def __init__(
        self,
        stages: Iterable[nn.Module],
        *,
        channels: int,
        stride: int = 1,
        size: tuple[int, int] | None = None,
        classes: int | None = None,
        pools: bool = False,
        style: int | None = None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = channels
        self.stride = stride
        self.size = size
        self.classes = classes
        self.pools = pools
        self.style = style

    def forward(self, value: Value) -> Value:
        for stage in self.stages:
            value = stage(value)
        return value
