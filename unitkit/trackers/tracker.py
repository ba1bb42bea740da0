"""What every tracker is told of a training: numbers, sample grids, metrics and knobs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from ..hooks import Training, due
from ..recipe import Hook
from ..runs.folder import RunFolder
from ..system import dist
from ..system.devices import peak_memory


class Tracker(Hook, ABC):
    """Follows a training on its first rank. As a context it is closed at the end, in which what comes after the last
    step, such as the final evaluation, is still taken.

    Numbers come with every line of the log, and are called
        loss/generator/l1(aba, a)               each term, unweighted, as in `stats.jsonl`
        lr/generator                            learning rate of a player
        speed/images_per_second                 since the last line, of all ranks; grids and checkpoints take time too
        memory/peak_mib                         see `peak_memory`
    and metrics watch/psnr(aa, a)/psnr during the training, evaluation/psnr(aa, a)/psnr of the finished model.
    """

    def __init__(self) -> None:
        self.kind = ""  # of the metrics that come: "watch" from the first step on, then "evaluation"
        self.mark = (0, 0.0)  # the step of the last line, and when it was

    @abstractmethod
    def open(self, run: RunFolder, step: int) -> None:
        """Begin, or go on after `step` steps. Steps after these, of a training that was killed, are forgotten.

        Raises `UserError` where the tracker cannot be reached.
        """

    @abstractmethod
    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step, by name."""

    @abstractmethod
    def grid(self, step: int, file: Path) -> None:
        """Take a sample grid, a PNG."""

    @abstractmethod
    def flush(self) -> None:
        """Keep whatever was taken, should the process be killed: a training that is resumed begins behind its last
        checkpoint, and tells of nothing before it again."""

    @abstractmethod
    def close(self, *, whole: bool = True) -> None:
        """End; `whole` unless the training failed or was stopped. Does nothing where it was not opened."""

    def start(self, trainer: Training) -> None:
        if dist.rank() == 0:
            self.open(trainer.run, trainer.done)
            self.kind = "watch"
            self.mark = (trainer.done, time.perf_counter())

    def after_step(self, trainer: Training, losses: Mapping[str, Tensor]) -> None:
        if dist.rank() > 0 or not due(trainer):
            return
        (step, began), now = self.mark, time.perf_counter()
        images = (trainer.done - step) * trainer.batches.batch_size * dist.world() * len(trainer.recipe.data.domains)
        self.mark = (trainer.done, now)
        self.numbers(
            trainer.done,
            {
                **{f"loss/{name}": float(value) for name, value in losses.items()},
                **{f"lr/{name}": float(each.param_groups[0]["lr"]) for name, each in trainer.optimizers.items()},
                "speed/images_per_second": images / (now - began),
                "memory/peak_mib": peak_memory(trainer.device) / 2**20,
            },
        )
        self.flush()

    def after_samples(self, trainer: Training, grid: Path) -> None:
        self.grid(trainer.done, grid)
        self.flush()

    def after_evaluation(self, trainer: Training, results: Mapping[str, Any]) -> None:
        if not self.kind:  # of a trainer that did not train
            return
        figures = {
            f"{self.kind}/{metric}/{name}": float(value)
            for metric, result in results.items()
            for name, value in result["figures"].items()
        }
        self.numbers(trainer.done, figures)
        self.flush()

    def finish(self, trainer: Training) -> None:
        if dist.rank() == 0:
            self.kind = "evaluation"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(whole=kind is None)
        self.kind = ""


def named(run: RunFolder) -> tuple[str, str]:
    """What a run is called, and the group that it is of: "" or, of a cell, its ablation's name."""
    path = run.path.resolve()
    for place in path.parents[:2]:
        if (place / "ablation.json").is_file():
            return str(path.relative_to(place)), place.name
    return path.name, ""


def settings(run: RunFolder) -> dict[str, Any]:
    """What a run was started with: recipe, seed, precision, and the recipe's knobs."""
    record = run.record
    said = {key: record[key] for key in ("recipe", "seed", "precision", "steps", "batch", "device") if key in record}
    return {**said, **record.get("knobs", {})}
