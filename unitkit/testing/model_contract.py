"""What models keep: every image path, gradient to every part, and the same model again from a file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..kernels.operators import LAYOUTS
from ..losses import Classes, Patches
from ..registry import Spec
from .contracts import check_reached, check_saved, refused, reported, require, weighted
from .finite_differences import check_gradients, in_double, off_its_start

SIZE = (16, 24)  # of the images that models are tried on
HEADS = ("score", "class", "patches")  # what is read of image paths beside the images
ODD_SIZE = (12, 20)  # at which codes of the usual stride 4 have odd sides


def check_model(label: str, spec: Spec) -> None:
    """Every image path to length 3, gradient to every part, and the same model again from its JSON and from a file.

    `spec.arguments["channels"]` says which domains to try.
    """
    channels: dict[str, int] = spec.arguments["channels"]
    label = f"{label} with channels {channels}"
    with reported(label):
        torch.manual_seed(0)
        model = spec.build()
        batch = {letter: torch.rand(2, number, *SIZE) * 2 - 1 for letter, number in channels.items()}
        paths = ["".join(word) for n in (1, 2, 3) for word in itertools.product([*channels, "z"], repeat=n)]
        model.check_size(SIZE)
        paths = [path for path in paths if model.has(path)]
        require(bool(paths), f"{label} has no image path")
        for wrong in ("aA", "no_such_kind:a", ""):
            refused(f"{label}: the reading '{wrong}'", partial(model.check, wrong), wrong)
        for training in (False, True):
            images = model.train(training).read(batch, paths)
            for path in paths:
                same = images[path].shape == batch[path[-1]].shape
                require(same, f"{label}: path '{path}' has shape {list(images[path].shape)}")
                require(images[path].isfinite().all(), f"{label}: path '{path}' is not finite")
        _check_model_gradient(label, model, batch, paths)

        torch.manual_seed(1)
        again = Spec.from_json(json.loads(json.dumps(spec.to_json()))).build()
        require(list(again.state_dict()) == list(model.state_dict()), f"{label}: other weights after a turn to JSON")

        def translations(each: Any) -> Iterable[Tensor]:
            torch.manual_seed(2)  # of models that draw their code
            found = each.read(batch, paths)
            return (found[path] for path in paths)

        check_saved(label, model.eval(), again.eval(), translations)
        _check_differences(label, spec)


def _check_model_gradient(label: str, model: Any, batch: dict[str, Tensor], paths: list[str]) -> None:
    heads = [f"{kind}:{path}" for kind in HEADS for path in paths if model.has(f"{kind}:{path}")]
    readings = model.read(batch, [*paths, *heads])
    pulled = [
        ours - theirs
        for pairs in model.soft_pairs.values()
        for one, other in pairs
        for ours, theirs in zip(one.parameters(), other.parameters(), strict=True)
    ]
    maps = [tensor for name in heads for tensor in _tensors(readings[name])]
    torch.autograd.backward(weighted([*(readings[path] for path in paths if len(path) > 1), *maps, *pulled]))
    for part in model.parts:
        check_reached(f"{label}: {part}", getattr(model, part))


def _check_differences(label: str, spec: Spec) -> None:
    """As of towers: the gradient of all image paths and heads by the parameters of each part is right."""
    channels: dict[str, int] = spec.arguments["channels"]
    for (layout, memory), count in itertools.product(LAYOUTS.items(), (1, 2)):
        torch.manual_seed(0)
        model = spec.build().double().to(memory_format=memory).train()
        off_its_start(model)
        batch = {x: in_double(torch.rand(count, number, *ODD_SIZE) * 2 - 1, memory) for x, number in channels.items()}
        paths = ["".join(word) for n in (1, 2, 3) for word in itertools.product([*channels, "z"], repeat=n)]
        names = [*(p for p in paths if len(p) > 1), *(f"{kind}:{p}" for kind in HEADS for p in paths)]
        names = [name for name in names if model.has(name)]
        read = model.reader(names)
        outputs = _outputs(read(batch), names)
        weights = [in_double(torch.randn(each.shape), memory) for each in outputs]

        def total(read: Any = read, batch: Any = batch, names: Any = names, weights: Any = weights) -> Any:
            products = [(y * w).sum() for y, w in zip(_outputs(read(batch), names), weights, strict=True)]
            return {"": torch.stack(products).sum()}

        for part in model.parts:
            parameters = dict(getattr(model, part).named_parameters(prefix=part))
            check_gradients(f"{label}, {count} images in {layout}", total, parameters)


def _outputs(readings: dict[str, Any], names: list[str]) -> list[Tensor]:
    return [tensor for name in names for tensor in _tensors(readings[name])]


def _tensors(value: Any) -> tuple[Tensor, ...]:
    """The tensors of an image, of scores, of classes, or of patches, projected."""
    if isinstance(value, Classes):
        return (value.logits,)
    if isinstance(value, Patches):
        return tuple(f(x.movedim(1, -1)) for x, f in zip(value.layers, value.projections, strict=True))
    return value if isinstance(value, tuple) else (value,)
