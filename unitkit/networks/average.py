"""The moving average of what a training trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

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
        self.model, self.decay = model, decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in unique_state(model).items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after a step, which is counted from 0."""
        state = unique_state(self.model)  # asked for anew: a module may put another tensor in a buffer's place
        floats = [name for name, tensor in state.items() if tensor.is_floating_point()]
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([self.tensors[n] for n in floats], [state[n].detach() for n in floats], share)
        for name in state.keys() - set(floats):
            self.tensors[name].copy_(state[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block, the model has the averages for weights."""
        state = unique_state(self.model)
        kept = {name: tensor.detach().clone() for name, tensor in state.items()}
        try:
            fill(state, self.tensors)
            yield
        finally:
            fill(state, kept)
