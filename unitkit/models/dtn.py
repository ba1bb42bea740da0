"""DTN: one fixed feature function for all domains, and a generator into one of them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..annotations import Positive
from ..losses import Classes, Posterior
from ..losses.reading import Reading
from ..networks.graph import Graph, Node
from ..networks.layers import initialise
from ..networks.tower import Tower, Value
from ..registry import Spec
from ..system.errors import UserError, nearest
from .model import register
from .paths import ImagePaths, check_domains, check_kinds


@register
def dtn(
    *,
    channels: Mapping[str, int],
    encoder: Spec,
    generator: Spec,
    discriminator: Spec,
    classes: Positive = 10,
    into: str = "b",
) -> ImagePaths:
    """The model of Taigman, Polyak and Wolf (ICLR 2017): translation is G(f(x)), into the domain `into` alone.

    f is the encoder, one for all domains, whose code has no noise; `class:a` is what the classifier makes of f's code
    of the real images of another domain than `into`. A player trains the "encoders" and "classifiers" first, and
    leaves them fixed when the others begin (`Player.until` and `Player.since`).

    Args:
        channels: the number of channels of each domain's images, by letter, all alike.
        encoder: f.
        generator: G.
        discriminator: D, with gan_classes=3 for the paper's ternary one; a class head reads `class:ab`.
        classes: of the classifier on f.
        into: the domain that is translated into.

    Raises:
        UserError: domains that differ in channels, `into` that is none of them, an encoder with batch statistics,
            towers that do not fit.
    """
    check_domains(channels, least=2)
    check_kinds(encoder=encoder, generator=generator, discriminator=discriminator)
    if into not in channels:
        raise UserError(f"there is no domain '{into}' to translate into. {nearest(into, channels)}")
    if len(set(channels.values())) > 1:
        raise UserError(f"one encoder sees all domains, so they need the same channels, not {dict(channels)}")
    f: Tower = encoder.build(channels[into])
    if any(True for _ in f.buffers()):
        raise UserError(
            f"the encoder '{encoder.name}' keeps batch statistics, which move while f must stay fixed: choose lenet"
        )
    return Dtn(channels, into, f, generator.build(f.channels, channels[into]), discriminator, classes)


class Dtn(ImagePaths):
    """`dtn`, whose codes have no noise and whose classifier reads them."""

    def __init__(
        self, channels: Mapping[str, int], into: str, f: Tower, generator: Tower, discriminator: Spec, classes: int
    ) -> None:
        super().__init__(
            channels,
            parts=("encoders", "classifiers", "generators", "discriminators"),
            encoders=dict.fromkeys(channels, f),
            generators={into: generator},
            discriminators={into: discriminator.build(channels[into])},
        )
        layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(f.channels, classes))
        head = initialise(Tower([layers], channels=classes), "kaiming")
        self.classifiers = nn.ModuleDict({next(d for d in channels if d != into): head})

    def _posterior(self, value: Value) -> Posterior:
        mean = value[0] if isinstance(value, tuple) else value  # f is a function: no variance is drawn from
        return Posterior(mean, None, mean)

    def trace(self, graph: Graph, reading: Reading) -> Node:
        """As every model's, with `class:` of real images from the classifier on f."""
        kind, path = reading
        if kind != "class" or path not in self.classifiers:
            return super().trace(graph, reading)
        mean = graph.make("mean", lambda code: code.mean, self.code(graph, path))
        tower = self.classifiers[path]
        assert isinstance(tower, Tower)
        logits = graph.tower(tower, mean, translates=False)[-1]
        label = graph.input(f"label:{path}", optional=True)
        return graph.make("classes", Classes, logits, label, translates=False)
