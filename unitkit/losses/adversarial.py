"""The two sides of the adversarial game, on discriminators' logit maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from ..annotations import Count
from .term import register

Mode = Literal["non-saturating", "saturating", "least-squares", "hinge"]
MODES: tuple[Mode, ...] = ("non-saturating", "saturating", "least-squares", "hinge")


@register("score")
def gan_d(real: Sequence[Tensor], *generated: Any, mode: Mode = "non-saturating") -> Tensor:
    """The discriminator's side of L_GAN: real images and translations into the same domain told apart.

    Each argument is the logit maps of one image path. The maps' losses (a mean over each) add up over scales; the
    generated paths count together as much as the real one. With cross-entropy this is
    -E[log D(x)] - E[log(1 - D(G(z)))].
    """
    fakes = [torch.stack([_against(scale, False, mode) for scale in scales]).sum() for scales in generated]
    return torch.stack([_against(scale, True, mode) for scale in real]).sum() + torch.stack(fakes).mean()


@register("score", "score.pooled")
def gan_d_pooled(real: Sequence[Tensor], *generated: Any, mode: Mode = "non-saturating") -> Tensor:
    """`gan_d` on translations out of the model's pools: half of them newest, half older ones (Shrivastava et al. 2017).

    The models' argument `pool` says how many a pool holds.
    """
    loss: Tensor = gan_d.function(real, *generated, mode=mode)
    return loss


def _against(scores: Tensor, real: bool, mode: Mode) -> Tensor:
    """What a discriminator loses on one logit map of images that are real or are not."""
    if mode == "least-squares":
        return (scores - float(real)).square().mean()
    toward = scores if real else -scores
    return (1 - toward).relu().mean() if mode == "hinge" else softplus(-toward).mean()


@register("score")
def gan_g(scores: Sequence[Tensor], *, mode: Mode = "non-saturating") -> Tensor:
    """The generator's side of L_GAN, on the logit maps of a translation; the maps' losses add up over scales.

    "non-saturating": -E[log D]; "saturating": E[log(1 - D)], the minimax game as the paper writes it;
    "least-squares": E[(D - 1)^2]; "hinge": -E[D], D being the logit in the last two.
    """
    return torch.stack([_in_favour(scale, mode) for scale in scores]).sum()


def _in_favour(scores: Tensor, mode: Mode) -> Tensor:
    if mode == "least-squares":
        return (scores - 1).square().mean()
    if mode == "hinge":
        return -scores.mean()
    return softplus(-scores).mean() if mode == "non-saturating" else -softplus(scores).mean()


@register("score")
def multiclass_gan_d(*scores: Any) -> Tensor:
    """The discriminator's side of a game of several classes: which of these image paths is this an image of?

    The i-th path is class i of maps (N, classes, h, w): -log softmax(D(x))_i, a mean over each map, added up over
    scales and paths. With three paths it is the ternary discriminator of Taigman et al. 2017, equation 3.
    """
    return torch.stack(
        [_cross_entropy(scale, target) for target, scales in enumerate(scores) for scale in scales]
    ).sum()


@register("score")
def multiclass_gan_g(scores: Sequence[Tensor], *, target: Count = 0) -> Tensor:
    """The generator's side of that game: -log softmax(D(x))_target, as though the image were of that path."""
    return torch.stack([_cross_entropy(scale, target) for scale in scores]).sum()


def _cross_entropy(scores: Tensor, target: int) -> Tensor:
    return cross_entropy(scores, torch.full_like(scores[:, 0], target, dtype=torch.long))
