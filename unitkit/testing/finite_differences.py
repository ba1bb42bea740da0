"""Gradients beside finite differences: what autograd says of a function, and what the function does when it is moved.

Losses that are right say nothing of gradients that are wrong, so the contract of every tower, model and loss, and
`check_step` for a whole recipe, compare both in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..check import check
from ..data.batches import Batches
from ..kernels.operators import LAYOUTS
from ..networks.nested import map_tensors
from ..recipe import Recipe

# Of every number, along a random direction, each with its own. A right gradient may miss the first, where a kink (of
# ReLU, of an absolute value) lies on the way, the less likely the shorter it is; a wrong one misses all.
STEPS = (1e-6, 1e-7, 1e-8, 1e-9)
TOLERANCE = 1e-5  # of a gradient's norm; in float64 a right one is off by 1e-9 or so


def gradient_errors(
    values: Callable[[], Mapping[str, Tensor]], tensors: Mapping[str, Tensor], seed: int = 0
) -> dict[str, float]:
    """How far each value's gradient by all `tensors` together is from central differences, as a share of its norm.

    Args:
        values: computes named scalars; called again, with the same random state, it gives the same ones.
        tensors: leaves in float64 that take a gradient; they are moved in place, and put back.
    """
    leaves = list(tensors.values())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = values()
        gradients = {
            name: torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
            if value.requires_grad
            else [torch.zeros_like(leaf) for leaf in leaves]
            for name, value in found.items()
        }
        errors = dict.fromkeys(found, float("inf"))
        for attempt, step in enumerate(STEPS):
            generator = torch.Generator().manual_seed(attempt)
            direction = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in leaves]
            numeric = _differences(values, leaves, direction, step, seed)
            for name, gradient in gradients.items():
                slope = torch.stack([(g * v).sum() for g, v in zip(gradient, direction, strict=True)]).sum()
                norm = torch.stack([g.norm() for g in gradient]).norm()
                # What sums of a million numbers of the value's size round to.
                rounding = 1e6 * torch.finfo(torch.float64).eps / step * found[name].detach().abs().clamp_min(1)
                error = float((slope - numeric[name]).abs() / (norm + rounding))
                errors[name] = min(errors[name], error)  # of a NaN, what was there before
            if max(errors.values(), default=0.0) <= TOLERANCE:
                break
    return errors


def _differences(
    values: Callable[[], Mapping[str, Tensor]], leaves: list[Tensor], direction: list[Tensor], step: float, seed: int
) -> dict[str, Tensor]:
    kept = [leaf.detach().clone() for leaf in leaves]
    sides = []
    with torch.no_grad():
        for sign in (1, -1):
            for leaf, before, way in zip(leaves, kept, direction, strict=True):
                leaf.copy_(before + sign * step * way)
            torch.manual_seed(seed)
            sides.append(values())
        for leaf, before in zip(leaves, kept, strict=True):
            leaf.copy_(before)
    return {name: (sides[0][name] - sides[1][name]) / (2 * step) for name in sides[0]}


def check_gradients(label: str, values: Callable[[], Mapping[str, Tensor]], tensors: Mapping[str, Tensor]) -> None:
    """Raise `AssertionError` where the gradient of a value is not what finite differences say; see `gradient_errors`.

    All tensors are tried together first; where that fails, one by one, so that the message names the culprit.
    """
    if max(gradient_errors(values, tensors).values(), default=0.0) <= TOLERANCE:
        return
    for name, tensor in tensors.items():
        for value, error in gradient_errors(values, {name: tensor}).items():
            if error > TOLERANCE:
                raise AssertionError(f"{label}: the gradient {_of(value)}by {name} is off by {error:.1g} of its norm")
    value, error = max(gradient_errors(values, tensors).items(), key=lambda item: item[1])
    raise AssertionError(f"{label}: the gradient {_of(value)}is off by {error:.1g} of its norm")


def _of(value: str) -> str:
    return f"of {value} " if value else ""


def settle(module: nn.Module, forward: Callable[[], object]) -> None:
    """Let what moves towards its place with every forward pass arrive there, such as the vectors of a spectral norm:
    only there is the gradient that takes them as constants that of the value."""
    with torch.no_grad():
        for _ in range(100 if any(True for _ in module.buffers()) else 0):
            forward()


@contextmanager
def buffers_held(module: nn.Module) -> Iterator[None]:
    """Within the block buffers are copies, and after it what they were before: one pass sees what another saw."""
    kept = [(each, dict(each._buffers)) for each in module.modules()]
    for each, buffers in kept:
        each._buffers.update({name: buffer.clone() for name, buffer in buffers.items() if buffer is not None})
    yield
    for each, buffers in kept:
        each._buffers.update(buffers)


def off_its_start(module: nn.Module) -> None:
    """Move every parameter a little: weights and biases of exactly 0 sit on the kinks of what follows them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))


def check_step(recipe: Recipe, *, seed: int = 0) -> None:
    """Compare the gradient of each term of each player, by each part that the player trains, with finite differences.

    The model is built in float64 with the recipe's first batch, in both memory formats. Terms whose gradient is not
    that of their value by design (`reversal`) are passed over. Slow for wide models: give the recipe a small width.

    Raises:
        AssertionError: a gradient that is wrong, with its term, parameter and memory format.
        UserError: whatever `Recipe.checked` refuses.
    """
    checked = check(recipe)
    wanted = checked.reads
    with torch.random.fork_rng(devices=[]):
        batch = Batches(recipe.data, recipe.batch, seed=seed, flip=False).batch(0)
        for layout, memory in LAYOUTS.items():
            torch.manual_seed(seed)
            model: Any = recipe.model.build().double().to(memory_format=memory).train()
            off_its_start(model)
            images = {name: in_double(value, memory) for name, value in batch.items()}
            read = model.reader(wanted)
            for player in checked.players:
                terms = [term for term in player.terms if term.loss.differentiates]

                def values(read: Any = read, images: Any = images, terms: Any = terms) -> dict[str, Tensor]:
                    readings = read(images)
                    return {term.name: term(readings, 0.5) for term in terms}

                for part in player.trains:
                    parameters = dict(getattr(model, part).named_parameters(prefix=part))
                    check_gradients(f"player '{player.name}' in {layout}, batch {recipe.batch}", values, parameters)


def in_double(value: Any, memory: torch.memory_format) -> Any:
    """The same tensors in float64, those of four dimensions in a memory format; others, classes among them, as is."""

    def convert(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return tensor.double().contiguous(memory_format=memory if tensor.dim() == 4 else torch.contiguous_format)

    return map_tensors(value, convert)
