"""Losses, and terms: a weight times a loss that names what it reads.

    100 * l1("aba", "a")        the mean absolute difference of two images
    0.1 * kl("ab")              the posterior of image ab against N(0, I)
    classify("a")               the classes of domain a's images, predicted by its discriminator

What a loss reads is a kind and an image path: `aba` (the image), `code:ab` (its posterior), `score:ab` (its
discriminator's logit maps), `feature:ab` (the discriminator's top features), `class:ab` (its class logits), or
`weights:generators` (the stages that soft sharing draws together). A loss is one function of the values read, decorated
with `@register`; calling it with paths makes a term.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..registry import Registry
from ..system.errors import UserError

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
class Ramp:
    """A number that grows from 0 to 1 over the training: 2 / (1 + exp(-sharpness * p)) - 1, p the share of steps done.

    The schedule of Ganin et al. 2016, equation 14, for any argument of a loss that takes one.
    """

    sharpness: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.sharpness < math.inf:
            raise UserError(f"a ramp's sharpness must be a number of at least 0, not {self.sharpness}")

    def __call__(self, progress: float) -> float:
        return 2 / (1 + math.exp(-self.sharpness * progress)) - 1

    def __str__(self) -> str:
        return f"ramp({self.sharpness:g})"


@dataclass(frozen=True)
class Term:
    """A weight times a loss on named readings. `3 * term` is the same term with three times the weight."""

    loss: Loss
    paths: tuple[str, ...]
    weight: float = 1.0
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What logs and tables call it: `l1(aba, a)`, `gan_g(ab, mode=hinge)`."""
        return f"{self.loss.name}({', '.join([*self.paths, *(f'{k}={v}' for k, v in self.arguments.items())])})"

    @property
    def reads(self) -> tuple[str, ...]:
        """The readings that the loss wants, in order: `("code:ab",)`."""
        kind = self.loss.kind
        return tuple(path if kind == "image" else f"{kind}:{path}" for path in self.paths)

    def __mul__(self, factor: float) -> Term:
        if not (isinstance(factor, int | float) and 0 <= factor < float("inf")):
            raise UserError(f"the weight of {self.name} must be a number of at least 0, not {factor!r}")
        return replace(self, weight=self.weight * factor)

    __rmul__ = __mul__

    def __call__(self, readings: Mapping[str, Any], progress: float = 0.0) -> Tensor:
        """The loss, without the weight: a scalar tensor. `progress` is the share of the training done, for ramps."""
        arguments = {k: v(progress) if isinstance(v, Ramp) else v for k, v in self.arguments.items()}
        return self.loss.function(*(readings[name] for name in self.reads), **arguments)


@dataclass(frozen=True)
class Loss:
    """A registered loss: called with image paths it makes a `Term`; `function` computes on tensors.

    `differentiates` says that its gradient is that of its value, as finite differences can see.
    """

    function: Callable[..., Tensor]
    kind: str = "image"
    differentiates: bool = True

    @property
    def name(self) -> str:
        return self.function.__name__.lower()  # as registered

    def __call__(self, *paths: str, **arguments: Any) -> Term:
        registry.spec(self.name, **arguments)  # refuses unknown arguments
        defaults = inspect.signature(self.function).parameters
        return Term(self, paths, arguments={k: v for k, v in arguments.items() if v != defaults[k].default})


LOSSES: dict[str, Loss] = {}  # by name: the registry holds their functions, without the kind that they read


def register(kind: str = "image", *, differentiates: bool = True) -> Callable[[Callable[..., Tensor]], Loss]:
    """Decorator: `@register()` for a loss of images; else `@register("code")`, "score", "feature", "class", "weights".

    A loss whose gradient is another than that of its value by design (a reversed one, a straight-through one) says
    `differentiates=False`.
    """

    def enter(function: Callable[..., Tensor]) -> Loss:
        loss = Loss(registry.register(function), kind, differentiates)
        LOSSES[loss.name] = loss
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
