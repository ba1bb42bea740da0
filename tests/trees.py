"""Folders of pictures that tests read, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unitkit.data import Data, open_data
from unitkit.system.errors import UserError


def pictures(folder: Path, count: int, *, first: int = 0, grey: bool = False, side: int = 8) -> None:
    """Images first, first + 1, ... of one flat colour, their number in the first channel."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        colour = np.full((side, side, 3), (i, 255 - i, 77), np.uint8)
        Image.fromarray(colour[..., 0] if grey else colour).save(folder / f"{i:03}.png")


def tree(root: Path, *labels: str, train: int = 3, test: int = 2, grey: bool = False) -> Path:
    for label in labels:
        pictures(root / "train" / label, train, grey=grey)
        pictures(root / "test" / label, test, first=100, grey=grey)
    return root


def counts(data: Data) -> dict[str, tuple[int, int]]:
    return {domain.label: (len(domain.train), len(domain.test)) for domain in data.domains.values()}


def refused(location: object, *words: str, **options: object) -> str:
    """Opening raises one line with these words in it."""
    with pytest.raises(UserError) as caught:
        open_data(str(location), **{"size": 8, **options})  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


# Arrays


def grey_stack(count: int, start: int = 0, side: int = 8) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.uint8)[:, None, None] * np.ones((side, side), np.uint8)
