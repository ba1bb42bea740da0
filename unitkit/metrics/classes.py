"""How well classes are predicted: by a discriminator's class head, on held-out images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..system.errors import UserError
from .metric import Metric, Result, named, register


@register
def accuracy(path: str) -> Metric:
    """The share of held-out images of the path's first domain whose class is predicted rightly along it, `b` or `ab`.

    `b` are the real images of domain b; for `ab`, images of a are translated to b and classified there. In domain
    adaptation `accuracy("b")` is the result: its classes are those of held-out images, and no training saw any of b.

    Returns the figure `accuracy` in [0, 1], and as a detail the confusion matrix: `confusion[actual][predicted]`
    counts.
    """
    reads = (f"label:{path[:1]}", f"class:{path}")
    name, title = named("accuracy", path)
    return Metric(
        name, reads, lambda _: Pairs(reads, "accuracy", "confusion"), higher=True, title=title, units={"accuracy": "%"}
    )


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
    return Metric(
        name, reads, lambda _: Pairs(reads, "agreement", "classes"), higher=True, title=title, units={"agreement": "%"}
    )


class Pairs:
    """Counts of images by the classes that two readings give them.

    Args:
        reads: the readings, of the rows and of the columns.
        figure: what the share of images is called whose two classes are one.
        detail: what the counts are called.
    """

    def __init__(self, reads: tuple[str, str], figure: str, detail: str) -> None:
        self.reads, self.figure, self.detail = reads, figure, detail
        self.counts = np.zeros((0, 0), np.int64)

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        rows, columns = (images[reading] for reading in self.reads)
        classes = max(len(self.counts), int(rows.max()) + 1, int(columns.max()) + 1)
        self.counts = np.pad(self.counts, (0, classes - len(self.counts)))
        np.add.at(self.counts, (rows, columns), 1)

    def result(self, n: Mapping[str, int]) -> Result:
        share = float(np.trace(self.counts) / max(1, self.counts.sum()))
        return Result({self.figure: share}, details={self.detail: self.counts.tolist()})
