"""What towers keep: shapes, gradient to every parameter, determinism, save and load."""

from __future__ import annotations

import inspect
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..kernels.operators import LAYOUTS
from ..networks.nested import map_tensors
from ..networks.state import weights_of
from ..networks.tower import Tower, Value
from ..registry import REGISTRIES, Spec
from ..runs import checkpoint
from ..system.errors import UserError
from .finite_differences import buffers_held, check_gradients, in_double, off_its_start, settle

LATENT = 8  # channels of the code that generators are tried on


def require(holds: bool | Tensor, message: str) -> None:
    if not holds:
        raise AssertionError(message)


@contextmanager
def reported(doing: str) -> Iterator[None]:
    """An exception of the part itself becomes an AssertionError that says what was being done."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{doing} fails: {type(error).__name__}: {error}") from error


def refused(label: str, make: Callable[[], Any], word: str) -> None:
    try:
        make()
    except UserError as error:
        require(word in str(error), f"{label}: the error does not name '{word}': {error}")
        require("\n" not in str(error), f"{label}: the error is not one line: {error}")
    else:
        raise AssertionError(f"{label} is not refused")


def check_tower(label: str, spec: Spec) -> None:
    first = _built(spec, 3)
    require(isinstance(first, Tower), f"{label} returns a {type(first).__name__}, not a unitkit.Tower")
    for channels, size, batch, training in itertools.product((3, 1), _sizes(first), (1, 2), (True, False)):
        _check_shapes(label, _built(spec, channels).train(training), spec.kind, channels, size, batch)
    for variant in variants(spec):
        changed = {key: value for key, value in variant.arguments.items() if spec.arguments.get(key) != value}
        _check_shapes(f"{label} with {changed}", _built(variant, 3), spec.kind, 3, _sizes(first)[0], 2)
        _check_gradient(f"{label} with {changed}", _built(variant, 3), spec.kind)
        _check_differences(f"{label} with {changed}", variant)
    _check_gradient(label, first, spec.kind)
    _check_repeats(label, spec)
    _check_differences(label, spec)


def variants(spec: Spec) -> Iterator[Spec]:
    """The part with each other choice of its switches and Literal arguments, one at a time."""
    part = REGISTRIES[spec.kind].function(spec.name)
    hints = get_type_hints(part, include_extras=True)
    for parameter in inspect.signature(part).parameters.values():
        hint = hints.get(parameter.name)
        choices = get_args(hint) if get_origin(hint) is Literal else (True, False) if hint is bool else ()
        choices = (3,) if parameter.name == "classes" else choices
        for choice in choices:
            if parameter.kind is parameter.KEYWORD_ONLY and choice != parameter.default:
                yield REGISTRIES[spec.kind].spec(spec.name, **{**spec.arguments, parameter.name: choice})


def _built(spec: Spec, channels: int, seed: int = 0) -> Tower:
    torch.manual_seed(seed)
    tower: Tower = spec.build(*((LATENT, channels) if spec.kind == "generator" else (channels,)))
    return tower


def _sizes(tower: Tower) -> list[tuple[int, int]]:
    """Images to try a tower on: square, an odd multiple of the stride, and not square; or its only size."""
    s, least = tower.stride, max(2, -(-16 // tower.stride))
    return [tower.size] if tower.size else [(least * s, least * s), ((least + 1) * s, least * s), (least * s, 29 * s)]


def _odd_size(tower: Tower) -> tuple[int, int]:
    """An image that is an odd multiple of the stride on both sides, and not square."""
    odd = max(2, -(-16 // tower.stride)) | 1
    return odd * tower.stride, (odd + 2) * tower.stride


def _input(tower: Tower, kind: str, channels: int, size: tuple[int, int], batch: int) -> Value:
    if kind == "generator":
        latent = torch.randn(batch, LATENT, size[0] // tower.stride, size[1] // tower.stride)
        return (latent, torch.randn(batch, tower.style, 1, 1)) if tower.style else latent
    return torch.rand(batch, channels, *size) * 2 - 1


def _tensors(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def _check_shapes(label: str, tower: Tower, kind: str, channels: int, size: tuple[int, int], batch: int) -> None:
    value: Any = _input(tower, kind, channels, size, batch)
    mode = "training" if tower.training else "evaluation"
    label = f"{label} on {batch} images of {size[0]}x{size[1]}, {channels} channels, in {mode}"
    whole = value
    with torch.no_grad(), reported(label):
        for number, stage in enumerate(tower.stages):
            before = [t.clone() for t in _tensors(value)]
            try:
                after = stage(value)
            except ValueError as error:  # batch statistics of one image at 1x1: this part needs batches of two
                if batch == 1 and tower.training and "more than 1 value per channel" in str(error):
                    return
                raise
            same = all(torch.equal(t, b) for t, b in zip(_tensors(value), before, strict=True))
            require(same, f"{label}: stage {number} changes its input in place, which other towers may read too")
            value = after
        found = [tuple(t.shape) for t in _tensors(value)]
        wanted = _wanted(tower, kind, channels, size, batch, found)
        require(found == wanted, f"{label} gives {found}, not {wanted}")
        require(all(t.isfinite().all() for t in _tensors(value)), f"{label} gives values that are not finite")
        if kind == "generator":
            require(value.abs().max() <= 1, f"{label} leaves [-1, 1]")
        if kind == "encoder":
            require(all((t > 0).all() for t in _tensors(value)[1:]), f"{label}: a spread must be above 0")
        if not tower.training:
            columns = [torch.split(t, 1) for t in _tensors(whole)]
            each = zip(*columns, strict=True) if isinstance(whole, tuple) else columns[0]
            alone = torch.cat([_tensors(tower(image))[0] for image in each])
            near = torch.allclose(alone, _tensors(value)[0], atol=1e-4)
            require(near, f"{label}: an image comes out differently a second time, or when others are in its batch")


def _wanted(
    tower: Tower, kind: str, channels: int, size: tuple[int, int], batch: int, found: list[tuple[int, ...]]
) -> list[tuple[int, ...]]:
    height, width = size
    if kind == "encoder":  # a mean, or a mean and a spread
        code = (1, 1) if tower.pools else (height // tower.stride, width // tower.stride)
        return [(batch, tower.channels, *code)] * min(len(found), 2)
    if kind == "generator":
        return [(batch, channels, height, width)]
    classes = [(batch, tower.classes)] if tower.classes else []
    maps = found[: len(found) - len(classes)] or [(0, 0)]
    return [*((batch, 1, *shape[2:]) for shape in maps), *classes]  # one logit for each place of each map


def weighted(values: Iterable[Tensor]) -> Tensor:
    """A scalar in which every number counts differently, so that no gradient cancels."""
    return torch.stack([(value * torch.randn_like(value)).sum() for value in values]).sum()


def _check_gradient(label: str, tower: Tower, kind: str) -> None:
    off_its_start(tower)  # a residual branch may rightly start at 0, which lets no gradient into it
    value = map_tensors(_input(tower, kind, 3, _sizes(tower)[0], 2), lambda t: t.requires_grad_())
    torch.autograd.backward(weighted(_tensors(tower.train()(value))))
    for each in _tensors(value):
        reached = each.grad is not None and bool(each.grad.isfinite().all()) and bool(each.grad.any())
        require(reached, f"{label}: no gradient reaches its input")
    check_reached(label, tower)


def _check_differences(label: str, spec: Spec) -> None:
    """The gradient by the input and by every parameter is that of finite differences: in each memory format, for one
    image and for two, of odd sizes that are not square."""
    for (layout, memory), batch in itertools.product(LAYOUTS.items(), (1, 2)):
        tower = _built(spec, 3).double().to(memory_format=memory).train()
        off_its_start(tower)
        size = tower.size or _odd_size(tower)
        given = in_double(_input(tower, spec.kind, 3, size, batch), memory)
        value: Value = map_tensors(given, lambda t: t.requires_grad_())
        doing = f"{label} on {batch} images of {size[0]}x{size[1]} in {layout}"
        try:
            shapes = [t.shape for t in _tensors(tower(value))]
        except ValueError as error:  # batch statistics of one image at 1x1: this part needs batches of two
            if batch == 1 and "more than 1 value per channel" in str(error):
                continue
            raise
        # Every number that comes out counts differently, so that no gradient cancels; its own comes in this layout.
        weights = [in_double(torch.randn(shape), memory) for shape in shapes]

        settle(tower, partial(tower, value))

        def total(tower: Tower = tower, value: Value = value, weights: list[Tensor] = weights) -> dict[str, Tensor]:
            with buffers_held(tower):
                products = [(t * w).sum() for t, w in zip(_tensors(tower(value)), weights, strict=True)]
            return {"": torch.stack(products).sum()}

        inputs = dict(zip(("its input", "its style"), _tensors(value), strict=False))
        check_gradients(doing, total, {**inputs, **dict(tower.named_parameters())})


def check_reached(label: str, module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        if gradient is None or not gradient.isfinite().all():
            raise AssertionError(
                f"{label}: the gradient of {name} is {'missing' if gradient is None else 'not finite'}"
            )
        # A bias before a norm has none, rightly; a weight always has.
        require(parameter.dim() < 2 or gradient.any(), f"{label}: no gradient reaches {name}")


def _check_repeats(label: str, spec: Spec) -> None:
    """The same seed gives the same tower; a saved tower loads; on the meta device shapes are the same."""
    tower, again = _built(spec, 3), _built(spec, 3)
    value = _input(tower, spec.kind, 3, _sizes(tower)[0], 2)
    outputs = []
    for each in (tower, again):
        torch.manual_seed(1)
        outputs.append(_tensors(each.train()(value)))
    states = [weights_of(each) for each in (tower, again)]
    require(_equal(states[0].values(), states[1].values()), f"{label}: one seed gives different weights")
    require(_equal(*outputs), f"{label}: one seed gives different outputs")

    other = _built(spec, 3, seed=2)
    check_saved(label, tower.eval(), other.eval(), lambda each: _tensors(each(value)))
    with torch.device("meta"):
        rehearsed = _tensors(_built(spec, 3)(map_tensors(value, lambda t: torch.empty(t.shape))))
    shapes = [t.shape for t in rehearsed] == [t.shape for t in outputs[0]]
    require(shapes, f"{label} has other shapes on the meta device, where recipes are checked")


def check_saved(label: str, saved: nn.Module, loaded: nn.Module, run: Callable[[Any], Iterable[Tensor]]) -> None:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_file(weights_of(saved), Path(folder, "model.safetensors"))
        checkpoint.load_weights(loaded, Path(folder))
        require(_equal(run(saved), run(loaded)), f"{label}: saved and loaded, it gives another output")


def _equal(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))
