"""Whether several implementations of one training step take the same step, from the first one's losses and gradients.

All start from the same weights and take step 0 without noise. Losses are compared term by term, and gradients parameter
by parameter, as each optimizer meets them: a difference is a share of the gradient's norm, a norm below a thousandth of
the largest counting as that (a bias before a norm has no gradient but rounding).

That the step is the same is shown in float64, to 1e-6. In the precision that is timed gradients agree less well than
losses: where a pixel or an activation is within rounding of the kink of l1 or of a leaky ReLU, its gradient turns
round. In fp32 that is 1e-2 of a gradient between memory formats; in bf16 half of it and more, so that there encoders,
generators and discriminators are each compared as a whole, loosely: that finds what is missing, and no digits.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from textbook import Losses, TextbookUnit
from torch import Tensor, nn

from unitkit.data.batches import Batches

TOLERANCE = {
    "fp64": {"loss": 1e-9, "gradient": 1e-6},
    "fp32": {"loss": 1e-4, "gradient": 3e-2},
    "bf16": {"loss": 0.02, "gradient": 0.75},
}


class Variant(NamedTuple):
    """A model, its optimizers, the batches that it sees, and the training step of that number."""

    model: Any
    optimizers: Sequence[torch.optim.Optimizer]
    batches: Batches
    step: Callable[[int], Losses]


def in_float64(variant: Variant) -> Variant:
    """The variant, its weights and images in float64 from now on."""
    batch = variant.batches.batch

    def doubled(step: int) -> dict[str, Tensor]:
        return {name: value.double() if value.is_floating_point() else value for name, value in batch(step).items()}

    variant.model.double()
    variant.batches.batch = doubled  # type: ignore[method-assign]
    return variant


def first_step(variant: Variant) -> tuple[Losses, dict[nn.Parameter, Tensor]]:
    """The losses of step 0 without noise, and the gradient of each parameter as its optimizer meets it."""
    met: dict[nn.Parameter, Tensor] = {}

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        moved = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        met.update({p: p.grad.detach().clone() for p in moved})

    hooks = [optimizer.register_step_pre_hook(keep) for optimizer in variant.optimizers]
    noise, variant.model.noise = variant.model.noise, 0.0
    losses = variant.step(0)
    variant.model.noise = noise
    for hook in hooks:
        hook.remove()
    return losses, met


def differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """How far each tensor is from the expected one of its name, as a share of that one's norm."""
    norms = {name: float(value.double().norm()) for name, value in expected.items()}
    least = 1e-3 * max(norms.values())
    return {
        name: float((found[name].double() - value).norm()) / max(norms[name], least) for name, value in expected.items()
    }


def by_part(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of each part of a model, "encoders", as one."""
    names = sorted(gradients)
    return {
        part: torch.cat([gradients[name].float().flatten() for name in members])
        for part, members in itertools.groupby(names, lambda name: name.partition(".")[0])
    }


def verify(variants: Mapping[str, Variant], package: str, precision: str) -> dict[str, dict[str, float]]:
    """Take step 0 of each variant from the weights of the one called `package`, without noise.

    `precision` is that of all variants but those with bf16 in their names. Returns, by variant, the largest difference
    of a loss and of a gradient. Exits where one is too large.
    """
    reference = variants[package].model
    start, names = copy.deepcopy(reference), {p: name for name, p in reference.named_parameters()}
    losses, met = first_step(variants[package])
    expected = {"loss": losses, "gradient": {names[p]: gradient for p, gradient in met.items()}}
    worst = {}
    for name in (name for name in variants if name != package):
        model = variants[name].model
        own = {p: each for each, p in model.named_parameters()}
        if isinstance(model, TextbookUnit):
            model.copy_weights(start)
            own = {p: names[q] for p, q in model.pairs(reference)}
        losses, met = first_step(variants[name])
        found = {"loss": losses, "gradient": {own[p]: gradient for p, gradient in met.items()}}
        worst[name] = compare(name, found, expected, "bf16" if "bf16" in name else precision)
    return worst


def compare(
    name: str,
    found: Mapping[str, Mapping[str, Tensor]],
    expected: Mapping[str, Mapping[str, Tensor]],
    precision: str,
) -> dict[str, float]:
    """The largest difference of a loss and of a gradient, printed. Exits where one is above the tolerance."""
    worst = {}
    for what, values in expected.items():
        if found[what].keys() != values.keys():
            extra = sorted(found[what].keys() ^ values.keys())
            sys.exit(f"'{name}' is another step than the package's: it has not the same {what} of {', '.join(extra)}")
        loose = precision == "bf16" and what == "gradient"
        off = differences(by_part(found[what]), by_part(values)) if loose else differences(found[what], values)
        place = max(off, key=lambda each: off[each])
        worst[what] = off[place]
        if not all(each <= TOLERANCE[precision][what] for each in off.values()):
            sys.exit(
                f"'{name}' is another step than the package's: the {what} of {place} differs by {off[place]:.1e} of "
                f"itself, and in {precision} at most {TOLERANCE[precision][what]:.0e} is rounding"
            )
    counts = " and ".join(f"{len(values)} {what.replace('loss', 'losse')}s" for what, values in expected.items())
    loosely = ", compared loosely" if precision == "bf16" else ""
    print(
        f"{name}: {counts} equal to the package's ({precision}{loosely}), largest relative differences "
        f"{worst['loss']:.1e} and {worst['gradient']:.1e}"
    )
    return worst
