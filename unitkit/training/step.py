"""A training step: players move in turn on images that are computed once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..check import Checked
from ..kernels.placement import Placement
from ..models import ImagePaths
from ..recipe import Recipe
from ..runs.options import Options
from ..system import dist
from ..system.errors import TrainingError, UserError
from ..system.gradients import GradientMean
from ..system.seeds import seed_step
from .compiled import Compiled
from .computation import Computation, Images
from .plan import Phase, Plan, Turn, trained


class Unread(NamedTuple):
    """Whether a gradient is finite, as soon as the event has happened, and what to say where it is not."""

    event: torch.cuda.Event | None
    finite: Tensor
    explain: Callable[[], str]


class TrainingStep:
    """The arithmetic of a training: the plan, what each player trains, its optimizer, and how they move.

    Args:
        recipe: what is trained.
        checked: its players, as `check` found them.
        model: built.
        device: where the model and the batches are.
        options: of which the seed, the precision and `compile` count.
        placement: which says whether Adam takes its fused step.
        names: the files of the batch of a step, by domain, for messages.
        say: is told, in a line, what came of compiling.

    Raises:
        UserError: no compiler, where one is asked for.
    """

    def __init__(
        self,
        recipe: Recipe,
        checked: Checked,
        model: ImagePaths,
        options: Options,
        device: torch.device,
        placement: Placement,
        names: Callable[[int], Mapping[str, list[str]]],
        say: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.recipe, self.names, self.seed = recipe, names, options.seed
        self.owners = checked.owners  # players that move with another's optimizer
        self.plan = Plan(model, checked.players, recipe.steps, recipe.recompute)
        trains = {player.name: trained(model, player) for player in checked.players}
        self.parameters = {name: list(each.values()) for name, each in trains.items()}
        self.settings = {player.name: player.optimizer for player in checked.players if player.optimizer}
        self.optimizers = {
            name: each.build(self.parameters[name], fused=placement.fused) for name, each in self.settings.items()
        }
        given = model, self.parameters, options.precision, device, recipe.steps
        self.computation = Compiled(*given, say) if options.compile else Computation(*given)
        self.lags = device.type == "cuda"  # a device that works while the next operations are prepared
        self.unread: list[Unread] = []
        # Those of weights with copies in bfloat16 are not whole before these are.
        overlapped = self.computation.weights is None
        self.means = {name: GradientMean(each, overlapped=overlapped) for name, each in trains.items()}

    def __call__(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Every player that is due moves once. Returns each term's value, unweighted, by `player/term`.

        Raises:
            TrainingError: a gradient that is not finite. Its player has not moved, those before it have; on a CUDA
                device, which is not waited for, those of the next step have as well, in memory.
            UserError: a player whose terms do not depend on what it trains.
        """
        return self.take(self.plan.at(step), batch, step)

    def take(self, phase: Phase, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The step, of a phase that is given."""
        before, self.unread = self.unread, []
        seed_step(self.seed, step, dist.rank())
        micro_batches = self._micro_batches(batch)
        images: dict[int, Images] = {}
        losses: dict[str, Tensor] = {}
        for turn in phase.turns:
            optimizer = self.optimizers[self.owners[turn.player.name]]
            optimizer.zero_grad(set_to_none=True)
            with self.computation.ready():
                for number, micro_batch in enumerate(micro_batches):
                    if len(micro_batches) > 1:  # the same noise in every player's turn
                        seed_step(self.seed, step, dist.rank(), number)
                    if number not in images or turn.anew or (turn.through and len(micro_batches) > 1):
                        images[number] = self.computation.images(phase, micro_batch)
                    if number == len(micro_batches) - 1:
                        self.means[turn.player.name].begin(turn.program)
                    values = self.computation.backward(turn, images[number], step, 1 / len(micro_batches))
                    if len(micro_batches) > 1:  # the next turn sees these images, not what made them
                        images[number] = images[number].cut()
                    for name, value in values.items():
                        key, mean = f"{turn.player.name}/{name}", value.detach() / len(micro_batches)
                        losses[key] = losses[key] + mean if number else mean
            self._move(turn, optimizer, values, batch, step)
        self.computation.tell()
        _check(before)  # while the device is at work on this step
        return losses

    def settle(self) -> None:
        """Wait until it is known that all gradients so far were finite. Raises `TrainingError` for one that was not."""
        before, self.unread = self.unread, []
        _check(before)

    def _event(self) -> torch.cuda.Event | None:
        if self.computation.device.type != "cuda":
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _micro_batches(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """What a batch is split into, whose gradients are added up."""
        if self.recipe.accumulate == 1:
            return [batch]
        pieces = {name: torch.split(tensor, self.recipe.batch) for name, tensor in batch.items()}
        return [{name: each[i] for name, each in pieces.items()} for i in range(self.recipe.accumulate)]

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
        self.means[player.name].finish()
        norm = nn.utils.get_total_norm(gradients)
        finite = torch.isfinite(norm)
        if self.lags and optimizer.param_groups[0].get("fused"):
            optimizer.found_inf = 1.0 - finite.float()  # type: ignore[attr-defined]  # where it is 1, nothing moves
            flag = finite.to("cpu", non_blocking=True)
            self.unread.append(Unread(self._event(), flag, partial(self._explain, turn, dict(values), batch, step)))
        elif not finite:
            raise TrainingError(self._explain(turn, values, batch, step))
        settings = self.settings[self.owners[player.name]]
        if settings.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, settings.clip, norm)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr_at(step / self.recipe.steps)
        optimizer.step()
        self.computation.moved(turn)

    def _explain(self, turn: Turn, values: Mapping[str, Tensor], batch: dict[str, Tensor], step: int) -> str:
        """Which term made the gradient non-finite: computed again, term by term, from the same noise, and the same
        weights where the device was waited for; else from those of a step later, by which it may be finite again."""
        culprit = next((name for name, value in values.items() if not torch.isfinite(value)), None)
        micro_batches = self._micro_batches(batch)
        for number, micro_batch in enumerate(micro_batches):
            if culprit is None:
                seed_step(self.seed, step, dist.rank(), *([number] if len(micro_batches) > 1 else []))
                culprit = self.computation.culprit(turn, self.plan.at(step), micro_batch, step)
        files = "; ".join(f"{letter}: {', '.join(names)}" for letter, names in self.names(step).items())
        return (
            f"step {step + 1}: the gradient of player '{turn.player.name}' is not finite, from the term "
            f"{culprit or 'sum'}. Its weights were not touched. Batch: {files}"
        )


def _check(unread: Sequence[Unread]) -> None:
    """Raise `TrainingError` for the first gradient that is not finite."""
    for each in unread:
        if each.event is not None:
            each.event.synchronize()
        if not each.finite:
            raise TrainingError(each.explain())
