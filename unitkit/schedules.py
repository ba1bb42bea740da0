"""Schedules: numbers that change over a training, as pure functions of the share of it that is done.

One type for learning rates, weights of terms and arguments of losses:

    Adam(lr=2e-4, schedule=Linear(since=0.5))           constant for half of the training, then falling to 0
    Ramp(10) * l1("aba", "a")                           a term that sets in
    reversal("a", "b", strength=0.5 * Ramp(10))         an argument of a loss
    Warmup(0.05) * Cosine()                             their product
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

from .annotations import AtLeast, describe, fits
from .registry import Registry
from .system.errors import UserError

registry = Registry("schedule")
register = registry.register

UpToOne = Annotated[float, AtLeast(0, most=1)]
NotNegative = Annotated[float, AtLeast(0)]


class Schedule:
    """The base of schedules: frozen dataclasses, called with the share of the training done, in [0, 1)."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):  # type: ignore[arg-type]
            if not fits(value := getattr(self, field.name), hints[field.name]):
                name = type(self).__name__
                raise UserError(f"a {name}'s {field.name} must be {describe(hints[field.name])}, not {value}")

    def __call__(self, progress: float) -> float:
        raise NotImplementedError

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Schedule):
            return Product(self, other)
        if isinstance(other, int | float):
            return Product(Constant(other), self)
        return NotImplemented

    def __rmul__(self, other: Any) -> Any:
        return self * other

    def __add__(self, other: Any) -> Any:
        if isinstance(other, int | float | Schedule):
            return Sum(self, other if isinstance(other, Schedule) else Constant(other))
        return NotImplemented

    def __radd__(self, other: Any) -> Any:
        return self + other

    def __str__(self) -> str:
        given = [f"{getattr(self, field.name):g}" for field in fields(self)]  # type: ignore[arg-type]
        return f"{type(self).__name__.lower()}({', '.join(given)})"


@register
@dataclass(frozen=True)
class Constant(Schedule):
    """Always the same number.

    Args:
        value: at least 0.
    """

    value: NotNegative = 1.0

    def __call__(self, progress: float) -> float:
        return self.value


@register
@dataclass(frozen=True)
class Ramp(Schedule):
    """From 0 to 1: 2 / (1 + exp(-sharpness * p)) - 1, the schedule of Ganin et al. 2016, equation 14.

    Args:
        sharpness: at 10 half of the way is done after a tenth of the training.
    """

    sharpness: NotNegative = 10.0

    def __call__(self, progress: float) -> float:
        return 2 / (1 + math.exp(-self.sharpness * progress)) - 1


@dataclass(frozen=True)
class _Later(Schedule):
    """1 until a share of the training is done, then on the way to another number at the end.

    Args:
        end: the number at the end.
        since: the share.
    """

    end: NotNegative = 0.0
    since: UpToOne = 0.0

    def gone(self, progress: float) -> float:
        """The share of the way that is behind, in [0, 1]."""
        return 0.0 if progress < self.since or self.since == 1 else (progress - self.since) / (1.0 - self.since)


@register
@dataclass(frozen=True)
class Linear(_Later):
    """1 until a share of the training is done, then on a straight line to another number at the end."""

    def __call__(self, progress: float) -> float:
        return 1.0 + (self.end - 1.0) * self.gone(progress)


@register
@dataclass(frozen=True)
class Cosine(_Later):
    """1 until a share of the training is done, then half a period of a cosine to another number at the end."""

    def __call__(self, progress: float) -> float:
        return self.end + (1.0 - self.end) * (1.0 + math.cos(math.pi * self.gone(progress))) / 2


@register
@dataclass(frozen=True)
class Steps(Schedule):
    """1, and multiplied by a factor each time that another share of the training is done.

    Args:
        factor: such as 0.5, which halves it.
        every: the share; 0.25 makes three changes.
    """

    factor: NotNegative = 0.5
    every: Annotated[float, AtLeast(above=0, most=1)] = 0.25

    def __call__(self, progress: float) -> float:
        # Rounded: 0.3 / 0.1 is 2.9999999999999996, and the third step is due.
        return float(self.factor ** math.floor(round(progress / self.every, 9)))


@register
@dataclass(frozen=True)
class Warmup(Schedule):
    """From 0 to 1 on a straight line over the first share of the training, then 1.

    Args:
        share: at least 0.
    """

    share: UpToOne = 0.05

    def __call__(self, progress: float) -> float:
        return min(1.0, progress / self.share) if self.share else 1.0


@dataclass(frozen=True)
class Product(Schedule):
    """The product of two schedules."""

    first: Schedule
    second: Schedule

    def __call__(self, progress: float) -> float:
        return self.first(progress) * self.second(progress)

    def __str__(self) -> str:
        first, second = (f"{s.value:g}" if isinstance(s, Constant) else str(s) for s in (self.first, self.second))
        return f"{first} * {second}"


@dataclass(frozen=True)
class Sum(Schedule):
    """The sum of two schedules: of the weights of one term that two bundles ask for."""

    first: Schedule
    second: Schedule

    def __call__(self, progress: float) -> float:
        return self.first(progress) + self.second(progress)

    def __str__(self) -> str:
        return f"{self.first} + {self.second}"


def at(value: float | Schedule, progress: float) -> float:
    """A number as it is, a schedule at this share of the training."""
    return value(progress) if isinstance(value, Schedule) else value
