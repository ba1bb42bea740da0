"""DTN: one fixed feature function for all domains, and a generator into one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from ..annotations import Positive
from ..losses import Classes, Posterior
from ..networks.layers import initialise
from ..networks.tower import Tower, Value
from ..registry import Spec
from ..system.errors import UserError, nearest
from . import registry
from .paths import ImagePaths, check_domains, check_kinds


@registry.register
class Dtn(ImagePaths):
    """The model of Taigman, Polyak and Wolf (ICLR 2017): translation is G(f(x)), into the domain `into` alone.

    f is the encoder, one for all domains, whose code has no noise; `class:a` is what the classifier makes of f's code
    of the real images of another domain than `into`. A player trains the "encoders" and "classifiers" first, and
    leaves them fixed when the others begin (`Player.until` and `Player.since`).

    Args:
        channels: the number of channels of each domain's images, by letter, all alike.
        encoder: spec of f.
        generator: spec of G.
        discriminator: spec of D, with gan_classes=3 for the paper's ternary one; a class head reads `class:ab`.
        classes: of the classifier on f.
        into: the domain that is translated into.

    Raises:
        UserError: domains that differ in channels, `into` that is none of them, an encoder with batch statistics,
            towers that do not fit.
    """

    parts = ("encoders", "classifiers", "generators", "discriminators")

    def __init__(
        self,
        *,
        channels: Mapping[str, int],
        encoder: Spec,
        generator: Spec,
        discriminator: Spec,
        classes: Positive = 10,
        into: str = "b",
    ) -> None:
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
        super().__init__(
            channels,
            encoders=dict.fromkeys(channels, f),
            generators={into: generator.build(f.channels, channels[into])},
            discriminators={into: discriminator.build(channels[into])},
            sharing=None,
        )
        layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(f.channels, classes))
        head = initialise(Tower([layers], channels=classes), "kaiming")
        self.classifiers = nn.ModuleDict({next(d for d in channels if d != into): head})

    def _posterior(self, value: Value) -> Posterior:
        mean = value[0] if isinstance(value, tuple) else value  # f is a function: no variance is drawn from
        return Posterior(mean, None, mean)

    def check(self, reading: str) -> None:
        """As every model's; `class:` of a real image with a classifier is there, too."""
        if reading.removeprefix("class:") not in self.classifiers:
            super().check(reading)

    def images(self, batch: Mapping[str, Tensor], readings: Iterable[str]) -> dict[str, Any]:
        """As every model's, with the codes that the classifier reads."""
        readings = list(readings)
        classified = [f"code:{letter}" for letter in self.classifiers if f"class:{letter}" in readings]
        return super().images(batch, [*readings, *classified])

    def readings(self, images: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """As every model's, with `class:` of real images from the classifier on f."""
        own = [name for name in names if name.removeprefix("class:") in self.classifiers and ":" in name]
        found = super().readings(images, [name for name in names if name not in own])
        for name in own:
            letter = name[-1]
            logits = self.classifiers[letter](images[f"code:{letter}"].mean)
            found[name] = Classes(logits, images.get(f"label:{letter}"))
        return found
