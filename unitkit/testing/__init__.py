"""The contract that every registered part keeps: the package's own tests run it, and so can anyone's.

    import my_parts                                  # registers the encoder "mine"
    unitkit.testing.check("encoder", "mine")         # raises AssertionError where it breaks the contract

A part is built with its defaults, made small where it takes the usual arguments (`width`, `blocks`, `layers`, ...).
"""

from __future__ import annotations

import inspect
import itertools
import string
import types
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from .. import data, discriminators, encoders, generators, losses, metrics, models, sharing
from ..annotations import AtLeast
from ..kernels.operators import LAYOUTS
from ..losses import Classes, Features, Posterior
from ..registry import REGISTRIES, Spec
from ..system.errors import UserError, nearest
from .contracts import check_tower, refused, reported, require, variants
from .finite_differences import check_gradients, check_step, gradient_errors, in_double
from .model_contract import SIZE, check_model

__all__ = ["check", "check_gradients", "check_step", "gradient_errors"]

SMALL: dict[str, Any] = {"width": 4, "blocks": 1, "layers": 2, "front": 1, "back": 1, "n": 6, "n_test": 3}
# What a loss may read, and the shapes of the tensors to try it on, for one image.
KINDS: dict[str, list[tuple[int, ...]]] = {
    "image": [(3, 5, 7)],
    "code": [(4, 3, 5)],
    "score": [(3, 3, 5), (3, 1, 2)],
    "feature": [(6,)],
    "class": [(10,)],
    "weights": [],
}


def check(kind: str, name: str) -> None:
    """Try a registered part against the contract of its kind; usable on parts registered in a file of one's own.

    Every kind: a docstring, annotated arguments, refusal of unknown arguments and of bad values. Towers and models:
    shapes, non-square sizes, gradient to every parameter, determinism, the meta device, save and load. Losses: a
    finite scalar with a gradient. Towers, models and losses: gradients equal to finite differences in float64, in both
    memory formats, for one image and for two. Data: sizes, splits kept apart. Metrics: finite figures, the same in
    batches of any size. Torch's random state is left as it was.

    Raises:
        AssertionError: what the part does not keep, in words.
        UserError: an unknown kind, or a part that is not registered.
    """
    if kind not in CONTRACTS:
        raise UserError(f"unknown kind of part '{kind}'. {nearest(kind, CONTRACTS)}")
    part = REGISTRIES[kind][name]
    label = f"the {kind} '{name}'"
    with torch.random.fork_rng(devices=[]), reported(label):
        torch.manual_seed(0)
        arguments = _arguments(kind, part)
        _check_signature(label, kind, name, arguments)
        CONTRACTS[kind](label, REGISTRIES[kind].spec(name, **arguments))


def _arguments(kind: str, part: Callable[..., Any]) -> dict[str, Any]:
    """Small arguments for a part, among those that it takes."""
    taken = [p.name for p in inspect.signature(part).parameters.values() if p.kind is p.KEYWORD_ONLY]
    usual = {
        "data": {**SMALL, "size": SIZE},
        "sharing": {"encoder": 1, "generator": 1, "discriminator": 1},
        "model": _networks({"a": 3, "b": 3}, sharing.spec("none")),
    }.get(kind, SMALL)
    return {name: usual[name] for name in taken if name in usual}


def _networks(channels: dict[str, int], strategy: Spec) -> dict[str, Any]:
    return {
        "channels": channels,
        "encoder": encoders.spec("residual", width=4, blocks=1),
        "generator": generators.spec("residual", width=4, blocks=1),
        "discriminator": discriminators.spec("strided", width=4, layers=2),
        "sharing": strategy,
    }


def _check_signature(label: str, kind: str, name: str, arguments: dict[str, Any]) -> None:
    registry, part = REGISTRIES[kind], REGISTRIES[kind][name]
    require(bool(inspect.getdoc(part)), f"{label} has no docstring; its first line is what `unitkit list` shows")
    refused(label, partial(registry.spec, name, **arguments, no_such_argument=1), "no_such_argument")
    hints = get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)
    for parameter in inspect.signature(part).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        key = parameter.name
        require(key in hints, f"{label}: annotate the argument '{key}', so that a bad value is refused")
        for bad in _bad_values(hints[key]):
            given = {**arguments, key: bad}
            refused(f"{label} with {key}={bad!r}", partial(registry.spec, name, **given), key)


