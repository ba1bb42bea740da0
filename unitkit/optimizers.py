"""Optimizers as parts: frozen settings, from which a player's optimizer is built, and its learning rate followed.

    Adam(lr=2e-4, betas=(0.5, 0.999), decay=0.5)
    Timm("lion", lr=1e-4)                            any of timm's, by its name
    adam(lr=1e-3)                                    the settings of `adam`, but for the learning rate

One of your own is a frozen dataclass below `Optimizer` with a method `build`, registered by `@register`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Annotated, Any, Self, TypedDict, Unpack, get_type_hints

import torch
from torch import Tensor

from .annotations import AtLeast, describe, fits
from .registry import Registry
from .schedules import Linear, Schedule
from .system.errors import UserError, nearest

registry = Registry("optimizer")
register = registry.register

UNKEPT = ("kron",)  # optimizers of timm's whose state is more than tensors and numbers
NotNegative = Annotated[float, AtLeast(0)]
Rate = Annotated[float, AtLeast(above=0)]
Beta = Annotated[float, AtLeast(0, below=1)]


class Changes(TypedDict, total=False):
    """What all optimizers have, for type checkers; `dataclasses.replace` changes what one has besides."""

    lr: float
    weight_decay: float
    decay: float
    schedule: Schedule | None
    clip: float | None


@dataclass(frozen=True)
class Optimizer:
    """What all optimizers have. Called with changes it gives the same settings but for these.

    Args:
        lr: learning rate.
        weight_decay: see the optimizer.
        decay: the share of a training, at its end, in which the learning rate falls linearly to 0.
        schedule: what the learning rate is multiplied by besides, as the training goes on.
        clip: the largest norm that a gradient keeps; a larger one is scaled down to it.

    Raises:
        UserError: a setting that cannot be, with its name.
    """

    lr: Rate = 1e-4
    _: KW_ONLY
    weight_decay: NotNegative = 0.0
    decay: Annotated[float, AtLeast(0, most=1)] = 0.0
    schedule: Schedule | None = None
    clip: Rate | None = None

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for each in fields(self):
            if not fits(value := getattr(self, each.name), hints[each.name]):
                kind = f"{type(self).__name__}'s {each.name}"
                raise UserError(f"{kind} must be {describe(hints[each.name])}, not {value!r}")

    def __call__(self, **changes: Unpack[Changes]) -> Self:
        names = [each.name for each in fields(self)]
        for name in changes:
            if name not in names:
                raise UserError(f"{type(self).__name__} has no '{name}'. {nearest(name, names)}")
        return replace(self, **changes)

    def lr_at(self, progress: float) -> float:
        """The learning rate when this share of the training is done."""
        besides = self.schedule(progress) if self.schedule else 1.0
        return self.lr * besides * Linear(since=1 - self.decay)(progress)

    def build(self, parameters: Sequence[Tensor], *, fused: bool) -> torch.optim.Optimizer:
        """The optimizer of these parameters; `fused` where torch's fused step is right on their device."""
        raise NotImplementedError


@register
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015).

    Args:
        weight_decay: of the L2 kind, added to the gradient, as in the code released with UNIT.
        betas: decay rates of the running mean and variance of the gradient.
    """

    weight_decay: NotNegative = 1e-4
    betas: tuple[Beta, Beta] = (0.5, 0.999)

    def build(self, parameters: Sequence[Tensor], *, fused: bool) -> torch.optim.Optimizer:
        """As `Optimizer.build`."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=fused)


@register
@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        weight_decay: the share of a weight, times the learning rate, that it loses in a step.
        betas: decay rates of the running mean and variance of the gradient.
    """

    weight_decay: NotNegative = 1e-2
    betas: tuple[Beta, Beta] = (0.5, 0.999)

    def build(self, parameters: Sequence[Tensor], *, fused: bool) -> torch.optim.Optimizer:
        """As `Optimizer.build`."""
        return torch.optim.AdamW(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=fused)


@register
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent.

    Args:
        weight_decay: added to the gradient.
        momentum: the share of the last step that is taken again.
        nesterov: look ahead along the momentum.
    """

    momentum: Beta = 0.9
    nesterov: bool = False

    def build(self, parameters: Sequence[Tensor], *, fused: bool) -> torch.optim.Optimizer:
        """As `Optimizer.build`."""
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            foreach=True,
        )


@register
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012).

    Args:
        weight_decay: added to the gradient.
        alpha: decay rate of the running square of the gradient.
        momentum: the share of the last step that is taken again.
    """

    alpha: Beta = 0.99
    momentum: Beta = 0.0

    def build(self, parameters: Sequence[Tensor], *, fused: bool) -> torch.optim.Optimizer:
        """As `Optimizer.build`."""
        return torch.optim.RMSprop(
            parameters,
            lr=self.lr,
            alpha=self.alpha,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            foreach=True,
        )


@register
@dataclass(frozen=True)
class Timm(Optimizer):
    """Any optimizer of timm, by its name.

    Args:
        name: such as "lion", "adan" or "lamb"; `timm.optim.list_optimizers()` has them all.
        options: what else it takes.
    """

    lr: Rate = field(default=1e-4, kw_only=True)  # the name is what comes first
    name: str = "lion"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from timm.optim import list_optimizers  # type: ignore[attr-defined]

        super().__post_init__()
        if self.name.startswith(UNKEPT):
            raise UserError(f"timm's optimizer '{self.name}' keeps what no checkpoint can hold: choose another")
        known = [str(name) for name in list_optimizers()]
        if self.name not in known:
            raise UserError(f"timm has no optimizer '{self.name}'. {nearest(self.name, known)}")

    def build(self, parameters: Sequence[Tensor], *, fused: bool) -> torch.optim.Optimizer:
        """As `Optimizer.build`."""
        from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]

        try:
            made: torch.optim.Optimizer = create_optimizer_v2(
                list(parameters), opt=self.name, lr=self.lr, weight_decay=self.weight_decay, **self.options
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"timm's optimizer '{self.name}' is not built: {error}") from error
        return made
