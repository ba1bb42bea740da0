"""Watching a training: metrics every so many steps, the best checkpoint, and whether it is time to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .data import Data
from .metrics import evaluate
from .recipe import Watch
from .runs.folder import RunFolder


def best_row(rows: Sequence[Mapping[str, Any]], metric: str, higher: bool) -> int:
    """The place of the row of `watched.jsonl` with a metric's best first figure, the first of equals; -1 of none."""
    # A metric that failed has no figure.
    values = [next(iter(row[metric].values()), math.nan) * (1 if higher else -1) for row in rows]
    # A figure that is no number is never the best.
    return max(range(len(values)), key=lambda i: (values[i] == values[i], values[i], -i), default=-1)


class Watcher:
    """Measures a training as its `Watch` says.

    What it knows is in `watched.jsonl`, so a resumed training goes on where it was.
    """

    def __init__(self, watch: Watch, run: RunFolder) -> None:
        self.watch, self.run = watch, run
        self.rows: list[dict[str, Any]] = run.watched()

    def due(self, step: int) -> bool:
        """Whether a measurement belongs after this step."""
        return step % self.watch.every == 0

    def measure(self, step: int, model: Any, data: Data, device: torch.device) -> bool:
        """Measure, keep the figures, and say whether this step is the best so far."""
        found = evaluate(model, data, self.watch.metrics, device=device, max_images=self.watch.images)
        row = {"step": step, **{name: result["figures"] for name, result in found.items()}}
        self.run.append_watched(row)
        self.rows.append(row)
        return self.best == len(self.rows) - 1

    @property
    def best(self) -> int:
        """The place of the best row, the first of equals; -1 before any measurement."""
        metric = self.watch.metrics[0]
        return best_row(self.rows, metric.name, metric.higher)

    @property
    def spent(self) -> bool:
        """Whether the patience is at its end."""
        return 0 < self.watch.patience <= len(self.rows) - 1 - self.best

    @property
    def folder(self) -> Path:
        """Where the best checkpoint goes."""
        return self.run.best
