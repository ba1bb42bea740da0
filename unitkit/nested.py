"""Tensors inside the dicts, tuples and posteriors that readings are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


def detached(value: Any) -> Any:
    """The same readings, cut off from what computed them."""
    return _map(value, lambda t: t.detach())


def float32(value: Any) -> Any:
    """The same readings, every floating-point tensor in float32."""
    return _map(value, lambda t: t.float() if t.is_floating_point() else t)


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _map(item, function) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [_map(item, function) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value
