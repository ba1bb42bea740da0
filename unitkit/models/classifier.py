"""Discriminators alone: features with a class head, and a head that tells domains apart."""

from __future__ import annotations

from collections.abc import Mapping

from ..registry import Spec
from .model import register
from .paths import ImagePaths, check_domains, check_kinds


@register
def classifier(*, channels: Mapping[str, int], discriminator: Spec, sharing: Spec) -> ImagePaths:
    """Networks that discriminate and classify real images and make none: a classifier; DANN with the loss `reversal`.

    Args:
        channels: the number of channels of each domain's images, by letter: `{"a": 1, "b": 1}`.
        discriminator: D_i, with a class head; its other head is DANN's domain classifier.
        sharing: the strategy that makes towers share stages; `all` gives DANN's one network.

    Raises:
        UserError: a domain that is no lower-case letter, towers that do not fit.
    """
    check_domains(channels)
    check_kinds(discriminator=discriminator, sharing=sharing)
    return ImagePaths(
        channels,
        parts=("discriminators",),
        translates=(),
        discriminators={d: discriminator.build(c) for d, c in channels.items()},
        sharing=sharing,
    )
