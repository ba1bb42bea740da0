"""Measuring: a trained model over the held-out split, or plain sets of images against each other."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np
import torch

from ..data import Data
from ..data.sources import ImageFiles, Images
from ..data.tensors import at_once, to_tensor
from ..data.truth import refuse_ambiguous
from ..data.values import values_of
from ..system.devices import of_machine
from ..system.errors import MachineError, UserError
from ..system.seeds import derive
from .metric import Accumulator, Context, Counting, Metric, Result, path_of, source, uncounted

SAMPLING = "sampling"  # of a model whose codes can be samples outside training too
Results = dict[str, dict[str, Any]]


class Measured(Protocol):
    """What a measurement asks of a model; one with `sampling` may be asked for samples of its codes too."""

    training: bool

    def train(self, mode: bool = True) -> Any: ...
    def read(self, batch: Mapping[str, torch.Tensor], readings: Iterable[str]) -> dict[str, Any]: ...
    def draw(self, count: int, size: tuple[int, int], device: torch.device | str) -> torch.Tensor: ...


def evaluate(
    model: Measured,
    data: Data,
    metrics: Sequence[Metric],
    *,
    device: torch.device | str = "cpu",
    batch: int = 0,
    seed: int = 0,
    max_images: int = 0,
    counting: Counting = uncounted,
) -> Results:
    """Every metric over the held-out split, the model in evaluation mode (z is the posterior's mean).

    Args:
        batch: images at once; 0 takes as many as their size allows, at most 128.
        seed: of latent samples and of a metric's own classifier.
        max_images: images of each domain at most, evenly spread over the split and always the same ones; 0 takes all.
        counting: shows work of a metric that takes long.

    Returns: by the metric's name `title` (what people call it), `figures`, `n` (images by reading), `higher` (whether
        more is better, by figure, but those of which neither is), `units`, `protocol` and `warnings`, ready for JSON;
        where there are some, `details` and `table` (see `metric.Table`). A metric that raises has no figures, `failed`
        says why, and `machine` where it was the machine's fault.
    """
    batch = batch or at_once(data.size)
    measured = [_Evaluated(metric, Context(device, seed, data, counting)) for metric in metrics]
    training = model.training
    model.train(False)
    try:
        with torch.no_grad(), torch.random.fork_rng():
            for letter, count in data.held_out().items():
                readings = dict.fromkeys(r for m in metrics for r in m.reads if source(r) == letter)
                for indices in _batches(count if readings else 0, batch, max_images):
                    if letter in data.domains:
                        images = _read(model, data, letter, indices, readings, device, seed)
                    else:
                        images = _generate(model, data, indices, readings, device, seed)
                    for each in measured:
                        each.update(images)
    finally:
        model.train(training)
    return {each.metric.name: each.result() for each in measured}


def evaluate_images(
    metrics: Sequence[Metric], images: Mapping[str, Images], *, device: torch.device | str = "cpu"
) -> Results:
    """Metrics of plain sets of images, with no model:

        evaluate_images([fid("ab", "b")], {"ab": translated, "b": real})

    Metrics that compare images one by one need sets of equal length and size, of equal names where they are files.

    Returns: as `evaluate`. Raises `UserError` for a set that a metric reads and that is missing or does not fit.
    """
    for metric in metrics:  # all of them, before the first takes its time
        _check_sets(metric, images)
    begun = [_Evaluated(metric, Context(device)) for metric in metrics]
    for measured in begun:
        if measured.failed:
            raise (MachineError if measured.machine else UserError)(measured.failed)
    for measured in begun:
        sets = {reading: images[_set(reading)] for reading in measured.metric.reads}
        groups = [sets] if measured.metric.together else [{reading: each} for reading, each in sets.items()]
        for group in groups:
            first = next(iter(group.values()))
            for indices in _batches(len(first), at_once(first.size), 0):
                loaded = {
                    reading: values_of(each).compared(np.stack([each.load(i) for i in indices]))
                    for reading, each in group.items()
                }
                measured.update(_of_one_depth(loaded))
    return {each.metric.name: each.result() for each in begun}


class _Evaluated:
    """A metric under way. What goes wrong in it is kept as its result, so that it takes no other's figures along."""

    def __init__(self, metric: Metric, context: Context) -> None:
        self.metric, self.n, self.failed, self.machine = metric, Counter[str](), "", False
        self.accumulator: Accumulator | None = None
        with self._kept():
            self.accumulator = metric.begin(context)

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        """Take what the metric reads of a batch."""
        ours = {reading: images[reading] for reading in self.metric.reads if reading in images}
        if ours and self.accumulator and not self.failed:
            with self._kept():
                self.accumulator.update(
                    {reading: each.copy() for reading, each in ours.items()}
                )  # not others' to change
                self.n.update({reading: len(each) for reading, each in ours.items()})

    def result(self) -> dict[str, Any]:
        """What `evaluate` returns of a metric."""
        metric, result, table = self.metric, Result({}), {}
        if self.accumulator and not self.failed:
            with self._kept():
                metric.check_count(self.n)
                found = _plain(self.accumulator.result(self.n))
                result, table = found, {"table": asdict(found.table)} if found.table else {}
        strange = [f"{name} is {value}" for name, value in result.figures.items() if not math.isfinite(value)]
        warnings = [f"not measured: {self.failed}"] if self.failed else [f"{', '.join(strange)}"] if strange else []
        return {
            "title": metric.title or metric.name,
            "figures": result.figures,
            "n": dict(self.n),
            "higher": metric.directions(result.figures),
            "units": dict(metric.units),
            "protocol": result.protocol,
            "warnings": [*warnings, *result.warnings],
            **({"failed": self.failed} if self.failed else {}),
            **({"machine": True} if self.machine else {}),
            **table,
            **({"details": result.details} if result.details else {}),
        }

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:  # a metric is anyone's code
            said, self.machine = str(error).strip().partition("\n")[0], of_machine(error)
            self.failed = said if isinstance(error, UserError) else f"{type(error).__name__}: {said}".removesuffix(": ")


