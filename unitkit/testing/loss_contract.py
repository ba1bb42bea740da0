"""What losses keep: a finite scalar, and the gradient that finite differences say."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import losses
from ..kernels.operators import LAYOUTS
from ..losses import Classes, Features, Patches, Posterior
from ..registry import Spec
from ..system.errors import nearest
from .contracts import require, variants
from .finite_differences import check_gradients, in_double

# What a loss may read, and the shapes of the tensors to try it on, for one image.
KINDS: dict[str, list[tuple[int, ...]]] = {
    "image": [(3, 5, 7)],
    "code": [(4, 3, 5)],
    "score": [(3, 3, 5), (3, 1, 2)],
    "score.pooled": [(3, 3, 5), (3, 1, 2)],
    "grad": [(3, 5, 7)],
    "layers.encoder": [(4, 5, 7), (6, 3, 4)],
    "layers.generator": [(4, 5, 7), (6, 3, 4)],
    "layers.discriminator": [(4, 5, 7), (6, 3, 4)],
    "patches": [(4, 5, 7), (6, 3, 4)],
    "feature": [(6,)],
    "class": [(10,)],
    "style": [(8, 1, 1)],
    "style.drawn": [(8, 1, 1)],
    "weights": [],
}


def check_loss(label: str, spec: Spec) -> None:
    loss: Any = losses.registry[spec.name]
    for kind in loss.kinds:
        if kind not in KINDS:
            raise AssertionError(f"{label} reads the kind '{kind}'. {nearest(kind, KINDS)}")
    parameters = list(inspect.signature(loss.function).parameters.values())
    several = 2 * any(p.kind is p.VAR_POSITIONAL for p in parameters)
    count = several + sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    for variant, learned in itertools.product((spec, *variants(spec)), (False, True)):
        doing = f"{label} with {variant.arguments}" if variant.arguments else label
        values, leaves = zip(*(_reading(loss.kind(place), learned) for place in range(count)), strict=True)
        value = _value(variant, values)
        scalar = isinstance(value, Tensor) and value.shape == ()
        require(scalar, f"{doing} gives {value!r:.60}, not a scalar tensor")
        require(value.isfinite(), f"{doing} gives {value.item()}")
        again = _value(variant, values)
        require(torch.equal(value, again), f"{doing} differs on equal inputs")
        found = torch.autograd.grad(value, [leaf for each in leaves for leaf in each], allow_unused=True)
        gradients = [gradient for gradient in found if gradient is not None]
        require(all(g.isfinite().all() for g in gradients), f"{doing} has a gradient that is not finite")
        require(any(g.any() for g in gradients), f"{doing}: no gradient reaches its inputs")
        if loss.differentiates:
            _check_loss_differences(doing, variant, count, learned)


def _check_loss_differences(label: str, spec: Spec, count: int, learned: bool) -> None:
    """The gradient is that of finite differences: in each memory format, for one image and for two."""
    loss: Any = losses.registry[spec.name]
    for (layout, memory), images in itertools.product(LAYOUTS.items(), (1, 2)):
        values, leaves = zip(
            *(_reading(loss.kind(place), learned, images, memory) for place in range(count)), strict=True
        )

        def total(values: Any = values) -> dict[str, Tensor]:
            return {"": loss.function(*(read() for read in values), **spec.arguments)}

        inputs = {
            f"tensor {place} of input {number}": leaf
            for number, each in enumerate(leaves, start=1)
            for place, leaf in enumerate(each, start=1)
        }
        check_gradients(f"{label}, {images} images in {layout}", total, inputs)


def _reading(
    kind: str, learned: bool, images: int = 2, memory: torch.memory_format | None = None
) -> tuple[Callable[[], Any], list[Tensor]]:
    """A reading of one kind, made anew at each call, from the tensors that take a gradient.

    Args:
        learned: whether a posterior has a spread.
        memory: float64 in this memory format; without it float32.
    """

    def leaf(tensor: Tensor) -> Tensor:
        return (tensor if memory is None else in_double(tensor, memory)).requires_grad_()

    if kind == "weights":
        pairs = [(nn.Linear(3, 2), nn.Linear(3, 2)) for _ in range(2)]
        if memory is not None:
            pairs = [(one.double(), other.double()) for one, other in pairs]
        return lambda: pairs, [p for pair in pairs for stage in pair for p in stage.parameters()]
    tensors = [leaf(torch.randn(images, *shape)) for shape in KINDS[kind]]
    if kind == "code":
        mean, noise = tensors[0], torch.randn_like(tensors[0])
        spread = leaf(torch.rand(mean.shape).add(0.5)) if learned else None
        return lambda: Posterior(mean, spread, mean + noise), tensors + ([] if spread is None else [spread])
    if kind == "feature":
        head = nn.Linear(6, 1).to(tensors[0].dtype)
        return lambda: Features(tensors[0], lambda top: (head(top)[:, :, None, None],)), tensors
    if kind == "class":
        truth = torch.randint(10, (images,))
        return lambda: Classes(tensors[0], truth), tensors
    if kind == "patches":
        projections = [nn.Linear(t.shape[1], 8).to(t.dtype) for t in tensors]
        return lambda: Patches(tuple(tensors), projections), tensors
    several = kind.startswith(("score", "layers."))
    return lambda: tuple(tensors) if several else tensors[0], tensors


def _value(spec: Spec, values: Sequence[Callable[[], Any]]) -> Tensor:
    """What a loss draws at random, the places of patches say, is of torch's global generator."""
    torch.manual_seed(0)
    value: Tensor = losses.registry.function(spec.name)(*(read() for read in values), **spec.arguments)
    return value
