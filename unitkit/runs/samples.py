"""The sample grid: held-out images and where the image paths take them, a labelled row for each path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ..data import Data
from ..data.tensors import at_once, to_tensor
from ..models import ImagePaths
from ..system.files import replacing

GAP = 2  # pixels between two cells
BEST_AND_WORST = "best-and-worst.png"  # beside the grids
LAYOUT = "unitkit:layout"  # of a grid's file: the text that says where its cells are
TRUTH = "truth:"  # before a path: what its images should be
RowName = Annotated[str, Meta(pattern=r"\A(truth:)?[a-z]+\Z")]
Pixels = Annotated[int, Meta(ge=1, le=10_000)]


@dataclass(frozen=True)
class Layout:
    """Where the cells of a sheet are: `rows` as (name, number of its images), below each other from the top."""

    rows: Annotated[tuple[tuple[RowName, Annotated[int, Meta(ge=0)]], ...], Meta(min_length=1, max_length=1000)]
    columns: Annotated[int, Meta(ge=1, le=100)]
    size: tuple[Pixels, Pixels]  # height and width of an image
    scale: Pixels  # pixels of the sheet for each of the image's
    margin: Annotated[int, Meta(ge=0)]  # pixels to the left of the first cell
    captions: tuple[str, ...] = ()  # of the columns
    title: str = ""
    of: str = ""  # the figures that it goes with: `figures_key` of them

    @property
    def pitch(self) -> tuple[int, int]:
        """Pixels from one cell to the next: down, and to the right."""
        return self.size[0] * self.scale + GAP, self.size[1] * self.scale + GAP

    @property
    def shape(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        return self.margin + self.columns * self.pitch[1], len(self.rows) * self.pitch[0]

    def cells(self, sheet: Image.Image) -> Image.Image:
        """The images of a sheet side by side, at their own size, with nothing between them."""
        pixels = np.asarray(sheet.convert("RGB"))
        height, width = (side * self.scale for side in self.size)
        rows = [
            np.concatenate([pixels[y : y + height : self.scale, x : x + width : self.scale] for x in self._lefts], 1)
            for y in range(0, self.shape[1], self.pitch[0])
        ]
        return Image.fromarray(np.concatenate(rows))

    @property
    def _lefts(self) -> range:
        return range(self.margin, self.shape[0], self.pitch[1])


def layout_of(image: Image.Image) -> Layout | None:
    """Where the cells of an opened grid are; None where it does not say so, as those of old runs."""
    try:
        found = msgspec.json.decode(str(getattr(image, "text", {}).get(LAYOUT, "")), type=Layout)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    fits = found.shape == image.size and all(count <= found.columns for _, count in found.rows)
    return found if fits and len(found.captions) in (0, found.columns) else None


def name_of(row: str, labels: Mapping[str, str]) -> str:
    """A row's path in words: "smiling to neutral and back"."""
    first, last = (labels.get(letter, letter) for letter in (row[0], row[-1]))
    if row.startswith(TRUTH):
        return f"{last}, the ground truth"
    if row[0] == "z":
        return f"{last} from noise"
    if len(row) == 1:
        return first
    if len(set(row)) == 1:
        return f"{first} reconstructed{' twice' if len(row) == 3 else ''}"
    way = [labels.get(letter, letter) for letter in (row[:-1] if row[0] == row[-1] else row)]
    return " to ".join(way) + (" and back" if row[0] == row[-1] else "")


def sentence_of(row: str, labels: Mapping[str, str]) -> str:
    """What a row's path is."""
    first, last = (labels.get(letter, letter) for letter in (row[0], row[-1]))
    if row.startswith(TRUTH):
        return f"What the translation to {last} should be, which no training has seen."
    if row[0] == "z":
        return f"Images of {last} that the generator makes of noise."
    if len(row) == 1:
        return f"Held-out images of {first}: no training has seen them."
    if len(set(row)) == 1:
        return f"The same images through the encoder and the generator of {first}: what the latent code keeps of them."
    if row[0] == row[-1]:
        return f"The translation to {labels.get(row[1], row[1])} translated to {last} again: it should be the input."
    return f"The images of {first} as images of {last}: the translation."


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
    return sheet_of(images, data.size, columns, at_least=at_least)


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


def sheet_of(
    images: Mapping[str, Sequence[np.ndarray]],
    size: tuple[int, int],
    columns: int,
    *,
    at_least: int = 96,
    captions: Sequence[str] = (),
    title: str = "",
    of: str = "",
) -> Image.Image:
    """Images, each uint8 (1 or 3, H, W), by the row that they stand in, as a sheet that knows its layout."""
    rows, (height, width) = list(images), size
    scale = max(1, round(at_least / max(height, width)))
    font = ImageFont.load_default(size=16)
    margin = 16 + int(max(font.getlength(row) for row in rows))
    layout = Layout(
        tuple((row, len(images[row])) for row in rows), columns, size, scale, margin, tuple(captions), title, of
    )
    sheet = Image.new("RGB", layout.shape, "white")
    draw = ImageDraw.Draw(sheet)
    down, right = layout.pitch
    for y, row in enumerate(rows):
        draw.text((8, y * down + down // 2), row, fill="black", font=font, anchor="lm")
        for x, image in enumerate(images[row]):
            tile = Image.fromarray(np.broadcast_to(image.transpose(1, 2, 0), (height, width, 3)).copy())
            tile = tile.resize((width * scale, height * scale), Image.Resampling.NEAREST)
            sheet.paste(tile, (margin + x * right, y * down))
    sheet.info[LAYOUT] = msgspec.json.encode(layout).decode()
    return sheet


def save_grid(model: ImagePaths, data: Data, path: Path) -> None:
    """Write the grid as a PNG, whole or not at all. Raises `UserError` where the disk refuses."""
    save_sheet(grid(model, data), path)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet with its layout. Raises `UserError` where the disk refuses."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(LAYOUT, sheet.info[LAYOUT])
    with replacing(path) as file:
        sheet.save(file, format="PNG", pnginfo=text)
