"""What a machine can do, measured: the fastest rate of each convolution, in both memory formats, and of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from counting import BY_INPUT, BY_WEIGHT, FORWARD, Convolution
from measuring import clock

from unitkit.kernels.operators import LAYOUTS, Layout

AT_LEAST = 3  # repetitions of each measurement
ARRAYS = (2**18, 2**20, 2**22, 2**24, 2**26, 2**28)  # bytes: from what caches hold to what none does
Rates = Mapping[Convolution, Mapping[Layout, float]]


class Bandwidth(NamedTuple):
    """Bytes/s of a pass that moves so many bytes."""

    name: str
    moved: int
    rate: float


def fastest(work: Callable[[], object], device: torch.device, budget: float) -> float:
    """The least seconds that some work takes, of as many repetitions as the budget of seconds allows, at least 3."""
    work()
    began, least, count = time.perf_counter(), float("inf"), 0
    while count < AT_LEAST or time.perf_counter() - began < budget:
        least, count = min(least, clock(work, device)), count + 1
    return least


def convolution_rates(shapes: Iterable[Convolution], device: torch.device, budget: float) -> Rates:
    """FLOP/s of each convolution by itself, by memory format, with this many seconds for each of these."""
    return {
        each: {layout: each.flop / fastest(run(each, layout, device), device, budget) for layout in LAYOUTS}
        for each in shapes
    }


def run(each: Convolution, layout: Layout, device: torch.device) -> Callable[[], object]:
    """The convolution on random tensors, the very operator that a step calls."""

    def made(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, device=device).to(each.dtype).contiguous(memory_format=LAYOUTS[layout])

    image, weight = made(each.image), made(each.weight)
    channels = each.output[1]
    if each.part == FORWARD:
        bias = torch.randn(channels, device=device).to(each.dtype) if each.bias else None
        return partial(torch.ops.aten.convolution, image, weight, bias, *each.settings)
    mask = [each.part == BY_INPUT, each.part == BY_WEIGHT, each.bias and each.part == BY_WEIGHT]
    bias_shape = [channels] if each.bias else None
    gradient = made(each.output)
    return partial(torch.ops.aten.convolution_backward, gradient, image, weight, bias_shape, *each.settings, mask)


def bandwidths(device: torch.device, budget: float) -> list[Bandwidth]:
    """Of a copy and of a triad a = b + s c over arrays of several sizes; each array read or written counts."""
    found = []
    for size in ARRAYS:
        a, b, c = torch.ones(3, size // 4, device=device)
        for name, arrays, work in (
            ("copy", 2, partial(a.copy_, b)),
            ("triad", 3, partial(torch.add, b, c, alpha=3, out=a)),
        ):
            found.append(Bandwidth(name, arrays * size, arrays * size / fastest(work, device, budget)))
    return found


def bandwidth_at(moved: int, measured: Iterable[Bandwidth]) -> float:
    """The fastest rate at which so many bytes, or more, were moved: what caches hold is faster than what none does."""
    measured = list(measured)
    largest = max(each.moved for each in measured)
    return max(each.rate for each in measured if each.moved >= min(moved, largest))
