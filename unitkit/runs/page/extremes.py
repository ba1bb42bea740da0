"""The best and the worst translations of held-out images, by the first metric that can tell of each alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...data import Data
from ...metrics import Accumulator, Context, Metric, Result, evaluate
from ...models import ImagePaths
from ..report import figures_key, shown
from ..samples import save_sheet, sheet_of

EACH = 4  # images on either side
LOOKED_AT = 256  # held-out images at most, evenly spread


@dataclass
class Extremes:
    """An accumulator that keeps the images with the best and the worst figures of a metric, the first that it has."""

    metric: Metric
    context: Context
    name: str = ""
    looked_at: int = 0
    best: list[tuple[float, dict[str, np.ndarray]]] = field(default_factory=list)  # the best first
    worst: list[tuple[float, dict[str, np.ndarray]]] = field(default_factory=list)  # the worst first

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        for place in range(len(next(iter(images.values())))):
            one = {reading: batch[place : place + 1] for reading, batch in images.items()}
            alone: Accumulator = self.metric.begin(self.context)
            alone.update({reading: one[reading] for reading in self.metric.reads})
            self.name, figure = next(iter(alone.result(dict.fromkeys(self.metric.reads, 1)).figures.items()))
            self.looked_at += 1
            if figure == figure:  # a figure that is no number is neither
                found = (float(figure), {reading: batch[0] for reading, batch in one.items()})
                sign = -1 if self.metric.higher else 1
                self.best = sorted([*self.best, found], key=lambda each: sign * each[0])[:EACH]
                self.worst = sorted([*self.worst, found], key=lambda each: -sign * each[0])[:EACH]

    def result(self, n: Mapping[str, int]) -> Result:
        return Result({})


def save_best_and_worst(
    model: ImagePaths,
    data: Data,
    metrics: Sequence[Metric],
    path: Path,
    *,
    entry: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Write a sheet of the translations that the first fitting metric finds best and worst; none where none fits.

    Args:
        metrics: those of the evaluation `entry`, beside whose figures the sheet is shown.

    Raises:
        UserError: a disk that refuses.
    """
    metric = chosen(metrics, entry)
    sheet = None if metric is None else _sheet(model, data, metric, entry, device)
    if sheet is None:
        path.unlink(missing_ok=True)  # that of other figures
    else:
        save_sheet(sheet, path)


def _sheet(
    model: ImagePaths, data: Data, metric: Metric, entry: Mapping[str, Any], device: torch.device
) -> Image.Image | None:
    way = measured_path(metric)
    rows = list(dict.fromkeys([way[0], way[:2], *metric.reads]))
    rows = [row for row in rows if ":" in row or model.has(row)]
    begun: list[Extremes] = []

    def begin(context: Context) -> Accumulator:
        begun.append(Extremes(metric, context))
        return begun[0]

    measured = replace(metric, reads=tuple(rows), begin=begin)
    evaluate(model, data, [measured], device=device, seed=entry["seed"], max_images=LOOKED_AT)
    found = begun[0]
    count = min(EACH, found.looked_at // 2)
    columns = [*found.best[:count], *found.worst[:count][::-1]]
    if not count or len(columns) < 2 * count or any(len(each) not in (1, 3) for each in columns[0][1].values()):
        return None
    kinds = [f"best {place + 1}" for place in range(count)] + [f"worst {count - place}" for place in range(count)]
    unit = metric.units.get(found.name, "")
    return sheet_of(
        {row: [as_bytes(images[row]) for _, images in columns] for row in rows},
        data.size,
        2 * count,
        captions=[f"{kind}: {shown(figure, unit)}" for kind, (figure, _) in zip(kinds, columns, strict=True)],
        title=f"By {found.name} of {metric.title or metric.name}: {found.looked_at} held-out images after step "
        f"{entry['step']}.",
        of=figures_key(entry, metric.name),
    )


def chosen(metrics: Sequence[Metric], entry: Mapping[str, Any]) -> Metric | None:
    """The first metric of one image alone that is of a translation, else the first that is of a path at all; of those
    that have figures in an evaluation."""
    fitting = [metric for metric in metrics if metric.single and measured_path(metric)]
    fitting = [metric for metric in fitting if entry["metrics"][metric.name]["figures"]]
    crossing = [metric for metric in fitting if measured_path(metric)[0] != measured_path(metric)[-1]]
    return next(iter(crossing or fitting), None)


def measured_path(metric: Metric) -> str:
    """The path that a metric measures: the first of its readings that leads anywhere."""
    return next((reading for reading in metric.reads if reading.isalpha() and len(reading) > 1), "")


def as_bytes(image: np.ndarray) -> Any:
    """An image on the scale of metrics, 0 to 255, in bytes."""
    return image if image.dtype == np.uint8 else image.round().clip(0, 255).astype(np.uint8)
