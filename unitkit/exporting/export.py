"""A trained model's image path as one file that runs where unitkit is not installed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..recipe import Recipe
from ..runs.checkpoint import averages, check_size, load_model, load_step
from ..runs.folder import RunFolder, refuse_own
from ..runs.kept import find_run, kept_run, other_data
from ..runs.schema import MODEL
from ..runs.stored import read_json
from ..system.environment import versions
from ..system.errors import UserError, nearest
from ..system.files import refuse_unwritable, replacing
from ..translate import Translator, load
from .check import TOLERANCE, Difference, Figure, as_trained, batches_of, compare, figures
from .formats import Work, followed, format_of
from .portable import Portable


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was checked.

    Attributes:
        file: where it is.
        about: the description inside.
        difference: the file beside the model.
        figures: of the run's metrics that compare images of the path with others, of the model and of the file.
        notes: sentences on what a user should know.
    """

    file: Path
    about: dict[str, Any]
    difference: Difference
    figures: list[Figure]
    notes: list[str]


def export(
    run: str | Path,
    output: str | Path,
    path: str = "ab",
    *,
    format: str | None = None,
    weights: str = "ema",
    precision: str = "fp32",
    style: str | Path | None = None,
    seed: int | None = None,
) -> Exported:
    """Write a trained model's image path to a file that needs nothing of unitkit, and compare it with the model.

    The file takes images (N, C, H, W) in float32, with values as they are stored (0 to 255 of 8 bits), and gives their
    translations likewise, clipped and not rounded. The latent is the posterior's mean. The comparison is on held-out
    images, which the recipe that the run keeps is run to find, as `unitkit evaluate` does; where there are none, on
    noise.

    Args:
        run: a run folder, whose newest checkpoint is taken, a checkpoint in it, or `hf:OWNER/NAME`.
        output: the file, which is replaced if it is there.
        path: an image path that begins with a real image.
        format: "pt2", "onnx", "torchscript" or "safetensors"; without it what the suffix of `output` says.
        weights: "ema", their moving average where the training kept one, or "last", those of the last step.
        precision: "fp32", "fp16" or "bf16": of weights and computation. ONNX has no bf16, safetensors fp32 alone.
        style: of models that have styles, an image whose style all translations have; without it the prior's mean.
        seed: of these: the style is drawn from N(0, I) by this seed.

    Raises:
        UserError: no run, path, format or precision as said; a package that is missing; a file that cannot be
            written; layers that the format cannot hold; a file that does not compute what the model does. Nothing is
            written then.
    """
    output = Path(output)
    form = format_of(output, format)
    if precision not in TOLERANCE:
        raise UserError(f"unknown precision '{precision}'. {nearest(precision, TOLERANCE)}")
    if precision not in form.precisions:
        has = " and ".join(form.precisions)
        raise UserError(f"the format {form.name} is not exported in {precision}: it has {has}")
    folder, checkpoint = find_run(Path(run))
    refuse_own(output)
    refuse_unwritable(output)
    translator = load(checkpoint, device="cpu", weights=weights)
    styles = _styles(translator, path, style, seed)
    rebuilt = read_json(checkpoint / "model.json", MODEL)
    notes: list[str] = []
    size = tuple(rebuilt["size"])
    recipe = _with_data(folder, checkpoint, translator, notes)
    try:
        batches = batches_of(translator, path[0], recipe.data if recipe else None, size)
    except UserError as error:  # an image that is broken
        notes.append(f"compared on noise: {error}")
        recipe, batches = None, batches_of(translator, path[0], None, size)
    about = {
        "format": 1,
        "unitkit": versions("unitkit")["unitkit"],
        **({"recipe": folder.record["recipe"]} if recipe and folder and "recipe" in folder.record else {}),
        "step": load_step(checkpoint),
        "weights": weights if averages(checkpoint) else "last",
        "precision": precision,
        **description(translator, path, styles),
    }
    model = copy.deepcopy(translator.model)
    model.keep_only(path)
    first, last = translator.values[path[0]], translator.values[path[-1]]
    least = translator.inference.least
    network = Portable(model, path, first, last, styles=styles, least=least, precision=precision)
    work = Work(network, model, about, rebuilt, size)
    reference = partial(_translated, translator, path, styles)
    with replacing(output) as place:
        form.write(work, place)
        with followed(path, form.name):
            written = form.run(place) if form.run else partial(_translated, _loaded(place), path, styles)
            difference = compare(reference, written, batches, last, recipe is not None)
        if not difference.largest <= TOLERANCE[precision]:
            raise UserError(
                f"the exported file is {difference.largest:.3g} of 255 from the model, and {TOLERANCE[precision]:g} is "
                f"the most that {precision} explains: nothing is written; try another format or precision"
            )
        try:
            found = figures(reference, written, recipe, path, translator.values) if recipe else []
        except UserError as error:
            notes.append(f"metrics are not measured: {error}")
            found = []
    return Exported(output, about, difference, found, notes)


