"""A recipe: the parts, the players with their terms, the data and the metrics of one training, checked as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .losses import Term
from .registry import Spec
from .system.errors import UserError

if TYPE_CHECKING:
    from .data import Affine, Data
    from .metrics import Metric


@dataclass(frozen=True)
class Adam:
    """Settings of a player's Adam.

    Args:
        lr: learning rate.
        betas: decay rates of the running mean and variance of the gradient.
        weight_decay: of the L2 kind, added to the gradient, as in the released code.
        decay: the share of a run's steps, at its end, in which the learning rate falls linearly to 0.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-4
    decay: float = 0.0

    def __post_init__(self) -> None:
        betas = all(0 <= beta < 1 for beta in self.betas)
        if not (self.lr > 0 and betas and self.weight_decay >= 0 and 0 <= self.decay <= 1):
            expected = "lr above 0, betas in [0, 1), weight_decay of at least 0 and decay in [0, 1]"
            raise UserError(f"Adam needs {expected}, not {self}")

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) of `steps`."""
        return self.lr * min(1.0, (steps - step) / (self.decay * steps + 1))


@dataclass(frozen=True)
class Player:
    """A named set of parameters, its optimizer and its terms. In a training step the players move in order.

    Args:
        name: such as "generator".
        trains: the parts of the model whose parameters move, such as ("encoders", "generators").
        terms: what the player minimises: the sum of weight times loss.
        since: the share of the training after which the player begins to move.
        until: the share after which it rests, and what it trained stays as it is.
    """

    name: str
    trains: Sequence[str]
    terms: Sequence[Term]
    optimizer: Adam = Adam()
    since: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.since < self.until <= 1:
            raise UserError(
                f"player '{self.name}' moves from {self.since} to {self.until} of the training: "
                f"expected 0 <= since < until <= 1"
            )

    def moves(self, progress: float) -> bool:
        """Whether the player moves when this share of the training is done."""
        return self.since <= progress < self.until


@dataclass(frozen=True)
class Watch:
    """Metrics during training, on the same part of the held-out images each time.

    The first metric's first figure decides which step is kept as the best, in the run's `best` folder beside the last
    step. The best is chosen on held-out images, so its figures on them flatter it: report the last step's.

    Args:
        metrics: what is measured.
        every: steps between two measurements.
        images: of each domain at most; 0 takes all.
        patience: measurements without a better one after which the training ends early; 0 never ends it.
    """

    metrics: Sequence[Metric]
    every: int = 500
    images: int = 64
    patience: int = 0

    def __post_init__(self) -> None:
        if not self.metrics:
            raise UserError("a watch needs at least one metric")
        for name, least in ("every", 1), ("images", 0), ("patience", 0):
            if getattr(self, name) < least:
                raise UserError(f"a watch's {name} must be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True)
class Recipe:
    """All that a training needs to know.

    Args:
        model: spec of the model, `models.spec("unit", ...)`.
        players: in the order of their turns.
        data: `open_data(...)`.
        steps: training steps.
        batch: images of each domain in a step, on each rank.
        flip: mirror each training image left to right with probability 1/2.
        crop: shift each training image by up to this many pixels (images are decoded that much larger).
        affine: rotate, scale and shift each training image at random.
        evaluate: metrics of the finished model on the held-out split.
        sample_every: steps between two sample grids.
        watch: metrics during training.
    """

    model: Spec
    players: Sequence[Player]
    data: Data
    steps: int
    batch: int = 1
    flip: bool = True
    crop: int = 0
    affine: Affine | None = None
    evaluate: Sequence[Metric] = field(default_factory=tuple)
    sample_every: int = 500
    watch: Watch | None = None
