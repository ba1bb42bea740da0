"""How well classes are predicted: by a discriminator's class head, on held-out images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..system.errors import UserError
from .metric import Context, Metric, Result, named, register


@register
def accuracy(path: str) -> Metric:
    """The share of held-out images of the path's first domain whose class is predicted rightly along it, `b` or `ab`.

    `b` are the real images of domain b; for `ab`, images of a are translated to b and classified there. In domain
    adaptation `accuracy("b")` is the result: its classes are those of held-out images, and no training saw any of b.

    Returns the figure `accuracy` in [0, 1], and as a detail the confusion matrix: `confusion[actual][predicted]`
    counts.
    """
    reads = (f"class:{path}", f"label:{path[:1]}")
    name, title = named("accuracy", path)
    return Metric(
        name, reads, lambda context: Confusion(reads, context), higher=True, title=title, units={"accuracy": "%"}
    )


class Confusion:
    """Counts of images by actual and by predicted class."""

    def __init__(self, reads: tuple[str, str], context: Context) -> None:
        self.predicted, self.actual = reads
        self.counts = np.zeros((0, 0), np.int64)

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        self.counts = counted(self.counts, images[self.actual], images[self.predicted])

    def result(self, n: Mapping[str, int]) -> Result:
        right = float(np.trace(self.counts) / max(1, self.counts.sum()))
        return Result({"accuracy": right}, details={"confusion": self.counts.tolist()})


@register
def agreement(path: str) -> Metric:
    """The share of held-out images whose class is told alike before and after a translation, `ba` for images of b.

    No label is read, so that it can choose settings of a domain adaptation where none may be: a translator and a
    classifier that both fit give an image of the target and its translation to the source one class. It is no accuracy,
    for both may be wrong together.

    Returns the figure `agreement` in [0, 1], and as a detail the counts `classes[before][after]`.

    Raises:
        UserError: a path that is no translation.
    """
    if len(path) < 2:
        raise UserError(f"agreement('{path}') is of classes before and after a translation: give a path such as 'ba'")
    reads = (f"class:{path[0]}", f"class:{path}")
    name, title = named("agreement", path)
    return Metric(name, reads, lambda context: Agreement(reads), higher=True, title=title, units={"agreement": "%"})


class Agreement:
    """Counts of images by the classes that two readings give them."""

    def __init__(self, reads: tuple[str, str]) -> None:
        self.reads = reads
        self.counts = np.zeros((0, 0), np.int64)

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        self.counts = counted(self.counts, *(images[reading] for reading in self.reads))

    def result(self, n: Mapping[str, int]) -> Result:
        alike = float(np.trace(self.counts) / max(1, self.counts.sum()))
        return Result({"agreement": alike}, details={"classes": self.counts.tolist()})


def counted(counts: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Counts, grown where classes are new, and these pairs of classes counted in."""
    classes = max(len(counts), int(first.max()) + 1, int(second.max()) + 1)
    counts = np.pad(counts, (0, classes - len(counts)))
    np.add.at(counts, (first, second), 1)
    return counts
