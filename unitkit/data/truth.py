"""Aligned data: which held-out images of two domains show one scene."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..system.errors import UserError
from .domain import Domain
from .sources import ImageArray, ImageFiles, Images


class Aligned:
    """The true translations of held-out images: by the files' keys, of arrays by the rows' places.

    Raises `UserError` for an image without its counterpart in another domain, and for two images of one key.
    """

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self.tests = {letter: domain.test for letter, domain in domains.items()}
        self.places = {letter: _places(domain.test, domain.label) for letter, domain in domains.items()}
        first, *others = domains.values()
        for other in others:
            for one, two in (first, other), (other, first):
                missing = self.places[one.letter].keys() - self.places[two.letter].keys()
                if missing:
                    name = one.test.name(self.places[one.letter][min(missing)])
                    raise UserError(
                        f"the data are not aligned: '{name}' of {one.label} has no counterpart '{min(missing)}' in "
                        f"{two.label} ({len(missing)} of {len(one.test)} held-out images have none); counterparts have "
                        f"the same path below their domain's folder, but for the suffix"
                    )

    def __call__(self, path: str, i: int) -> np.ndarray:
        """The true translation along `path` of test image `i` of its first domain, uint8 (C, H, W)."""
        end = path[-1]
        return self.tests[end].load(self.places[end][key(self.tests[path[0]], i)])

    def whole_scenes(self, images: Iterable[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
        """The held-out images in every domain of the scenes that these (letter, split, index) show."""
        scenes = {key(self.tests[letter], i) for letter, split, i in images if split == "test"}
        return {(letter, "test", places[scene]) for letter, places in self.places.items() for scene in scenes}


def key(images: Images, i: int) -> str:
    """What the images of one scene have in common: a file's key, or a row's number in its array."""
    if isinstance(images, ImageArray):
        return str(images.rows[i])
    return images.keys[i] if isinstance(images, ImageFiles) else str(i)


def refuse_ambiguous(images: Images, where: str) -> None:
    """Raise `UserError` where two files have one key, a/0001.jpg and a/0001.png, so that none tells them apart."""
    seen: dict[str, int] = {}
    for i in range(len(images) if isinstance(images, ImageFiles) else 0):
        if (first := seen.setdefault(key(images, i), i)) != i:
            raise UserError(
                f"'{images.name(first)}' and '{images.name(i)}' of {where} differ in their suffix alone, so which of "
                f"them belongs to the counterpart '{key(images, i)}' is open: rename or remove one"
            )


def _places(images: Images, label: str) -> dict[str, int]:
    refuse_ambiguous(images, label)
    return {key(images, i): i for i in range(len(images))}
