"""Losses, and terms: a weight times a loss that names what it reads.

    100 * l1("aba", "a")        the mean absolute difference of two images
    0.1 * kl("ab")              the posterior of image ab against N(0, I)
    classify("a")               the classes of domain a's images, predicted by its discriminator
    Ramp(10) * l1("aa", "a")    a weight that grows over the training

A loss is one function of the values that it reads, decorated with the kinds of these, `@register("code")` (see
`models.kinds`); calling it with image paths makes a term.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, overload

import torch
from torch import Tensor

from ..registry import Registry
from ..schedules import Schedule, at
from ..system.errors import UserError
from .reading import Reading

P = ParamSpec("P")
registry = Registry("loss")


class Posterior(NamedTuple):
    """q(z | x) = N(mean, spread**2): tensors (N, C, h, w), and the sample z that generators read."""

    mean: Tensor
    spread: Tensor | None  # None means 1 everywhere
    sample: Tensor


class Features(NamedTuple):
    """What a discriminator's last stage sees of an image path, (N, ...), and that stage's logit maps of it."""

    top: Tensor
    head: Callable[[Tensor], Sequence[Tensor]]


class Classes(NamedTuple):
    """Class logits (N, classes), and the classes (N,) of the real images that the path began with."""

    logits: Tensor
    actual: Tensor | None  # None where a training must not see them


@dataclass(frozen=True)
class Term:
    """A weight times a loss on named readings. `3 * term` is the same term with three times the weight."""

    loss: Loss
    paths: tuple[str, ...]
    weight: float | Schedule = 1.0
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What logs and tables call it: `l1(aba, a)`, `gan_g(ab, mode=hinge)`."""
        return f"{self.loss.name}({', '.join([*self.paths, *(f'{k}={v}' for k, v in self.arguments.items())])})"

    @property
    def reads(self) -> tuple[Reading, ...]:
        """The readings that the loss wants, in order: `code:ab`."""
        return tuple(Reading(self.loss.kind(place), path) for place, path in enumerate(self.paths))

    def __mul__(self, factor: float | Schedule) -> Term:
        number = isinstance(factor, int | float) and 0 <= factor < float("inf")
        if not number and not isinstance(factor, Schedule):
            raise UserError(f"the weight of {self.name} must be a number of at least 0 or a schedule, not {factor!r}")
        return replace(self, weight=self.weight * factor)

    __rmul__ = __mul__

    def weight_at(self, progress: float) -> float:
        """The weight when this share of the training is done."""
        return at(self.weight, progress)

    def value(self, readings: Sequence[Any], progress: float = 0.0) -> Tensor:
        """The loss, without the weight: a scalar tensor of what `reads` names, in order."""
        if not self.arguments:
            return self.loss.function(*readings)
        return self.loss.function(*readings, **{k: at(v, progress) for k, v in self.arguments.items()})

    def __call__(self, readings: Mapping[str, Any], progress: float = 0.0) -> Tensor:
        """`value`, of readings by name: `kl("a")({"code:a": posterior})`."""
        return self.value([readings[str(name)] for name in self.reads], progress)


@dataclass(frozen=True)
class Loss:
    """A registered loss: called with image paths it makes a `Term`; `function` computes on tensors.

    Attributes:
        kinds: of the readings, in order; the last is that of all that follow.
        differentiates: whether its gradient is that of its value, as finite differences can see.
    """

    function: Callable[..., Tensor]
    kinds: tuple[str, ...] = ("image",)
    differentiates: bool = True

    def __post_init__(self) -> None:
        for name in ("__module__", "__qualname__", "__doc__"):
            object.__setattr__(self, name, getattr(self.function, name))

    @property
    def name(self) -> str:
        return self.function.__name__.lower()  # as registered

    __name__ = name

    @property
    def __wrapped__(self) -> Callable[..., Tensor]:
        return self.function

    def kind(self, place: int) -> str:
        """The kind of the reading at a place, from 0."""
        return self.kinds[min(place, len(self.kinds) - 1)]

    def __call__(self, *paths: str, **arguments: Any) -> Term:
        registry.spec(self.name, **arguments)  # refuses unknown arguments
        if strange := [path for path in paths if not isinstance(path, str)]:
            raise UserError(f"the loss {self.name} reads image paths, such as 'ab', not {strange[0]!r}")
        parameters = inspect.signature(self.function).parameters
        wanted = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        more = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
        if len(paths) < len(wanted) or (len(paths) > len(wanted) and not more):
            names = ", ".join([*(p.name for p in wanted), *("..." for _ in range(more))])
            raise UserError(f"the loss {self.name} reads {self.name}({names}), not {len(paths)} image paths")
        return Term(self, paths, arguments={k: v for k, v in arguments.items() if v != parameters[k].default})


# What type checkers see of losses of one reading and of two, so that a misspelt argument is found in an editor.
class OfOne(Loss, Generic[P]):
    def __call__(self, path: str, /, *none: P.args, **arguments: P.kwargs) -> Term: ...  # type: ignore[override,empty-body]


class OfTwo(Loss, Generic[P]):
    def __call__(self, path: str, other: str, /, *none: P.args, **arguments: P.kwargs) -> Term: ...  # type: ignore[override,empty-body]


class Enter(Protocol):
    """A decorator that makes a loss of a function."""

    @overload
    def __call__(self, function: Callable[Concatenate[Any, Any, P], Tensor], /) -> OfTwo[P]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Tensor], /) -> OfOne[P]: ...


def register(*kinds: str, differentiates: bool = True) -> Enter:
    """Decorator: `@register()` for a loss of images; else the kinds of what it reads: `@register("code")`.

    A loss whose gradient is another than that of its value by design (a reversed one, a straight-through one) says
    `differentiates=False`.
    """

    def enter(function: Callable[..., Tensor]) -> Any:
        loss = Loss(function, kinds or ("image",), differentiates)
        registry.enter(loss)
        return loss

    return enter


def non_finite_gradient(values: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> str | None:
    """The first of these terms whose gradient by the parameters is not finite."""
    for name, value in values.items():
        if value.requires_grad:
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            if not all(torch.isfinite(g).all() for g in gradients if g is not None):
                return name
    return None
