"""Unsupervised domain adaptation on digits: a source domain with its classes, and a target domain without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np

from ...annotations import Positive, describe, fits
from ...system.errors import UserError, nearest
from ..domain import Domain
from ..domains import Data, datasets
from ..drawn import numerals
from ..drawn.rendered import TEST, TRAIN, Rendered, refuse_large
from ..sources import ImageArray, Images
from .files import read
from .images import Grey, WithInverse
from .places import locate

Look = Literal["mnist", "usps", "svhn", "rendered", "printed"]
Protocol = Literal["full", "sampled"]

LOOKS: tuple[str, ...] = get_args(Look)
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
HELD_OUT = "one in ten of the training images"
DRAWN = {"rendered": 3, "printed": 1}  # the looks without files, and the channels that it takes to show them
# Training images of the small protocol that is usual between MNIST and USPS.
SAMPLED = {"mnist": 2000, "usps": 1800}


@dataclass(frozen=True)
class Opened:
    """A dataset in the role of one domain; `train_classes` only where it is the source."""

    train: ImageArray | Rendered
    test: ImageArray | Rendered
    train_classes: np.ndarray | None
    test_classes: np.ndarray
    channels: int  # that it takes to show them
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Digits:
    """Two domains of digits: a value whose fields are knobs of a recipe, opened by `open()`.

    Args:
        source: the domain whose classes the training sees: mnist, usps, svhn, rendered or printed.
        target: the domain without classes.
        data: folder with the files of mnist, usps or svhn; none takes them from the cache, or downloads them there.
        protocol: full, or sampled: 2000 images of mnist and 1800 of usps to train on.
        invert: give the target's training images twice, also inverted, as the released code does for mnist.
        padding: give images of usps the padding that mnist's have, so that digits are of one size in both.
        size: side of the images; the recipes' networks take 32.
    """

    source: Look = "rendered"
    target: Look = "printed"
    data: str | None = None
    protocol: Protocol = "full"
    invert: bool = False
    padding: bool = True
    size: int = 32

    def open(self) -> Data:
        """`digits` of these."""
        return digits(
            size=self.size,
            source=self.source,
            target=self.target,
            folder=self.data,
            protocol=self.protocol,
            invert=self.invert,
            padding=self.padding,
        )


@datasets.register
def digits(
    *,
    size: int | tuple[int, int] = 32,
    source: Look = "rendered",
    target: Look = "printed",
    folder: str | None = None,
    protocol: Protocol = "full",
    invert: bool = False,
    padding: bool = True,
    channels: int | None = None,
    domains: int = 2,
    seed: int = 0,
    n: int = 4096,
    n_test: int = 1024,
) -> Data:
    """Digits: a is `source` with the classes of its training images, b is `target` without; the classes of the test
    images are there for both, to measure with.

    The classes of the target's training images are not even read where the files keep them apart, so nothing can learn
    from them. `source` and `target` may be equal: then b is a without its classes, or, where they are drawn, other
    images of the same look.

    Args:
        size: the side or (H, W) that images are brought to.
        source: "mnist", "usps", "svhn", or, without any file, "rendered" (many fonts and colours) and "printed" (white
            on black).
        target: as `source`.
        folder: where the files are, in it or in a folder named after the dataset; None looks in the folder that
            UNITKIT_DATA names and in the cache, and downloads what is in neither.
        protocol: "full", or "sampled", which trains on 2000 images of MNIST and 1800 of USPS, drawn at random with
            `seed` from their training splits, whatever their classes. Tests are on the whole test split.
        invert: give the target's training images twice, as they are and inverted (255 - x), as the authors of UNIT did
            for SVHN -> MNIST.
        padding: give images of USPS, which their digits fill, the padding that MNIST's have, in training and tests:
            3 black pixels around 16. A digit then takes as much of its image in both.
        channels: 1 (grey) or 3 (RGB) for both domains; None is 1 where both are grey.
        domains: 2.
        seed: of the sample, and of drawn images.
        n: drawn training images of a domain; without meaning for files.
        n_test: the same for test images.

    Raises:
        UserError: an argument that cannot be, files that are missing, damaged or do not fit.
    """
    shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    _check_roles(source, target, folder, protocol)
    _check_numbers(shape, channels, domains, seed, n, n_test)

    def opened(look: str, place: int) -> Opened:
        if look in DRAWN:
            return _drawn(look, place, shape, seed, n, n_test)
        sample = SAMPLED[look] if protocol == "sampled" else None
        return _from_files(look, place == 0, folder, sample, seed, padding and look == "usps")

    a, b = opened(source, 0), opened(target, 1)
    depth = channels or max(a.channels, b.channels)
    b_train = _shown(b.train, shape, depth)
    if invert:
        b_train = WithInverse(b_train)
    unlabelled = f"{target} unlabelled" if target == source else target
    made = {
        "a": Domain("a", source, _shown(a.train, shape, depth), _shown(a.test, shape, depth), *_classes(a)),
        "b": Domain("b", unlabelled, b_train, _shown(b.test, shape, depth), *_classes(b)),
    }
    counts = {k: {"training_images": len(d.train), "test_images": len(d.test)} for k, d in made.items()}
    facts = {
        "protocol": protocol,
        "domains": {"a": {**a.facts, **counts["a"]}, "b": {**b.facts, **counts["b"], "inverted": invert}},
    }
    held = [opened.facts["dataset"] for opened in (a, b) if opened.facts["test_split"] == HELD_OUT]
    framed = padding and "usps" in (source, target)
    name = f"digits {source} -> {target}, {protocol}" + ", usps with padding" * framed + ", with inverse" * invert
    name += "".join(f", {look} tested on {HELD_OUT}" for look in dict.fromkeys(held))
    return Data(name, shape, made, facts=facts)


def _check_roles(source: str, target: str, folder: str | None, protocol: str) -> None:
    for role, look in (("source", source), ("target", target)):
        if look not in LOOKS:
            raise UserError(f"digits has no {role} '{look}'. {nearest(look, LOOKS)}")
        if protocol == "sampled" and look not in SAMPLED:
            raise UserError(
                f"protocol=sampled is for mnist and usps, and the {role} is {look}: choose protocol=full, or those two"
            )
    if folder is not None and {source, target} <= DRAWN.keys():
        files = ", ".join(look for look in LOOKS if look not in DRAWN)
        raise UserError(
            f"data='{folder}' is given, and {source} and {target} are drawn, without files: choose a source or a "
            f"target among {files}, or leave data out"
        )
    if protocol not in PROTOCOLS:
        raise UserError(f"digits has no protocol '{protocol}'. {nearest(protocol, PROTOCOLS)}")


def _check_numbers(shape: tuple[int, int], channels: int | None, domains: int, seed: int, n: int, n_test: int) -> None:
    if not all(fits(edge, Positive) for edge in shape):
        raise UserError(f"digits of size {shape[0]}x{shape[1]}: not possible, expected pixels, {describe(Positive)}")
    if channels not in (None, 1, 3):
        raise UserError(f"channels={channels} is not possible: expected 1 (grey) or 3 (RGB)")
    if domains != 2:
        raise UserError(f"digits has 2 domains, a source and a target, and {domains} are needed")
    if seed < 0:
        raise UserError(f"digits with seed={seed}: not possible, expected 0 or more")
    if n < 1 or n_test < 1:
        raise UserError(f"digits with n={n} and n_test={n_test}: not possible, expected 1 or more of each")


def _classes(opened: Opened) -> tuple[np.ndarray | None, np.ndarray]:
    return opened.train_classes, opened.test_classes


def _shown(images: ImageArray | Rendered, shape: tuple[int, int], channels: int) -> Images:
    if isinstance(images, ImageArray):
        return images.at(shape, channels)
    return images if channels == images.channels else Grey(images)


def _drawn(look: str, place: int, shape: tuple[int, int], seed: int, n: int, n_test: int) -> Opened:
    train, test = (
        # What a domain shows hangs on its place, so that two domains of one look differ too.
        Rendered("digits", numerals.render, (seed, split, place), look, count, shape)
        for split, count in ((TRAIN, n), (TEST, n_test))
    )
    refuse_large(look, shape)
    numerals.render([(*train.key, 0)], look, size=shape)  # refuses a size that cannot be drawn, before training

    def classes(images: Rendered) -> np.ndarray:
        return _drawn_classes(images.key, len(images)).copy()

    facts = {"dataset": look, "test_split": "drawn", "checksum": "drawn", "files": []}
    return Opened(train, test, classes(train) if place == 0 else None, classes(test), DRAWN[look], facts)


@lru_cache(8)  # thousands take a quarter of a second, and a recipe is read more than once
def _drawn_classes(key: tuple[int, ...], count: int) -> np.ndarray:
    return numerals.classes([(*key, i) for i in range(count)])


def _from_files(look: str, labelled: bool, folder: str | None, sample: int | None, seed: int, padding: bool) -> Opened:
    found = read(locate(look, folder), labelled=labelled)
    train, test = found.train, found.test
    if sample is not None:
        if len(train.images) < sample:
            raise UserError(
                f"protocol=sampled takes {sample} training images of {look}, and '{train.images.label}' holds "
                f"{len(train.images)}: choose protocol=full"
            )
        train = train.pick(_sample(len(train.images), sample, (seed, LOOKS.index(look))))
    facts = {
        "dataset": look,
        "test_split": "official" if found.official else HELD_OUT,
        "checksum": "published" if found.published else "unverified",
        "files": list(dict.fromkeys(path.name for path in (*train.files, *test.files))),
        "padding": padding,
    }
    train, test = (replace(split, images=split.images.in_bytes()) for split in (train, test))
    if padding:
        train, test = (replace(split, images=_with_margin(split.images)) for split in (train, test))
    assert test.classes is not None
    return Opened(train.images, test.images, train.classes, test.classes, train.images.channels, facts)


def _with_margin(images: ImageArray) -> ImageArray:
    """Black around each image, 3 pixels to 16: digits of MNIST are 20 of 28 pixels high, those of USPS all 16."""
    high, wide = (round(side * 3 / 16) for side in images.array.shape[2:])
    padded = np.pad(images.array, ((0, 0), (0, 0), (high, high), (wide, wide)))
    return ImageArray(padded, images.label).pick(images.rows)


def _sample(n: int, count: int, seed: tuple[int, ...]) -> np.ndarray:
    """`count` of `n` rows at random, ascending: those of the smallest draws of the raw stream, which never changes."""
    draws = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(n)
    return np.sort(np.argsort(draws, kind="stable")[:count])
