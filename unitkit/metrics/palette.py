"""How well a translation draws a map: every pixel taken for the class whose colour is nearest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

import numpy as np

from ..annotations import AtLeast
from ..data import Data
from ..data.sources import Images
from ..data.values import values_of
from ..system.errors import UserError, nearest
from .metric import Context, Metric, Result, Row, Table, named, reference_for, register

Colours = dict[str, tuple[int, ...]]

PALETTES: dict[str, Colours] = {
    # The street maps of pix2pix, whose colours are few: those of 2016's renderings of one provider.
    "maps": {
        "ground": (238, 233, 225),
        "road": (255, 255, 255),
        "yellow road": (250, 220, 130),
        "water": (170, 205, 245),
        "park": (205, 225, 170),
    }
}
SAMPLE = 256  # training images, and
PIXELS = 2**16  # pixels of them, that a palette is found in


@register
def class_accuracy(
    path: str, to: str, *, palette: str = "", classes: Annotated[int, AtLeast(2, most=64)] = 5
) -> Metric:
    """How many pixels of each class of a map are found, where a pixel's class is the nearest colour of a palette.

    Unlike accuracy over all pixels, which one colour everywhere may win, the mean over classes is worth 1 of K to it.

    Args:
        palette: `maps`, the five colours of pix2pix's street maps; or colours with names, `water=aacdf5 park=cde1aa`;
            or nothing: then the colours are those around which the training images of the last domain gather (k-means).
        classes: how many colours are looked for in the training images.

    Returns figures `mean_recall` and `mean_iou` (intersection over union) over the classes that the true maps have,
        `accuracy` over all pixels, `recall.CLASS`, `iou.CLASS` and `share.CLASS` (of true pixels), and under
        `constant.` what the commonest class everywhere would reach. All in [0, 1].
    """
    known = colours(palette) if palette else None
    if palette and classes != 5:
        raise UserError(
            f"class_accuracy has the palette '{palette}', and classes={classes} is of one that is looked for"
        )
    reads = (path, reference_for(path, to))

    def begin(context: Context) -> Classes:
        if known is not None:
            return Classes(path, reads, known, f"nearest of {', '.join(map(_written, known.items()))}")
        if context.data is None:
            raise UserError(f"class_accuracy({path}, {to}) needs a palette where no training images show one")
        domain = context.data.domains[path[-1]]
        found = clustered(domain.train, classes)
        if len(found) < 2:  # by which every pixel would be right
            raise UserError(f"class_accuracy({path}, {to}) finds one colour in the training images of '{domain.label}'")
        return Classes(path, reads, found, f"nearest of {len(found)} colours of the training images, by k-means")

    name, title = named("class_accuracy", path, to, palette=(palette, ""), classes=(classes, 5))

    def fits(data: Data) -> None:
        if known is not None:
            _check_channels(len(next(iter(known.values()))), data.domains[path[-1]].test.channels)

    names = list(known) if known is not None else list(map(str, range(1, classes + 1)))
    given = [*(f"constant.{each}" for each in FIGURES), *(f"share.{each}" for each in names)]  # by the true maps alone
    figures = [*FIGURES, *given, *(f"{figure}.{each}" for each in names for figure in HEADS.values())]
    units = dict.fromkeys(figures, "%")
    return Metric(name, reads, begin, higher=True, title=title, units=units, neither=tuple(given), fits=fits)


FIGURES = ("mean_recall", "mean_iou", "accuracy")
HEADS = {"share": "share", "recall": "recall", "IoU": "iou"}


class Classes:
    """Counts the pixels of each true class by the class that is drawn there."""

    def __init__(self, path: str, reads: tuple[str, str], palette: Colours, how: str) -> None:
        self.path, self.reads, self.how = path, reads, how
        self.names, self.colours = tuple(palette), np.array(list(palette.values()), np.int32)
        self.counts = np.zeros((len(palette), len(palette)), np.int64)

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        drawn, true = (classified(images[reading], self.colours) for reading in self.reads)
        count = len(self.names)
        self.counts += np.bincount((true * count + drawn).ravel(), minlength=count**2).reshape(count, count)

    def result(self, n: Mapping[str, int]) -> Result:
        found, pixels = np.diag(self.counts), self.counts.sum()
        true, drawn = self.counts.sum(axis=1), self.counts.sum(axis=0)
        there = true > 0
        recall, iou = found / np.maximum(true, 1), found / np.maximum(true + drawn - found, 1)
        figures = {
            "mean_recall": float(recall[there].mean()),
            "mean_iou": float(iou[there].mean()),
            "accuracy": float(found.sum() / pixels),
        }
        rows = []
        for i in np.flatnonzero(there):
            name = self.names[i]
            figures |= {f"recall.{name}": recall[i], f"iou.{name}": iou[i], f"share.{name}": true[i] / pixels}
            rows.append(
                Row(
                    (f"{name} {bytes(map(int, self.colours[i])).hex()}",),
                    {head: f"{figure}.{name}" for head, figure in HEADS.items()},
                )
            )
        commonest = true.max() / pixels
        figures |= {
            "constant.mean_recall": 1 / there.sum(),
            "constant.mean_iou": commonest / there.sum(),
            "constant.accuracy": commonest,
        }
        rows.append(Row(("mean",), {"recall": "mean_recall", "IoU": "mean_iou"}))
        constant = f"mean, {self.names[int(true.argmax())]} everywhere"
        rows.append(Row((constant,), {"recall": "constant.mean_recall", "IoU": "constant.mean_iou"}))
        palette = {name: list(map(int, colour)) for name, colour in zip(self.names, self.colours, strict=True)}
        return Result(
            {name: float(figure) for name, figure in figures.items()},
            {"class": self.how},
            details={"palette": palette, "pixels": self.counts.tolist()},
            table=Table(f"{self.path} by class, n = {n[self.path]} held-out images", ("class",), tuple(rows)),
        )


def classified(images: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The index of the nearest colour, by Euclidean distance, of each pixel: (N, C, H, W) to int64 (N, H, W).

    Raises `UserError` for colours (K, C) of other channels than the images'.
    """
    _check_channels(palette.shape[1], images.shape[1])
    pixels = np.rint(images).astype(np.int32)
    best, classes = np.full(pixels[:, 0].shape, np.iinfo(np.int32).max), np.zeros(pixels[:, 0].shape, np.int64)
    for i, colour in enumerate(palette):
        distance = ((pixels - colour[:, None, None]) ** 2).sum(axis=1)
        nearer = distance < best
        best[nearer], classes[nearer] = distance[nearer], i
    return classes


