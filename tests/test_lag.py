"""A device that is not waited for: whether a gradient was finite is read a step later, and nothing is lost by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import recipe
from torch import Tensor

from unitkit import RunOptions, Trainer
from unitkit.optimizers import SGD
from unitkit.recipe import Recipe
from unitkit.system.errors import TrainingError


def lagging(out: Path, ours: Recipe | None = None) -> Trainer:
    """A training on the CPU that is run as one on a GPU."""
    trainer = Trainer(ours or recipe(), RunOptions(out))
    trainer.training_step.lags = True
    return trainer


def weights(trainer: Trainer, part: str) -> list[Tensor]:
    return [p.detach().clone() for p in getattr(trainer.model, part).parameters()]


def spoiled(trainer: Trainer, step: int) -> None:
    """The images of domain a are not finite in a step."""
    batch = trainer.batches.batch

    def spoil(number: int) -> dict[str, Tensor]:
        found = batch(number)
        return {**found, "a": found["a"] * torch.nan} if number == step else found

    trainer.batches.batch = spoil  # type: ignore[method-assign]


def test_steps_are_those_that_wait(tmp_path: Path) -> None:
    one, other = Trainer(recipe(), RunOptions(tmp_path / "waits")), lagging(tmp_path / "lags")
    for step in range(4):
        waits, lags = one.step(step), other.step(step)
        assert all(torch.equal(waits[name], lags[name]) for name in waits)
    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_gradient_that_is_not_finite_moves_nothing_and_is_told_a_step_later(tmp_path: Path) -> None:
    trainer = lagging(tmp_path)
    spoiled(trainer, 1)
    trainer.step(0)
    before = {part: weights(trainer, part) for part in ("discriminators", "encoders")}
    trainer.step(1)
    for part, found in before.items():
        assert all(torch.equal(x, y) for x, y in zip(found, weights(trainer, part), strict=True)), part
    with pytest.raises(TrainingError, match=r"step 2: the gradient of player 'discriminator' is not finite, from the"):
        trainer.step(2)


def test_nothing_is_kept_before_it_is_known(tmp_path: Path) -> None:
    trainer = lagging(tmp_path)
    spoiled(trainer, 1)
    for step in range(2):
        trainer.step(step)
        trainer.done += 1
    with pytest.raises(TrainingError, match="step 2: the gradient of player 'discriminator' is not finite"):
        trainer.save()
    assert not list((tmp_path / "checkpoints").glob("step-*"))


def test_an_optimizer_that_cannot_hold_still_is_waited_for(tmp_path: Path) -> None:
    """Only torch's fused ones leave all as it was where they are told that a gradient is not finite."""
    ours = recipe()
    changed: Any = [type(p)(p.name, p.trains, p.terms, SGD(1e-3)) for p in ours.players]
    trainer = lagging(tmp_path, type(ours)(**{**vars(ours), "players": changed}))
    spoiled(trainer, 0)
    with pytest.raises(TrainingError, match="step 1: the gradient of player 'discriminator' is not finite"):
        trainer.step(0)
