"""What a metric is: the image paths it reads, an accumulator that takes them batch by batch, and what comes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from ..data import Data
from ..models import ImagePaths
from ..registry import Registry
from ..system.errors import UserError
from .networks.published import Published

registry = Registry("metric")
register = registry.register


# Of work that takes long: what it is and of how many steps; what it gives is called after each of them.
Counting = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@contextmanager
def uncounted(what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Long work that nobody watches."""
    yield lambda: None


@dataclass(frozen=True)
class Context:
    """Where and with what a metric measures.

    Attributes:
        device: for networks that a metric brings along.
        seed: of everything that the metric draws at random.
        data: the data of the run; None where plain sets of images are scored.
        counting: shows work of the metric that takes long.
    """

    device: torch.device | str = "cpu"
    seed: int = 0
    data: Data | None = None
    counting: Counting = uncounted


@dataclass(frozen=True)
class Row:
    """A line of a table in place of a list of figures: its cells of text, and by column the figures behind them.

    Attributes:
        cells: such as ("a, untranslated", "smiling").
        figures: the names of figures by the head of their column.
    """

    cells: tuple[str, ...]
    figures: dict[str, str]


@dataclass(frozen=True)
class Table:
    """How people read figures that are more than a list. Metrics with tables of one title and heads share one.

    Attributes:
        heads: of the columns of text, before those of figures.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Result:
    """What an accumulator found.

    Attributes:
        figures: named numbers, the headline first.
        protocol: what besides data and images made the figures: networks, hashes of their weights, tolerances.
        warnings: whole sentences for whoever would trust a figure too far.
        details: what is more than a number, ready for JSON, such as a confusion matrix.
        table: how people read the figures, where it is not as a list.
    """

    figures: dict[str, float]
    protocol: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    table: Table | None = None


class Accumulator(Protocol):
    """One measurement under way. Its memory does not grow with the number of images, where the metric allows it."""

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        """Take a batch: uint8 (N, C, H, W) by reading, int64 (N,) for classes. A metric of sets gets its readings in
        any order."""

    def result(self, n: Mapping[str, int]) -> Result:
        """The figures, after the last batch; `n` counts the images by reading."""


def always() -> None:
    """Nothing is needed, always ready."""


def anything(data: Data) -> None:
    """All data fit."""


@dataclass(frozen=True)
class Metric:
    """A measurement that a recipe, a command or a program asks for.

    Attributes:
        name: a word and paths, such as "fid(ab, b)".
        reads: image paths; `truth:ab` is the ground truth of `a` in domain b, `sample2:ab` a translation from
            the third sample of the latent in place of its mean, `class:ab` the class that is predicted, `label:a` the
            actual one.
        begin: starts a measurement.
        higher: whether more is better, in its figures but those in `opposed` and in `neither`.
        together: whether the readings of one batch belong together, image by image.
        smallest: the least height and width of images that it can take.
        fewest: the least number of images of each reading that it can take.
        ready: raises `UserError` where something that the metric needs (weights) is missing, before any long work.
        needs: the weights that others publish which it reads, or None.
        title: what people call it, where that is not its name.
        units: of figures by name, such as "dB"; "%" is of shares in [0, 1], which people read as percentages.
        single: whether one image alone has figures, at once and with nothing to load.
        opposed: the figures of which less is better where `higher`, and more where not.
        neither: the figures of which neither is better, as of a ratio that should be 1.
        fits: raises `UserError` for data of a run that it cannot measure, before any long work.
    """

    name: str
    reads: tuple[str, ...]
    begin: Callable[[Context], Accumulator]
    higher: bool
    together: bool = True
    smallest: int = 1
    fewest: int = 1
    ready: Callable[[], object] = always
    needs: Callable[[], Published | None] = always
    title: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    single: bool = False
    opposed: tuple[str, ...] = ()
    neither: tuple[str, ...] = ()
    fits: Callable[[Data], object] = anything

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise `UserError` for images too small for this metric."""
        if min(size) < self.smallest:
            raise UserError(
                f"the metric {self.name} needs images of at least {self.smallest} pixels a side, not "
                f"{size[0]}x{size[1]}"
            )

    def directions(self, figures: Iterable[str]) -> dict[str, bool]:
        """By figure whether more is better, of those of which one or the other is."""
        return {name: self.higher != (name in self.opposed) for name in figures if name not in self.neither}

    def check_held_out(self, counts: Mapping[str, int]) -> None:
        """Raise `UserError` for too few held-out images, `Data.held_out()`, to measure."""
        self.check_count({reading: counts[source(reading)] for reading in self.reads})

    def check_count(self, counts: Mapping[str, int]) -> None:
        """Raise `UserError` for fewer images of a reading than the metric needs; `counts` are by reading."""
        for reading in self.reads:
            if counts[reading] < self.fewest:
                images = "image" if self.fewest == 1 else "images"
                raise UserError(
                    f"the metric {self.name} needs at least {self.fewest} {images} of '{path_of(reading)}', and there "
                    f"{'is' if counts[reading] == 1 else 'are'} {counts[reading]}: give more, or leave the metric out"
                )

    def __post_init__(self) -> None:
        said = (self.name, self.title, *self.units, *self.units.values())
        if not isinstance(self.higher, bool) or not all(isinstance(each, str) for each in said):
            raise UserError(
                f"the metric {self.name} has higher={self.higher!r}, and is called by {', '.join(map(repr, said))}: "
                "expected true or false, and names, title and units of text"
            )
        if not all(path_of(reading) for reading in self.reads):
            raise UserError(f"the metric {self.name} reads '', and an image path is a word such as 'ab'")
        if self.together and len({source(reading) for reading in self.reads}) > 1:
            raise UserError(
                f"the metric {self.name} compares images one by one, and its paths begin in different domains"
            )


