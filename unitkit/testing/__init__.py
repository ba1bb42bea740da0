"""The contract that every registered part keeps: the package's own tests run it, and so can anyone's.

    import my_parts                                  # registers the encoder "mine"
    unitkit.testing.check("encoder", "mine")         # raises AssertionError where it breaks the contract

A part is built with its defaults, made small where it takes the usual arguments (`width`, `blocks`, `layers`, ...).
"""

from __future__ import annotations

import inspect
import string
import types
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

from .. import data, discriminators, encoders, generators, metrics, models, sharing
from ..annotations import AtLeast
from ..registry import REGISTRIES, Spec, users_parameters
from ..system.errors import UserError, nearest
from .changing import check_optimizer, check_reading, check_schedule
from .contracts import check_tower, refused, reported, require
from .finite_differences import check_gradients, check_step, gradient_errors
from .loss_contract import check_loss
from .model_contract import SIZE, check_model

__all__ = ["check", "check_gradients", "check_step", "gradient_errors"]

SMALL: dict[str, Any] = {
    "width": 4,
    "backbone": "test_resnet",  # timm's smallest
    "mlp": 4,
    "style": 3,
    "blocks": 1,
    "layers": 2,
    "front": 1,
    "back": 1,
    "n": 6,
    "n_test": 3,
}


def check(kind: str, name: str) -> None:
    """Try a registered part against the contract of its kind; usable on parts registered in a file of one's own.

    Every kind: a docstring, annotated arguments, refusal of unknown arguments and of bad values. Towers and models:
    shapes, non-square sizes, gradient to every parameter, determinism, the meta device, save and load. Losses: a
    finite scalar with a gradient. Towers, models and losses: gradients equal to finite differences in float64, in both
    memory formats, for one image and for two. Data: sizes, splits kept apart. Metrics: finite figures, the same in
    batches of any size. Schedules, optimizers and readings: see `changing`. Torch's random state is left as it was.

    Raises:
        AssertionError: what the part does not keep, in words.
        UserError: an unknown kind, or a part that is not registered.
    """
    if kind not in CONTRACTS:
        raise UserError(f"unknown kind of part '{kind}'. {nearest(kind, CONTRACTS)}")
    part = REGISTRIES[kind].function(name)
    label = f"the {kind} '{name}'"
    with torch.random.fork_rng(devices=[]), reported(label):
        torch.manual_seed(0)
        arguments = _arguments(kind, part)
        _check_signature(label, kind, name, arguments)
        CONTRACTS[kind](label, REGISTRIES[kind].spec(name, **arguments))


def _arguments(kind: str, part: Callable[..., Any]) -> dict[str, Any]:
    """Small arguments for a part, among those that it takes."""
    taken = list(users_parameters(part))
    usual = {
        "data": {**SMALL, "size": SIZE},
        "sharing": {"encoder": 1, "generator": 1, "discriminator": 1},
        "model": _networks({"a": 3, "b": 3}, sharing.spec("none")),
    }.get(kind, SMALL)
    if "style_encoder" in taken:
        usual |= {
            "generator": generators.spec("adain", blocks=1, style=3, mlp=16),
            "style_encoder": encoders.spec("style", width=8, downs=2, style=3),
        }
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
    registry, part = REGISTRIES[kind], REGISTRIES[kind].function(name)
    require(bool(inspect.getdoc(part)), f"{label} has no docstring; its first line is what `unitkit list` shows")
    refused(label, partial(registry.spec, name, **arguments, no_such_argument=1), "no_such_argument")
    hints = get_type_hints(part, include_extras=True)
    for key in users_parameters(part):
        require(key in hints, f"{label}: annotate the argument '{key}', so that a bad value is refused")
        for bad in _bad_values(hints[key]):
            given = {**arguments, key: bad}
            refused(f"{label} with {key}={bad!r}", partial(registry.spec, name, **given), key)


def _bad_values(annotation: Any) -> list[Any]:
    """Values that an annotation must refuse; none for annotations that accept more than can be told."""
    if get_origin(annotation) is Annotated:
        rules = [rule for rule in get_args(annotation)[1:] if isinstance(rule, AtLeast)]
        return [
            value for rule in rules for value in (rule.least - 1, rule.below, rule.above) if abs(value) < float("inf")
        ]
    if get_origin(annotation) is Literal:
        return ["no such choice"]
    if get_origin(annotation) in (Union, types.UnionType):
        options = [_bad_values(option) for option in get_args(annotation) if option is not type(None)]
        return [bad for option in options for bad in option] if all(options) else []
    return ["no such value"] if annotation in (int, float, bool) else []


# Losses, data, metrics


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
    strange = sorted((metric.units.keys() | set(metric.opposed) | set(metric.neither)) - whole.figures.keys())
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
    "loss": check_loss,
    "data": _check_data,
    "metric": _check_metric,
    "model": _check_model,
    "reading": check_reading,
    "optimizer": check_optimizer,
    "schedule": check_schedule,
}
