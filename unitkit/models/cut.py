"""CUT: translation in one direction, held to its input by the contrast of patches instead of a way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..annotations import Positive
from ..losses import Patches
from ..networks.bf16 import for_losses
from ..networks.bounded import Meta
from ..networks.graph import Graph, Node
from ..networks.layers import initialise
from ..networks.tower import Tower, Value
from ..registry import Spec
from ..system.errors import UserError
from .kinds import register as reading
from .model import register
from .paths import ImagePaths, check_domains, check_kinds


@register
def cut(
    *,
    channels: Mapping[str, int],
    encoder: Spec,
    generator: Spec,
    discriminator: Spec,
    layers: Sequence[int] = (0, 2, 3, 4),
    projection: Positive = 256,
    init: Literal["gaussian", "kaiming"] = "kaiming",
) -> ImagePaths:
    """The model of Park, Efros, Zhang and Zhu (ECCV 2020): the first domain is translated into the second, `ab`.

    Encoder a and generator b are the translator, without noise on the code; the part "projections" has a two-layer MLP
    for each chosen layer of the encoder, and `patches:a`, read by the loss `patch_nce`, is these layers with their
    projections. A translation is read by the encoder as `ab/a`, the identity of an image of b is `b/ab`.

    Args:
        channels: the number of channels of the two domains' images, by letter, both alike.
        encoder: the first half of the translator.
        generator: its second half.
        discriminator: D.
        layers: of the encoder: 0 is the image itself, n what its n-th stage gives. The paper has the image, the two
            strided convolutions, and the first and the fifth residual block.
        projection: channels of a projection, hidden ones and those of the unit vectors.
        init: how the projections' weights are drawn, see `initialise`; "gaussian" in the paper's code.

    Raises:
        UserError: not two domains, domains that differ in channels, layers that the encoder does not have, towers that
            do not fit.
    """
    check_domains(channels, least=2)
    check_kinds(encoder=encoder, generator=generator, discriminator=discriminator)
    if len(set(channels.values())) > 1:
        raise UserError(f"one encoder reads both domains, so they need the same channels, not {dict(channels)}")
    if len(channels) > 2:
        raise UserError(
            f"one domain is translated into one other, and there are {len(channels)}: {', '.join(channels)}"
        )
    source, into = channels
    found = _channels(encoder, channels[source])
    if not layers or any(layer not in range(len(found)) for layer in layers) or len(set(layers)) < len(layers):
        raise UserError(
            f"layers are different numbers from 0, the image, to {len(found) - 1}, the last stage of the encoder "
            f"'{encoder.name}', not {', '.join(map(str, layers)) or 'none'}"
        )
    first: Tower = encoder.build(channels[source])
    return Cut(
        channels,
        encoder=first,
        generator=generator.build(first.channels, channels[into]),
        discriminator=discriminator.build(channels[into]),
        projections=Projections({layer: found[layer] for layer in layers}, projection, init),
    )


class Cut(ImagePaths):
    """`cut`, with the projections of its encoder's layers."""

    def __init__(
        self,
        channels: Mapping[str, int],
        encoder: Tower,
        generator: Tower,
        discriminator: Tower,
        projections: Projections,
    ) -> None:
        source, into = channels
        super().__init__(
            channels,
            parts=("encoders", "generators", "discriminators", "projections"),
            encoders={source: encoder},
            generators={into: generator},
            discriminators={into: discriminator},
            noise=0.0,
        )
        self.projections = nn.ModuleDict({source: projections})


class Projections(nn.Module):
    """For each chosen layer an MLP from its vectors (..., C) to unit vectors (..., width).

    Attributes:
        layers: the layers, by number.
        stages: their MLPs, in the same order.
    """

    def __init__(self, layers: Mapping[int, int], width: int, init: str) -> None:
        super().__init__()
        self.layers = tuple(layers)
        each = (
            nn.Sequential(nn.Linear(channels, width), nn.ReLU(inplace=True), nn.Linear(width, width), UnitLength())
            for channels in layers.values()
        )
        self.stages = initialise(nn.ModuleList(each), init)


class UnitLength(nn.Module):
    """Vectors along the last dimension, scaled to length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, dim=-1)


@reading("patches")
def patches(model: ImagePaths, graph: Graph, path: str) -> Node:
    """The `Patches` of the image: layers of the encoder that reads it, with their projections."""
    outputs, _ = model.encode(graph, path)
    projections = model.projections[path[-1]] if isinstance(model, Cut) else None
    if not isinstance(projections, Projections):
        raise UserError(f"'patches:{path}' needs a model with projections, such as cut")
    chosen = [[model.image(graph, path), *outputs][layer] for layer in projections.layers]

    def with_projections(*layers: Value) -> Patches:
        device = _first(layers[0]).device
        return Patches(tuple(map(_first, layers)), [for_losses(stage, device) for stage in projections.stages])

    return graph.make(("patches", projections), with_projections, *chosen, translates=False)


def _channels(encoder: Spec, channels: int) -> list[int]:
    """Of the image, and of what each stage of the encoder gives."""
    with Meta():
        tower: Tower = encoder.build(channels)
        height, width = tower.size or (16 * tower.stride, 16 * tower.stride)
        value: Value = torch.empty(2, channels, height, width)
        return [channels, *(_first(value := stage(value)).shape[1] for stage in tower.stages)]


def _first(value: Value) -> Tensor:
    return value[0] if isinstance(value, tuple) else value
