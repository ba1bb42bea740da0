"""CoGAN: a generator and a discriminator for each domain, and one noise for all."""

from __future__ import annotations

from collections.abc import Mapping

from ..annotations import Positive
from ..registry import Spec
from .model import register
from .paths import ImagePaths, check_domains, check_kinds


@register
def cogan(
    *, channels: Mapping[str, int], generator: Spec, discriminator: Spec, sharing: Spec, latent: Positive = 100
) -> ImagePaths:
    """The model of Liu and Tuzel (NIPS 2016): `za` and `zb` are the images of one noise vector z in domains a and b.

    Args:
        channels: the number of channels of each domain's images, by letter: `{"a": 3, "b": 1}`.
        generator: G_i; the strategy should tie its first stages.
        discriminator: D_i; the strategy should tie its last stages.
        sharing: the strategy that makes towers share stages.
        latent: channels of z, drawn from N(0, I).

    Raises:
        UserError: fewer than two domains, a domain that is no lower-case letter or is z, towers that do not fit.
    """
    check_domains(channels, least=2, taken="z")
    check_kinds(generator=generator, discriminator=discriminator, sharing=sharing)
    return ImagePaths(
        channels,
        parts=("generators", "discriminators"),
        translates=("generators",),
        generators={d: generator.build(latent, c) for d, c in channels.items()},
        discriminators={d: discriminator.build(c) for d, c in channels.items()},
        sharing=sharing,
        latent=latent,
    )
