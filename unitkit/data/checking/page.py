"""What was found as one page of HTML that needs nothing beside it: tables, images, histograms, duplicates."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from ...system.errors import UserError
from ...templates import render
from ..values import values_of
from .duplicates import Pair
from .findings import Finding
from .histogram import Histogram
from .look import load, picture
from .summary import rows
from .survey import SIDE, Split, Survey

COLUMNS = 8  # of a contact sheet
EMPTY = "#888888"
PAIRS = 20  # of each finding that are shown
PAIR = 192  # side of each image in them
NAMES = 200  # of each finding that are listed
FEW = 5  # that are seen without a click
WIDTH, HEIGHT = 512, 150  # of a histogram's area, in units of its own
COLOURS = {1: ("grey",), 3: ("red", "green", "blue")}


@dataclass(frozen=True)
class Curve:
    """A histogram to draw: an outline for each channel by its colour, marks along the values' axis, and what share of
    all values the top is."""

    outlines: list[tuple[str, str]]
    marks: list[tuple[float, str]]
    top: str


def page(survey: Survey, found: Sequence[Finding]) -> str:
    """The whole page. Every name in it is escaped."""
    return render(
        "data_check.html.jinja",
        data=survey.data.name,
        rows=rows(survey),
        splits=[(split, contact_sheet(split), curve(split.histogram)) for split in survey.splits],
        findings=[(each, [_side_by_side(survey, pair) for pair in each.pairs[:PAIRS]]) for each in found],
        names=NAMES,
        few=FEW,
        side=PAIR,
        width=WIDTH,
        height=HEIGHT,
    )


def contact_sheet(split: Split) -> str:
    """The thumbnails of a split in one image, as a data URL; nothing where there is none."""
    count = len(split.thumbnails)
    if not count:
        return ""
    columns = min(COLUMNS, count)
    sheet = Image.new("RGB", (columns * SIDE, -(-count // columns) * SIDE), EMPTY)
    for k, thumbnail in enumerate(split.thumbnails):
        sheet.paste(thumbnail, (k % columns * SIDE, k // columns * SIDE))
    return _url(sheet)


def curve(histogram: Histogram) -> Curve:
    """The outlines of a histogram within `WIDTH` and `HEIGHT`, the zero line at the bottom.

    The scale is that of the highest bin but for the fullest few, as a background of one value would flatten the rest.
    """
    counts = histogram.counts
    if not len(counts):
        return Curve([], [], "")
    top = max(float(np.quantile(counts, 0.99)), 1.0)
    colours = COLOURS.get(len(counts), ("grey",) * len(counts))
    bins = counts.shape[1]
    outlines = []
    for colour, channel in zip(colours, counts, strict=True):
        heights = HEIGHT * (1 - np.minimum(channel / top, 1))
        points = [f"{k * WIDTH / bins:g},{y:.1f}" for b, y in enumerate(heights) for k in (b, b + 1)]
        outlines.append((colour, f"0,{HEIGHT} {' '.join(points)} {WIDTH},{HEIGHT}"))
    span = histogram.high - histogram.low
    marks = [(WIDTH * share, f"{histogram.low + share * span:.4g}") for share in (0, 0.25, 0.5, 0.75, 1)]
    return Curve(outlines, marks, f"{top / counts[0].sum():.2%}")


def _side_by_side(survey: Survey, pair: Pair) -> tuple[tuple[str, str], tuple[str, str], str]:
    """Both images, each with its name, and how they are alike."""
    return _image(survey, pair.one), _image(survey, pair.two), pair.how


def _image(survey: Survey, k: int) -> tuple[str, str]:
    split, i = survey.at(k)
    try:
        image = picture(load(split.images, i), values_of(split.images), PAIR)
    except UserError:  # gone since it was looked at
        image = Image.new("RGB", (PAIR, PAIR), EMPTY)
    return _url(image), split.images.name(i)


def _url(image: Image.Image) -> str:
    file = BytesIO()
    image.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