def _plain(result: Result) -> Result:
    """With figures that are floats, and the rest as JSON has it. Raises `ValueError` for a figure that is no number."""
    figures: dict[str, float] = {}
    for name, value in result.figures.items():
        try:
            figures[str(name)] = float("" if isinstance(value, str) else value)
        except (TypeError, ValueError):
            raise ValueError(f"its figure '{name}' is {value!r:.60}, which is no number") from None
    if len(figures) < len(result.figures):
        raise ValueError(f"two of its figures have one name: {', '.join(map(repr, result.figures)):.200}")
    protocol, details = (json.loads(json.dumps(each, default=_number)) for each in (result.protocol, result.details))
    return replace(
        result, figures=figures, protocol=protocol, warnings=tuple(map(str, result.warnings)), details=details
    )


def _number(value: Any) -> Any:
    """A number of numpy or torch as JSON has it, anything else as text."""
    try:
        return value.item()
    except Exception:
        return str(value)


def _check_sets(metric: Metric, images: Mapping[str, Images]) -> None:
    """Images that are compared one by one must fit, and have one name each, so that no two strangers are compared."""
    for reading in metric.reads:
        if reading.startswith("sample"):
            raise UserError(f"{metric.name} translates an image several times: measure a run, not sets of images")
        if reading.startswith(("class:", "label:")):
            raise UserError(f"{metric.name} asks a model for classes: measure a run, not sets of images")
        if _set(reading) not in images:
            raise UserError(f"no images are given for '{_set(reading)}': expected {_set(reading)}=FOLDER")
        metric.check_size(images[_set(reading)].size)
    metric.check_count({reading: len(images[_set(reading)]) for reading in metric.reads})
    if not metric.together:
        return
    apart = f"{metric.name} compares images one by one, and"
    sets = {_set(reading): images[_set(reading)] for reading in metric.reads}
    if len({len(each) for each in sets.values()}) > 1:
        lengths = ", ".join(f"{name} {len(each)}" for name, each in sets.items())
        raise UserError(f"{apart} the sets differ in number: {lengths}")
    if len({tuple(each.size) for each in sets.values()}) > 1:
        sizes = ", ".join(f"{name} {each.size[0]}x{each.size[1]}" for name, each in sets.items())
        raise UserError(f"{apart} the sets differ in size, {sizes}: give one, such as --size 256")
    files = {name: each for name, each in sets.items() if isinstance(each, ImageFiles)}
    if files and len(files) < len(sets):
        rows = ", ".join(name for name in sets if name not in files)
        raise UserError(
            f"{apart} the rows of an array, {rows}, have no names to find the files of {', '.join(files)} by: give "
            f"folders, or arrays, for all of them"
        )
    for name, each in files.items():
        refuse_ambiguous(each, f"the set '{name}'")
    for one, two in itertools.pairwise(files.values()):
        for i, (a, b) in enumerate(zip(one.keys, two.keys, strict=True)):
            if a != b:
                raise UserError(
                    f"{apart} '{one.name(i)}' stands beside '{two.name(i)}': expected the same paths below the folders "
                    f"of both sets, but for the suffix"
                )