def named(word: str, *paths: str, **options: tuple[object, object]) -> tuple[str, str]:
    """What a metric is called, by recipes and by people: ("psnr(aa, a, by=2)", "psnr of reconstruction aa, by=2").

    `options` are (value, default): those that differ are said, as metrics that measure otherwise must not share a name.
    """
    said = [f"{key}={value}" for key, (value, default) in options.items() if value != default]
    name = f"{word}({', '.join([*paths, *said])})"
    path, *rest = paths
    if rest and len(path) > 1 and path[0] == path[-1] == rest[0]:
        kind = "reconstruction" if len(set(path)) == 1 else "cycle"
        return name, ", ".join([f"{word} of {kind} {path}", *said])
    return name, name


def path_of(reading: str) -> str:
    """The image path behind a reading: "ab" for "ab", "truth:ab" and "sample0:ab"."""
    return reading.rpartition(":")[2]


def source(reading: str) -> str:
    """The domain whose real images a reading starts from."""
    return path_of(reading)[:1]


def reference_for(path: str, reference: str) -> str:
    """The reading to compare the images of `path` with, one by one.

    A reference that begins in the same domain, `("aba", "a")`, is read as it is; a real image of the domain where the
    path ends, `("ab", "b")`, is the ground truth, which only aligned data know.
    """
    if path and reference and path[0] != reference[0]:
        if reference != path[-1]:
            raise UserError(
                f"images of '{path}' and of '{reference}' cannot be compared one by one: expected a reference that "
                f"begins with '{path[0]}', or '{path[-1]}', the ground truth"
            )
        return f"truth:{path[0]}{reference}"
    return reference


def check_metrics(metrics: Sequence[Metric], model: ImagePaths, data: Data) -> None:
    """Raise `UserError` for a metric that cannot be measured of a model on these data, or lacks its weights."""
    for metric in metrics:
        for name in metric.reads:
            if name.startswith("label:"):
                _check_classes(data, metric.name, name[-1])
                continue
            model.check(re.sub(r"^(truth|sample\d+):", "", name))
            if name.startswith("sample") and not hasattr(model, "sampling"):
                raise UserError(
                    f"the metric {metric.name} samples the latent, and a {type(model).__name__} has no `sampling`: "
                    f"leave the metric out"
                )
            if name.startswith("truth:") and data.truth is None:
                raise UserError(
                    f"the metric {metric.name} needs the ground truth of an image, and the data '{data.name}' do not "
                    f"know it: leave the metric out, or say that equal names are one scene: aligned=yes in a training, "
                    f"--aligned in evaluate"
                )
        metric.check_size(data.size)
        metric.ready()
        metric.fits(data)


def _check_classes(data: Data, metric: str, letter: str) -> None:
    if letter not in data.domains or data.domains[letter].test_classes is None:
        known = [name for name, domain in data.domains.items() if domain.test_classes is not None]
        raise UserError(
            f"the metric {metric} needs the classes of domain '{letter}', and the data '{data.name}' know "
            f"{'those of ' + ', '.join(known) if known else 'none'}"
        )
