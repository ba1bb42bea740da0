"""Sets of pictures for tests of metrics, and the figures of a metric on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from unitkit import metrics
from unitkit.data.sources import ImageArray


def pictures(n: int, seed: int, size: int = 32, channels: int = 3) -> np.ndarray:
    """Blocks of random colours with a little noise, uint8 (n, channels, size, size)."""
    draw = np.random.default_rng(seed)
    blocks = draw.integers(0, 256, (n, channels, 4, 4)).repeat(size // 4, 2).repeat(size // 4, 3)
    return np.clip(blocks + draw.integers(-20, 21, blocks.shape), 0, 255).astype(np.uint8)


def near(array: np.ndarray, seed: int, most: int = 25) -> np.ndarray:
    """The same pictures, each value off by at most so much."""
    draw = np.random.default_rng(seed)
    return np.clip(array + draw.integers(-most, most + 1, array.shape), 0, 255).astype(np.uint8)


def save(folder: Path, array: np.ndarray) -> Path:
    """The pictures as files 000.png, 001.png, ... of a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(array):
        Image.fromarray(picture.transpose(1, 2, 0).squeeze()).save(folder / f"{i:03d}.png")
    return folder


def images(array: np.ndarray) -> ImageArray:
    return ImageArray(array, "set")


def figures(metric: metrics.Metric, **sets: np.ndarray) -> dict[str, float]:
    """What a metric finds on plain sets."""
    found: dict[str, float] = metrics.evaluate_images([metric], {name: images(array) for name, array in sets.items()})[
        metric.name
    ]["figures"]
    return found