def _bad_values(annotation: Any) -> list[Any]:
    """Values that an annotation must refuse; none for annotations that accept more than can be told."""
    if get_origin(annotation) is Annotated:
        rules = [rule for rule in get_args(annotation)[1:] if isinstance(rule, AtLeast)]
        return [value for rule in rules for value in (rule.least - 1, rule.below) if value < float("inf")]
    if get_origin(annotation) is Literal:
        return ["no such choice"]
    if get_origin(annotation) in (Union, types.UnionType):
        options = [_bad_values(option) for option in get_args(annotation) if option is not type(None)]
        return [bad for option in options for bad in option] if all(options) else []
    return ["no such value"] if annotation in (int, float, bool) else []


# Losses, data, metrics


def _check_loss(label: str, spec: Spec) -> None:
    loss = losses.LOSSES[spec.name]
    if loss.kind not in KINDS:
        raise AssertionError(f"{label} reads the kind '{loss.kind}'. {nearest(loss.kind, KINDS)}")
    parameters = list(inspect.signature(loss.function).parameters.values())
    several = 2 * any(p.kind is p.VAR_POSITIONAL for p in parameters)
    count = several + sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    for variant, learned in itertools.product((spec, *variants(spec)), (False, True)):
        doing = f"{label} with {variant.arguments}" if variant.arguments else label
        values, leaves = zip(*(_reading(loss.kind, learned) for _ in range(count)), strict=True)
        value = loss.function(*(read() for read in values), **variant.arguments)
        scalar = isinstance(value, Tensor) and value.shape == ()
        require(scalar, f"{doing} gives {value!r:.60}, not a scalar tensor")
        require(value.isfinite(), f"{doing} gives {value.item()}")
        again = loss.function(*(read() for read in values), **variant.arguments)
        require(torch.equal(value, again), f"{doing} differs on equal inputs")
        found = torch.autograd.grad(value, [leaf for each in leaves for leaf in each], allow_unused=True)
        gradients = [gradient for gradient in found if gradient is not None]
        require(all(g.isfinite().all() for g in gradients), f"{doing} has a gradient that is not finite")
        require(any(g.any() for g in gradients), f"{doing}: no gradient reaches its inputs")
        if loss.differentiates:
            _check_loss_differences(doing, variant, count, learned)


def _check_loss_differences(label: str, spec: Spec, count: int, learned: bool) -> None:
    """The gradient is that of finite differences: in each memory format, for one image and for two."""
    loss = losses.LOSSES[spec.name]
    for (layout, memory), images in itertools.product(LAYOUTS.items(), (1, 2)):
        values, leaves = zip(*(_reading(loss.kind, learned, images, memory) for _ in range(count)), strict=True)

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
    return lambda: tuple(tensors) if kind == "score" else tensors[0], tensors


def _check_sharing(label: str, spec: Spec) -> None:
    for letters in ("ab", "abc"):
        networks = _networks(dict.fromkeys(letters, 3), spec)
        check_model(label, models.spec("unit", **networks))


def _check_model(label: str, spec: Spec) -> None:
    strategy = sharing.spec("tie", **{part: 1 for part in ("encoder", "generator") if part in spec.arguments})
    for channels in ({"a": 3, "b": 3}, {"a": 3, "b": 1}, {"a": 1, "b": 3, "c": 1}):
        arguments = {"channels": channels, "sharing": strategy}
        taken = {key: value for key, value in arguments.items() if key in spec.arguments}
        given = models.spec(spec.name, **{**spec.arguments, **taken})
        try:
            given.build()
        except UserError as error:  # a model may want the same channels in all domains
            require("channels" in str(error) and len(set(channels.values())) > 1, f"{label} is not built: {error}")
            continue
        check_model(label, given)


