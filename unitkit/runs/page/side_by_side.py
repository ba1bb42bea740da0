"""The same held-out images translated by several checkpoints, side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ...data.domains import in_channels, with_values
from ...data.files.scale import to_image
from ...data.tensors import to_tensor
from ...system.errors import UserError
from ..checkpoint import load_model
from ..folder import RunFolder
from ..kept import kept_run
from ..samples import name_of

LARGEST = 16_000_000  # bytes of all images of a page
SMALL = 96  # pixels of a side, below which images are enlarged pixel by pixel
KEPT = 100  # checkpoints whose translations are remembered
# How images are written, the first in which a page is small enough: a factor to reduce them by, and JPEG's quality.
WAYS = ((1, None), (1, 92), (2, 92), (4, 92), (8, 85))

Column = tuple[str, Path]  # what stands above a checkpoint's translations, and the checkpoint


@dataclass(frozen=True)
class Strip:
    """Columns of images, each uint8 (1 or 3, H, W), under their heads: inputs, the truth if known, translations."""

    title: str
    columns: list[tuple[str, list[np.ndarray]]]


class Drawn(NamedTuple):
    """A strip as a page holds it: `rows` of addresses, a row for each input; `small` where each pixel is to be seen."""

    title: str
    small: bool
    heads: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Translated:
    """Held-out images of one run along a path: what they are, they themselves, their truths, and their translations."""

    data: str
    names: list[str]
    way: str
    inputs: list[np.ndarray]
    truths: list[np.ndarray]
    outputs: list[np.ndarray]

    def same_inputs(self, other: Translated) -> bool:
        """Whether both were given the same images, at whatever size each takes them."""
        pairs = list(zip(self.inputs, other.inputs, strict=False))
        if len(self.inputs) != len(other.inputs) or any(ours.shape != theirs.shape for ours, theirs in pairs):
            return (self.data, self.names[:1]) == (other.data, other.names[:1])
        return all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def side_by_side(columns: Sequence[Column], paths: Sequence[str], count: int) -> tuple[list[Strip], list[str]]:
    """The first `count` held-out images along each path, their ground truth, and their translations by each checkpoint.

    Checkpoints that were given other images stand in a strip of their own, with these.

    Returns: the strips, and notes on what is not in them, or not beside the others, in a line each.
    """
    found: dict[str, list[tuple[Translated, Strip]]] = {path: [] for path in paths}
    notes = []
    for head, checkpoint in columns:
        try:
            translated = _translated(checkpoint, tuple(paths), count)
        except Exception as error:  # the code of a recipe may raise anything, and the tables must not be lost by it
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            notes.append(f"{head} is left out of the images: {reason}")
            continue
        if lacking := [path for path in paths if path not in translated]:
            notes.append(f"{head} has no image path {', '.join(lacking)}")
        apart = False
        for path, ours in translated.items():
            strip = next((strip for first, strip in found[path] if ours.same_inputs(first)), None)
            if strip is None:
                truths = [("ground truth", ours.truths)] if ours.truths else []
                strip = Strip(ours.way, [("input", ours.inputs), *truths])
                found[path].append((ours, strip))
            strip.columns.append((head, ours.outputs))
            apart = apart or strip is not found[path][0][1]
        if apart:
            notes.append(
                f"{head} was given other images than the first, those of its own data, {ours.data}, and stands apart"
            )
    return [strip for strips in found.values() for _, strip in strips], notes


def drawn(strips: Sequence[Strip]) -> list[Drawn]:
    """The strips for a page: all of their images alike as PNG, or in JPEG and smaller where these are too large."""
    found: list[Drawn] = []
    for factor, quality in WAYS:
        found = [
            Drawn(
                strip.title,
                all(max(image.shape) < SMALL for _, images in strip.columns for image in images),
                [head for head, _ in strip.columns],
                [
                    [_uri(image, factor, quality) for image in row]
                    for row in zip(*(images for _, images in strip.columns), strict=False)
                ],
            )
            for strip in strips
        ]
        if sum(len(uri) for strip in found for row in strip.rows for uri in row) <= LARGEST:
            break
    return found


@lru_cache(maxsize=KEPT)  # a checkpoint never changes, and an ablation's report is written again while cells come in
def _translated(checkpoint: Path, paths: tuple[str, ...], count: int) -> dict[str, Translated]:
    _, recipe = kept_run(RunFolder(checkpoint.parents[1]))  # first, since it may register parts of the model
    model, description = load_model(checkpoint)
    data = with_values(in_channels(recipe.data, model.channels), description.values)
    found = {}
    for path in filter(model.has, paths):
        domain, first, last = data.domains[path[0]], data.values[path[0]], data.values[path[-1]]
        indices = range(min(count, len(domain.test)))
        inputs = [domain.test.load(i) for i in indices]
        with torch.no_grad():
            outputs = [last.restored(model(to_tensor(each[None], values=first), path))[0] for each in inputs]
        known = data.truth if path[0] != path[-1] else None
        truths = [known(path, i) for i in indices] if known else []
        sets = ((inputs, first), (truths, last), (outputs, last))
        seen = ([data.bands.shown(each, meant) for each in images] for images, meant in sets)
        way = f"{name_of(path, data.labels)}, {path}"
        found[path] = Translated(data.name, [domain.test.name(i) for i in indices], way, *seen)
    return found


def _uri(image: np.ndarray, factor: int, quality: int | None) -> str:
    """An image (C, H, W) as an address that holds it."""
    file, shown = io.BytesIO(), to_image(image)
    if factor > 1:
        shown = shown.reduce(factor)
    options: dict[str, Any] = {"format": "PNG"}
    if quality is not None:
        options = {"format": "JPEG", "quality": quality, "subsampling": 0}
    shown.save(file, **options)
    kind = options["format"].lower()
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
