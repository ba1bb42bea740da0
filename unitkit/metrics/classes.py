"""How well classes are told: by a discriminator's class head, on held-out images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .metric import Metric, Outcome, Setting, named, register


@register
def accuracy(path: str) -> Metric:
    """The share of held-out images of the path's first domain whose class is told rightly along it, `b` or `ab`.

    `b` are the real images of domain b; for `ab`, images of a are translated to b and classified there. In domain
    adaptation `accuracy("b")` is the result: its classes are those of held-out images, and no training saw any of b.

    Returns the figure `accuracy` in [0, 1], and as a detail the confusion matrix: `confusion[true][told]` counts.
    """
    reads = (f"class:{path}", f"label:{path[:1]}")
    name, title = named("accuracy", path)
    return Metric(
        name, reads, lambda setting: Confusion(reads, setting), higher=True, title=title, units={"accuracy": "%"}
    )


class Confusion:
    """Counts of images by true class and by class told."""

    def __init__(self, reads: tuple[str, str], setting: Setting) -> None:
        self.told, self.true = reads
        self.counts = np.zeros((0, 0), np.int64)

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        told, true = images[self.told], images[self.true]
        classes = max(len(self.counts), int(told.max()) + 1, int(true.max()) + 1)
        self.counts = np.pad(self.counts, (0, classes - len(self.counts)))
        np.add.at(self.counts, (true, told), 1)

    def outcome(self, n: Mapping[str, int]) -> Outcome:
        right = float(np.trace(self.counts) / max(1, self.counts.sum()))
        return Outcome({"accuracy": right}, details={"confusion": self.counts.tolist()})
