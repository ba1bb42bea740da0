"""Data sources that draw their images: no files, and a true counterpart for every held-out one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ..errors import UserError, nearest
from .domains import Data, datasets, make_domains
from .portraits import ATTRIBUTES, render
from .sources import digest

TRAIN, TEST = 0, 1
BLOCK = 128
DRAWING = threading.Lock()


@dataclass(frozen=True)
class Portraits:
    """`count` portraits with one attribute; `key` and the index together make the person."""

    key: tuple[int, ...]
    attribute: str
    count: int
    size: tuple[int, int]
    channels: int = 3

    def __len__(self) -> int:
        return self.count

    def name(self, i: int) -> str:
        return f"{'test' if self.key[1] == TEST else 'training'} portrait {i} ({self.attribute})"

    def load(self, i: int) -> np.ndarray:
        if not 0 <= i < self.count:
            raise IndexError(f"portrait {i} of {self.count}")
        with DRAWING:
            image: np.ndarray = _block(self, i // BLOCK)[i % BLOCK]
        return image

    def fingerprint(self) -> str:
        """With a drawn portrait, so that a change of the drawing shows as well."""
        portrait = render([(*self.key, 0)], self.attribute, size=self.size)
        return digest(self.key, self.attribute, self.count, self.size, portrait)

    def at(self, size: tuple[int, int]) -> Portraits:
        return replace(self, size=size)


@cache
def _block(portraits: Portraits, number: int) -> np.ndarray:
    """A block of neighbours, drawn at once and kept, so that the first few steps draw all that a training needs:
    drawing holds the interpreter, and beside the network's threads it would slow every step of the first epoch."""
    indices = range(number * BLOCK, min((number + 1) * BLOCK, portraits.count))
    return render([(*portraits.key, i) for i in indices], portraits.attribute, size=portraits.size)


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
    shape = (size, size) if isinstance(size, int) else size
    chosen = [label.strip() for label in labels.split(",")] if labels else list(ATTRIBUTES[:domains])
    for label in chosen:
        if label not in ATTRIBUTES:
            raise UserError(f"portraits have no attribute '{label}'. {nearest(label, ATTRIBUTES)}")
    if not 2 <= len(set(chosen)) == len(chosen):
        raise UserError(
            f"labels='{labels}' is not possible: expected two or more of {', '.join(ATTRIBUTES)}, each once"
        )
    if len(chosen) != domains:
        have = f"labels='{labels}' chooses" if labels else "portraits have"
        raise UserError(f"{have} {len(chosen)} domains, and {domains} are needed")
    if n < 1 or n_test < 1:
        raise UserError(f"portraits with n={n} and n_test={n_test} are not possible: expected 1 or more of each")

    def images(attribute: str, split: int, count: int) -> Portraits:
        # Which persons a domain has hangs on its place, so that two domains of one attribute would differ too.
        return Portraits((seed, split, chosen.index(attribute)), attribute, count, shape)

    images(chosen[0], TRAIN, n).load(0)  # refuses a size or a seed that cannot be drawn, before training
    made = make_domains((label, images(label, TRAIN, n), images(label, TEST, n_test)) for label in chosen)

    def truth(path: str, index: int) -> np.ndarray:
        person = made[path[0]].test
        assert isinstance(person, Portraits)
        return replace(person, attribute=made[path[-1]].label).load(index)

    return Data("portraits", shape, made, truth)
