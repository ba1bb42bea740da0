"""The trainer: players move in turn on images that are computed once a step."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .check import Checked, check, check_counts
from .data import Data
from .data.batches import Batches
from .data.files.check import Progress
from .hooks import Checkpoints, Log, Samples, Watcher
from .kernels.placement import placement
from .losses import non_finite_gradient
from .metrics import evaluate_with_protocol
from .models import ImagePaths
from .networks.nested import detached, full_precision
from .optimizers import Average
from .plan import Phase, Plan, Turn, trained
from .recipe import Hook, Recipe
from .runs import checkpoint
from .runs.folder import RunFolder
from .runs.image_check import ImageCheck
from .runs.options import RunOptions
from .runs.record import check_resumed, new_record, resumed_record
from .system import dist
from .system.devices import choose_device, enough_memory
from .system.errors import TrainingError, UserError
from .system.seeds import derive, seed_step
from .system.signals import asking

Result = TypeVar("Result")


class Trainer:
    """Trains a recipe and keeps its run folder.

    Args:
        recipe: what to train.
        options: how, and where the run is kept.
        notes: more to keep in `run.json`, such as the knobs.
        files: the texts of the recipe file, `recipe.py`, and of those that it imports, kept in the run folder.
        hooks: called beside those of the recipe and the trainer's own (log, watch, samples, checkpoints).
        warn: is told, in a line, what is skipped.
        looked: called with the images decoded and to decode, while all are looked at before the first step.

    Raises:
        UserError: whatever `check` refuses, a folder in use, a folder of another recipe, one that holds what a new run
            would overwrite, notes that are no JSON, images that cannot be decoded.
    """

    def __init__(
        self,
        recipe: Recipe,
        options: RunOptions,
        *,
        notes: Mapping[str, Any] | None = None,
        files: Mapping[str, str] | None = None,
        hooks: Sequence[Hook] = (),
        warn: Callable[[str], None] = warnings.warn,
        looked: Progress | None = None,
    ) -> None:
        self.checked: Checked = check(recipe)
        self.recipe, self.device = recipe, choose_device(options.device)
        self.run = RunFolder(options.out)
        before = self.run.record if options.resume else {}
        self.options = options = options.resolved(before)
        self.stopping: int | None = None
        self.saved: int | None = None  # the step whose checkpoint is of this training
        # A run keeps its layout: in another one sums round otherwise.
        self.placement = placement(self.device, self.options.precision, before.get("layout"))
        more = {"layout": self.placement.layout, **(notes or {})}
        record = new_record(recipe, options, self.device, more)
        if dist.rank() == 0 and not options.resume and not self.run.locked_before:
            self.run.refuse_what_is_there(files or {})  # with nothing of ours in it yet
        unlock = weakref.finalize(self, os.close, self.run.lock()) if dist.rank() == 0 else None
        try:
            self.images = ImageCheck(self.run, recipe.data, options.bad_images, warn, resumed=options.resume)
            self._begin(record, files, looked)
            self.hooks = self._hooks(hooks)
            if options.resume and not self.finished:
                self.images.begin(self.batches, self.done, looked)
                check_counts(recipe, self.images.measured())
            if dist.rank() == 0:
                self.images.keep()
        except BaseException:
            if unlock:
                unlock()  # now: a notebook keeps the traceback, and with it this object
            raise

    def _begin(self, record: Mapping[str, Any], files: Mapping[str, str] | None, looked: Progress | None) -> None:
        recipe, options = self.recipe, self.options
        self.batches = Batches(
            recipe.data,
            recipe.batch * recipe.accumulate,
            seed=options.seed,
            device=self.device,
            flip=recipe.flip,
            crop=recipe.crop,
            affine=recipe.affine,
            rank=dist.rank(),
            world=dist.world(),
            bad=self.images.bad,
            skip=self.images.skip,
            memory_format=self.placement.memory_format,
        )
        if not options.resume:
            if dist.rank() == 0:
                self.run.refuse_what_is_there(files or {})
            self.images.begin(self.batches, 0, looked)
            check_counts(recipe, self.images.measured())  # without its bad images
        torch.manual_seed(derive(options.seed))
        self.model: ImagePaths = self.placement.place(recipe.model.build(), self.device).train()
        self.plan = Plan(self.model, self.checked.players, recipe.steps, recipe.recompute)
        self.parameters = {player.name: list(trained(self.model, player).values()) for player in self.checked.players}
        self.settings = {player.name: player.optimizer for player in self.checked.players if player.optimizer}
        self.optimizers = {
            name: settings.build(self.parameters[name], fused=self.placement.fused)
            for name, settings in self.settings.items()
        }
        self.unmatched: list[str] = []
        if options.init_from is not None:
            self.unmatched = checkpoint.load_matching(self.model, options.init_from)
        self.average = Average(checkpoint.unique_state(self.model), recipe.ema) if recipe.ema else None
        self.done = self._restore(record) if options.resume else 0
        if not options.resume and dist.rank() == 0:  # the last: the same command would not begin a run again
            self.run.create(record, files or {})

    def _hooks(self, given: Sequence[Hook]) -> list[Hook]:
        watch = [Watcher(self.recipe.watch, self.run, self.recipe.steps)] if self.recipe.watch else []
        samples = Samples(self.options.sample_every or self.recipe.sample_every)
        return [Log(), *given, *self.recipe.hooks, *watch, samples, Checkpoints(self.options.checkpoint_every)]

    def fit(self) -> bool:
        """Train to the recipe's last step.

        Returns:
            False if a signal ended it early, with a checkpoint written.

        Raises:
            TrainingError: memory that ran out, or a gradient that is not finite: the player whose gradient it is moved
                nothing, players with an earlier turn in the step have moved in memory, and no checkpoint of that step
                is written.
            UserError: a file that cannot be decoded, a disk that is full. The steps done are in a checkpoint.
        """
        self.stopping = None
        with asking(self._ask_to_stop):  # for a checkpoint after the present step
            for hook in self.hooks:
                hook.start(self)
            try:
                return self._steps()
            finally:
                for hook in self.hooks:
                    hook.finish(self)

    def _steps(self) -> bool:
        while not self.finished:
            with enough_memory(self.device, f"step {self.done + 1}"):
                losses = self.step(self.done)
            self.done += 1
            self._call(losses, [hook for hook in self.hooks if not hook.last and self.done % hook.every == 0])
            stop = dist.any_rank(self.stopping is not None)
            ending = self.finished or stop
            due = [hook for hook in self.hooks if hook.last and (ending or self.done % hook.every == 0)]
            self._call(losses, due)
            if stop:
                return False
        return not dist.any_rank(self.stopping is not None)  # by a signal that came during the last save

    def _call(self, losses: Mapping[str, Tensor], hooks: Sequence[Hook]) -> None:
        with self._kept():
            for hook in hooks:
                hook.after_step(self, losses)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or a hook has ended the training early."""
        if self.done >= self.recipe.steps:
            return True
        asked = [hook.ends(self) for hook in self.hooks]  # all of them: what one asks of other ranks, they must answer
        return any(asked)

    def step(self, step: int) -> dict[str, Tensor]:
        """One training step: every player that is due moves once. Returns each term's value, unweighted."""
        seed_step(self.options.seed, step, dist.rank())
        with self._kept():
            batch = self.batches.batch(step)
        phase = self.plan.at(step)
        parts = self._parts(batch)
        images: dict[int, list[Any]] = {}
        losses: dict[str, Tensor] = {}
        for turn in phase.turns:
            optimizer = self.optimizers[self.checked.owners[turn.player.name]]
            optimizer.zero_grad(set_to_none=True)
            for number, part in enumerate(parts):
                if len(parts) > 1:  # the same noise in every player's turn
                    seed_step(self.options.seed, step, dist.rank(), number)
                if number not in images or turn.anew or (turn.through and len(parts) > 1):
                    images[number] = self._images(phase, part)
                values = self._backward(turn, images[number], step, 1 / len(parts))
                if len(parts) > 1:  # the next turn sees these images, not what made them
                    images[number] = [detached(value) for value in images[number]]
                for name, value in values.items():
                    key, mean = f"{turn.player.name}/{name}", value.detach() / len(parts)
                    losses[key] = losses[key] + mean if number else mean
            self._move(turn, optimizer, values, step)
        if self.average:
            self.average.update(checkpoint.unique_state(self.model), step)
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

    def _move(self, turn: Turn, optimizer: torch.optim.Optimizer, values: Mapping[str, Tensor], step: int) -> None:
        player, parameters = turn.player, self.parameters[turn.player.name]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            raise UserError(f"no term of player '{player.name}' depends on what it trains, {', '.join(player.trains)}")
        dist.average_gradients(parameters)
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise TrainingError(self._explain(turn, values, step))
        settings = self.settings[self.checked.owners[player.name]]
        if settings.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, settings.clip, norm)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr_at(step / self.recipe.steps)
        optimizer.step()

    def _explain(self, turn: Turn, values: Mapping[str, Tensor], step: int) -> str:
        """Which term made the gradient non-finite: computed again, term by term, from the same weights and noise."""
        culprit = next((name for name, value in values.items() if not torch.isfinite(value)), None)
        if culprit is None:
            parts = self._parts(self.batches.batch(step))
            seed_step(self.options.seed, step, dist.rank(), *[len(parts) - 1] * (len(parts) > 1))
            again = self._losses(turn, self._images(self.plan.at(step), parts[-1]), step)
            culprit = non_finite_gradient(again, self.parameters[turn.player.name])
        files = "; ".join(f"{letter}: {', '.join(names)}" for letter, names in self.batches.names(step).items())
        return (
            f"step {step + 1}: the gradient of player '{turn.player.name}' is not finite, from the term "
            f"{culprit or 'sum'}. Its weights were not touched. Batch: {files}"
        )

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """A file that cannot be read or written, or no memory, ends the training; the steps done are kept first."""
        try:
            yield
        except Exception:
            if self.done:
                self.save()
            raise

    def save(self, folder: Path | None = None, keep: int | None = None) -> None:
        """Write a checkpoint of the present step, to the run's checkpoints where no other folder is named.

        Raises `UserError` where the disk refuses, and `TrainingError` for weights that are not finite.
        """
        own = self.run.checkpoints
        done = self.saved == self.done and checkpoint.whole(own / checkpoint.step_name(self.done))
        if dist.rank() > 0 or (done and not folder):
            return
        written = checkpoint.save(
            folder or own,
            self.done,
            model=self.model,
            description={
                "model": self.recipe.model.to_json(),
                "size": list(self.recipe.data.size),
                "labels": self.recipe.data.labels,
            },
            optimizers=self.optimizers,
            average=self.average.tensors if self.average else None,
            keep=keep or self.options.keep,
        )
        self.saved = self.saved if folder else self.done
        for hook in self.hooks:
            hook.after_checkpoint(self, written)

    @contextmanager
    def averaged(self) -> Iterator[ImagePaths]:
        """The model, within the block with the moving average of its weights where the recipe keeps one."""
        if self.average is None:
            yield self.model
            return
        state = checkpoint.unique_state(self.model)
        kept = {name: tensor.detach().clone() for name, tensor in state.items()}
        try:
            checkpoint.fill(state, self.average.tensors)
            yield self.model
        finally:
            checkpoint.fill(state, kept)

    def on_held_out(self, work: Callable[[ImagePaths, Data], Result]) -> Result:
        """Do something with the model and the held-out images; where one of these has become bad, without it."""
        with self.averaged() as model:
            try:
                return work(model, self.images.measured())
            except UserError:
                if not self.images.look_again(self.done):
                    raise
                return work(model, self.images.measured())

    def evaluate(self, *, keep: bool = True) -> dict[str, Any]:
        """The recipe's metrics on the held-out split, with their protocol.

        Args:
            keep: them in the run's `metrics.json`.

        Raises:
            TrainingError: no memory. UserError: a disk that refuses.
        """
        name = checkpoint.step_name(self.done)
        with enough_memory(self.device, "measuring"):
            found = self.on_held_out(
                lambda model, data: evaluate_with_protocol(
                    model, data, self.recipe.evaluate, checkpoint=name, step=self.done, device=self.device
                )
            )
        if dist.rank() == 0:
            if keep:
                self.run.add_evaluation(found)
            for hook in self.hooks:
                hook.after_evaluation(self, found["metrics"])
        return found

    def _restore(self, record: Mapping[str, Any]) -> int:
        before = self.run.record
        check_resumed(self.run, record)
        self.run.refuse_batch(self.recipe.batch * self.recipe.accumulate, dist.world())
        found = checkpoint.latest(self.run.checkpoints)
        step = 0
        if found is not None:
            checkpoint.load_weights(self.model, found)
            checkpoint.load_training(self.model, self.optimizers, found)
            if self.average:
                checkpoint.fill(self.average.tensors, checkpoint.read_average(found))
            self.saved = step = checkpoint.load_step(found)
        self._check_phases(step, before.get("steps", record["steps"]))
        if dist.rank() == 0:
            self.run.rewind(step)
            self.run.write_json("run.json", resumed_record(before, record, step))
        return step

    def _check_phases(self, step: int, before: int) -> None:
        """Raise `UserError` where more steps than `before` would wake a player that has come to rest."""
        for player in self.checked.players:
            if player.until < 1 and step / before >= player.until and step / self.recipe.steps < player.until:
                raise UserError(
                    f"player '{player.name}' rests after {player.until:.0%} of the steps, as it does in this run since "
                    f"step {round(player.until * before)}; of {self.recipe.steps} it would move again: train anew"
                )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.options.precision == "bf16")

    def _ask_to_stop(self, number: int) -> None:
        self.stopping = number
