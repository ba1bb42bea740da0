"""Data sources that draw their images: no files, and a ground truth for every held-out one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ...system.errors import UserError, nearest
from ..domains import Data, datasets, make_domains
from ..sources import digest
from . import portraits as portrait
from . import terrain as land

TRAIN, TEST = 0, 1
BLOCK = 2**19  # pixels that are drawn at once: 128 images of 64x64
KEPT = 128  # blocks, some 200 MB
LARGEST = 1024  # pixels along a side
DRAWING = threading.Lock()


def _after_fork() -> None:
    global DRAWING
    DRAWING = threading.Lock()  # the old one may be held by a thread that a forked process does not have


os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class Rendered:
    """`count` images with one look; `key` and the index together make what is seen, such as a person or a scene.

    `render(keys, look, size=(H, W))` draws them, uint8 RGB, (n, 3, H, W).
    """

    source: str
    render: Callable[..., np.ndarray]
    key: tuple[int, ...]
    look: str
    count: int
    size: tuple[int, int]
    channels: int = 3

    def __len__(self) -> int:
        return self.count

    @property
    def at_once(self) -> int:
        """How many images are drawn at once."""
        return max(1, BLOCK // (self.size[0] * self.size[1]))

    def name(self, i: int) -> str:
        return f"{'test' if self.key[1] == TEST else 'training'} image {i} of {self.source} ({self.look})"

    def load(self, i: int) -> np.ndarray:
        if not 0 <= i < self.count:
            raise IndexError(f"image {i} of {self.count}")
        with DRAWING:
            image: np.ndarray = _block(self, i // self.at_once)[i % self.at_once]
        return image

    def fingerprint(self) -> str:
        """With a drawn image, so that a change of the drawing shows as well."""
        image = self.render([(*self.key, 0)], self.look, size=self.size)
        return digest(self.key, self.look, self.count, self.size, image)

    def at(self, size: tuple[int, int]) -> Rendered:
        return replace(self, size=size)


@lru_cache(KEPT)
def _block(images: Rendered, number: int) -> np.ndarray:
    """A block of neighbours, drawn at once and kept, so that the first few steps draw all that a training needs:
    drawing holds the interpreter, and beside the network's threads it would slow every step of the first epoch."""
    indices = range(number * images.at_once, min((number + 1) * images.at_once, images.count))
    return images.render([(*images.key, i) for i in indices], images.look, size=images.size)


@datasets.register
def portraits(
    *,
    size: int | tuple[int, int],
    domains: int = 2,
    labels: str | None = None,
    seed: int = 0,
    n: int = 1024,
    n_test: int = 256,
) -> Data:
    """Rendered portraits: a plain, b with glasses, c with a hat, or as `labels` chooses ("hat,plain").

    No person is in two domains or in two splits. `n` and `n_test` are the images of a domain in each split. Raises
    `UserError` for labels and numbers that cannot be.
    """
    chosen = _chosen("portraits", portrait.ATTRIBUTES, labels, domains)
    return _draw("portraits", portrait.render, chosen, size, seed, n, n_test)


@datasets.register
def terrain(
    *,
    size: int | tuple[int, int],
    domains: int = 2,
    labels: str | None = None,
    seed: int = 0,
    n: int = 1024,
    n_test: int = 256,
) -> Data:
    """Rendered land: a as satellite images, b as street maps, or the other way round with `labels` "map,satellite".

    No scene is in two domains or in two splits. The truth of a satellite image is its exact map; that of a map is
    the scene's own image, one of many that would fit, as a map tells neither light nor texture. `n` and `n_test` are
    the images of a domain in each split. Raises `UserError` for labels and numbers that cannot be.
    """
    chosen = _chosen("terrain", land.VIEWS, labels, domains)
    return _draw("terrain", land.render, chosen, size, seed, n, n_test)


def _chosen(source: str, looks: Sequence[str], labels: str | None, domains: int) -> list[str]:
    """The labels that are asked for, or the first of `looks`; raises `UserError` where they are not `domains` looks."""
    chosen = [label.strip() for label in labels.split(",")] if labels else list(looks[:domains])
    for label in chosen:
        if label not in looks:
            raise UserError(f"the data source '{source}' has no label '{label}'. {nearest(label, looks)}")
    if not 2 <= len(set(chosen)) == len(chosen):
        raise UserError(f"labels='{labels}' is not possible: expected two or more of {', '.join(looks)}, each once")
    if len(chosen) != domains:
        have = f"labels='{labels}' chooses" if labels else f"the data source '{source}' has"
        raise UserError(f"{have} {len(chosen)} domains, and {domains} are needed")
    return chosen


def refuse_large(source: str, size: tuple[int, int]) -> None:
    """Raise `UserError` for a size (H, W) at which a training would wait for its images for hours."""
    if max(size) > LARGEST:
        height, width = size
        raise UserError(f"the images of '{source}' are drawn up to {LARGEST} pixels along a side, not {height}x{width}")


def _draw(
    source: str,
    render: Callable[..., np.ndarray],
    labels: Sequence[str],
    size: int | tuple[int, int],
    seed: int,
    n: int,
    n_test: int,
) -> Data:
    shape = (size, size) if isinstance(size, int) else size
    if n < 1 or n_test < 1:
        raise UserError(f"{source} with n={n} and n_test={n_test}: not possible, expected 1 or more of each")

    def images(label: str, split: int, count: int) -> Rendered:
        # What a domain shows hangs on its place, so that two domains of one look would differ too.
        return Rendered(source, render, (seed, split, labels.index(label)), label, count, shape)

    refuse_large(source, shape)
    render([(seed, TRAIN, 0, 0)], labels[0], size=shape)  # refuses what cannot be drawn, before training
    made = make_domains((label, images(label, TRAIN, n), images(label, TEST, n_test)) for label in labels)

    def truth(path: str, index: int) -> np.ndarray:
        shown = made[path[0]].test
        assert isinstance(shown, Rendered)
        return replace(shown, look=made[path[-1]].label).load(index)

    return Data(source, shape, made, truth)
