"""The moving average of what a training trains."""

from __future__ import annotations

import torch
from torch import Tensor


class Average:
    """The exponential moving average of a model's weights and buffers; numbers that are counts are copied.

    After step t it moves by 1 - min(decay, (1 + t) / (10 + t)) towards the weights: while there have been few steps it
    remembers few, and not the start.

    Args:
        tensors: the weights and buffers by name; what it begins with.
        decay: the share that it keeps, in [0, 1).
    """

    def __init__(self, tensors: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, tensors: dict[str, Tensor], step: int) -> None:
        """Move towards the weights after a step, which is counted from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        floats = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.tensors[n] for n in floats], [tensors[n].detach() for n in floats], share)
        for name in tensors.keys() - set(floats):
            self.tensors[name].copy_(tensors[name])
