"""How well classes are predicted: by a discriminator's class head, on held-out images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

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
        predicted, actual = images[self.predicted], images[self.actual]
        classes = max(len(self.counts), int(predicted.max()) + 1, int(actual.max()) + 1)
        self.counts = np.pad(self.counts, (0, classes - len(self.counts)))
        np.add.at(self.counts, (actual, predicted), 1)

    def result(self, n: Mapping[str, int]) -> Result:
        right = float(np.trace(self.counts) / max(1, self.counts.sum()))
        return Result({"accuracy": right}, details={"confusion": self.counts.tolist()})
