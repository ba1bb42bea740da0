"""Pools of earlier translations, so that a discriminator does not forget what it has seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """The pool of Shrivastava et al. 2017, section 2.3, as CycleGAN has it.

    It fills first, and gives back what comes in. Then each image, with probability 1/2, takes the place of one of the
    pool, drawn at random, which is given back instead. Its buffers are no weights: a checkpoint keeps them with the
    state of the training, and their size is known before the first image, so that a resumed run finds them there.

    Args:
        count: the number of images that it holds.
        shape: of an image, (C, H, W).
    """

    images: Tensor
    filled: Tensor

    def __init__(self, count: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(count, *shape), persistent=False)
        self.register_buffer("filled", torch.zeros((), dtype=torch.long), persistent=False)

    @torch.no_grad()
    def exchange(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), some of them replaced by earlier ones; outside training just these, without a change.

        No gradient goes through. Draws are from torch's global generator of the device.
        """
        if not self.training:
            return images.detach()
        n, count = len(images), len(self.images)
        drawn = torch.randint(count, (n, 1), device=images.device)[:, 0]
        swaps = torch.rand(n, device=images.device) < 0.5
        order = torch.arange(n, device=images.device)
        filling = self.filled + order < count  # tensors throughout: the device is not waited for
        places = torch.where(filling, self.filled + order, drawn)
        # One image after the other, all at once: by row, which of the batch are put into this image's place.
        puts = (places[:, None] == places) & (swaps | filling)
        before = torch.where(puts & (order < order[:, None]), order, -1).amax(1)
        last = torch.where(puts, order, -1).amax(1)
        kept = self.images[places]
        there = _chosen(before, images, kept)
        self.images[places] = _chosen(last, images, kept).to(kept.dtype)  # what is put into one place twice is the same
        self.filled += filling.sum()
        return torch.where(_as_images(swaps & ~filling), there, images).to(images.dtype)


def _chosen(numbers: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """The images of these numbers, and where one is negative that of `others` in its place."""
    return torch.where(_as_images(numbers >= 0), images[numbers.clamp(min=0)], others)


def _as_images(flags: Tensor) -> Tensor:
    return flags[:, None, None, None]
