"""How far the results of one way to compute a step are from those of another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..networks.nested import map_tensors

FLOOR = 0.01  # times the largest norm: what a norm counts as at least


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of numbers, not of counts, among what a step computes."""
    found: list[Tensor] = []

    def take(tensor: Tensor) -> Tensor:
        found.extend([tensor] if tensor.is_floating_point() else [])
        return tensor

    map_tensors(tuple(value), take)
    return found


def apart_from(
    values: Mapping[str, Tensor],
    gradients: Sequence[Tensor | None],
    expected: Mapping[str, Tensor],
    right: Sequence[Tensor | None],
) -> float:
    """The larger of the differences of losses and of gradients."""
    return max(difference(list(values.values()), list(expected.values())), difference(gradients, right))


def difference(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> float:
    """By how much of their norms tensors differ at most, a norm counting as FLOOR times the largest at least."""
    norms = [float(value.detach().norm()) if value is not None else 0.0 for value in expected]
    least = max(FLOOR * max(norms, default=0.0), 1e-12)
    worst = 0.0
    for one, other, norm in zip(found, expected, norms, strict=True):
        if (one is None) != (other is None):
            return math.inf
        if one is not None and other is not None:
            off = float((one - other).detach().norm()) / max(norm, least)
            worst = math.inf if math.isnan(off) else max(worst, off)
    return worst
