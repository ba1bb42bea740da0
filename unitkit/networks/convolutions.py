"""Convolutions that are computed another way than torch's where that is as exact and takes less time.

What each saves in a training step is measured by `benchmarks/savings.py`, and written down in docs/results/speed.md.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, pixel_shuffle

FEW = 64  # pixels of a batch's result
MANY = 2**18  # weights


class Conv2d(nn.Conv2d):
    """A convolution; on a CPU, with zero padding, a bias and neither groups nor dilation, a product of two matrices
    where many weights make few pixels, as at the end of a discriminator.

    A CPU's convolution brings its weights into another order each time, and its gradient back, which takes several
    times longer there than what is computed.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or input.dim() != 4 or self.weight.numel() < MANY:
            return super().forward(input)
        if (self.padding_mode, self.dilation, self.groups) != ("zeros", (1, 1), 1):
            return super().forward(input)
        if self.bias is None or isinstance(self.padding, str):
            return super().forward(input)
        height, width = (
            (edge + 2 * more - size) // step + 1
            for edge, more, size, step in zip(input.shape[2:], self.padding, self.kernel_size, self.stride, strict=True)
        )
        if len(input) * height * width > FEW:
            return super().forward(input)
        down, right = self.padding
        seen = pad(input, (right, right, down, down))
        for dimension in (2, 3):
            seen = seen.unfold(dimension, self.kernel_size[dimension - 2], self.stride[dimension - 2])
        if self.weight.is_contiguous():
            rows, weight = rearrange(seen, "n c h w k l -> (n h w) (c k l)"), self.weight.flatten(1)
        else:  # in channels-last: as its weights lie in memory
            rows = rearrange(seen, "n c h w k l -> (n h w) (k l c)")
            weight = rearrange(self.weight, "o c k l -> o (k l c)")
        y = torch.addmm(self.bias, rows, weight.t())
        return rearrange(y, "(n h w) o -> n o h w", h=height, w=width).contiguous()


class PixelwiseTransposed(nn.ConvTranspose2d):
    """A transposed convolution 1x1, which on a CPU, in NCHW, is computed as a product of matrices."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if input.device.type != "cpu" or not input.is_contiguous():
            return super().forward(input, output_size)
        assert self.bias is not None, "it is made with one"
        weight = self.weight[:, :, 0, 0].t().expand(len(input), -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, input.flatten(2)).view(len(input), -1, *input.shape[2:])


class Doubling(nn.Conv2d):
    """Doubling by the nearest pixel and a convolution 5x5 with zero padding, computed on the map before it is doubled.

    Weights that lie side by side fall on one pixel of the small map. They are added up first, for each of the four
    places that a pixel becomes, and one convolution 3x3 gives all four: the same to rounding, with 36 % of the
    multiplications. Weights are those of the convolution 5x5.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 5, padding=2)

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.for_small_map()
        return pixel_shuffle(conv2d(input, weight, bias, padding=1), 2)

    def for_small_map(self) -> tuple[Tensor, Tensor]:
        """Weights and biases of the convolution 3x3, whose channels are those of four places beside each other."""
        assert self.bias is not None, "it is made with one"
        rows = torch.stack([pad(self.weight, (0, 0, 0, 1)), pad(self.weight, (0, 0, 1, 0))], 1)
        rows = reduce(rows, "o p i (k two) l -> o p i k l", "sum", two=2)
        both = torch.stack([pad(rows, (0, 1)), pad(rows, (1, 0))], 2)
        weight = reduce(both, "o p q i k (l two) -> (o p q) i k l", "sum", two=2)
        return weight, repeat(self.bias, "o -> (o four)", four=4)
