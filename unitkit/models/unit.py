"""UNIT: an encoder, a generator and a discriminator for each domain, and one latent space for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from ..annotations import AtLeast, Count
from ..networks.tower import Tower
from ..registry import Spec
from ..system.errors import UserError
from .model import register
from .paths import ImagePaths, check_domains, check_kinds
from .pool import ImagePool


@register
def unit(
    *,
    channels: Mapping[str, int],
    encoder: Spec,
    generator: Spec,
    discriminator: Spec,
    sharing: Spec,
    noise: Annotated[float, AtLeast(0)] = 1.0,
    pool: Count = 0,
    size: tuple[int, int] | None = None,
) -> ImagePaths:
    """The model of Liu, Breuel and Kautz (NIPS 2017), for two or more domains.

    Args:
        channels: the number of channels of each domain's images, by letter: `{"a": 3, "b": 1}`.
        encoder: E_i, the posterior q_i(z|x).
        generator: G_i.
        discriminator: D_i.
        sharing: the strategy that makes towers share stages.
        noise: the standard deviation of z around its mean while training, where the encoder does not learn it.
            The paper has 1; 0 makes the code deterministic (CycleGAN). In evaluation z is always the mean.
        pool: the number of earlier translations into each domain from which `gan(..., pool=True)` shows its
            discriminator half of what it sees; CycleGAN has 50.
        size: (height, width) of the training's images, `data.window`, which a pool has to know.

    Raises:
        UserError: fewer than two domains, a domain that is no lower-case letter, towers that do not fit, a pool
            without a size.
    """
    check_domains(channels, least=2)
    check_kinds(encoder=encoder, generator=generator, discriminator=discriminator, sharing=sharing)
    if pool and size is None:
        raise UserError(f"a pool of {pool} images has to know their size: give size=data.window")
    encoders: dict[str, Tower] = {d: encoder.build(c) for d, c in channels.items()}
    code = next(iter(encoders.values())).channels
    return ImagePaths(
        channels,
        encoders=encoders,
        generators={d: generator.build(code, c) for d, c in channels.items()},
        discriminators={d: discriminator.build(c) for d, c in channels.items()},
        sharing=sharing,
        noise=noise,
        pools={d: ImagePool(pool, (c, *size)) for d, c in channels.items()} if pool and size else {},
    )
