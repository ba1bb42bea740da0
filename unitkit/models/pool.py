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
        count = len(self.images)
        places = torch.randint(count, (len(images),), device=images.device)
        swaps = torch.rand(len(images), device=images.device) < 0.5
        order = torch.arange(len(images), device=images.device)
        filling = self.filled + order < count  # a tensor: the device is not waited for
        places = torch.where(filling, self.filled + order, places)
        # Images of a batch come one after the other: which of them took a place last, before each and after all.
        took = (places[:, None] == places) & (swaps | filling)
        before, after = (torch.where(mask, order, -1).amax(1) for mask in (took.tril(-1), took))
        kept, left = (
            torch.where((last >= 0)[:, None, None, None], images[last], self.images[places]) for last in (before, after)
        )
        self.images[places] = left.to(self.images.dtype)  # of one place all are alike
        self.filled += filling.sum()
        return torch.where((swaps & ~filling)[:, None, None, None], kept, images).to(images.dtype)