def _check_data(label: str, spec: Spec) -> None:
    opened, again = spec.build(), spec.build()
    require(isinstance(opened, data.Data), f"{label} gives a {type(opened).__name__}, not unitkit.Data")
    require(opened.size == SIZE, f"{label} asked for {SIZE} has size {opened.size}")
    require(len(opened.domains) >= 2, f"{label} has fewer than two domains")
    require(list(opened.domains) == list(string.ascii_lowercase[: len(opened.domains)]), f"{label}: letters a, b, ...")
    require(opened.fingerprint() == again.fingerprint(), f"{label}: opened twice, its fingerprint differs")
    for letter, domain in opened.domains.items():
        shape = (domain.train.channels, *SIZE)
        for split, same in (domain.train, again.domains[letter].train), (domain.test, again.domains[letter].test):
            require(len(split) > 0, f"{label}: a split of domain '{letter}' is empty")
            image = split.load(len(split) - 1)
            fits = image.dtype == np.uint8 and image.shape == shape and shape[0] in (1, 3)
            require(fits, f"{label}: domain '{letter}' gives {image.dtype} {image.shape}, not uint8 {shape}")
            require(np.array_equal(image, same.load(len(same) - 1)), f"{label}: opened twice, its images differ")
            larger = split.at((SIZE[0] + 4, SIZE[1] + 4)).load(0).shape
            require(larger == (shape[0], SIZE[0] + 4, SIZE[1] + 4), f"{label}: at() another size gives {larger}")
        ours, theirs = ({s.name(i) for i in range(len(s))} for s in (domain.train, domain.test))
        require(ours.isdisjoint(theirs), f"{label}: domain '{letter}' has {sorted(ours & theirs)[:1]} in both splits")
        if opened.truth:
            real = domain.test.load(0)
            require(
                np.array_equal(opened.truth(letter * 2, 0), real), f"{label}: truth('{letter * 2}') is not the image"
            )
            other = next(name for name in opened.domains if name != letter)
            require(opened.truth(letter + other, 0).shape[1:] == SIZE, f"{label}: truth has another size")


def _check_metric(label: str, spec: Spec) -> None:
    part = REGISTRIES["metric"][spec.name]
    parameters = inspect.signature(part).parameters
    wanted = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    short = {"steps": 2} if "steps" in parameters else {}  # a metric that trains a classifier
    metric = part(*("ab", "b")[: len(wanted)], **spec.arguments, **short)
    require(isinstance(metric, metrics.Metric), f"{label} gives a {type(metric).__name__}, not a Metric")
    require(metric.name.startswith(f"{spec.name}("), f"{label} calls itself '{metric.name}'")
    require(len(metric.reads) > 0, f"{label} reads no image path")
    try:
        metric.ready()
    except UserError as error:  # its weights are not on this machine, or no model is named: that has to be said well
        require("\n" not in str(error), f"{label}: the error is not one line: {error}")
        return
    side, most = max(metric.smallest, 16), metric.fewest + 2
    opened = data.open_data("portraits", size=side)
    random = np.random.default_rng(0)
    images: dict[str, np.ndarray] = {
        reading: random.integers(0, 10, most)
        if reading.startswith(("class:", "label:"))
        else random.integers(0, 256, (most, 3, side, side), dtype=np.uint8)
        for reading in metric.reads
    }
    copies = {reading: image.copy() for reading, image in images.items()}

    def result(*parts: slice, n: int = most) -> metrics.Result:
        accumulator = metric.begin(metrics.Context(data=opened))
        for rows in parts:
            accumulator.update({reading: image[rows] for reading, image in images.items()})
        found: metrics.Result = accumulator.result(dict.fromkeys(metric.reads, n))
        return found

    fewest = result(np.s_[: metric.fewest], n=metric.fewest).figures
    require(all(map(np.isfinite, fewest.values())), f"{label} of {metric.fewest} images, its `fewest`, is {fewest}")
    whole, in_parts = result(np.s_[:]), result(np.s_[:1], np.s_[1:])
    require(all(np.array_equal(images[r], copies[r]) for r in images), f"{label} changes the images that it reads")
    require(bool(whole.figures), f"{label} gives no figures")
    strange = sorted((metric.units.keys() | set(metric.opposed)) - whole.figures.keys())
    require(not strange, f"{label} has units or directions of figures that it does not give: {', '.join(strange)}")
    for name, figure in whole.figures.items():
        require(isinstance(figure, float) and np.isfinite(figure), f"{label}: the figure {name} is {figure!r}")
        same = np.isclose(figure, in_parts.figures[name], rtol=1e-4, atol=1e-6)
        require(
            bool(same), f"{label}: {name} is {figure} of all images at once and {in_parts.figures[name]} in batches"
        )


CONTRACTS: dict[str, Callable[[str, Spec], None]] = {
    "encoder": check_tower,
    "generator": check_tower,
    "discriminator": check_tower,
    "sharing": _check_sharing,
    "loss": _check_loss,
    "data": _check_data,
    "metric": _check_metric,
    "model": _check_model,
}
