"""Layers that networks are made of, and how their weights are drawn."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, TypeAlias, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ..kernels.fused import fusible, norm_act, reflect
from ..kernels.norms import BatchNorm, InstanceNorm
from .convolutions import Conv2d
from .tower import Value

M = TypeVar("M", bound=nn.Module)

Padding: TypeAlias = Literal["zero", "reflect"]
Up: TypeAlias = Literal["transposed", "smooth", "nearest", "shuffle"]


class Reflect(nn.Module):
    """`reflect` as a module."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return reflect(x, self.by)


class Smooth(nn.Module):
    """The binomial filter [1 2 1] along both axes: (N, C, H, W) -> (N, C, H - 2, W - 2).

    Takes out all that alternates from pixel to pixel and half of what has a period of four, as where one pixel of two
    is reached by other weights (Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019; after
    transposed convolutions: Karras, Laine and Aila, "A Style-Based Generator Architecture for Generative Adversarial
    Networks", CVPR 2019).
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", line[:, None] * line, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return conv2d(x, self.kernel.to(x.dtype).expand(channels, 1, 3, 3), groups=channels)


def conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, padding: Padding = "zero"
) -> list[nn.Module]:
    """The layers of a convolution that keeps height and width, but for its stride."""
    if padding == "reflect":
        return [Reflect(kernel // 2), Conv2d(in_channels, out_channels, kernel, stride)]
    return [Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)]


def double(
    in_channels: int, out_channels: int, how: Up, *, kernel: int = 3, padding: Padding = "zero"
) -> list[nn.Module]:
    """The layers that double height and width.

    Args:
        how: transposed, a transposed convolution of stride 2; smooth, one of 4x4 and `Smooth` after it; nearest, each
            pixel four times and a convolution after it, so that no pixel is reached by more weights than its neighbour
            (Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016); shuffle, a convolution
            to four times the channels, which become the four pixels (Shi et al., "Real-Time Single Image and Video
            Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016).
        kernel: of the convolution; of a transposed one 3 or 4, of others odd.
        padding: of convolutions, but transposed ones.
    """
    if how == "transposed":
        return [nn.ConvTranspose2d(in_channels, out_channels, kernel, 2, padding=1, output_padding=4 - kernel)]
    if how == "smooth":  # of two pixels more, which smoothing takes again
        return [nn.ConvTranspose2d(in_channels, out_channels, 4, 2), Smooth()]
    if how == "shuffle":
        return [*conv(in_channels, 4 * out_channels, kernel, padding=padding), nn.PixelShuffle(2)]
    return [nn.Upsample(scale_factor=2), *conv(in_channels, out_channels, kernel, padding=padding)]


class Residual(nn.Module):
    """x + f(x), with f: conv 3x3, instance norm, ReLU, conv 3x3, instance norm [, dropout].

    Attributes:
        fused: compute norms, and what follows each, by the kernel of `norm_act`.
    """

    fused = False

    def __init__(self, channels: int, *, dropout: float = 0.0, padding: Padding = "zero") -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv(channels, channels, 3, padding=padding),
            InstanceNorm(),
            nn.ReLU(inplace=True),
            *conv(channels, channels, 3, padding=padding),
            InstanceNorm(),
            *([nn.Dropout(dropout)] if dropout else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.fused and fusible(x):
            return self._fused(x)
        change: Tensor = self.body(x)
        return x + change

    def _fused(self, x: Tensor) -> Tensor:
        first, second = (layer for layer in self.body if isinstance(layer, nn.Conv2d))
        by = 1 if isinstance(self.body[0], Reflect) else 0
        inner = norm_act(first(reflect(x, by)), activation="relu", padding=by, fused=True)
        if isinstance(self.body[-1], nn.Dropout):
            change: Tensor = self.body[-1](norm_act(second(inner), fused=True))
            return x + change
        return norm_act(second(inner), residual=x, fused=True)


class AdaptiveResidual(nn.Module):
    """x + f(x), f being conv 3x3, AdaIN, ReLU, conv 3x3, AdaIN, whose shifts and scales a style has made.

    (x, parameters) to (x, parameters of the blocks after this one), or to x alone where none are left: of the
    parameters (N, k) a block takes the first `wants(channels)`. AdaIN is instance norm, times the scale, plus the
    shift (Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017,
    equation 8).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = InstanceNorm()
        self.taken = self.wants(channels)

    @staticmethod
    def wants(channels: int) -> int:
        """The number of parameters of a block: a shift and a scale of each channel, twice."""
        return 4 * channels

    def forward(self, value: tuple[Tensor, Tensor]) -> Value:
        x, parameters = value
        own, others = parameters[:, : self.taken], parameters[:, self.taken :]
        shift, scale, shift_2, scale_2 = rearrange(own, "n (four c) -> four n c 1 1", four=4)
        y = (self.norm(self.first(x)) * scale + shift).relu()
        y = x + self.norm(self.second(y)) * scale_2 + shift_2
        return (y, others) if others.shape[1] else y


