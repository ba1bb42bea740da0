"""One domain of a training's data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sources import Images


@dataclass(frozen=True)
class Domain:
    """One domain: its letter in image paths, its label, and its two splits.

    `train_classes` and `test_classes`, where they are known, are the class of each image, int64 (n,). A domain whose
    classes a training must not see has no `train_classes`: what is not there cannot leak.
    """

    letter: str
    label: str
    train: Images
    test: Images
    train_classes: np.ndarray | None = None
    test_classes: np.ndarray | None = None
