"""The trainer: players move in turn on images that are computed once a step."""

from __future__ import annotations

import json
import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .check import Checked, check, check_counts, reads
from .data import Data
from .data.batches import Batches
from .data.files.check import Progress
from .kernels.placement import plan
from .losses import non_finite_gradient
from .metrics import evaluate_with_protocol
from .networks.nested import detached, full_precision
from .recipe import Player, Recipe
from .runs import checkpoint
from .runs.folder import RunFolder
from .runs.image_check import ImageCheck, check_policy
from .runs.samples import save_grid
from .system import dist
from .system.devices import choose_device, enough_memory
from .system.environment import environment
from .system.errors import TrainingError, UserError, nearest
from .system.seeds import derive, seed_step
from .system.signals import asking
from .watch import Watcher

LOG_EVERY = 10
CHECKPOINT_EVERY = 500
Result = TypeVar("Result")
Report = Callable[[int, Mapping[str, float]], None]


class Trainer:
    """Trains a recipe and keeps its run folder.

    Args:
        recipe: what to train.
        out: the run folder, made if it is not there.
        seed: of the start weights, the order of samples, augmentation and noise.
        device: "auto" (CUDA where there is one, else the CPU) or a torch device.
        precision: "fp32", or "bf16" for networks in bfloat16 with weights and losses in float32.
        checkpoint_every: steps between two checkpoints, the two newest of which are kept; None for those of the run
            that is resumed, and 500 in a new one.
        resume: continue the run in `out` instead of starting one.
        notes: more to keep in `run.json`, such as the knobs.
        source: the text of the recipe file, kept in the run folder.
        bad_images: "stop" ends the training at an image that cannot be decoded, "skip" puts the next good one in its
            place; None stops where it is found before the first step and skips later.
        warn: is told, in a line, what is skipped.
        looked: called with the images decoded and to decode, while all are looked at before the first step.

    Raises:
        UserError: whatever `Recipe.checked` refuses, a folder in use, a folder of another recipe, one that holds what a
            new run would overwrite, notes that are no JSON, images that cannot be decoded.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: str | Path,
        *,
        seed: int = 0,
        device: str = "auto",
        precision: str = "fp32",
        checkpoint_every: int | None = None,
        resume: bool = False,
        notes: Mapping[str, Any] | None = None,
        source: str | None = None,
        bad_images: str | None = None,
        warn: Callable[[str], None] = warnings.warn,
        looked: Progress | None = None,
    ) -> None:
        check_policy(bad_images)
        if precision not in ("fp32", "bf16"):
            raise UserError(f"unknown precision '{precision}'. {nearest(precision, ['fp32', 'bf16'])}")
        if (checkpoint_every is not None and checkpoint_every < 1) or seed < 0:
            raise UserError(f"checkpoint_every is at least 1 and seed at least 0, not {checkpoint_every} and {seed}")
        self.checked: Checked = check(recipe)
        self.recipe, self.seed, self.precision = recipe, seed, precision
        self.notes = dict(notes or {})
        self.device = choose_device(device)
        self.run = RunFolder(out)
        if resume and bad_images is None:
            bad_images = self.run.record.get("bad_images")
        self.stopping: int | None = None
        self.saved: int | None = None  # the step whose checkpoint is of this training
        if checkpoint_every is None:
            checkpoint_every = self.run.record.get("checkpoint_every", CHECKPOINT_EVERY) if resume else CHECKPOINT_EVERY
        self.checkpoint_every = checkpoint_every
        # A run keeps its layout: in another one sums round otherwise.
        self.plan = plan(self.device, precision, self.run.record.get("layout") if resume else None)
        record = {
            "model": recipe.model.to_json(),
            "seed": seed,
            "precision": precision,
            "device": str(self.device),
            "layout": self.plan.layout,
            "world": dist.world(),
            "batch": recipe.batch,
            "steps": recipe.steps,
            "bad_images": bad_images,
            "checkpoint_every": checkpoint_every,
            "labels": recipe.data.labels,
            "watch": {
                metric.name: {"title": metric.title or metric.name, "higher": metric.higher, "units": {**metric.units}}
                for metric in (recipe.watch.metrics if recipe.watch else ())
            },
            "data": {"name": recipe.data.name, "fingerprint": recipe.data.fingerprint(), **recipe.data.facts},
            **self.notes,
            **environment(),
        }
        if dist.rank() == 0 and not resume and not self.run.locked_before:
            self.run.refuse_what_is_there(source)  # with nothing of ours in it yet
        unlock = weakref.finalize(self, os.close, self.run.lock()) if dist.rank() == 0 else None
        try:
            self.images = ImageCheck(self.run, recipe.data, bad_images, warn, resumed=resume)
            self._begin(record, resume, source, looked)
        except BaseException:
            if unlock:
                unlock()  # now: a notebook keeps the traceback, and with it this object
            raise

    def _begin(self, record: Mapping[str, Any], resume: bool, source: str | None, looked: Progress | None) -> None:
        recipe = self.recipe
        self.batches = Batches(
            recipe.data,
            recipe.batch,
            seed=self.seed,
            device=self.device,
            flip=recipe.flip,
            crop=recipe.crop,
            affine=recipe.affine,
            rank=dist.rank(),
            world=dist.world(),
            bad=self.images.bad,
            skip=self.images.skip,
            memory_format=self.plan.memory_format,
        )
        if not resume:  # before the folder becomes a run, which the same command would not begin again
            if dist.rank() == 0:
                self.run.refuse_what_is_there(source)
            self.images.begin(self.batches, 0, looked)
            check_counts(recipe, self.images.measured())  # without its bad images
            if dist.rank() == 0:
                self.run.create(record, source)
        torch.manual_seed(derive(self.seed))
        self.model: Any = self.plan.place(recipe.model.build(), self.device).train()
        self.optimizers = {
            player.name: torch.optim.Adam(
                self.parameters(player),
                lr=player.optimizer.lr,
                betas=player.optimizer.betas,
                weight_decay=player.optimizer.weight_decay,
                fused=self.plan.fused,
            )
            for player in self.checked.players
        }
        self.done = self._restore(record) if resume else 0
        self.watcher = Watcher(recipe.watch, self.run) if recipe.watch else None
        if resume and not self.finished:
            self.images.begin(self.batches, self.done, looked)
            check_counts(recipe, self.images.measured())
        if dist.rank() == 0:
            self.images.keep()

    def parameters(self, player: Player) -> list[nn.Parameter]:
        """What a player trains; a tied parameter once."""
        found = {id(p): p for part in player.trains for p in getattr(self.model, part).parameters()}
        return list(found.values())

    def fit(self, report: Report | None = None) -> bool:
        """Train to the recipe's last step.

        Args:
            report: called after every step with the steps done and the losses (every tenth step; else empty). What it
                raises ends the training as it is, without a checkpoint.

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
            while not self.finished:
                started = time.perf_counter()
                with enough_memory(self.device, f"step {self.done + 1}"):
                    losses = self.step(self.done)
                self.done += 1
                last = self.done == self.recipe.steps
                row: dict[str, float] = {}
                if self.done % LOG_EVERY == 0 or last or self.done == 1:
                    row = {name: float(value) for name, value in losses.items()}
                    if dist.rank() == 0:
                        seconds = round(time.perf_counter() - started, 4)
                        with self._kept():
                            self.run.append_stats({"step": self.done, "seconds": seconds, **row})
                if report:
                    report(self.done, row)
                self._watch()
                last = self.finished
                stop = dist.any_rank(self.stopping is not None)
                if dist.rank() == 0 and (self.done % self.recipe.sample_every == 0 or last or stop):
                    with self._kept(), enough_memory(self.device, f"the sample grid of step {self.done}"):
                        file = self.run.samples / f"step-{self.done:08d}.png"
                        self._on_held_out(partial(save_grid, self.model, path=file))
                if self.done % self.checkpoint_every == 0 or last or stop:
                    self.images.share()
                    self.save()
                if stop:
                    return False
        return not dist.any_rank(self.stopping is not None)  # by a signal that came during the last save

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the recipe's watch has ended the training early."""
        if self.watcher is None or self.done >= self.recipe.steps:
            return self.done >= self.recipe.steps
        return dist.any_rank(dist.rank() == 0 and self.watcher.spent)

    def _watch(self) -> None:
        if self.watcher and dist.rank() == 0 and self.watcher.due(self.done):
            with self._kept(), enough_memory(self.device, f"measuring after step {self.done}"):
                best = self._on_held_out(partial(self.watcher.measure, self.done, self.model, device=self.device))
            if best:
                self.save(self.watcher.folder, keep=1)

    def _on_held_out(self, work: Callable[[Data], Result]) -> Result:
        """Do something with the held-out images, and where one of them has become bad, without it."""
        try:
            return work(self.images.measured())
        except UserError:
            if not self.images.look_again(self.done):
                raise
            return work(self.images.measured())

    def step(self, step: int) -> dict[str, Tensor]:
        """One training step: every player moves once. Returns each term's value, unweighted."""
        seed_step(self.seed, step, dist.rank())
        with self._kept():
            batch = self.batches.batch(step)
        players = self._moving(step)
        images = self._images(batch, players)
        stale = False
        losses: dict[str, Tensor] = {}
        for player in players:
            through = set(player.trains) & set(self.model.translates)
            if through and stale:  # an earlier player moved the weights behind these images
                images = self._images(batch, players)
            values = self._turn(player, images if through else detached(images), step)
            stale = stale or bool(through)
            losses |= {f"{player.name}/{name}": value.detach() for name, value in values.items()}
        return losses

    def _moving(self, step: int) -> list[Player]:
        return [player for player in self.checked.players if player.moves(step / self.recipe.steps)]

    def _images(self, batch: Mapping[str, Tensor], players: Sequence[Player]) -> dict[str, Any]:
        with self._autocast():
            images: dict[str, Any] = self.model.images(batch, reads(players))
        return images

    def _turn(self, player: Player, images: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        parameters = self.parameters(player)
        optimizer = self.optimizers[player.name]
        optimizer.zero_grad(set_to_none=True)
        values = self._losses(player, images, step)
        total = torch.stack([term.weight * values[term.name] for term in player.terms]).sum()
        if total.requires_grad:  # `inputs`: no gradient of another player's weights is computed on the way
            torch.autograd.backward(total, inputs=parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            raise UserError(f"no term of player '{player.name}' depends on what it trains, {', '.join(player.trains)}")
        dist.average_gradients(parameters)
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise TrainingError(self._explain(player, values, step))
        for group in optimizer.param_groups:
            group["lr"] = player.optimizer.lr_at(step, self.recipe.steps)
        optimizer.step()
        return values

    def _losses(self, player: Player, images: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        names = reads([player])
        with self._autocast():
            readings = self.model.readings(images, names)
        readings = {name: full_precision(readings[name]) for name in names}
        return {term.name: term(readings, step / self.recipe.steps) for term in player.terms}

    def _explain(self, player: Player, values: Mapping[str, Tensor], step: int) -> str:
        """Which term made the gradient non-finite: computed again, term by term, from the same weights and noise."""
        culprit = next((name for name, value in values.items() if not torch.isfinite(value)), None)
        if culprit is None:
            seed_step(self.seed, step, dist.rank())
            images = self._images(self.batches.batch(step), self._moving(step))
            again = self._losses(player, images, step)
            culprit = non_finite_gradient(again, self.parameters(player))
        files = "; ".join(f"{letter}: {', '.join(names)}" for letter, names in self.batches.names(step).items())
        return (
            f"step {step + 1}: the gradient of player '{player.name}' is not finite, from the term "
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

    def save(self, folder: Path | None = None, keep: int = 2) -> None:
        """Write a checkpoint of the present step, to the run's checkpoints where no other folder is named.

        Raises `UserError` where the disk refuses, and `TrainingError` for weights that are not finite.
        """
        own = self.run.checkpoints
        done = self.saved == self.done and checkpoint.whole(own / checkpoint.step_name(self.done))
        if dist.rank() == 0 and (folder or not done):
            checkpoint.save(
                folder or own,
                self.done,
                model=self.model,
                description={
                    "model": self.recipe.model.to_json(),
                    "size": list(self.recipe.data.size),
                    "labels": self.recipe.data.labels,
                },
                optimizers=self.optimizers,
                keep=keep,
            )
            self.saved = self.saved if folder else self.done

    def measure(self) -> dict[str, Any]:
        """The recipe's metrics on the held-out split. Raises `TrainingError` without memory."""

        def measure(data: Data) -> dict[str, Any]:
            name = checkpoint.step_name(self.done)
            return evaluate_with_protocol(
                self.model, data, self.recipe.evaluate, checkpoint=name, step=self.done, device=self.device
            )

        with enough_memory(self.device, "measuring"):
            return self._on_held_out(measure)

    def evaluate(self) -> dict[str, Any]:
        """`measure`, and keep it in the run's `metrics.json`. Raises `UserError` where the disk refuses."""
        found = self.measure()
        if dist.rank() == 0:
            self.run.add_evaluation(found)
        return found

    def _restore(self, record: Mapping[str, Any]) -> int:
        before = self.run.record
        for key in ("model", "seed", "precision"):
            # As JSON, which has no tuples: a part may have been given some.
            if json.dumps(before.get(key), sort_keys=True) != json.dumps(record[key], sort_keys=True):
                raise UserError(f"{self.run.path} is a run of another recipe: its {key} differs, so it cannot go on")
        self.run.refuse_batch(self.recipe.batch, dist.world())
        found = checkpoint.latest(self.run.checkpoints)
        if found is None:
            step = 0
        else:
            checkpoint.load_weights(self.model, found)
            checkpoint.load_optimizers(self.model, self.optimizers, found)
            self.saved = step = checkpoint.load_step(found)
        self._check_phases(step, before.get("steps", record["steps"]))
        if dist.rank() == 0:
            self.run.rewind(step)
            anew = {
                key: record[key]
                for key in ("data", "labels", "steps", "batch", "world", "checkpoint_every", "bad_images")
            }
            since = {"step": step, **{key: record[key] for key in ("started", "device", "batch", "world", "steps")}}
            history = [*before.get("history", []), since]
            self.run.write_json("run.json", {**before, **self.notes, **anew, "history": history})
        return step

    def _check_phases(self, step: int, before: int) -> None:
        """Raise `UserError` where more steps than `before` would wake a player that has come to rest."""
        for player in self.checked.players:
            if player.until < 1 and step / before >= player.until and player.moves(step / self.recipe.steps):
                raise UserError(
                    f"player '{player.name}' rests after {player.until:.0%} of the steps, as it does in this run since "
                    f"step {round(player.until * before)}; of {self.recipe.steps} it would move again: train anew"
                )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def _ask_to_stop(self, number: int) -> None:
        self.stopping = number
