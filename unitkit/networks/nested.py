"""Tensors inside the dicts, tuples and posteriors that readings are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def detached(value: Any) -> Any:
    """The same readings, cut off from what computed them."""
    return map_tensors(value, lambda t: t.detach())


def full_precision(value: Any) -> Any:
    """The same readings, every tensor of 16-bit floats in float32."""
    return map_tensors(value, lambda t: t.float() if t.dtype in (torch.bfloat16, torch.float16) else t)


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same structure of dicts, tuples and named tuples, with `function` of each tensor in it."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [map_tensors(item, function) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value
