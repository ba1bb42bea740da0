"""What keeps a discriminator smooth: penalties on the gradient of its score by the image."""

from __future__ import annotations

from torch import Tensor

from .term import register


@register("grad")
def r1(gradient: Tensor) -> Tensor:
    """R1: half the squared norm of the discriminator's gradient by an image, a mean over images; of real ones, `b`.

    1/2 E[||grad D(x)||^2], so that the weight of the term is gamma (Mescheder, Geiger and Nowozin, ICML 2018, equation
    9). D is the sum of all logits of an image, whatever places and scales they are of.
    """
    return gradient.square().flatten(1).sum(1).mean() / 2