def description(translator: Translator, path: str, styles: Mapping[str, Tensor]) -> dict[str, Any]:
    """What somebody who has the file alone must know of its path: ready for JSON."""
    model = translator.model
    ends = {}
    for name, letter in ("input", path[0]), ("output", path[-1]):
        values = translator.values[letter]
        ends[name] = {"domain": letter, "label": translator.labels[letter], "channels": model.channels[letter]}
        ends[name] |= {**values.to_json(), "whole": values.whole}
    return {
        "path": path,
        "labels": translator.labels,
        **ends,
        "size": list(model.size) if model.size else None,
        "stride": model.stride,
        "style": {name: value.flatten().tolist() for name, value in styles.items()},
        "use": USE,
    }


USE = (
    "Input: float32 (N, C, H, W), values as they are stored, low to high of each channel (8 bits: 0 to 255). Output: "
    "the same of the other domain, clipped to its range and not rounded. Any N, and any H and W where size is null: "
    "padding to the stride is inside. Networks see 2 * (x - low) / (high - low) - 1, which is inside, too."
)


def _styles(translator: Translator, path: str, image: str | Path | None, seed: int | None) -> dict[str, Tensor]:
    """What a model with styles is given along a path: that of each domain where the path does not begin."""
    translator.check(path)
    if image is not None and seed is not None:
        raise UserError("give the translations a style, or the seed of one, not both")
    end = path[-1]
    if seed is None and image is None:
        given = {}
    else:
        translator.check_styles()
        given = {end: translator.style(image, end) if image is not None else translator.drawn_style(end, seed or 0)}
    drawn = {letter: torch.zeros(1, n, 1, 1) for letter, n in translator.styles.items() if letter in path[1:]}
    drawn.pop(path[0], None)  # its own, of each image
    return {f"style:{letter}": style.float() for letter, style in {**drawn, **given}.items()}


def _with_data(folder: RunFolder | None, checkpoint: Path, translator: Translator, notes: list[str]) -> Recipe | None:
    """The recipe with its data, as the training saw them; None, and a note, where they are not there."""
    if folder is None:
        notes.append("compared on noise: this is a model without its run, and so without images")
        return None
    try:
        recipe = as_trained(kept_run(folder)[1], translator)
        check_size(checkpoint, recipe.data.size)
    except UserError as error:
        notes.append(f"compared on noise, for want of the run's images: {error}")
        return None
    if note := other_data({**folder.record, "labels": translator.labels}, recipe.data):
        notes.append(note)
    return recipe


def _loaded(file: Path) -> Translator:
    model, said = load_model(file)
    return Translator(model, said.labels, values=said.values)


def _translated(translator: Translator, path: str, styles: Mapping[str, Tensor], images: np.ndarray) -> np.ndarray:
    """What the model makes of images with values as they are stored, in float32; not rounded."""
    source, target = (replace(translator.values[end], dtype="float32") for end in (path[0], path[-1]))
    given = {name: style.expand(len(images), -1, 1, 1) for name, style in styles.items()}
    return translator.inference.translate(images, path, given, source, target)