def _check_channels(palette: int, images: int) -> None:
    if palette != images:
        raise UserError(
            f"the palette's colours have {palette} channels and the images {images}: give a palette "
            f"such as {'00 ff' if images == 1 else '000000 ffffff'}"
        )


def colours(text: str) -> Colours:
    """A palette by its name, or of words NAME=RRGGBB, a name being its colour where none is given.

    Raises `UserError` for other text, fewer than two colours, or one that is given twice.
    """
    if text in PALETTES:
        return PALETTES[text]
    found: Colours = {}
    for word in text.replace(";", " ").split():
        name, _, code = word.rpartition("=")
        if not re.fullmatch(r"([0-9a-fA-F]{2})+", code):
            raise UserError(
                f"'{word}' of the palette '{text}' is no colour: expected the name of a palette "
                f"({', '.join(PALETTES)}) or colours such as water=aacdf5. {nearest(text, PALETTES)}"
            )
        found[name or code] = tuple(bytes.fromhex(code))
    if len(found) < 2 or len(found) < len(text.split()) or len(set(found.values())) < len(found):
        raise UserError(f"the palette '{text}' needs two or more colours, each of another name and value")
    if len({len(colour) for colour in found.values()}) > 1:
        raise UserError(f"the colours of the palette '{text}' have different numbers of channels")
    return found


def clustered(images: Images, count: int) -> Colours:
    """The colours around which pixels of images gather, by rank, the commonest first; the same images give the same."""
    from scipy.cluster.vq import kmeans2

    chosen = np.linspace(0, len(images) - 1, min(len(images), SAMPLE)).astype(int)
    values = values_of(images)
    pixels = np.concatenate(
        [
            values.compared(images.load(i)[None])[0].reshape(images.channels, -1).T
            for i in dict.fromkeys(map(int, chosen))
        ]
    )
    pixels = pixels[:: max(1, len(pixels) // PIXELS)].astype(np.float64)
    # Beginning with the commonest colour, then with that which most squared distance to the nearest speaks for.
    known, shares = np.unique(np.rint(pixels / 8) * 8, axis=0, return_counts=True)
    start = [known[shares.argmax()]]
    while len(start) < min(count, len(known)):
        start.append(known[(shares * np.min([((known - each) ** 2).sum(axis=1) for each in start], axis=0)).argmax()])
    centres, nearest_of = kmeans2(pixels, np.array(start), minit="matrix", missing="warn")
    order = np.argsort(-np.bincount(nearest_of, minlength=len(centres)), kind="stable")
    whole = (tuple(int(value) for value in np.rint(centres[i])) for i in order)
    return {str(rank): colour for rank, colour in enumerate(dict.fromkeys(whole), 1)}


def _written(colour: tuple[str, tuple[int, ...]]) -> str:
    return f"{colour[0]} {bytes(colour[1]).hex()}"
