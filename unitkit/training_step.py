"""A training step: players move in turn on images that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .check import Checked
from .losses import non_finite_gradient
from .models import ImagePaths
from .networks.nested import detached, full_precision
from .plan import Phase, Plan, Turn, trained
from .recipe import Recipe
from .runs.options import Options
from .system import dist
from .system.errors import TrainingError, UserError
from .system.seeds import seed_step


class TrainingStep:
    """The arithmetic of a training: the plan, what each player trains, its optimizer, and how they move.

    Args:
        recipe: what is trained.
        checked: its players, as `check` found them.
        model: built.
        device: where the model and the batches are.
        options: of which the seed and the precision count.
        names: the files of the batch of a step, by domain, for messages.
        fused: whether the optimizers are torch's fused ones.
    """

    def __init__(
        self,
        recipe: Recipe,
        checked: Checked,
        model: ImagePaths,
        options: Options,
        device: torch.device,
        names: Callable[[int], Mapping[str, list[str]]],
        *,
        fused: bool,
    ) -> None:
        self.recipe, self.device, self.names = recipe, device, names
        self.seed, self.bf16 = options.seed, options.precision == "bf16"
        self.owners = checked.owners  # players that move with another's optimizer
        self.plan = Plan(model, checked.players, recipe.steps, recipe.recompute)
        self.parameters = {player.name: list(trained(model, player).values()) for player in checked.players}
        self.settings = {player.name: player.optimizer for player in checked.players if player.optimizer}
        self.optimizers = {
            name: settings.build(self.parameters[name], fused=fused) for name, settings in self.settings.items()
        }

    def __call__(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Every player that is due moves once. Returns each term's value, unweighted, by `player/term`.

        Raises:
            TrainingError: a gradient that is not finite. Its player has not moved, those before it have.
            UserError: a player whose terms do not depend on what it trains.
        """
        return self.take(self.plan.at(step), batch, step)

    def take(self, phase: Phase, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The step, of a phase that is given."""
        seed_step(self.seed, step, dist.rank())
        parts = self._parts(batch)
        images: dict[int, list[Any]] = {}
        losses: dict[str, Tensor] = {}
        for turn in phase.turns:
            optimizer = self.optimizers[self.owners[turn.player.name]]
            optimizer.zero_grad(set_to_none=True)
            for number, part in enumerate(parts):
                if len(parts) > 1:  # the same noise in every player's turn
                    seed_step(self.seed, step, dist.rank(), number)
                if number not in images or turn.anew or (turn.through and len(parts) > 1):
                    images[number] = self._images(phase, part)
                values = self._backward(turn, images[number], step, 1 / len(parts))
                if len(parts) > 1:  # the next turn sees these images, not what made them
                    images[number] = [detached(value) for value in images[number]]
                for name, value in values.items():
                    key, mean = f"{turn.player.name}/{name}", value.detach() / len(parts)
                    losses[key] = losses[key] + mean if number else mean
            self._move(turn, optimizer, values, batch, step)
        return losses

    def _parts(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The parts of a batch whose gradients are added up."""
        if self.recipe.accumulate == 1:
            return [batch]
        pieces = {name: torch.split(tensor, self.recipe.batch) for name, tensor in batch.items()}
        return [{name: each[i] for name, each in pieces.items()} for i in range(self.recipe.accumulate)]

    def _images(self, phase: Phase, batch: Mapping[str, Tensor]) -> list[Any]:
        with self._autocast(), nullcontext() if phase.through else torch.no_grad():
            return phase.images.run(phase.images.start(batch))

    def _losses(self, turn: Turn, images: list[Any], step: int) -> dict[str, Tensor]:
        with self._autocast():
            values = turn.values(images)
        progress = step / self.recipe.steps
        return {
            term.name: term.value([full_precision(values[slot]) for slot in slots], progress)
            for term, slots in turn.terms
        }

    def _backward(self, turn: Turn, images: list[Any], step: int, share: float) -> dict[str, Tensor]:
        """Add a player's gradient by its parameters to what they have; returns its terms."""
        values = self._losses(turn, images, step)
        progress = step / self.recipe.steps
        total = torch.stack([term.weight_at(progress) * values[term.name] for term, _ in turn.terms]).sum()
        if total.requires_grad:  # `inputs`: no gradient of another player's weights is computed on the way
            total = total if share == 1 else share * total
            torch.autograd.backward(total, inputs=self.parameters[turn.player.name])
        return values

    def _move(
        self,
        turn: Turn,
        optimizer: torch.optim.Optimizer,
        values: Mapping[str, Tensor],
        batch: dict[str, Tensor],
        step: int,
    ) -> None:
        player, parameters = turn.player, self.parameters[turn.player.name]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            raise UserError(f"no term of player '{player.name}' depends on what it trains, {', '.join(player.trains)}")
        dist.average_gradients(parameters)
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise TrainingError(self._explain(turn, values, batch, step))
        settings = self.settings[self.owners[player.name]]
        if settings.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, settings.clip, norm)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr_at(step / self.recipe.steps)
        optimizer.step()

    def _explain(self, turn: Turn, values: Mapping[str, Tensor], batch: dict[str, Tensor], step: int) -> str:
        """Which term made the gradient non-finite: computed again, term by term, from the same weights and noise."""
        culprit = next((name for name, value in values.items() if not torch.isfinite(value)), None)
        parts = self._parts(batch)
        for number, part in enumerate(parts):
            if culprit is None:
                seed_step(self.seed, step, dist.rank(), *([number] if len(parts) > 1 else []))
                again = self._losses(turn, self._images(self.plan.at(step), part), step)
                culprit = non_finite_gradient(again, self.parameters[turn.player.name])
        files = "; ".join(f"{letter}: {', '.join(names)}" for letter, names in self.names(step).items())
        return (
            f"step {step + 1}: the gradient of player '{turn.player.name}' is not finite, from the term "
            f"{culprit or 'sum'}. Its weights were not touched. Batch: {files}"
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)
