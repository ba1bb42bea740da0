"""The same held-out images translated by every setting of an ablation, side by side."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..data.files.bad import BadImages
from ..data.files.scale import to_image
from ..data.tensors import to_tensor
from ..runs.checkpoint import load_model
from ..runs.folder import RunFolder
from ..runs.kept import kept_recipe
from ..system.errors import UserError
from .grid import label
from .statistics import Findings

ROWS = 3
MOST = 24  # settings
PATH = "ab"


@dataclass(frozen=True)
class Translated:
    """Held-out images of one cell, each uint8 (1 or 3, H, W): the inputs, their counterparts if known, translations."""

    data: str
    inputs: list[np.ndarray]
    truths: list[np.ndarray]
    outputs: list[np.ndarray]


@dataclass
class Strip:
    """What is shown side by side: columns of images under their heads, and what there is to say about them."""

    columns: list[tuple[str, list[np.ndarray]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def heads(self) -> list[str]:
        """What stands above the columns."""
        return [head for head, _ in self.columns]

    @property
    def rows(self) -> list[list[str]]:
        """The images, a row for each of the inputs, as PNG files in base64."""
        return [list(map(_png, images)) for images in zip(*(images for _, images in self.columns), strict=False)]


def strip(findings: Findings) -> Strip:
    """The first held-out images of domain a, their ground truth, and their translations by every setting.

    A setting shows its first seed that is done. One whose model cannot be loaded is left out, and a note says so.
    """
    found = Strip()
    first = {repr(each.cell.setting): each for each in reversed(findings.done)}
    shown = [first[repr(setting)] for setting in findings.settings if repr(setting) in first]
    if len(shown) > MOST:
        found.notes.append(f"The first {MOST} of {len(shown)} settings are shown.")
    reference: Translated | None = None
    for each in shown[:MOST]:
        name = f"{label(each.cell.setting)} (seed {each.cell.seed})"
        try:
            ours = _translated(findings.ablation.run(each.cell).latest())
        except Exception as error:  # the code of a recipe may raise anything, and the tables must not be lost by it
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            found.notes.append(f"{name} is left out of the images: {reason}")
            continue
        if reference is None:
            reference = ours
            found.columns.append(("input", ours.inputs))
            if ours.truths:
                found.columns.append(("ground truth", ours.truths))
        elif not _same_inputs(ours, reference):
            found.notes.append(
                f"{name} translates other images than the input column shows: those of its own data, {ours.data}."
            )
        found.columns.append((name, ours.outputs))
    return found


def _same_inputs(ours: Translated, others: Translated) -> bool:
    """Whether two cells were given the same images, at whatever size each takes them."""
    pairs = list(zip(ours.inputs, others.inputs, strict=False))
    if any(mine.shape != theirs.shape for mine, theirs in pairs):
        return ours.data == others.data
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


@lru_cache(maxsize=4 * MOST)  # a checkpoint never changes, and the report is written again while cells come in
def _translated(checkpoint: Path) -> Translated:
    run = RunFolder(checkpoint.parents[1])
    file = kept_recipe(run)  # first, since it may register parts of the model
    model, _ = load_model(checkpoint)
    data = BadImages(file.build(file.values(None, run.record["knobs"])).data, run.bad_images()).without()
    domain = data.domains[PATH[0]]
    values = [data.values[letter] for letter in PATH]
    indices = range(min(ROWS, len(domain.test)))
    inputs = [domain.test.load(i) for i in indices]
    with torch.no_grad():
        outputs = values[1].restored(model(to_tensor(np.stack(inputs), values=values[0]), PATH))
    truths = [data.truth(PATH, i) for i in indices] if data.truth else []
    sets = ((inputs, values[0]), (truths, values[1]), (outputs, values[1]))
    return Translated(data.name, *([data.bands.shown(each, meant) for each in images] for images, meant in sets))


def _png(image: np.ndarray) -> str:
    """An image (C, H, W) as a file, in base64."""
    file = io.BytesIO()
    to_image(image).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()
