"""Losses, and terms: a weight times a loss that names what it reads.

    100 * l1("aba", "a")        the mean absolute difference of two images
    0.1 * kl("ab")              the posterior of image ab against N(0, I)

What a loss reads is a kind and an image path: `aba` (the image), `code:ab` (its posterior), `score:ab` (its
discriminator's logit maps), `class:ab` (class logits), or `link:generators` (the stages that soft sharing draws
together). A loss is one function of the values read, decorated with `@register`; calling it with paths makes a term.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .errors import UserError
from .registry import Registry

registry = Registry("loss")

Form = Literal["non-saturating", "saturating", "least-squares", "hinge"]
FORMS: tuple[Form, ...] = ("non-saturating", "saturating", "least-squares", "hinge")


class Posterior(NamedTuple):
    """q(z | x) = N(mean, spread**2): tensors (N, C, h, w), and the sample z that generators read."""

    mean: Tensor
    spread: Tensor | None  # None means 1 everywhere
    sample: Tensor


@dataclass(frozen=True)
class Term:
    """A weight times a loss on named readings. `3 * term` is the same term with three times the weight."""

    loss: Loss
    paths: tuple[str, ...]
    weight: float = 1.0
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What logs and tables call it: `l1(aba, a)`, `fool(ab, form=hinge)`."""
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

    def __call__(self, readings: Mapping[str, Any]) -> Tensor:
        """The loss, without the weight: a scalar tensor."""
        return self.loss.function(*(readings[name] for name in self.reads), **self.arguments)


@dataclass(frozen=True)
class Loss:
    """A registered loss: called with image paths it makes a `Term`; `function` computes on tensors."""

    function: Callable[..., Tensor]
    kind: str = "image"

    @property
    def name(self) -> str:
        return self.function.__name__.lower()  # as registered

    def __call__(self, *paths: str, **arguments: Any) -> Term:
        registry.spec(self.name, **arguments)  # refuses unknown arguments
        defaults = inspect.signature(self.function).parameters
        return Term(self, paths, arguments={k: v for k, v in arguments.items() if v != defaults[k].default})


LOSSES: dict[str, Loss] = {}  # by name: the registry holds their functions, without the kind that they read


def register(kind: str = "image") -> Callable[[Callable[..., Tensor]], Loss]:
    """Decorator: `@register()` for a loss of images; else `@register("code")`, "score", "class" or "link"."""

    def enter(function: Callable[..., Tensor]) -> Loss:
        loss = Loss(registry.register(function), kind)
        LOSSES[loss.name] = loss
        return loss

    return enter


@register()
def l1(x: Tensor, y: Tensor) -> Tensor:
    """The mean absolute difference: -log of a Laplacian likelihood, up to scale and constant."""
    return (x - y).abs().mean()


@register()
def l2(x: Tensor, y: Tensor) -> Tensor:
    """The mean squared difference: -log of a Gaussian likelihood, up to scale and constant."""
    return (x - y).square().mean()


@register("code")
def kl(code: Posterior, *, on: Literal["mean", "sample"] = "mean", reduce: Literal["mean", "sum"] = "mean") -> Tensor:
    """Twice KL(q(z|x) || N(0, I)): mu^2 + sd^2 - log sd^2 - 1, which is mu^2 where the variance is fixed at 1.

    Args:
        on: "mean" puts it on mu, as the paper states; "sample" on z, as the released code does for fixed variance.
        reduce: "mean" over all elements (the released code); "sum" over the code, mean over the batch (its digits).
    """
    mean, spread, sample = code
    values = (sample if on == "sample" else mean).square()
    if spread is not None and on == "mean":
        values = values + spread.square() - 2 * spread.clamp_min(1e-8).log() - 1
    return values.mean() if reduce == "mean" else values.flatten(1).sum(1).mean()


@register("score")
def judge(real: Sequence[Tensor], *generated: Sequence[Tensor], form: Form = "non-saturating") -> Tensor:
    """The discriminator's side of L_GAN: real images and translations into the same domain told apart.

    Each argument is the logit maps of one image path. The maps' losses (a mean over each) add up over scales; the
    generated paths count together as much as the real one. With cross-entropy this is
    -E[log D(x)] - E[log(1 - D(G(z)))].
    """
    fakes = [torch.stack([_against(scale, False, form) for scale in scales]).sum() for scales in generated]
    return torch.stack([_against(scale, True, form) for scale in real]).sum() + torch.stack(fakes).mean()


def _against(scores: Tensor, real: bool, form: Form) -> Tensor:
    """What a discriminator loses on one logit map of images that are real or are not."""
    if form == "least-squares":
        return (scores - float(real)).square().mean()
    toward = scores if real else -scores
    return (1 - toward).relu().mean() if form == "hinge" else softplus(-toward).mean()


@register("score")
def fool(scores: Sequence[Tensor], *, form: Form = "non-saturating") -> Tensor:
    """The generator's side of L_GAN, on the logit maps of a translation; the maps' losses add up over scales.

    "non-saturating": -E[log D]; "saturating": E[log(1 - D)], the minimax game as the paper writes it;
    "least-squares": E[(D - 1)^2]; "hinge": -E[D], D being the logit in the last two.
    """
    return torch.stack([_in_favour(scale, form) for scale in scores]).sum()


def _in_favour(scores: Tensor, form: Form) -> Tensor:
    if form == "least-squares":
        return (scores - 1).square().mean()
    if form == "hinge":
        return -scores.mean()
    return softplus(-scores).mean() if form == "non-saturating" else -softplus(scores).mean()


@register("link")
def pull(stages: Sequence[tuple[nn.Module, nn.Module]]) -> Tensor:
    """The mean squared difference between the weights of stages that soft sharing links; reads `link:PART`."""
    pairs = [(p, q) for ours, theirs in stages for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    return sum(((p - q).square().sum() for p, q in pairs), start=torch.zeros(())) / sum(p.numel() for p, _ in pairs)


def non_finite_gradient(values: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> str | None:
    """The first of these terms whose gradient by the parameters is not finite."""
    for name, value in values.items():
        if value.requires_grad:
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            if not all(torch.isfinite(g).all() for g in gradients if g is not None):
                return name
    return None
