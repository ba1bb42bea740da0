"""Augmentation of what a discriminator sees, of real and of generated images alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

SHIFT = 8  # up to this part of the side
CUT = 2  # a square of this part of the shorter side


class Augment(nn.Module):
    """While training, mirrors, shifts, recolours and cuts images (N, C, H, W), each with a probability of `share`.

    A discriminator of few images learns them by heart; one that sees them so cannot, and since the generator's pass
    through the same, differentiably, it has nothing to gain from looking augmented while a share of the images is left
    as it is (Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020; Zhao et al.,
    "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020). Each image is drawn for itself.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def extra_repr(self) -> str:
        return f"share={self.share}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        for change in (mirrored, shifted, recoloured, cut):
            chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < self.share
            x = torch.where(chosen, change(x), x)
        return x


def mirrored(x: Tensor) -> Tensor:
    """Left for right."""
    return x.flip(3)


def shifted(x: Tensor) -> Tensor:
    """By up to an eighth of the sides, in front of grey."""
    for dimension in (2, 3):
        side, most = x.shape[dimension], x.shape[dimension] // SHIFT
        start = torch.randint(2 * most + 1, (len(x), 1), device=x.device)
        places = (start + torch.arange(side, device=x.device)).view(
            -1, *((1, side, 1) if dimension == 2 else (1, 1, side))
        )
        framed = pad(x, (0, 0, most, most) if dimension == 2 else (most, most))
        x = framed.gather(dimension, places.expand(x.shape))  # reads no pixel twice: backward is deterministic
    return x


def recoloured(x: Tensor) -> Tensor:
    """Brightness by up to a quarter of the range, saturation up to double, contrast from half to one and a half."""
    brighter, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device, dtype=x.dtype)
    x = x + (brighter - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    y: Tensor = (x - mean) * (contrast + 0.5) + mean
    return y


def cut(x: Tensor) -> Tensor:
    """A square, at a random place and half as large as the shorter side, made grey."""
    height, width = x.shape[2:]
    size = min(height, width) // CUT
    top, left = (
        torch.randint(-(size // 2), side - size // 2 + 1, (len(x), 1), device=x.device) for side in (height, width)
    )
    rows, columns = (torch.arange(side, device=x.device) - start for side, start in ((height, top), (width, left)))
    hidden = ((rows >= 0) & (rows < size))[:, None, :, None] & ((columns >= 0) & (columns < size))[:, None, None, :]
    return x.masked_fill(hidden, 0.0)
