"""Losses of domain adaptation: classes of the source, and features that tell nothing of the domain."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..annotations import AtLeast
from ..schedules import Schedule
from ..system.errors import UserError
from .adversarial import gan_d
from .term import Classes, Features, Posterior, register


@register("class")
def classify(classes: Classes) -> Tensor:
    """Cross-entropy of the class logits of an image path, with the classes of the real images that it begins with.

    `classify("ab")` teaches the discriminator of b, or the generator, that a translation keeps its class.

    Raises:
        UserError: the data give a training no classes for the domain where the path begins.
    """
    if classes.actual is None:
        raise UserError("the data give a training no classes for the domain where this path begins")
    return cross_entropy(classes.logits, classes.actual)


@register("class")
def infomax(classes: Classes, *, balance: Annotated[float, AtLeast(0)] = 1.0) -> Tensor:
    """How unsure the classes of images without labels are: the mean entropy of each, less that of their mean.

    Minus the mutual information of image and class at balance 1, which draws each image to one class and all of them to
    every class (Shi and Sha 2012; Liang et al. 2020, SHOT, equation 3). It reads no label.

    Args:
        balance: weight of the entropy of the mean, which takes classes to be equally frequent.
    """
    logs = classes.logits.log_softmax(dim=1)
    each = -(logs.exp() * logs).sum(dim=1).mean()
    # The mean of probabilities, from their logarithms: none underflows to a logarithm of 0.
    mean = logs.logsumexp(dim=0) - math.log(len(logs))
    return each + balance * (mean.exp() * mean).sum()


@register("feature")
def feature_matching(
    first: Features, other: Features, *, norm: Literal["l1", "l2"] = "l2", reduce: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """The difference between the top features that two discriminators give to the images of one code: ("ab", "aa").

    Args:
        norm: "l2", squared differences (the code released with UNIT), or "l1" (its paper).
        reduce: "mean" over all elements, or "sum" over features, mean over the batch (the released code).
    """
    difference = first.top - other.top
    values = difference.square() if norm == "l2" else difference.abs()
    return values.mean() if reduce == "mean" else values.flatten(1).sum(1).mean()


@register("code")
def constancy(first: Posterior, other: Posterior) -> Tensor:
    """The mean squared difference of two codes, f(x) and f(G(f(x))): Taigman et al. 2017, equation 5 (f-constancy)."""
    return (first.mean - other.mean).square().mean()


@register("feature", differentiates=False)
def reversal(first: Features, *others: Any, strength: float | Schedule = 1.0) -> Tensor:
    """Telling domains apart behind a gradient reversal: the head learns to, the features learn that it cannot.

    The value is `gan_d`'s, the first path against the others. Its gradient reaches the features times -`strength`, the
    head unchanged: Ganin et al. 2016, equations 10 to 14.

    Args:
        strength: lambda_p; `Ramp(10)` is the paper's schedule.
    """
    assert not isinstance(strength, Schedule), "terms resolve schedules"
    scores = [features.head(reverse(features.top, strength)) for features in (first, *others)]
    told_apart: Tensor = gan_d.function(*scores)
    return told_apart


def reverse(x: Tensor, strength: float = 1.0) -> Tensor:
    """The same tensor, whose gradient is multiplied by -strength on its way back."""
    reversed_: Tensor = _Reverse.apply(x, strength)
    return reversed_


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None
