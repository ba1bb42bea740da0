"""Images that cannot be decoded: what is known of them, which images take their places, and data without them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ...system.errors import UserError
from ..domain import Domain
from ..domains import Data
from ..folders.listing import frame_key, key_of
from ..sources import ImageFiles
from ..truth import Aligned

FRAME = re.compile(r"\[[0-9,]+\]\Z")  # behind the name of a file that holds several images
SHOWN = 5  # images that a message names
WAY_OUT = "Mend or remove them, or leave them out with --bad-images skip"


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be decoded.

    `split` is "train" or "test", `reason` the whole message, and `step` that from which a training has known of it.
    """

    letter: str
    split: str
    index: int
    name: str
    reason: str
    step: int = 0

    @property
    def place(self) -> tuple[str, str, int]:
        """Which image of the data it is."""
        return self.letter, self.split, self.index


class BadImages:
    """The bad images of some data, as far as they are known.

    `known` are those of an earlier look at the same data, found again by their paths below the domain's folder where
    other images came or went; what is not in the data any more is forgotten.
    """

    def __init__(self, data: Data, known: Iterable[BadImage] = ()) -> None:
        self.data = data
        self.found: dict[tuple[str, str, int], BadImage] = {}
        for bad in known:
            if (index := _index_now(data, bad)) is not None:
                self.add(replace(bad, index=index))

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, bad: BadImage) -> bool:
        """Take in an image, known from the earliest step that anyone names; whether it is new."""
        before = self.found.get(bad.place)
        if before is None or bad.step < before.step:
            self.found[bad.place] = bad
        return before is None

    def of(self, letter: str, split: str) -> list[BadImage]:
        """Those of one split of a domain."""
        return [bad for place, bad in self.found.items() if place[:2] == (letter, split)]

    def good(self, letter: str, chosen: np.ndarray, step: int) -> np.ndarray:
        """The training images of a step, int64 (B,): in place of one known as bad by then, the next good one.

        A pure function of the step and the list. Raises `UserError` where a domain has no good image left.
        """
        bad = {each.index for each in self.of(letter, "train") if each.step <= step}
        if not bad.intersection(chosen.tolist()):
            return chosen
        domain = self.data.domains[letter]
        n = len(domain.train)
        if len(bad) == n:
            raise UserError(none_left(domain, "training", n, self.of(letter, "train")[0]))
        return np.array([next(j % n for j in range(i, i + n) if j % n not in bad) for i in chosen.tolist()], np.int64)

    def without(self) -> Data:
        """The data without these images, to measure on.

        Of aligned data a whole scene is left out. Raises `UserError` where no image of a split is left.
        """
        if not self:
            return self.data
        bad = set(self.found)
        if isinstance(self.data.truth, Aligned):
            bad |= self.data.truth.whole_scenes(bad)
        made = {letter: _without(domain, bad) for letter, domain in self.data.domains.items()}
        truth = Aligned(made) if isinstance(self.data.truth, Aligned) else self.data.truth
        return replace(self.data, domains=made, truth=truth, whole=self.data)

    def to_json(self) -> dict[str, Any]:
        """For `RunFolder.bad_images`."""
        return {"format": 1, "images": [asdict(self.found[place]) for place in sorted(self.found)]}


def unreadable(data: Data, splits: Sequence[str] = ("train", "test")) -> list[BadImage]:
    """The images whose headers could not be read when the data were opened."""
    return [
        BadImage(letter, split, i, images.name(i), str(reason))
        for letter, domain in data.domains.items()
        for split in splits
        if isinstance(images := getattr(domain, split), ImageFiles)
        for i, reason in images.broken.items()
    ]


def refuse_unreadable(data: Data, way_out: str, splits: Sequence[str] = ("train", "test")) -> None:
    """Raise `UserError` that names the images whose headers could not be read when the data were opened."""
    if found := unreadable(data, splits):
        raise UserError(f"{described(found)}. {way_out}")


def described(found: Sequence[BadImage], listed: Path | None = None) -> str:
    """What is wrong with these images, in one line: the first few, and where all are listed."""
    count = f"{len(found)} images cannot be decoded" if len(found) > 1 else "an image cannot be decoded"
    reasons = "; ".join(bad.reason.removesuffix(": replace or remove it") for bad in found[:SHOWN])
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    where = f" (all are listed in {listed})" if more and listed else ""
    return f"{count}: {reasons}{more}{where}"


def none_left(domain: Domain, split: str, n: int, bad: BadImage) -> str:
    """What to say where nothing of a split can be decoded."""
    return f"none of the {n} {split} images of '{domain.label}' can be decoded, such as: {bad.reason}"


def _index_now(data: Data, bad: BadImage) -> int | None:
    """Where the image lies in the data, which may have moved or changed; None where it does not any more."""
    domain = data.domains.get(bad.letter)
    images = {"train": domain.train, "test": domain.test}.get(bad.split) if domain else None
    if not isinstance(images, ImageFiles):
        return bad.index if images and bad.index < len(images) and images.name(bad.index) == bad.name else None
    place, name = f"/{key_of(PurePath(FRAME.sub('', bad.name)))}", _name(bad.name)
    same = [
        i for i in range(len(images)) if place.endswith(f"/{_file_key(images, i)}") and _name(images.name(i)) == name
    ]
    return max(same, key=lambda i: (len(images.keys[i]), i == bad.index), default=None)


def _name(name: str) -> str:
    """That of a file and of its image, where that is not its first: whether others hold several does not matter."""
    return PurePath(name).name.removesuffix("[0]")


def _file_key(images: ImageFiles, i: int) -> str:
    """The key of the file that image `i` lies in."""
    return images.keys[i].removesuffix(f"/{frame_key(images.frames[i])}") if images.frames else images.keys[i]


def _without(domain: Domain, bad: set[tuple[str, str, int]]) -> Domain:
    kept: dict[str, Any] = {}
    for split, images, classes in (
        ("train", domain.train, domain.train_classes),
        ("test", domain.test, domain.test_classes),
    ):
        rows = [i for i in range(len(images)) if (domain.letter, split, i) not in bad]
        if not isinstance(images, ImageFiles) or len(rows) == len(images):
            continue
        if not rows:
            raise UserError(
                f"none of the {len(images)} images of '{domain.label}' for {split}ing can be used: each is bad, or its "
                f"counterpart is"
            )
        kept[split] = images.pick(rows)
        kept[f"{split}_classes"] = None if classes is None else classes[rows]
    return replace(domain, **kept)
