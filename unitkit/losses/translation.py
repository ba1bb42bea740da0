"""What images, codes and weights are drawn to: reconstruction, the prior, smoothness, each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .term import Posterior, register


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


@register("code")
def code_l1(code: Posterior, wanted: Posterior) -> Tensor:
    """The mean absolute difference of the means of two codes: `code_l1("ab", "a")` keeps the content of a.

    E |E_c(G_b(c_a, s_b)) - c_a| in MUNIT (Huang et al., ECCV 2018, equation 3).
    """
    return (code.mean - wanted.mean).abs().mean()


@register("style", "style.drawn")
def style_l1(style: Tensor, drawn: Tensor) -> Tensor:
    """The mean absolute difference of an image's style and the drawn one: `style_l1("ab", "ab")`.

    E |E_s(G_b(c_a, s_b)) - s_b| in MUNIT (Huang et al., ECCV 2018, equation 4).
    """
    return (style - drawn).abs().mean()


@register()
def total_variation(x: Tensor, *, power: Literal[1, 2] = 1) -> Tensor:
    """The size of the gradient from pixel to pixel, to a power, a mean over pixels: 0 for a flat image.

    ((x[i, j+1] - x[i, j])^2 + (x[i+1, j] - x[i, j])^2)^(power / 2), as in Taigman et al. 2017, equation 7.
    """
    across = x[..., :-1, 1:] - x[..., :-1, :-1]
    down = x[..., 1:, :-1] - x[..., :-1, :-1]
    squares = across.square() + down.square()
    # A flat place has no gradient of the root: the small number gives it one, 0.
    return squares.mean() if power == 2 else (squares + 1e-8).sqrt().mean()


@register("weights")
def weight_distance(stages: Sequence[tuple[nn.Module, nn.Module]]) -> Tensor:
    """The mean squared difference between the weights of stages that soft sharing pairs; reads `weights:PART`."""
    pairs = [(p, q) for ours, theirs in stages for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    return sum(((p - q).square().sum() for p, q in pairs), start=torch.zeros(())) / sum(p.numel() for p, _ in pairs)
