"""The trainer: steps, hooks, checkpoints and stops of a run."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .check import Checked, check, check_counts, check_phases
from .data import Data
from .data.batches import Batches
from .data.files.check import Progress
from .hooks import Checkpoints, Log, Report, Samples, Watcher, due, numbers
from .kernels.placement import best_precision, choose_device, placement
from .memory.fitting import fitted
from .metrics import evaluate_with_protocol
from .metrics.metric import Counting, uncounted
from .models import ImagePaths
from .networks.average import Average
from .recipe import Hook, Recipe
from .runs import checkpoint
from .runs.folder import RunFolder, storable
from .runs.image_check import ImageCheck
from .runs.options import RunOptions
from .runs.record import check_resumed, check_same_recipe, description, new_record, resumed_record, with_kept_values
from .runs.steps import latest, step_name, whole
from .system import dist
from .system.devices import enough_memory, set_precision
from .system.errors import UserError
from .system.seeds import derive
from .system.signals import asking
from .training.step import TrainingStep

Result = TypeVar("Result")


class Trainer:
    """Trains a recipe and keeps its run folder.

    Args:
        recipe: what to train.
        options: how, and where the run is kept.
        notes: more to keep in `run.json`, such as the knobs.
        files: the texts of the recipe file, `recipe.py`, and of those that it imports, kept in the run folder.
        hooks: called beside those of the recipe and the trainer's own (log, watch, samples, checkpoints).
        warn: is told, in a line, what is skipped, and what memory is short of.
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
        self.run = RunFolder(options.out)
        before = check_same_recipe(self.run, recipe) if options.resume else {}
        checked = check(with_kept_values(recipe, before))
        self.device = choose_device(options.device)
        self.options = options = options.resolved(before, best_precision(self.device))
        set_precision(options.precision, self.device)
        self.warn, self.stopping = warn, 0
        self.saved: int | None = None  # the step whose checkpoint is of this training
        # A run keeps its layout: in another one sums round otherwise.
        self.placement = placement(self.device, options.precision, before.get("layout"))
        self.checked: Checked = fitted(checked, options, self.placement, self.device, before, warn)
        self.recipe = recipe = self.checked.recipe
        record = new_record(recipe, options, self.device, {"layout": self.placement.layout, **(notes or {})})
        self.id = before.get("id", "") if options.resume else record["id"]
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
        else:
            check_resumed(self.run, record, self.checked.model, recipe.data.size)
        torch.manual_seed(derive(options.seed))
        self.model: ImagePaths = self.placement.place(recipe.model.build(), self.device).train()
        self.training_step = TrainingStep(
            recipe, self.checked, self.model, options, self.device, self.placement, self.batches.names, self.warn
        )
        self.optimizers = self.training_step.optimizers
        start = options.init_from
        self.unmatched = checkpoint.load_matching(self.model, start) if start is not None else []
        self.average = Average(self.model, recipe.ema) if recipe.ema else None
        self.done = self._restore(record) if options.resume else 0
        if not options.resume and dist.rank() == 0:  # the last: the same command would not begin a run again
            self.run.create(record, files or {})

    def _hooks(self, given: Sequence[Hook]) -> list[Hook]:
        watch = [Watcher(self.recipe.watch, self.run, self.recipe.steps)] if self.recipe.watch else []
        samples = Samples(self.options.sample_every or self.recipe.sample_every)
        ours = [samples, Report(), Checkpoints(self.options.checkpoint_every)]
        return [Log(), *given, *self.recipe.hooks, *watch, *ours]

    def fit(self) -> bool:
        """Train to the recipe's last step.

        Returns: False if a signal ended it early, with a checkpoint written.

        Raises:
            TrainingError: memory that ran out, or a gradient that is not finite: the player whose gradient it is moved
                nothing, players with an earlier turn in the step have moved in memory, and no checkpoint of that step
                is written.
            UserError: a file that cannot be decoded, a disk that is full. The steps done are in a checkpoint.
        """
        self.stopping = 0
        with asking(self._ask_to_stop):  # for a checkpoint after the present step
            for hook in self.hooks:
                hook.start(self)
            try:
                if self.options.init_from is not None and not self.done:
                    self.save()  # what it began with: that run may have gone on, or be gone, when this one is resumed
                return self._steps()
            finally:
                for hook in self.hooks:
                    hook.finish(self)

    def _steps(self) -> bool:
        while not self.finished:
            with enough_memory(self.device, f"step {self.done + 1}"):
                losses = self.step(self.done)
            self.done += 1
            losses = numbers(losses) if due(self) else losses
            self._call(losses, [hook for hook in self.hooks if not hook.last and self.done % hook.every == 0])
            stop = dist.any_rank(self.stopping > 0)
            ending = self.finished or stop
            last = [hook for hook in self.hooks if hook.last and (ending or self.done % hook.every == 0)]
            self._call(losses, last)
            if stop:
                return False
        return not dist.any_rank(self.stopping > 0)  # by a signal that came during the last save

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
        with self._kept():
            batch = self.batches.batch(step)
        losses = self.training_step(batch, step)
        if self.average:
            self.average.update(step)
        return losses

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
        self.training_step.settle()  # what was not finite is not kept
        own = self.run.checkpoints
        done = self.saved == self.done and whole(own / step_name(self.done))
        if dist.rank() > 0 or (done and not folder):
            return
        written = checkpoint.save(
            folder or own,
            self.done,
            run=self.id,
            model=self.model,
            description=description(self.recipe),
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
        with self.average.in_place() if self.average else nullcontext():
            yield self.model

    def on_held_out(self, work: Callable[[ImagePaths, Data], Result]) -> Result:
        """Do something with the model and the held-out images; where one of these has become bad, without it."""
        with self.averaged() as model:
            try:
                return work(model, self.images.measured())
            except UserError:
                if not self.images.look_again(self.done):
                    raise
                return work(model, self.images.measured())

    def evaluate(self, *, keep: bool = True, counting: Counting = uncounted) -> dict[str, Any]:
        """The recipe's metrics on the held-out split, with their protocol.

        Args:
            keep: them in the run's `metrics.json`.
            counting: shows work of a metric that takes long.

        Raises `TrainingError` for no memory, and `UserError` where the disk refuses.
        """
        measured = partial(
            evaluate_with_protocol,
            metrics=self.recipe.evaluate,
            checkpoint=step_name(self.done),
            step=self.done,
            weights="ema" if self.average else "last",
            device=self.device,
            counting=counting,
        )
        with enough_memory(self.device, "measuring"):
            found = self.on_held_out(measured)
        found["metrics"] = storable(found["metrics"])
        if dist.rank() == 0:
            if keep:
                self.run.add_evaluation(found)
            for hook in self.hooks:
                hook.after_evaluation(self, found["metrics"])
        return found

    def _restore(self, record: Mapping[str, Any]) -> int:
        before, found, step = self.run.record, latest(self.run.checkpoints), 0
        if found is not None:
            self.saved = step = checkpoint.load_step(found)
            checkpoint.load_weights(self.model, found)
            checkpoint.load_training(self.model, self.optimizers, found)
            if self.average:
                checkpoint.load_average(self.average.tensors, found)
            checkpoint.refuse_changed(found, before.get("id", ""))  # what each reader above lets pass
        check_phases(self.recipe, step, before.get("steps", record["steps"]))
        if dist.rank() == 0:
            self.run.rewind(step)
            self.run.write_json("run.json", resumed_record(before, record, step))
        return step

    def _ask_to_stop(self, number: int) -> None:
        self.stopping = number