def _of_one_depth(images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same images, grey ones as RGB where others have colours."""
    depth = max(each.shape[1] for each in images.values())
    return {reading: x if x.shape[1] == depth else x.repeat(depth, axis=1) for reading, x in images.items()}


def _set(reading: str) -> str:
    """The set that a reading means where there is no model: the truth of `ab` is a set of b."""
    return path_of(reading)[-1] if reading.startswith("truth:") else reading


def _read(
    model: Measured,
    data: Data,
    letter: str,
    indices: Sequence[int],
    readings: Iterable[str],
    device: torch.device | str,
    seed: int,
) -> dict[str, np.ndarray]:
    real, values = np.stack([data.domains[letter].test.load(i) for i in indices]), data.values
    batch = {letter: to_tensor(real, device, values=values[letter])}
    found = {letter: values[letter].compared(real)}
    plain = [reading for reading in readings if ":" not in reading]
    predicted = [reading for reading in readings if reading.startswith("class:")]
    images = model.read(batch, [*plain, *predicted])
    found |= {path: values[path[-1]].compared_tensor(images[path]) for path in plain if path != letter}
    if predicted:
        found |= {reading: images[reading].logits.argmax(1).cpu().numpy() for reading in predicted}
        known = data.domains[letter].test_classes
        assert known is not None, "checked before training"
        found[f"label:{letter}"] = known[np.asarray(indices)]
    for reading in readings:
        if reading.startswith("truth:"):
            assert data.truth, "checked before training"
            end = path_of(reading)[-1]
            found[reading] = values[end].compared(np.stack([data.truth(path_of(reading), i) for i in indices]))
    for number in sorted({int(n) for reading in readings for n in re.findall(r"^sample(\d+):", reading)}):
        prefix = f"sample{number}:"
        paths = [path_of(reading) for reading in readings if reading.startswith(prefix)]
        torch.manual_seed(derive(seed, indices[0], number))
        if not hasattr(model, SAMPLING):
            raise UserError(f"a {type(model).__name__} has no `sampling`, so its latent cannot be sampled here")
        setattr(model, SAMPLING, True)
        try:
            sampled = model.read(batch, paths)
        finally:
            setattr(model, SAMPLING, False)
        found |= {prefix + path: values[path[-1]].compared_tensor(sampled[path]) for path in paths}
    return found


def _generate(
    model: Measured,
    data: Data,
    indices: Sequence[int],
    readings: Iterable[str],
    device: torch.device | str,
    seed: int,
) -> dict[str, np.ndarray]:
    """Images of paths that begin with the noise `z`, always the same ones for a seed."""
    torch.manual_seed(derive(seed, indices[0]))
    images = model.read({"z": model.draw(len(indices), data.size, device)}, readings)
    return {path: data.values[path[-1]].compared_tensor(images[path]) for path in readings}


def _batches(n: int, size: int, max_images: int) -> Iterator[list[int]]:
    chosen = list(range(n)) if not max_images or max_images >= n else [i * n // max_images for i in range(max_images)]
    return (chosen[start : start + size] for start in range(0, len(chosen), size))
