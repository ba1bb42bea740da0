"""The moving average of what a training trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .state import fill, unique_state


class Average:
    """The exponential moving average of a model's weights and buffers; numbers that are counts are copied.

    After step t it moves by 1 - min(decay, (1 + t) / (10 + t)) towards the weights: while there have been few steps it
    remembers few, and not the start.

    Args:
        model: what is averaged; it begins with its weights.
        decay: the share that it keeps, in [0, 1).

    Attributes:
        tensors: the averages by name.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: tensor.detach() for name, tensor in unique_state(model).items()}  # the model's own memory
        self.tensors = {name: tensor.clone() for name, tensor in self.state.items()}
        floats = [name for name, tensor in self.state.items() if tensor.is_floating_point()]
        self._ours, self._theirs = [self.tensors[n] for n in floats], [self.state[n] for n in floats]
        self._counts = [(self.tensors[n], self.state[n]) for n in self.state.keys() - set(floats)]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after a step, which is counted from 0."""
        torch._foreach_lerp_(self._ours, self._theirs, 1 - min(self.decay, (1 + step) / (10 + step)))
        for ours, theirs in self._counts:
            ours.copy_(theirs)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from averages that were kept, by name."""
        fill(self.tensors, tensors)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block, the model has the averages for weights."""
        kept = {name: tensor.clone() for name, tensor in self.state.items()}
        try:
            fill(self.state, self.tensors)
            yield
        finally:
            fill(self.state, kept)
