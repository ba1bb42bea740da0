"""The two sides of the adversarial game, on discriminators' logit maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from ..annotations import Count
from .term import register

Form = Literal["non-saturating", "saturating", "least-squares", "hinge"]
FORMS: tuple[Form, ...] = ("non-saturating", "saturating", "least-squares", "hinge")


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


@register("score")
def judge_ways(*scores: Sequence[Tensor]) -> Tensor:
    """The discriminator's side of a game of several ways: which of these image paths is this an image of?

    The i-th path is way i of maps (N, ways, h, w): -log softmax(D(x))_i, a mean over each map, added up over scales and
    paths. With three paths it is the ternary discriminator of Taigman et al. 2017, equation 3.
    """
    return torch.stack([_way(scale, way) for way, scales in enumerate(scores) for scale in scales]).sum()


@register("score")
def fool_ways(scores: Sequence[Tensor], *, way: Count = 0) -> Tensor:
    """The generator's side of that game: -log softmax(D(x))_way, as though the image were of that path."""
    return torch.stack([_way(scale, way) for scale in scores]).sum()


def _way(scores: Tensor, way: int) -> Tensor:
    return cross_entropy(scores, torch.full_like(scores[:, 0], way, dtype=torch.long))
