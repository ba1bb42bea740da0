"""Metrics on the held-out split: each names the image paths that it reads, and streams over them.

A metric is a function of a batch of images, decorated with `@register(...)`, that gives for every image some sums;
`figures` turns the sums over the whole split into named numbers. Images are uint8-rounded and in [0, 255] here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .data import Data
from .images import at_once, to_tensor, to_uint8
from .registry import Registry

registry = Registry("metric")
register = registry.register

Sums = dict[str, float]


@dataclass(frozen=True)
class Metric:
    """A measurement that reads image paths, and `truth:ab` where the data know the true counterpart.

    Attributes:
        name: a word and paths, such as "counterpart(ab)".
        reads: image paths, all from one domain.
        sums: from the readings of a batch, uint8 arrays (N, C, H, W), the sums to accumulate.
        figures: from the accumulated sums to named numbers.
    """

    name: str
    reads: tuple[str, ...]
    sums: Callable[..., Sums]
    figures: Callable[[Mapping[str, float]], dict[str, float]]


@register
def counterpart(path: str, *, tolerance: int = 16) -> Metric:
    """A translation against the true counterpart, for data that know it, beside the untranslated input.

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
        found = {"changing.share": total["changing.pixels"] / total["all.pixels"]}
        for region in ("changing", "rest", "all"):
            pixels = max(total[f"{region}.pixels"], 1.0)
            for who in ("translation", "input"):
                found[f"{region}.{who}.psnr"] = _psnr(total[f"{region}.{who}.squares"] / pixels)
                found[f"{region}.{who}.l1"] = total[f"{region}.{who}.l1"] / pixels
                found[f"{region}.{who}.accuracy"] = total[f"{region}.{who}.right"] / pixels
        return found

    return Metric(f"counterpart({path})", (path[0], path, f"truth:{path}"), sums, figures)


@register
def closeness(path: str, to: str) -> Metric:
    """How near one image path is to another: the reconstruction error `("aa", "a")`, the cycle error `("aba", "a")`.

    Returns figures `psnr` (dB, pooled) and `l1` (of 255).
    """

    def sums(image: np.ndarray, reference: np.ndarray) -> Sums:
        error = np.abs(image.astype(np.float64) - reference)
        return {"values": float(error.size), "l1": float(error.sum()), "squares": float((error**2).sum())}

    def figures(total: Mapping[str, float]) -> dict[str, float]:
        return {"psnr": _psnr(total["squares"] / total["values"]), "l1": total["l1"] / total["values"]}

    return Metric(f"closeness({path}, {to})", (path, to), sums, figures)


@torch.no_grad()
def evaluate(
    model: Any, data: Data, metrics: Sequence[Metric], *, device: torch.device | str = "cpu", batch: int = 0
) -> dict[str, dict[str, float]]:
    """Every metric over the whole held-out split, the model in evaluation mode (z is the posterior's mean).

    Args:
        batch: images at once; 0 takes as many as their size allows, at most 32.

    Returns: the figures by the metric's name, each with `n`, the number of held-out images.
    """
    batch = batch or at_once(data.size)
    training = model.training
    model.eval()
    found: dict[str, dict[str, float]] = {}
    for letter, domain in data.domains.items():
        ours = [metric for metric in metrics if metric.reads[0][0] == letter]
        totals: dict[str, dict[str, float]] = {metric.name: defaultdict(float) for metric in ours}
        paths = list(dict.fromkeys(name for metric in ours for name in metric.reads))
        for indices in _batches(len(domain.test) if ours else 0, batch):
            readings = _read(model, data, letter, indices, paths, device)
            for metric in ours:
                for name, value in metric.sums(*(readings[path] for path in metric.reads)).items():
                    totals[metric.name][name] += value
        found |= {metric.name: {"n": len(domain.test), **metric.figures(totals[metric.name])} for metric in ours}
    model.train(training)
    return found


def _read(
    model: Any, data: Data, letter: str, indices: Sequence[int], names: Iterable[str], device: torch.device | str
) -> dict[str, np.ndarray]:
    real = np.stack([data.domains[letter].test.load(i) for i in indices])
    paths = [name for name in names if not name.startswith("truth:")]
    images = model.images({letter: to_tensor(real, device)}, paths)
    readings = {path: to_uint8(images[path]) for path in paths} | {letter: real}
    for name in names:
        if name.startswith("truth:"):
            assert data.truth, "checked before training"
            readings[name] = np.stack([data.truth(name.removeprefix("truth:"), i) for i in indices])
    return readings


def _batches(n: int, size: int) -> Iterable[range]:
    return (range(start, min(start + size, n)) for start in range(0, n, size))


def _psnr(mean_square: float) -> float:
    return float(10 * np.log10(255**2 / max(mean_square, 1e-10)))
