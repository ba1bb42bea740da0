"""The sample grid: held-out images and where the image paths take them, a labelled row for each path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..data import Data
from ..data.tensors import at_once, to_tensor
from ..models import ImagePaths
from ..system.files import replacing


def rows_of(letters: list[str]) -> list[str]:
    """The grid's rows: for each domain the image, its reconstruction, and every translation with its way back.

    For two domains: a, aa, ab, aba, b, bb, ba, bab.
    """
    rows = []
    for letter in letters:
        rows += [letter, letter * 2]
        rows += [path for other in letters if other != letter for path in (letter + other, letter + other + letter)]
    return rows


def rows_for(model: ImagePaths, letters: list[str]) -> list[str]:
    """Those of the rows that the model has; then, where its images come from the noise z, one of each domain."""
    return [row for row in [*rows_of(letters), *("z" + letter for letter in letters)] if model.has(row)]


@torch.no_grad()
def grid(model: ImagePaths, data: Data, *, columns: int = 8, at_least: int = 96) -> Image.Image:
    """The first `columns` held-out images of each domain along every row's path that the model has.

    Args:
        model: it is run in evaluation mode and left in the mode it was in.
        at_least: images smaller than this are enlarged by a whole factor, pixel by pixel.
    """
    rows = rows_for(model, list(data.domains))
    training = model.training
    model.eval()
    try:
        images = _rows(model, data, rows, columns)
    finally:
        model.train(training)
    return _sheet(images, data.size, columns, at_least)


def _rows(model: ImagePaths, data: Data, rows: Sequence[str], columns: int) -> dict[str, list[np.ndarray]]:
    device = next(model.parameters()).device
    images: dict[str, list[np.ndarray]] = {row: [] for row in rows}
    for letter, domain in data.domains.items():
        ours = [row for row in rows if row[0] == letter]
        shown = range(min(columns, len(domain.test)))
        for start in shown[:: at_once(data.size)]:
            pixels = np.stack([domain.test.load(i) for i in shown[start : start + at_once(data.size)]])
            found = model.read({letter: to_tensor(pixels, device, values=data.values[letter])}, ours)
            for row in ours:
                images[row] += _seen(found[row], data, row)
    drawn = [row for row in rows if row[0] == "z"]
    if drawn:
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the same noise in every grid of a run
            found = model.read({"z": model.draw(columns, data.size, device)}, drawn)
        for row in drawn:
            images[row] = _seen(found[row], data, row)
    return images


def _seen(images: torch.Tensor, data: Data, row: str) -> list[np.ndarray]:
    values = data.values[row[-1]]
    return [data.bands.shown(each, values) for each in values.restored(images)]


def _sheet(images: dict[str, list[np.ndarray]], size: tuple[int, int], columns: int, at_least: int) -> Image.Image:
    rows, (height, width) = list(images), size
    scale = max(1, round(at_least / max(height, width)))
    font = ImageFont.load_default(size=16)
    margin = 16 + int(max(font.getlength(row) for row in rows))
    cell_h, cell_w = height * scale + 2, width * scale + 2
    sheet = Image.new("RGB", (margin + columns * cell_w, len(rows) * cell_h), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        draw.text((8, y * cell_h + cell_h // 2), row, fill="black", font=font, anchor="lm")
        for x, image in enumerate(images[row]):
            tile = Image.fromarray(np.broadcast_to(image.transpose(1, 2, 0), (height, width, 3)).copy())
            tile = tile.resize((width * scale, height * scale), Image.Resampling.NEAREST)
            sheet.paste(tile, (margin + x * cell_w, y * cell_h))
    return sheet


def save_grid(model: ImagePaths, data: Data, path: Path) -> None:
    """Write the grid as a PNG, whole or not at all. Raises `UserError` where the disk refuses."""
    sheet = grid(model, data)
    with replacing(path) as file:
        sheet.save(file, format="PNG")
