"""Metrics that compare images one by one, pixel by pixel: no network, nothing to download."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch

from ..annotations import AtLeast
from .metric import Context, Metric, Result, Row, Table, named, reference_for, register

Sums = dict[str, float]
# Of a counterpart: what is measured, as its table heads it, and in what unit.
MEASURES = {"psnr": "PSNR", "l1": "L1", "accuracy": "pixel accuracy"}
UNITS = {"psnr": "dB", "l1": "of 255", "accuracy": "%"}


@dataclass
class Totals:
    """An accumulator that adds up numbers of each batch, in float64, and turns the totals into figures at the end."""

    reads: tuple[str, ...]
    sums: Callable[..., Sums]
    figures: Callable[[Mapping[str, float]], dict[str, float]]
    protocol: dict[str, Any] = field(default_factory=dict)
    table: Callable[[Mapping[str, float], Mapping[str, int]], Table] | None = None
    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        for name, value in self.sums(*(images[reading] for reading in self.reads)).items():
            self.totals[name] += value

    def result(self, n: Mapping[str, int]) -> Result:
        figures = self.figures(self.totals)
        return Result(figures, self.protocol, table=self.table(figures, n) if self.table else None)


def compared(
    word: str,
    path: str,
    to: str,
    higher: bool,
    sums: Callable[..., Sums],
    figures: Callable[..., dict[str, float]],
    unit: str = "",
) -> Metric:
    """A metric of two readings whose sums over all images make its figure, which is called as the metric is."""
    reads = (path, reference_for(path, to))

    def begin(context: Context) -> Totals:
        return Totals(reads, sums, figures)

    name, title = named(word, path, to)
    return Metric(name, reads, begin, higher, title=title, units={word: unit}, single=True)


@register
def psnr(path: str, to: str) -> Metric:
    """Peak signal-to-noise ratio: a reconstruction `("aa", "a")`, a cycle `("aba", "a")`, aligned data `("ab", "b")`.

    Returns figure `psnr` (dB, peak 255), of the mean square over all values of all images.
    """

    def sums(image: np.ndarray, reference: np.ndarray) -> Sums:
        error = image.astype(np.float64) - reference
        return {"values": float(error.size), "squares": float((error**2).sum())}

    def figures(total: Mapping[str, float]) -> dict[str, float]:
        return {"psnr": decibels(total["squares"] / total["values"])}

    return compared("psnr", path, to, True, sums, figures, "dB")


@register
def l1(path: str, to: str) -> Metric:
    """Mean absolute difference of one image path to another. Returns figure `l1`, of 255."""

    def sums(image: np.ndarray, reference: np.ndarray) -> Sums:
        error = np.abs(image.astype(np.float64) - reference)
        return {"values": float(error.size), "l1": float(error.sum())}

    return compared("l1", path, to, False, sums, lambda total: {"l1": total["l1"] / total["values"]}, "of 255")


@register
def ssim(path: str, to: str) -> Metric:
    """Structural similarity (Wang et al. 2004), in Gaussian windows of 11 with sigma 1.5, as torchmetrics has it.

    Returns figure `ssim`, at most 1, the mean over images.
    """

    def sums(image: np.ndarray, reference: np.ndarray) -> Sums:
        return {"images": float(len(image)), "ssim": similarities(image, reference)}

    metric = compared("ssim", path, to, True, sums, lambda total: {"ssim": total["ssim"] / total["images"]})
    return replace(metric, smallest=11)


@register
def pixel_accuracy(path: str, to: str, *, tolerance: Annotated[int, AtLeast(0)] = 16) -> Metric:
    """The share of pixels that differ from the truth by at most `tolerance` of 255, the measure of the poster's maps.

    The source does not say how the colours' difference is taken, so both are reported.

    Returns figures `largest_channel` (the channel that is off most decides) and `euclidean` (the norm over channels),
    both in [0, 1].
    """

    def sums(image: np.ndarray, reference: np.ndarray) -> Sums:
        error = np.abs(image.astype(np.float64) - reference)
        largest, square = error.max(axis=1), (error**2).sum(axis=1)
        return {
            "pixels": float(largest.size),
            "largest_channel": float((largest <= tolerance).sum()),
            "euclidean": float((square <= tolerance**2).sum()),
        }

    def figures(total: Mapping[str, float]) -> dict[str, float]:
        return {name: total[name] / total["pixels"] for name in ("largest_channel", "euclidean")}

    reads = (path, reference_for(path, to))
    protocol = {"tolerance": f"{tolerance} of 255"}
    name, title = named("pixel_accuracy", path, to, tolerance=(tolerance, 16))
    units = dict.fromkeys(("largest_channel", "euclidean"), "%")
    return Metric(
        name,
        reads,
        lambda context: Totals(reads, sums, figures, protocol),
        higher=True,
        title=title,
        units=units,
        single=True,
    )


@register
def ground_truth(path: str, *, tolerance: Annotated[int, AtLeast(0)] = 16) -> Metric:
    """A translation against the ground truth, for data that know it, beside the untranslated input.

    The score is split by what must change: the pixels where input and counterpart differ at all.

    Returns figures `REGION.WHO.MEASURE`: region `changing`, `rest` or `all`; who `translation` or `input`; measure
        `psnr` (dB, pooled over all pixels, peak 255), `l1` (of 255) and `accuracy` (the share of pixels whose
        largest channel is off by at most `tolerance` of 255). `changing.share` is the region's share of all pixels.
    """

    def sums(source: np.ndarray, translation: np.ndarray, truth: np.ndarray) -> Sums:
        changing = (source != truth).any(axis=1)
        found: Sums = {}
        for region, mask in ("changing", changing), ("rest", ~changing), ("all", np.ones_like(changing)):
            found[f"{region}.pixels"] = float(mask.sum())
            for who, image in ("translation", translation), ("input", source):
                error = np.abs(image.astype(np.float64) - truth).transpose(0, 2, 3, 1)[mask]
                found[f"{region}.{who}.squares"] = float((error**2).mean(axis=1).sum())
                found[f"{region}.{who}.l1"] = float(error.mean(axis=1).sum())
                found[f"{region}.{who}.right"] = float((error.max(axis=1, initial=0) <= tolerance).sum())
        return found

    def figures(total: Mapping[str, float]) -> dict[str, float]:
        found: dict[str, float] = {}
        for region in ("changing", "rest", "all"):
            pixels = max(total[f"{region}.pixels"], 1.0)
            for who in ("translation", "input"):
                found[f"{region}.{who}.psnr"] = decibels(total[f"{region}.{who}.squares"] / pixels)
                found[f"{region}.{who}.l1"] = total[f"{region}.{who}.l1"] / pixels
                found[f"{region}.{who}.accuracy"] = total[f"{region}.{who}.right"] / pixels
        return found | {"changing.share": total["changing.pixels"] / total["all.pixels"]}

    def table(found: Mapping[str, float], n: Mapping[str, int]) -> Table:
        rows = []
        for region, pixels in (
            ("changing", f"must change ({found['changing.share']:.1%} of pixels)"),
            ("rest", "the rest"),
            ("all", "all"),
        ):
            for who, image in ("translation", path), ("input", f"{path[0]}, untranslated"):
                figures = {head: f"{region}.{who}.{measure}" for measure, head in MEASURES.items()}
                rows.append(Row((pixels if who == "translation" else "", image), figures))
        off = "" if tolerance == 16 else f", tolerance {tolerance}"
        title = f"{path} against the ground truth, n = {n[path]} held-out images{off}"
        return Table(title, ("pixels", "image"), tuple(rows))

    reads = (path[:1], path, f"truth:{path[:1]}{path[-1:]}")
    protocol = {"tolerance": f"{tolerance} of 255"}
    name, title = named("ground_truth", path, tolerance=(tolerance, 16))
    measured = [f"{region}.{who}" for region in ("changing", "rest", "all") for who in ("translation", "input")]
    units = {f"{each}.{measure}": unit for each in measured for measure, unit in UNITS.items()}
    return Metric(
        name,
        reads,
        lambda context: Totals(reads, sums, figures, protocol, table),
        higher=True,
        title=title,
        units={**units, "changing.share": "%"},
        single=True,
        opposed=tuple(f"{each}.l1" for each in measured),
    )


def similarities(images: np.ndarray, references: np.ndarray) -> float:
    """The sum over images (N, C, H, W) of their SSIM, at a range of 255."""
    from torchmetrics.functional.image import structural_similarity_index_measure as similarity

    one, two = (torch.from_numpy(each).double() for each in (images, references))
    values = similarity(one, two, data_range=255.0, reduction="none")
    assert isinstance(values, torch.Tensor)
    return float(values.sum())


def decibels(mean_square: float) -> float:
    """PSNR of a mean square error, at a peak of 255; at most 148 dB."""
    return float(10 * np.log10(255**2 / max(mean_square, 1e-10)))