class ShiftNorm(BatchNorm):
    """Batch norm with a learned shift and no learned scale, as in the released digits networks."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + self.shift[:, None, None]


class Coordinates(nn.Module):
    """Append two channels with each pixel's x and y in [-1, 1]: (N, C, H, W) -> (N, C + 2, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        ys = torch.linspace(-1, 1, h, device=x.device, dtype=x.dtype).view(1, 1, h, 1).expand(n, 1, h, w)
        xs = torch.linspace(-1, 1, w, device=x.device, dtype=x.dtype).view(1, 1, 1, w).expand(n, 1, h, w)
        return torch.cat([x, xs, ys], dim=1)


class Placed(nn.Module):
    """Where a domain's images lie: a learned scale and shift of the plane along each axis, the same for all images.

    (N, C, H, W) to the same, of any range, at the start unchanged but for rounding.

    Convolutions repaint a stroke where it is, and hardly learn to carry it elsewhere. An encoder that places first and
    a generator that places last adapt size and position by four numbers each. What comes into sight from outside has
    the median colour of the image's border. A spatial transformer (Jaderberg et al., "Spatial Transformer Networks",
    NIPS 2015) that is of the domain and not of the image, and computed as two products with matrices, whose backward
    pass is deterministic.

    Attributes:
        scale: (2,), of rows and of columns, RATE times which is added to 1: what is seen is so much larger a part.
        shift: (2,), RATE times which is added, in halves of a side.
    """

    RATE = 10.0  # so that the steps of Adam, as large as of any other weight, move an image within hundreds of them

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(2))
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        border = torch.cat([x[:, :, 0], x[:, :, -1], x[..., 0], x[..., -1]], 2)
        outside = border.sort(2).values[:, :, border.shape[2] // 2, None, None]
        rows, columns = (self._weights(axis, side).to(x.dtype) for axis, side in enumerate(x.shape[2:]))
        placed: Tensor = rows @ (x - outside) @ columns.T + outside
        return placed

    def _weights(self, axis: int, side: int) -> Tensor:
        """What each old place along an axis gives to each new one, by linear interpolation: (side, side)."""
        old = torch.arange(side, dtype=self.scale.dtype, device=self.scale.device)
        centred = (2 * old + 1) / side - 1
        seen = (1 + self.RATE * self.scale[axis]) * centred + self.RATE * self.shift[axis]
        apart = ((seen + 1) * side - 1)[:, None] / 2 - old
        # Not `(1 - |apart|).relu()`, whose derivative is 0 where places meet, as all of them do at the start.
        left, right = (apart >= 0) & (apart < 1), (apart >= -1) & (apart < 0)
        return torch.where(left, 1 - apart, torch.where(right, 1 + apart, 0.0))


def initialise(module: M, init: str) -> M:
    """Draw the weights of every convolution and linear layer; biases start at 0.

    Args:
        init: "gaussian", N(0, 0.02) as in the released code; "kaiming", N(0, 2 / fan-in), which keeps the signal's
            size through layers without norm; or "uniform", weights and biases up to 1 / sqrt(fan-in) on both sides of
            0, as PyTorch's layers draw them by themselves.
    """
    if init == "uniform":
        return module
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if init == "gaussian":
                nn.init.normal_(layer.weight, 0.0, 0.02)
            else:
                # A transposed convolution's fan-in counts its input channels, which are dimension 0 of its weight.
                transposed = isinstance(layer, nn.ConvTranspose2d)
                nn.init.kaiming_normal_(layer.weight, a=0.01, mode="fan_out" if transposed else "fan_in")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer, after in pairwise(module.modules()):
        if isinstance(after, nn.PixelShuffle) and isinstance(layer, nn.Conv2d):
            # The four pixels start alike, without which a shuffle starts with a checkerboard (Aitken et al.,
            # "Checkerboard artifact free sub-pixel convolution", 2017).
            with torch.no_grad():
                layer.weight.copy_(layer.weight[::4].repeat_interleave(4, 0))
    return module


@torch.no_grad()
def mirrored(module: M) -> M:
    """Make the second halves of transposed convolutions' 4x4 kernels mirror images of the first, along both axes.

    With a stride of 2 the four pixels that come of one then start from the same weights: a start without a
    checkerboard, as that of a shuffle. Photographs had their colours in half the steps (docs/results/photographs.md).
    """
    for layer in module.modules():
        if isinstance(layer, nn.ConvTranspose2d) and layer.kernel_size == (4, 4):
            for axis in (2, 3):
                first, second = layer.weight.chunk(2, axis)
                second.copy_(first.flip(axis))
    return module
