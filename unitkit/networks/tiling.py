"""Towers in evaluation on images of any size, in tiles whose result is that of one pass over the whole.

Layers between two norms wait on one another (see `maps`), and are computed tile by tile when the norm asks for them.
While their map is stored, its means and variances over all tiles are gathered; the norm itself is applied when the map
is read again. A mean over the whole image is gathered likewise.

A layer is known here by its exact type: one of another has its own `forward`. `rule` makes a further one known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn

from ..kernels.norms import EPS, BatchNorm, InstanceNorm, LayerNorm
from .convolutions import Conv2d, Doubling, PixelwiseTransposed
from .graph import Program, stages_of
from .layers import AdaptiveResidual, Reflect, Residual, ShiftNorm, Smooth
from .maps import Layered, Map, Reach, Sum

Rule = Callable[[Any, Any], Any]
R = TypeVar("R", bound=Rule)
RULES: dict[type[nn.Module], Rule] = {}


class Untiled(TypeError):
    """A layer of which it is not known how tiles can have the result of the whole."""


def rule(*kinds: type[nn.Module]) -> Callable[[R], R]:
    """Decorator: what (layer, value) of layers of these types is in tiles; tensors of a value may be a `Map`."""

    def enter(function: R) -> R:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return enter


def apply(layer: nn.Module, value: Any) -> Any:
    """A layer on a value. Raises `Untiled` for one without a rule, where the value has a map in it."""
    if not any(isinstance(each, Map) for each in (value if isinstance(value, tuple) else (value,))):
        return layer(value)
    if layer.training:
        raise Untiled("tiles are for a model in evaluation")
    if type(layer) not in RULES:
        raise Untiled(f"{type(layer).__name__} has no rule for tiles")
    return RULES[type(layer)](layer, value)


def run(program: Program, values: list[Any]) -> list[Any]:
    """As `Program.run`, of slots with maps in them."""
    for function, inputs, outputs, joins, done in program.calls:
        given = [values[slot] for slot in inputs]
        results = [_chained(function, each) for each in given] if joins else [function(*given)]
        for slot, result in zip(outputs, results, strict=True):
            values[slot] = result
        del given, results  # which may be the last to hold a map
        for slot in done:
            values[slot] = None
    return values


def _chained(function: Callable[..., Any], value: Any) -> Any:
    for stage in stages_of(function):
        assert isinstance(stage, nn.Module), "nothing is computed again where nothing is differentiated"
        value = apply(stage, value)
    return value


class Moments:
    """Means and variances of a map's channels, of tiles of any sizes.

    Those of tiles are merged in float64 (Chan, Golub and LeVeque, "Updating formulae and
    a pairwise algorithm for computing sample variances", 1979).

    Attributes:
        mean: (N, C), float64.
        variance: (N, C), over n.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.variance = torch.zeros((), dtype=torch.float64)

    def add(self, tile: Tensor) -> None:
        """Gather a tile (N, C, h, w)."""
        flat = tile.flatten(2).to(torch.promote_types(tile.dtype, torch.float32))
        # The operator by which norms are computed; without an epsilon, what it returns is 1 / sqrt(variance).
        _, middle, inverse = torch.native_layer_norm(flat, flat.shape[2:], None, None, 0.0)
        mean, variance = (each.flatten(1).cpu().double() for each in (middle, inverse))
        variance = variance.pow(-2)
        n = flat.shape[2]
        self.count += n
        share, apart = n / self.count, mean - self.mean
        self.mean = self.mean + share * apart
        self.variance = (1 - share) * self.variance + share * variance + share * (1 - share) * apart.square()


class Affine(nn.Module):
    """x * scale + shift, these (N, C, 1, 1), with a result of the type of x."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale).add_(self.shift).to(x.dtype)  # type: ignore[operator, arg-type]


def normal(x: Map, groups: int, eps: float = EPS, scale: Tensor | None = None, shift: Tensor | None = None) -> Map:
    """A map with mean 0 and variance 1 over the pixels of each group of channels, times a scale, plus a shift.

    Args:
        groups: as many as channels are instance norm, one is layer norm.
        scale: (C,) or (N, C).
        shift: likewise.
    """
    moments = Moments()
    kept = x.seen(moments.add)
    means, variances = (rearrange(each, "n (g c) -> n g c", g=groups) for each in (moments.mean, moments.variance))
    mean = means.mean(2, keepdim=True)
    variance = (variances + (means - mean).square()).mean(2, keepdim=True)
    times = (variance + eps).rsqrt().expand_as(means).flatten(1)
    times = times if scale is None else times * scale.cpu().double()
    plus = -mean.expand_as(means).flatten(1) * times
    plus = plus if shift is None else plus + shift.cpu().double()
    at_least = torch.promote_types(kept.dtype, torch.float32)
    scale, shift = (each[:, :, None, None].to(kept.device, at_least) for each in (times, plus))
    return Layered(Affine(scale, shift), kept, keeps=True)


def pair(size: Any) -> Any:
    """Height and width of what may be one number for both."""
    return size if isinstance(size, tuple) else (size, size)


@rule(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.PReLU)
def _pointwise(layer: nn.Module, x: Map) -> Map:
    return Layered(layer, x, keeps=True)


@rule(nn.BatchNorm2d, BatchNorm, ShiftNorm)
def _batch_norm(layer: nn.BatchNorm2d, x: Map) -> Map:
    if layer.running_mean is None:
        raise Untiled("batch norm without the statistics of training has no rule for tiles")
    return _pointwise(layer, x)


@rule(nn.Identity, nn.Dropout, nn.Dropout2d)
def _nothing(layer: nn.Module, x: Map) -> Map:
    return x


@rule(nn.Conv2d, Conv2d, nn.MaxPool2d, nn.AvgPool2d)
def _convolution(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, x: Map) -> Map:
    padding = layer.padding
    if isinstance(padding, str) or getattr(layer, "padding_mode", "zeros") != "zeros":
        raise Untiled("padding by name, or other than with zeros, has no rule for tiles")
    if getattr(layer, "ceil_mode", False) or getattr(layer, "return_indices", False):
        raise Untiled("pooling of incomplete windows, or with indices, has no rule for tiles")
    sizes = (layer.kernel_size, layer.stride, padding, getattr(layer, "dilation", 1))
    reaches = (
        Reach(before=before, after=dilation * (kernel - 1) - before, down=stride)
        for kernel, stride, before, dilation in zip(*map(pair, sizes), strict=True)
    )
    return Layered(layer, x, *reaches)


@rule(nn.ConvTranspose2d, PixelwiseTransposed)
def _transposed(layer: nn.ConvTranspose2d, x: Map) -> Map:
    reaches = []
    for kernel, stride, padding, dilation, more in zip(
        layer.kernel_size, layer.stride, pair(layer.padding), layer.dilation, layer.output_padding, strict=True
    ):
        # Input i goes to i * stride - padding + dilation * t for t in 0 ... kernel - 1.
        last = dilation * (kernel - 1)
        # Without its neighbour behind it an input may give fewer pixels than `stride`: then that is needed as well.
        short = max(0, padding + stride - 1 - more - last)
        after = (stride - 1 + padding) // stride + -(-short // stride)
        reaches.append(Reach(before=max(0, last - padding) // stride, after=after, up=stride))
    return Layered(layer, x, *reaches)


@rule(Doubling)
def _doubling(layer: Doubling, x: Map) -> Map:
    return Layered(layer, x, *(Reach(before=1, after=1, up=2),) * 2)


@rule(Reflect)
def _reflect(layer: Reflect, x: Map) -> Map:
    # The pixel `by` beyond a border is that `by` before it, twice as far away.
    return Layered(layer, x, *(Reach(before=3 * layer.by, after=layer.by),) * 2)


@rule(Smooth)
def _smooth(layer: Smooth, x: Map) -> Map:
    return Layered(layer, x, *(Reach(after=2),) * 2)


@rule(nn.Upsample)
def _upsample(layer: nn.Upsample, x: Map) -> Map:
    factors = pair(layer.scale_factor) if layer.scale_factor else (0.0, 0.0)
    if layer.mode != "nearest" or not all(factor and factor == int(factor) for factor in factors):
        raise Untiled("upsampling, but by whole numbers to the nearest pixel, has no rule for tiles")
    return Layered(layer, x, *(Reach(up=int(factor)) for factor in factors))


@rule(nn.PixelShuffle)
def _shuffle(layer: nn.PixelShuffle, x: Map) -> Map:
    return Layered(layer, x, *(Reach(up=layer.upscale_factor),) * 2)


@rule(nn.Sequential)
def _sequential(layer: nn.Sequential, value: Any) -> Any:
    for each in layer:
        value = apply(each, value)
    return value


@rule(InstanceNorm)
def _instance_norm(layer: InstanceNorm, x: Map) -> Map:
    return normal(x, x.shape[1])


@rule(LayerNorm)
def _layer_norm(layer: LayerNorm, x: Map) -> Map:
    return normal(x, 1, scale=layer.weight, shift=layer.bias)


@rule(nn.GroupNorm)
def _group_norm(layer: nn.GroupNorm, x: Map) -> Map:
    return normal(x, layer.num_groups, layer.eps, layer.weight, layer.bias)


@rule(Residual)
def _residual(layer: Residual, x: Map) -> Map:
    x = x.stored()  # read twice
    return Sum(x, apply(layer.body, x))


@rule(AdaptiveResidual)
def _adaptive_residual(layer: AdaptiveResidual, value: tuple[Map, Tensor]) -> Any:
    (x, parameters), c = value, layer.taken // 4
    shift, scale, shift_2, scale_2 = torch.split(parameters[:, : layer.taken], c, 1)
    x = x.stored()
    y: Map = Layered(torch.relu, normal(apply(layer.first, x), c, scale=scale, shift=shift), keeps=True)
    y = Sum(x, normal(apply(layer.second, y), c, scale=scale_2, shift=shift_2))
    others = parameters[:, layer.taken :]
    return (y, others) if others.shape[1] else y


@rule(nn.AdaptiveAvgPool2d)
def _mean(layer: nn.AdaptiveAvgPool2d, x: Map) -> Tensor:
    if layer.output_size not in (1, (1, 1)):
        raise Untiled("pooling to more than one pixel has no rule for tiles")
    moments = Moments()
    for rows, columns in x.tiles():
        moments.add(x.read(rows, columns))
    return moments.mean[:, :, None, None].to(x.device, x.dtype)
