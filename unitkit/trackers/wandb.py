"""Weights & Biases. `WANDB_MODE=offline` needs no network, and `wandb sync RUN/wandb/offline-run-*` sends it later."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from ..runs.folder import RunFolder
from ..system.errors import UserError
from ..system.files import replacing
from .tracker import Tracker, named, settings


class WeightsAndBiases(Tracker):
    """Logs to the project of WANDB_PROJECT, or "unitkit", under the run folder's name; the cells of an ablation are a
    group of the ablation's name.

    A run that is resumed goes on under the id in its file `wandb/id`. Steps that the server has are not sent again:
    a resumed training repeats them bit by bit. Offline nobody knows of them, and they are kept twice.
    """

    logged: Any = None
    first = 0  # the first step that the server does not have

    def open(self, run: RunFolder, step: int) -> None:
        self.close()
        known = run.path / "wandb" / "id"
        if not known.is_file():
            with replacing(known) as file:
                file.write_text(secrets.token_hex(4), "utf-8")
        name, group = named(run)
        try:
            self.logged = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "unitkit"),
                name=name,
                group=group or None,
                dir=str(run.path),
                id=known.read_text("utf-8"),
                resume="allow" if step else None,
                config=settings(run),
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise UserError(f"Weights & Biases: {error} Or set WANDB_MODE=offline, which needs no account") from error
        self.first = self.logged.step

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self.first:
            self.logged.log(dict(values), step=step)
        if self.kind == "evaluation":  # of the finished model: the server shows it as the run's outcome
            self.logged.summary.update(dict(values))

    def grid(self, step: int, file: Path) -> None:
        if step >= self.first:
            self.logged.log({"samples": wandb.Image(str(file))}, step=step)

    def flush(self) -> None:
        """Nothing: a process of its own keeps what it is sent."""

    def close(self, *, whole: bool = True) -> None:
        if self.logged is not None:
            self.logged.finish(exit_code=0 if whole else 1)
            self.logged = None
