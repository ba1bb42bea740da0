"""Layers that unitkit computes in ways of its own, as torch's own operators, which every runtime knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import norms
from ..networks import convolutions
from ..networks.layers import AdaptiveResidual, Reflect, ShiftNorm


def make_plain(network: nn.Module, made: dict[nn.Module, nn.Module] | None = None) -> None:
    """Replace the layers of a network in evaluation, in place, by such as compute the same to rounding.

    Args:
        made: what layers elsewhere in the network have become: one that is shared stays so.
    """
    made = {} if made is None else made
    for name, layer in list(network.named_children()):
        if (rule := RULES.get(type(layer))) is not None:
            if layer not in made:
                made[layer] = rule(layer)
            setattr(network, name, made[layer])
        else:
            make_plain(layer, made)


class _InstanceNorm(nn.Module):
    """Not torch's module, which branches on the size."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.instance_norm(x, None, None, None, None, True, 0.0, norms.EPS, False)


class _AdaptiveResidual(nn.Module):
    """`AdaptiveResidual` without reading a shape, which a trace would take for a constant."""

    def __init__(self, layer: AdaptiveResidual) -> None:
        super().__init__()
        self.first, self.second, self.norm, self.taken = layer.first, layer.second, _InstanceNorm(), layer.taken

    def forward(self, value: tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        x, parameters = value
        own, others = parameters[:, : self.taken, None, None], parameters[:, self.taken :]
        shift, scale, shift_2, scale_2 = own.chunk(4, 1)
        y = (self.norm(self.first(x)) * scale + shift).relu()
        y = x + self.norm(self.second(y)) * scale_2 + shift_2
        return (y, others) if others.shape[1] else y


def _layer_norm(layer: norms.LayerNorm) -> nn.Module:
    plain = nn.GroupNorm(1, len(layer.weight), norms.EPS)
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain


def _batch_norm(layer: norms.BatchNorm) -> nn.Module:
    plain = nn.BatchNorm2d(layer.num_features, layer.eps)
    plain.running_mean, plain.running_var = layer.running_mean, layer.running_var
    if layer.affine:
        plain.weight, plain.bias = layer.weight, layer.bias
    elif isinstance(layer, ShiftNorm):
        plain.bias = layer.shift
    return plain.eval()


def _doubling(layer: convolutions.Doubling) -> nn.Module:
    """With the weights added up once, not at each call."""
    with torch.no_grad():
        weight, bias = layer.for_small_map()
        plain = nn.Conv2d(layer.in_channels, len(bias), 3, padding=1)
        plain.load_state_dict({"weight": weight, "bias": bias})
    return nn.Sequential(plain, nn.PixelShuffle(2))


def _base(kind: type[nn.Module]) -> Callable[[nn.Module], nn.Module]:
    """The layer as torch's class that it is derived from, with all that it holds."""

    def rule(layer: nn.Module) -> nn.Module:
        layer.__class__ = kind
        return layer

    return rule


RULES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    norms.InstanceNorm: lambda _: _InstanceNorm(),
    norms.LayerNorm: _layer_norm,
    norms.BatchNorm: _batch_norm,
    ShiftNorm: _batch_norm,
    Reflect: lambda layer: nn.ReflectionPad2d(layer.by),
    AdaptiveResidual: _AdaptiveResidual,
    convolutions.Conv2d: _base(nn.Conv2d),
    convolutions.PixelwiseTransposed: _base(nn.ConvTranspose2d),
    convolutions.Doubling: _doubling,
}
