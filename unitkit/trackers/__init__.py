"""Trackers: hooks that send what a training logs to TensorBoard or to Weights & Biases.

trainer = Trainer(recipe, RunOptions("runs/faces"), hooks=trackers.make(["tensorboard"]))
"""

from __future__ import annotations

from collections.abc import Sequence

from ..system.errors import UserError, nearest
from .tracker import Tracker

NAMES = ("tensorboard", "wandb")

__all__ = ["NAMES", "Tracker", "make"]


def make(names: Sequence[str]) -> list[Tracker]:
    """The trackers of these names, each once. Raises `UserError` for an unknown name and for a missing package."""
    for name in names:
        if name not in NAMES:
            raise UserError(f"unknown tracker '{name}'. {nearest(name, NAMES)}")
    return [_tracker(name) for name in dict.fromkeys(names)]


def _tracker(name: str) -> Tracker:
    try:
        if name == "tensorboard":
            from .tensorboard import TensorBoard

            return TensorBoard()
        from .wandb import WeightsAndBiases

        return WeightsAndBiases()
    except ImportError as error:
        raise UserError(f"the tracker '{name}' needs a package: pip install 'unitkit[track]' ({error})") from error
