"""CoGAN: a generator and a discriminator for each domain, and one noise for all."""

from __future__ import annotations

from collections.abc import Mapping

from ..annotations import Positive
from ..registry import Spec
from . import registry
from .paths import ImagePaths, check_domains, check_kinds


@registry.register
class Cogan(ImagePaths):
    """The model of Liu and Tuzel (NIPS 2016): `za` and `zb` are the images of one noise vector z in domains a and b.

    Args:
        channels: the number of channels of each domain's images, by letter: `{"a": 3, "b": 1}`.
        generator: spec of G_i; the strategy should tie its first stages.
        discriminator: spec of D_i; the strategy should tie its last stages.
        sharing: spec of the strategy that makes towers share stages.
        latent: channels of z, drawn from N(0, I).

    Raises:
        UserError: fewer than two domains, a domain that is no lower-case letter or is z, towers that do not fit.
    """

    parts = ("generators", "discriminators")
    translates = ("generators",)

    def __init__(
        self,
        *,
        channels: Mapping[str, int],
        generator: Spec,
        discriminator: Spec,
        sharing: Spec,
        latent: Positive = 100,
    ) -> None:
        check_domains(channels, least=2, taken="z")
        check_kinds(generator=generator, discriminator=discriminator, sharing=sharing)
        super().__init__(
            channels,
            encoders={},
            generators={d: generator.build(latent, c) for d, c in channels.items()},
            discriminators={d: discriminator.build(c) for d, c in channels.items()},
            sharing=sharing,
            latent=latent,
        )
