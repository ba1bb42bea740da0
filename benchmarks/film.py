"""A training as a moving picture: its sample grids one after the other, as an animated WebP for a page.

    unitkit train recipes/unit_faces.py --out RUN --sample-every 50
    python benchmarks/film.py RUN docs/results/portraits.webp

Shows the input images and where they are translated to, some columns of each, with a bar that tells how far the
training is. Early grids come one by one and later ones ever further apart, as what changes does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from unitkit import UserError
from unitkit.runs.samples import GAP, layout_of
from unitkit.runs.steps import step_of

MILLISECONDS, LAST = 350, 2500  # that a frame stays, and the last one
BAR, COLOUR = 4, (63, 81, 181)
GROWTH = 1.12  # from the step of a frame to that of the next, at least


def chosen(paths: Sequence[Path]) -> list[Path]:
    """Sample grids at steps that grow by a factor, and the last."""
    found, least = [], 0.0
    for path in paths:
        step = step_of(path.stem) or 0
        if step >= least or path == paths[-1]:
            found.append(path)
            least = max(step, 1) * GROWTH
    return found


def frame(path: Path, columns: int, share: float) -> Image.Image:
    """Inputs and translations of a grid at their own size, and the bar below."""
    with Image.open(path) as image:
        layout = layout_of(image)
        if layout is None:
            raise UserError(f"{path} does not say where its images are: train anew")
        cells = layout.cells(image)
    height, width = layout.size
    names = [name for name, _ in layout.rows]
    ways = [name for name in names if len(name) == 2 and name[0] != name[1]]
    rows = [row for way in ways for row in (way[0], way)]
    columns = min(columns, layout.columns)
    found = Image.new("RGB", (columns * (width + GAP) - GAP, len(rows) * (height + GAP) + BAR), "white")
    for y, row in enumerate(rows):
        top = names.index(row) * height
        for x in range(columns):
            cell = cells.crop((x * width, top, (x + 1) * width, top + height))
            found.paste(cell, (x * (width + GAP), y * (height + GAP)))
    ImageDraw.Draw(found).rectangle((0, found.height - BAR, share * found.width, found.height), fill=COLOUR)
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Write the film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--quality", type=int, default=72)
    o = parser.parse_args(words)
    paths = chosen(sorted((o.run / "samples").glob("step-*.png")))
    if not paths:
        raise UserError(f"{o.run} has no sample grids: train it with --sample-every")
    last = step_of(paths[-1].stem) or 1
    first, *rest = (frame(path, o.columns, (step_of(path.stem) or 0) / last) for path in paths)
    durations = [MILLISECONDS] * len(rest) + [LAST]
    first.save(
        o.out, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, quality=o.quality, method=6
    )
    print(f"{len(durations)} frames of {first.width}x{first.height}, {o.out.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
