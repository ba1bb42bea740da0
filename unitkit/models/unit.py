"""UNIT: an encoder, a generator and a discriminator for each domain, and one latent space for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from ..annotations import AtLeast
from ..networks.tower import Tower
from ..registry import Spec
from . import registry
from .paths import ImagePaths, check_domains, check_kinds


@registry.register
class Unit(ImagePaths):
    """The model of Liu, Breuel and Kautz (NIPS 2017), for two or more domains.

    Args:
        channels: the number of channels of each domain's images, by letter: `{"a": 3, "b": 1}`.
        encoder: spec of E_i, the posterior q_i(z|x).
        generator: spec of G_i.
        discriminator: spec of D_i.
        sharing: spec of the strategy that makes towers share stages.
        noise: the standard deviation of z around its mean while training, where the encoder does not learn it.
            The paper has 1; 0 makes the code deterministic (CycleGAN). In evaluation z is always the mean.

    Raises:
        UserError: fewer than two domains, a domain that is no lower-case letter, towers that do not fit.
    """

    def __init__(
        self,
        *,
        channels: Mapping[str, int],
        encoder: Spec,
        generator: Spec,
        discriminator: Spec,
        sharing: Spec,
        noise: Annotated[float, AtLeast(0)] = 1.0,
    ) -> None:
        check_domains(channels, least=2)
        check_kinds(encoder=encoder, generator=generator, discriminator=discriminator, sharing=sharing)
        encoders: dict[str, Tower] = {d: encoder.build(c) for d, c in channels.items()}
        code = next(iter(encoders.values())).channels
        super().__init__(
            channels,
            encoders=encoders,
            generators={d: generator.build(code, c) for d, c in channels.items()},
            discriminators={d: discriminator.build(c) for d, c in channels.items()},
            sharing=sharing,
            noise=noise,
        )
