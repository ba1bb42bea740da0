"""The tensors of a model by name: weights and buffers, each once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def unique_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's parameters and buffers by name, each tensor once under its first name."""
    seen: set[int] = set()
    state = model.state_dict(keep_vars=True)
    return {name: t for name, t in state.items() if id(t) not in seen and not seen.add(id(t))}  # type: ignore[func-returns-value]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """`unique_state`, detached and contiguous."""
    return {name: tensor.detach().contiguous() for name, tensor in unique_state(model).items()}


def passing_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that are not kept among the weights."""
    kept = model.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in model.named_buffers() if name not in kept}


def fill(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of their names."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(values[name])
