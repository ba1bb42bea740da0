"""Streets by day and by night, translated both ways: the picture of docs/results/streets.md.

    python benchmarks/streets_picture.py RUN docs/results/streets.webp --data ../shared/data/day_night

Each column is one camera. Rows are a held-out view by day, its translation to night, what that camera really sees at
night, and the translation of that to day. Nothing is chosen by its translation: these are eight of the cameras that
held-out images of both domains show.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import unitkit
from unitkit.runs.samples import sheet_of

# Of each camera, a view by day and one by night, by the hour in the file's name.
CAMERAS = {
    "20151101_222053": "20151103_015049",
    "20151102_084953": "20151101_230938",
    "20151102_104038": "20151102_004042",
    "20151102_115321": "20151102_022319",
    "20151102_123122": "20151102_200159",
    "20151102_183043": "20151102_063054",
    "20151103_051545": "20151102_231527",
    "20151119_094554": "20151119_004611",
}
TILE = (160, 120)  # width and height of a picture on the sheet


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a training of unit_streets")
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the folder of day_night")
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT at which images are translated")
    given = parser.parse_args()

    translator = unitkit.load(given.run)
    width, height = map(int, given.size.split("x"))
    rows: dict[str, list[np.ndarray]] = {"day": [], "to night": [], "night": [], "to day": []}
    for names, label, path in ((CAMERAS, "day", "ab"), (CAMERAS.values(), "night", "ba")):
        translated = "to night" if path == "ab" else "to day"
        for name in names:
            with Image.open(given.data / "test" / label / f"{name}.jpg") as opened:
                image = opened.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            rows[label].append(tile(image))
            rows[translated].append(tile(translator.translate(image, path)))
    sheet_of(rows, TILE[::-1], len(CAMERAS)).save(given.file, quality=88)


def tile(image: Image.Image | np.ndarray) -> np.ndarray:
    """An image as it stands on the sheet: uint8 (3, H, W)."""
    assert isinstance(image, Image.Image), "a model of colours gives pictures"
    return np.asarray(image.resize(TILE, Image.Resampling.LANCZOS)).transpose(2, 0, 1)


if __name__ == "__main__":
    main()
