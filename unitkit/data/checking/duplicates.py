"""Images that are there twice: exactly, by a hash of what is decoded, or nearly, by their small grey copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .near import near_pairs
from .survey import Survey

# Where the two lie: in a training and a test split, in one split of two domains, or in one split of one.
Where = Literal["splits", "domains", "split"]


@dataclass(frozen=True)
class Pair:
    """Two images, by their numbers among all; of two splits the one to train on comes first.

    `distance` is 0 of equal images, and `same_file` tells whether they are equal byte for byte.
    """

    one: int
    two: int
    where: Where
    distance: float = 0.0
    same_file: bool = False

    @property
    def how(self) -> str:
        """How the two are alike, in words."""
        if self.distance:
            return f"distance {self.distance:.2f}"
        return "the same file" if self.same_file else "the same pixels"


def exact_duplicates(survey: Survey) -> list[Pair]:
    """Every test image with the first training image that it equals; in each split every image with the first in its
    domain that it equals, and the first of each domain with that of the first domain."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for k, pixels in enumerate(survey.pixels):
        if pixels:
            groups[pixels].append(k)
    return [
        Pair(one, two, where, same_file=survey.files[one] == survey.files[two] != b"")
        for members in groups.values()
        if len(members) > 1
        for one, two, where in _pairs(survey, members)
    ]


def near_duplicates(survey: Survey, most: float) -> list[Pair]:
    """The pairs of images that are no more than `most` apart and not equal, the nearest first. Of several equal images
    one is compared with the others."""
    firsts = {pixels: k for k, pixels in reversed(list(enumerate(survey.pixels))) if pixels}
    first = np.array(sorted(firsts.values()), np.int64)
    pairs, distances = near_pairs(survey.small[first], most)
    found = []
    for pair, distance in zip(first[pairs].tolist(), distances.tolist(), strict=True):
        one, two = sorted(pair, key=lambda k: (survey.at(k)[0].name == "test", k))
        a, b = survey.at(one)[0], survey.at(two)[0]
        where: Where = "splits" if a.name != b.name else "domains" if a.letter != b.letter else "split"
        found.append(Pair(one, two, where, max(distance, 1e-6)))
    return found


def _pairs(survey: Survey, members: list[int]) -> Iterator[tuple[int, int, Where]]:
    places: dict[str, dict[str, list[int]]] = {"train": {}, "test": {}}
    for k in members:
        split = survey.at(k)[0]
        places[split.name].setdefault(split.letter, []).append(k)
    train, test = ([k for same in domains.values() for k in same] for domains in places.values())
    yield from ((train[0], k, "splits") for k in test if train)
    for domains in places.values():
        first, *others = [same[0] for same in domains.values()] or [0]
        yield from ((first, k, "domains") for k in others)
        yield from ((same[0], k, "split") for same in domains.values() for k in same[1:])
