"""An exported file beside the model that it was made of, on held-out images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Data
from ..data.domains import in_channels, with_values
from ..data.values import Values
from ..metrics import Metric, evaluate
from ..metrics.metric import path_of
from ..networks.blending import TILE
from ..recipe import Recipe
from ..system.errors import UserError
from ..translate import Translator
from .formats import Run

# Of 255, of the value that differs most: far above rounding, and far below what another network gives.
TOLERANCE = {"fp32": 0.5, "fp16": 4.0, "bf16": 24.0}
COUNTS = (3, 1)  # images in a batch, of each size
MEASURED = 16  # held-out images that metrics see


@dataclass(frozen=True)
class Figure:
    """A figure of a metric's, of the model and of the file."""

    name: str
    unit: str
    model: float
    file: float


@dataclass(frozen=True)
class Difference:
    """How far a file's translations are from the model's, of 255.

    Attributes:
        batches: shapes (N, C, H, W) of what was translated.
        held_out: whether these were images of the run's data, or noise.
    """

    largest: float
    mean: float
    batches: tuple[tuple[int, ...], ...]
    held_out: bool


def batches_of(translator: Translator, letter: str, data: Data | None, size: tuple[int, int]) -> list[np.ndarray]:
    """Stored images (N, C, H, W) of a domain, held out or else noise: some of the training's size, and a part of one
    with odd sides. Networks of one size get that alone."""
    count = COUNTS[0]
    if data is not None:
        test = data.domains[letter].test
        images = np.stack([test.load(i % len(test)) for i in range(count)])
    else:
        images = _noise((count, translator.model.channels[letter], *size), translator.values[letter])
    height, width = translator.model.size or (min(size[0] * 3 // 4, TILE) | 1, min(size[1] * 2 // 3, TILE) | 1)
    return [images[..., :TILE, :TILE], images[: COUNTS[1], :, :height, :width]]


def compare(translated: Run, run: Run, batches: Sequence[np.ndarray], values: Values, held_out: bool) -> Difference:
    """What a file makes of images beside what the model does; `values` are those of translations."""
    span = _column(values.high) - _column(values.low)
    largest, total, count = 0.0, 0.0, 0
    for batch in batches:
        images = batch.astype(np.float32)
        expected, found = translated(images), run(images)
        if found.shape != expected.shape:
            raise UserError(f"the exported file makes {list(found.shape)} of {list(batch.shape)}: nothing is written")
        error = np.abs(found.astype(np.float64) - expected) / span * 255
        largest = max(largest, float(np.nan_to_num(error, nan=np.inf).max()))
        total, count = total + float(error.sum()), count + error.size
    return Difference(largest, total / count, tuple(batch.shape for batch in batches), held_out)


def figures(translated: Run, run: Run, recipe: Recipe, path: str, values: Mapping[str, Values]) -> list[Figure]:
    """The headline of each of a recipe's metrics that compares images of this path one by one, with no network."""
    readings = {path, path[0], f"truth:{path[0]}{path[-1]}"}
    chosen: list[Metric] = [
        metric
        for metric in recipe.evaluate
        if metric.together and path in metric.reads and readings.issuperset(metric.reads) and metric.needs() is None
    ]
    if not chosen:
        return []
    before, after = (
        evaluate(_Translating(each, path, values), recipe.data, chosen, max_images=MEASURED)
        for each in (translated, run)
    )
    found = []
    for name, result in before.items():
        for figure, value in list(result["figures"].items())[:1]:
            unit = result["units"].get(figure, "")
            found.append(Figure(f"{result['title']}, {figure}", unit, value, after[name]["figures"][figure]))
    return found


def as_trained(recipe: Recipe, translator: Translator) -> Recipe:
    """A recipe whose data are as the model saw them."""
    return replace(recipe, data=with_values(in_channels(recipe.data, translator.model.channels), translator.values))


class _Translating:
    """What `evaluate` asks of a model, of a function from stored images to their translations."""

    training = False

    def __init__(self, run: Run, path: str, values: Mapping[str, Values]) -> None:
        self.run, self.path = run, path
        self.source, self.target = (replace(values[end], dtype="float32") for end in (path[0], path[-1]))

    def train(self, mode: bool = True) -> None:
        """As it is."""

    def read(self, batch: Mapping[str, Tensor], readings: Iterable[str]) -> dict[str, Any]:
        real = batch[self.path[0]]
        found = self.run(self.source.restored(real))
        made = self.target.normalised(torch.from_numpy(found))
        return {reading: made if path_of(reading) == self.path else real for reading in readings}

    def draw(self, count: int, size: tuple[int, int], device: torch.device | str) -> Tensor:
        raise NotImplementedError("its path begins with a real image")


def _noise(shape: tuple[int, ...], values: Values) -> np.ndarray:
    low, high = _column(values.low), _column(values.high)
    drawn = low + (high - low) * np.random.default_rng(0).random(shape)
    found: np.ndarray = (drawn.round() if values.whole else drawn).astype(values.dtype)
    return found


def _column(side: tuple[float, ...]) -> np.ndarray:
    return np.asarray(side).reshape(-1, 1, 1)
