"""Hooks: what is done as a training goes on. The trainer knows none of them by name.

A hook of one's own overrides what it needs, and is given in `Recipe.hooks` or to the `Trainer`:

    class GradientNorm(Hook):
        every = 100

        def after_step(self, trainer, losses):
            print(trainer.done, gradient_norm(trainer.model))
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from .data import Data
from .data.batches import Batches
from .metrics import evaluate
from .models import ImagePaths
from .recipe import Hook, Recipe, Watch
from .runs.folder import RunFolder, best_row, storable
from .runs.image_check import ImageCheck
from .runs.options import Options
from .runs.page import write_report
from .runs.samples import save_grid
from .system import dist
from .system.devices import enough_memory, peak_memory
from .system.errors import UserError

T = TypeVar("T")


class Training(Protocol):
    """What hooks see of the trainer."""

    recipe: Recipe
    options: Options
    device: torch.device
    run: RunFolder
    images: ImageCheck
    batches: Batches
    model: ImagePaths
    optimizers: dict[str, torch.optim.Optimizer]
    hooks: list[Hook]
    done: int
    warn: Callable[[str], None]

    def save(self, folder: Path | None = None, keep: int | None = None) -> None: ...
    def on_held_out(self, work: Callable[[ImagePaths, Data], T]) -> T: ...


class Call(Hook):
    """A function of (trainer, losses) as a hook."""

    def __init__(self, function: Callable[[Training, Mapping[str, Tensor]], object], every: int = 1) -> None:
        self.function, self.every = function, every

    def after_step(self, trainer: Training, losses: Mapping[str, Tensor]) -> None:
        self.function(trainer, losses)


def due(trainer: Training) -> bool:
    """Whether the log and trackers take this step: the first, every tenth, the last, and one in which a player moves
    that seldom does, though not much more often than every tenth."""
    step, steps = trainer.done - 1, trainer.recipe.steps
    if trainer.done % 10 == 0 or trainer.done in (1, steps):
        return True
    seldom = [player for player in trainer.recipe.players if player.every > 1 and player.moves(step, steps)]
    return any(step % (player.every * math.ceil(10 / player.every)) == 0 for player in seldom)


def numbers(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The means over ranks, on the CPU: the device is asked once, however many hooks read them."""
    found = dist.mean(losses)
    return dict(zip(found, torch.stack(list(found.values())).cpu().unbind(), strict=True)) if found else found


class Log(Hook):
    """A line in the run's `stats.jsonl` after every step that is due."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def start(self, trainer: Training) -> None:
        self.began = time.perf_counter()

    def after_step(self, trainer: Training, losses: Mapping[str, Tensor]) -> None:
        if dist.rank() == 0 and due(trainer):
            row = {name: float(value) for name, value in losses.items()}
            seconds = round(time.perf_counter() - self.began, 4)
            trainer.run.append_stats({"step": trainer.done, "seconds": seconds, **row})
        self.began = time.perf_counter()


class Samples(Hook):
    """A grid of held-out images along every image path."""

    last = True

    def __init__(self, every: int) -> None:
        self.every = every

    def after_step(self, trainer: Training, losses: Mapping[str, Tensor]) -> None:
        if dist.rank() > 0:
            return
        path = trainer.run.sample(trainer.done)
        with enough_memory(trainer.device, f"the sample grid of step {trainer.done}"):
            trainer.on_held_out(lambda model, data: save_grid(model, data, path))
        for hook in trainer.hooks:
            hook.after_samples(trainer, path)


class Report(Hook):
    """The run's `report.html`, anew with every sample grid and as the training ends. A page that cannot be written ends
    no training."""

    def after_samples(self, trainer: Training, grid: Path) -> None:
        self._write(trainer, training=True)

    def finish(self, trainer: Training) -> None:
        if dist.rank() == 0:
            self._write(trainer, training=False)

    def _write(self, trainer: Training, training: bool) -> None:
        try:
            if not training:
                record = trainer.run.record
                peak = max(record.get("peak_memory", 0), peak_memory(trainer.device))
                trainer.run.write_json("run.json", {**record, "peak_memory": peak})
            write_report(trainer.run, training=training)
        except UserError as error:
            trainer.warn(f"no new report: {error}")


class Checkpoints(Hook):
    """A checkpoint in the run's folder, from which a training is resumed."""

    last = True

    def __init__(self, every: int) -> None:
        self.every = every

    def after_step(self, trainer: Training, losses: Mapping[str, Tensor]) -> None:
        trainer.images.share()
        trainer.save()


class Watcher(Hook):
    """Evaluates a training as a `Watch` says, keeps its best checkpoint, and ends it when its patience does.

    What it knows is in `watched.jsonl`, so a resumed training goes on where it was.
    """

    def __init__(self, watch: Watch, run: RunFolder, steps: int) -> None:
        self.watch, self.run, self.every = watch, run, watch.period(steps)
        self.rows: list[dict[str, Any]] = run.watched()

    def after_step(self, trainer: Training, losses: Mapping[str, Tensor]) -> None:
        if dist.rank() > 0:
            return
        with enough_memory(trainer.device, f"measuring after step {trainer.done}"):
            found = storable(trainer.on_held_out(lambda model, data: self._evaluate(trainer, model, data)))
        row = {"step": trainer.done, **{name: result["figures"] for name, result in found.items()}}
        self.run.append_watched(row)
        self.rows.append(row)
        if self.best == len(self.rows) - 1:
            trainer.save(self.run.best, keep=1)
        for hook in trainer.hooks:
            hook.after_evaluation(trainer, found)

    def _evaluate(self, trainer: Training, model: ImagePaths, data: Data) -> dict[str, Any]:
        return evaluate(model, data, self.watch.metrics, device=trainer.device, max_images=self.watch.images)

    @property
    def spent(self) -> bool:
        """Whether the patience is at its end."""
        return 0 < self.watch.patience <= len(self.rows) - 1 - self.best

    def ends(self, trainer: Training) -> bool:
        """Whether the patience is at its end, which only the first rank knows."""
        return dist.any_rank(dist.rank() == 0 and self.spent)

    @property
    def best(self) -> int:
        """The place of the best row, the first of equals; -1 before any evaluation."""
        metric = self.watch.metrics[0]
        return best_row(self.rows, metric.name, metric.higher)


def ends(run: RunFolder, recipe: Recipe, step: int) -> bool:
    """Whether a run's training ends at `step`, with the recipe's last or by its watch."""
    return step >= recipe.steps or bool(recipe.watch and Watcher(recipe.watch, run, recipe.steps).spent)
