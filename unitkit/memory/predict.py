"""The memory that a training will take: one step of it, on tensors that have shapes and no values.

The step is the trainer's own, with backward and optimizers, in torch's fake tensors, which know device, dtype and
layout like real ones, so that autocast and recomputation do what they do. `Live` counts what is alive. On the CPU the
process grows by more than its tensors: the libraries' code and kernels, and what glibc's heap loses between blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..check import Checked, meta_batch
from ..kernels.layout import channels_last
from ..kernels.placement import Placement
from ..networks.average import Average
from ..networks.state import unique_state
from ..recipe import Recipe
from ..runs.options import RunOptions
from ..system.live import Live
from ..training.plan import Phase, Turn
from ..training.step import TrainingStep

# As measured (docs/results/memory.md), on a CPU with glibc.
FRAMEWORK = 25 * 2**20  # code and kernels that the first steps load
SPLIT = 1.55  # by how much the heap outgrows the blocks in it that a step makes and frees


@dataclass(frozen=True)
class Prediction:
    """Bytes that a training takes, by what they are for, and the work of its step.

    Attributes:
        weights: with buffers, such as pools of images.
        gradients: of all players.
        optimizers: their state.
        average: of the weights.
        batch: the images of a step.
        peak: the most that is alive at once: all these, with activations and what backward and operators make besides.
        large: of what a step makes besides, how much at the peak is in blocks too large for the heap.
        flops: the arithmetic of a step in which all players move.
        device: its type.
    """

    weights: int
    gradients: int
    optimizers: int
    average: int
    batch: int
    peak: int
    large: int
    flops: int
    device: str

    @property
    def lasting(self) -> int:
        """What is there from step to step."""
        return self.weights + self.gradients + self.optimizers + self.average + self.batch

    @property
    def activations(self) -> int:
        """What a step makes and frees, at the peak."""
        return self.peak - self.lasting

    @property
    def besides(self) -> int:
        """On the CPU, by how much the process outgrows its tensors."""
        return FRAMEWORK + round((SPLIT - 1) * (self.activations - self.large)) if self.device == "cpu" else 0

    @property
    def total(self) -> int:
        """What the device must have: of tensors on a GPU, by which the process grows on the CPU."""
        return self.peak + self.besides

    def beyond(self, before: Prediction, count: int) -> Prediction:
        """What comes after so many more steps that are like the one from `before` to this."""
        numbers = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "device"}
        return replace(self, **{name: n + count * (n - getattr(before, name)) for name, n in numbers.items()})


class Unpredictable(Exception):
    """A part of the recipe that needs values of tensors, or that fake tensors do not know."""


def predict(checked: Checked, recipe: Recipe, placement: Placement, precision: str, device: torch.device) -> Prediction:
    """The memory of a training. Takes as long as some steps of a small network, and memory for none.

    Args:
        checked: for its players.
        recipe: the one that was checked, or one that differs in batch, accumulate, recompute, or the size of its data.
        placement: how it is computed.
        precision: "fp32" or "bf16".
        device: where.

    Raises:
        Unpredictable: for a recipe that cannot be run without values.
    """
    # Here, as most trainings need no prediction, and these modules take time to load.
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import flop_registry

    work = _Work(flop_registry, reorders=device.type == "cpu" and torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    live = Live(work)
    try:
        with torch.random.fork_rng(devices=[]), FakeTensorMode(allow_non_fake_inputs=True), live:
            found = _rehearse(checked, recipe, placement, precision, live)
    except (RuntimeError, TypeError, ValueError, NotImplementedError, AssertionError) as error:
        raise Unpredictable(f"{type(error).__name__}: {error}".partition("\n")[0]) from error
    return Prediction(**found, flops=work.flops, device=device.type)


class _Rehearsal(TrainingStep):
    """A training step whose gradients have no values to be looked at."""

    def _move(self, turn: Turn, optimizer: torch.optim.Optimizer, *unused: Any) -> None:
        optimizer.step()


def _rehearse(checked: Checked, recipe: Recipe, placement: Placement, precision: str, live: Live) -> dict[str, int]:
    cpu = torch.device("cpu")  # fake tensors of a GPU want a GPU; sizes are the same
    model = placement.with_norms(recipe.model.build()).train()  # its layout, a moved tensor's, is of no account
    options = RunOptions("", precision=precision).resolved({}, precision)
    step = _Rehearsal(recipe, checked, model, options, cpu, placement, lambda _: {})
    average = Average(model, recipe.ema) if recipe.ema else None
    for parameter in itertools.chain.from_iterable(step.parameters.values()):
        parameter.grad = torch.empty_like(parameter)
    for optimizer in step.optimizers.values():
        optimizer.step()
    batch = _batch(recipe, placement)
    live.measure_anew()
    before, large = live.bytes, live.large
    for phase in _largest(step.plan.phases):
        step.take(phase, batch, 0)
    states = [state for optimizer in step.optimizers.values() for state in optimizer.state.values()]
    found = {
        "weights": _bytes({**unique_state(model), **dict(model.named_buffers())}.values()),
        "gradients": _bytes(p.grad for p in model.parameters() if p.grad is not None),
        "optimizers": _bytes(value for state in states for value in state.values() if isinstance(value, Tensor)),
        "average": _bytes(average.tensors.values()) if average else 0,
        "batch": _bytes(batch.values()),
    }
    found["weights"] += max(0, before - sum(found.values()))  # constants of modules, say
    return {**found, "peak": live.peak, "large": max(0, live.large_at_peak - large)}


def _largest(phases: dict[tuple[bool, ...], Phase]) -> list[Phase]:
    """The phases but for those whose players all move in another one too."""

    def within(one: tuple[bool, ...], other: tuple[bool, ...]) -> bool:
        return one != other and all(theirs or not ours for ours, theirs in zip(one, other, strict=True))

    return [phase for moving, phase in phases.items() if not any(within(moving, other) for other in phases)]


def _batch(recipe: Recipe, placement: Placement) -> dict[str, Tensor]:
    batch = {}
    for name, like in meta_batch(recipe).items():
        shape = (len(like) * recipe.accumulate, *like.shape[1:])
        made = torch.zeros(shape, dtype=like.dtype, device="cpu")
        batch[name] = made.contiguous(memory_format=placement.memory_format) if made.dim() == 4 else made
    return batch


def _bytes(tensors: Any) -> int:
    storages = {storage._cdata: storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())


class _Work:
    """What operators do besides their results.

    Args:
        counts: the arithmetic of an operator, by which torch's counter knows it.
        reorders: whether convolutions are oneDNN's: in NCHW it computes on copies in blocks of channels, in
            channels-last on copies of the weights.

    Attributes:
        flops: of convolutions and matrix products until now.
    """

    def __init__(self, counts: Mapping[Any, Callable[..., int]], *, reorders: bool) -> None:
        self.counts, self.reorders, self.flops = counts, reorders, 0

    def __call__(self, func: Any, args: Sequence[Any], result: Any) -> int:
        """The most bytes that an operator holds while it runs, its results included where it is a convolution."""
        if (count := self.counts.get(func.overloadpacket)) is not None:
            self.flops += count(*args, out_val=result)
        if not self.reorders:
            return 0
        if func is torch.ops.aten.convolution.default:
            x, weight = args[:2]
            return _size(weight, result) if channels_last(x) else _size(x, weight, result)
        if func is torch.ops.aten.convolution_backward.default:
            grad, x, weight = args[:3]
            by_x = _size(result[0])
            return by_x + (3 * _size(weight) if channels_last(x) else _size(grad, x, weight))
        return 0


def _size(*tensors: Tensor | None) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)
