"""The data of a training: two or more domains, each with images to train on and images to test on."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from ..registry import Registry
from .bands import Bands
from .domain import Domain
from .sources import ImageFiles, Images, Rows, as_values, digest
from .truth import Aligned
from .values import Values, values_of

datasets = Registry("data")
MOST = len(string.ascii_lowercase)


@dataclass(frozen=True)
class Data:
    """The domains of a training by letter, all of one size (H, W).

    `cut` is the (H, W) of the windows that a training cuts from them at random, None where it sees them whole.
    `truth(path, i)`, for data that knows it, is the true translation of test image `i` of the path's first domain into
    its last, uint8 (C, H, W). `facts` is what every record of a result should say besides, such as the protocol by
    which images were chosen, ready for JSON. `notes` are lines for the user on what was found and is not used. Of data
    without their bad images, `whole` are the data as they were opened. `bands` is what grids show
    of an image.
    """

    name: str
    size: tuple[int, int]
    domains: dict[str, Domain]
    truth: Callable[[str, int], np.ndarray] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    whole: Data | None = None
    bands: Bands = field(default_factory=Bands)
    cut: tuple[int, int] | None = None

    @property
    def window(self) -> tuple[int, int]:
        """The (H, W) of what a training sees."""
        return self.cut or self.size

    @property
    def values(self) -> dict[str, Values]:
        """What the values of the images are, by letter."""
        return {letter: values_of(domain.train) for letter, domain in self.domains.items()}

    @property
    def channels(self) -> dict[str, int]:
        """By letter."""
        return {letter: domain.train.channels for letter, domain in self.domains.items()}

    @property
    def labels(self) -> dict[str, str]:
        """The labels by letter."""
        return {letter: domain.label for letter, domain in self.domains.items()}

    @property
    def left_out(self) -> dict[str, int]:
        """By letter the held-out images that are left out as bad; empty where none is."""
        if self.whole is None:
            return {}
        counts = {k: len(self.whole.domains[k].test) - len(domain.test) for k, domain in self.domains.items()}
        return counts if any(counts.values()) else {}

    def held_out(self, max_images: int = 0) -> dict[str, int]:
        """How many held-out images an evaluation takes, by the letter that a path begins with; `max_images` at most
        where it is not 0. Paths from noise, `z`, take as many as the largest domain."""
        counts = {letter: len(domain.test) for letter, domain in self.domains.items()}
        counts["z"] = max(counts.values())
        return {letter: min(n, max_images or n) for letter, n in counts.items()}

    def fingerprint(self) -> str:
        """A short hash that changes when a domain's label or images do, whether some are left out as bad or not."""
        if self.whole is not None:
            return self.whole.fingerprint()
        parts = ((d.label, d.train.fingerprint(), d.test.fingerprint()) for d in self.domains.values())
        classes = (d.train_classes for d in self.domains.values() if d.train_classes is not None)
        return digest(self.size, *parts, *classes)


def in_channels(data: Data, channels: Mapping[str, int]) -> Data:
    """The data with images in grey (1) or RGB (3) as `channels` says by letter; other kinds of images stay."""

    def converted(images: Images, depth: int) -> Images:
        if isinstance(images, ImageFiles):
            return replace(images, channels=depth)
        return cast(Rows, images).at(images.size, depth) if hasattr(images, "values") else images

    made = {
        letter: replace(
            domain, train=converted(domain.train, channels[letter]), test=converted(domain.test, channels[letter])
        )
        if letter in channels
        else domain
        for letter, domain in data.domains.items()
    }
    return replace(data, domains=made, truth=Aligned(made) if isinstance(data.truth, Aligned) else data.truth)


def with_values(data: Data, values: Mapping[str, Values]) -> Data:
    """The data with values that mean what `values` say by letter, as a training has found them."""

    def meant(images: Images, letter: str) -> Images:
        return as_values(images, values[letter]) if letter in values else images

    made = {
        letter: replace(domain, train=meant(domain.train, letter), test=meant(domain.test, letter))
        for letter, domain in data.domains.items()
    }
    return replace(data, domains=made, truth=Aligned(made) if isinstance(data.truth, Aligned) else data.truth)


def make_domains(splits: Iterable[tuple[str, Images, Images]]) -> dict[str, Domain]:
    """Domains a, b, c, ... from (label, train, test) in their order."""
    return {
        letter: Domain(letter, label, train, test)
        for letter, (label, train, test) in zip(string.ascii_lowercase, splits, strict=False)
    }
