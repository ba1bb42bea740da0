"""Towers: networks as ordered stages, run so that what domains share runs once.

A value between two stages is a tensor or a tuple of tensors (the scales of a pyramid, the mean and spread of a
posterior), each with the batch along dimension 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

Value: TypeAlias = "Tensor | tuple[Tensor, ...]"
Stages: TypeAlias = "Sequence[nn.Module] | nn.ModuleList"


class Tower(nn.Module):
    """One network of one domain: an ordered list of stages.

    Sharing is by stage: two towers share stage i when `stages[i]` is one and the same module in both.

    Args:
        stages: the modules, first to last; each maps a value to a value.
        channels: channels of the tower's output (of its first tensor).
        stride: by how much the tower shrinks height and width (an encoder) or grows them (a generator).
        size: the only (height, width) of image that it takes, or None for any that the stride divides.
        classes: of a discriminator whose last output is class logits: their number.
    """

    def __init__(
        self,
        stages: Iterable[nn.Module],
        *,
        channels: int,
        stride: int = 1,
        size: tuple[int, int] | None = None,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = channels
        self.stride = stride
        self.size = size
        self.classes = classes

    def forward(self, value: Value) -> Value:
        for stage in self.stages:
            value = stage(value)
        return value


def run_together(jobs: Sequence[tuple[Stages, Value]]) -> list[Value]:
    """Run several (stages, input) jobs stage by stage; equal to running each alone, in fewer and larger calls.

    Where jobs meet in one stage (a shared stage, or one tower with several inputs), their inputs are concatenated
    and the stage runs once; jobs that reach it with the very same input share the result. So a trunk shared by two
    generators runs once on both latents, however many domains decode them. A stage with batch statistics sees the
    concatenated batch.

    Returns: the outputs, in the order of the jobs.
    """
    values: list[Value] = [value for _, value in jobs]
    for depth in range(max((len(stages) for stages, _ in jobs), default=0)):
        meetings: dict[nn.Module, list[int]] = {}
        for job, (stages, _) in enumerate(jobs):
            if depth < len(stages):
                meetings.setdefault(stages[depth], []).append(job)
        for stage, met in meetings.items():
            distinct = {id(values[job]): values[job] for job in met}
            outputs = dict(zip(distinct, _run_stage(stage, list(distinct.values())), strict=True))
            results = {job: outputs[id(values[job])] for job in met}
            for job, result in results.items():
                values[job] = result
    return values


def _run_stage(stage: nn.Module, inputs: list[Value]) -> list[Value]:
    shapes = {tuple(t.shape[1:] for t in _tensors(value)) for value in inputs}
    if len(inputs) == 1 or len(shapes) > 1:
        return [stage(value) for value in inputs]
    sizes = [_tensors(value)[0].shape[0] for value in inputs]
    joined = tuple(torch.cat(tensors) for tensors in zip(*map(_tensors, inputs), strict=True))
    output = stage(joined if isinstance(inputs[0], tuple) else joined[0])
    pieces = zip(*(torch.split(t, sizes) for t in _tensors(output)), strict=True)
    return [piece if isinstance(output, tuple) else piece[0] for piece in pieces]


def _tensors(value: Value) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
