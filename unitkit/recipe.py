"""A recipe: the parts, the players with their terms, the data and the metrics of one training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .annotations import Count, FromOne, Positive, Share
from .losses import Term
from .optimizers import Adam, Optimizer
from .registry import Spec
from .system.errors import UserError

if TYPE_CHECKING:
    from .data import Affine, Data
    from .metrics import Metric


@dataclass(frozen=True)
class Player:
    """A named set of parameters, its optimizer and its terms. In a training step the players move in order.

    Args:
        name: such as "generator".
        trains: what of the model moves: parts, "encoders", one domain's tower, "encoders.a", or a stage of it,
            "encoders.a.stages.0". What no player trains stays as it is.
        terms: what the player minimises: the sum of weight times loss.
        optimizer: None moves by the optimizer of an earlier player that trains the same, such as a lazy regulariser.
        since: the share of the training after which the player begins to move.
        until: the share after which it rests, and what it trained stays as it is.
        every: steps from one move to the next (lazy regularisation: Karras et al., StyleGAN2).
    """

    name: str
    trains: Sequence[str]
    terms: Sequence[Term]
    optimizer: Optimizer | None = field(default_factory=Adam)
    since: float = 0.0
    until: float = 1.0
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.since < self.until <= 1:
            raise UserError(
                f"player '{self.name}' moves from {self.since} to {self.until} of the training: "
                f"expected 0 <= since < until <= 1"
            )
        if self.every < 1:
            raise UserError(f"player '{self.name}' moves every {self.every} steps: expected at least 1")

    def moves(self, step: int, steps: int) -> bool:
        """Whether the player moves in step `step` (from 0) of `steps`."""
        return step % self.every == 0 and self.since <= step / steps < self.until

    def first(self, steps: int) -> int | None:
        """The first of so many steps in which the player moves; None where it never does."""
        near = math.ceil(self.since * steps / self.every) * self.every  # but for the rounding of `since * steps`
        around = (near - self.every, near, near + self.every)
        return next((step for step in around if 0 <= step < steps and self.moves(step, steps)), None)


@dataclass(frozen=True)
class Watch:
    """Metrics during training, on the same part of the held-out images each time.

    The first metric's first figure decides which step is kept as the best, in the run's `best` folder beside the last
    step. The best is chosen on held-out images, so its figures on them flatter it: report the last step's.

    Args:
        metrics: what is measured.
        every: steps between two evaluations, or below 1 the share of the training between them.
        images: of each domain at most; 0 takes all.
        patience: evaluations without a better one after which the training ends early; 0 never ends it.
    """

    metrics: Sequence[Metric]
    every: float = 500
    images: int = 64
    patience: int = 0

    def __post_init__(self) -> None:
        if not self.metrics:
            raise UserError("a watch needs at least one metric")
        if not (0 < self.every < 1 or self.every == round(self.every) >= 1):
            raise UserError(f"a watch's every must be at least 1, or a share between 0 and 1, not {self.every}")
        for name in ("images", "patience"):
            if getattr(self, name) < 0:
                raise UserError(f"a watch's {name} must be at least 0, not {getattr(self, name)}")

    def period(self, steps: int) -> int:
        """The steps between two evaluations, in a training of so many."""
        return max(1, int(self.every * steps)) if self.every < 1 else int(self.every)


class Hook:
    """What is done as a training goes on: the base of hooks, which does nothing. Each is called on every rank.

    A hook overrides what it needs, and is given in `Recipe.hooks` or to the `Trainer`; `trainer` is that.

    Attributes:
        every: steps from one call of `after_step` to the next.
        last: whether it is also called after the last step of a training, at its end or where a signal stops it, and
            after all hooks that are not.
    """

    every: int = 1
    last: bool = False

    def start(self, trainer: Any) -> None:
        """Before the first step, or the first after a run was resumed."""

    def after_step(self, trainer: Any, losses: Mapping[str, Tensor]) -> None:
        """After step `trainer.done`, with the unweighted value of each term, "generator/l1(aba, a)".

        The values are those of this rank; at the steps that the log takes (`unitkit.hooks.due`), the means over ranks.
        """

    def after_samples(self, trainer: Any, grid: Path) -> None:
        """After a sample grid, a PNG, was written; on the first rank alone."""

    def after_checkpoint(self, trainer: Any, checkpoint: Path) -> None:
        """After a checkpoint was written; on the first rank alone."""

    def after_evaluation(self, trainer: Any, results: Mapping[str, Any]) -> None:
        """After metrics were evaluated, as the training goes on or, after `finish`, of the finished model; on the
        first rank alone. `results` are what `evaluate` gives: by metric, its figures and more."""

    def ends(self, trainer: Any) -> bool:
        """Whether the training should end after this step, before its time."""
        return False

    def finish(self, trainer: Any) -> None:
        """When the training ends, however it does."""


@dataclass(frozen=True)
class Recipe:
    """All that a training needs to know.

    Args:
        model: the model, `models.unit(...)`.
        players: in the order of their turns.
        data: `open_data(...)`.
        steps: training steps.
        batch: images of each domain in a step, on each rank.
        accumulate: micro-batches of that size whose gradients a step adds up, for batches that memory does not hold at
            once: a step sees accumulate * batch images.
        flip: mirror each training image left to right with probability 1/2.
        crop: shift each training image by up to this many pixels (images are decoded that much larger).
        affine: rotate, scale and shift each training image at random.
        ema: how much of the moving average of the weights is kept from step to step, such as 0.999, which is then what
            translates and is evaluated; 0 keeps no average.
        recompute: parts of the model whose activations are computed again in the backward pass, to save memory.
        evaluate: metrics of the finished model on the held-out split.
        sample_every: steps between two sample grids.
        watch: metrics during training.
        hooks: what else is done as the training goes on.
    """

    model: Spec
    players: Sequence[Player]
    data: Data
    steps: FromOne
    batch: Positive = 1
    accumulate: Positive = 1
    flip: bool = True
    crop: Count = 0
    affine: Affine | None = None
    ema: Share = 0.0
    recompute: Sequence[str] = ()
    evaluate: Sequence[Metric] = field(default_factory=tuple)
    sample_every: FromOne = 500
    watch: Watch | None = None
    hooks: Sequence[Hook] = ()
