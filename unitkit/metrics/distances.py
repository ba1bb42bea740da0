"""Distances between two sets of images in the features of a network: FID and KID, and the same in other features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..system.errors import UserError
from .attribute import classifier_features
from .metric import Context, Metric, Result, always, named, register
from .networks.features import Features, find_timm, inception, timm_features
from .networks.published import INCEPTION, Published, timm_weights
from .networks.weights import warnings_of

ENOUGH_FOR_FID = 2048
SUBSETS, SUBSET, SUBSET_SEED = 100, 1000, 2020  # torch-fidelity's defaults
Two = tuple[str, str]


@register
def fid(
    path: str,
    to: str,
    *,
    layer: Literal[64, 192, 768, 2048] = 2048,
    antialias: bool = False,
    weights: str | None = None,
) -> Metric:
    """Frechet Inception distance (Heusel et al. 2017) of the images of one path to those of another: `("ab", "b")`.

    Returns figure `fid`: the squared distance of Gaussians fitted to both sets' features, in float64; 0 is best.
    """

    def features(context: Context) -> Features:
        return inception(layer, weights, antialias, context.device)

    def ready() -> None:
        INCEPTION.find(weights)
        inception(layer, weights, antialias, "cpu")

    name, _ = named("fid", path, to, layer=(layer, 2048), antialias=(antialias, False), weights=(weights, None))
    return _of_sets(name, (path, to), features, Gaussians, "fid", ready, lambda: INCEPTION)


@register
def kid(path: str, to: str, *, antialias: bool = False, weights: str | None = None) -> Metric:
    """Kernel Inception distance (Binkowski et al. 2018), unbiased at any number of images.

    Returns figures `kid`, the mean over 100 random subsets of at most 1000 images of each set (about 0 is best; it can
        fall below), and `sd` over the subsets, where a subset is not the whole set.
    """

    def features(context: Context) -> Features:
        return inception(2048, weights, antialias, context.device)

    def ready() -> None:
        inception(2048, weights, antialias, "cpu")

    name, _ = named("kid", path, to, antialias=(antialias, False), weights=(weights, None))
    return _of_sets(name, (path, to), features, Kernels, "kid", ready, lambda: INCEPTION)


@register
def frechet(path: str, to: str, *, model: str = "resnet50", weights: str | None = None) -> Metric:
    """The Frechet distance of two sets in the features of a timm model: no FID, and to be compared with none.

    Args:
        model: of timm; or `classifier`, that of `attribute_success`, which has learnt the domains of the training
            split and needs no published weights.

    Returns figure `frechet`, as `fid` computes it.
    """
    name, _ = named("frechet", path, to, model=(model, None), weights=(weights, None))
    return _of_sets(name, (path, to), *_timm(model, weights, Gaussians, "frechet"))


@register
def kernel(path: str, to: str, *, model: str = "resnet50", weights: str | None = None) -> Metric:
    """The kernel distance of two sets in the features of a timm model: no KID, and to be compared with none.

    Args:
        model: as of `frechet`.

    Returns figures `kernel` and `sd`, as `kid` computes them.
    """
    name, _ = named("kernel", path, to, model=(model, None), weights=(weights, None))
    return _of_sets(name, (path, to), *_timm(model, weights, Kernels, "kernel"))


class Gaussians:
    """Mean and covariance of both sets, gathered in float64; memory does not grow with the number of images."""

    def __init__(self, paths: Two, features: Features, device: torch.device | str, name: str) -> None:
        self.paths, self.features, self.device, self.name = paths, features, device, name
        self.origin: Tensor | None = None  # near both means, so that sums of squares lose no digits
        self.sums: dict[str, tuple[Tensor, Tensor]] = {}

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        for path in dict.fromkeys(self.paths):
            if path in images:
                vectors = self.features(images[path], self.device)
                self.origin = vectors.mean(dim=0) if self.origin is None else self.origin
                vectors = vectors - self.origin
                total, squares = self.sums.get(path, (0, 0))
                self.sums[path] = (total + vectors.sum(dim=0), squares + vectors.T @ vectors)

    def result(self, n: Mapping[str, int]) -> Result:
        one, two = (self._moments(path, n[path]) for path in self.paths)
        least = min(n[path] for path in self.paths)
        warnings = warnings_of(self.features.protocol)
        if least < ENOUGH_FOR_FID:
            other = "kid" if self.name == "fid" else "kernel"
            warnings += (
                f"{least} images are too few: below {ENOUGH_FOR_FID} the {self.name} is biased upwards by an unknown "
                f"amount; {other}({', '.join(self.paths)}) is unbiased",
            )
        return Result({self.name: frechet_distance(*one, *two)}, self.features.protocol, warnings)

    def _moments(self, path: str, n: int) -> tuple[Tensor, Tensor]:
        total, squares = self.sums[path]
        mean = total / n
        return mean, (squares - n * torch.outer(mean, mean)) / (n - 1)


class Kernels:
    """The features of both sets, kept until subsets are drawn from them (8 KB an image)."""

    def __init__(self, paths: Two, features: Features, device: torch.device | str, name: str) -> None:
        self.paths, self.features, self.device, self.name = paths, features, device, name
        self.vectors: dict[str, list[np.ndarray]] = {path: [] for path in paths}

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        for path in dict.fromkeys(self.paths):
            if path in images:
                self.vectors[path].append(self.features(images[path], self.device).float().numpy())

    def result(self, n: Mapping[str, int]) -> Result:
        one, two = (np.concatenate(self.vectors[path]).astype(np.float64) for path in self.paths)
        size = min(SUBSET, len(one), len(two))
        whole = size == len(one) == len(two)
        draw = np.random.RandomState(SUBSET_SEED)
        values = [
            kernel_distance(
                one[draw.choice(len(one), size, replace=False)], two[draw.choice(len(two), size, replace=False)]
            )
            for _ in range(1 if whole else SUBSETS)
        ]
        subsets = f"{len(values)} of {size}" + (": the whole sets" if whole else "")
        protocol: dict[str, Any] = {**self.features.protocol, "subsets": subsets, "subset_seed": SUBSET_SEED}
        figures = {self.name: float(np.mean(values))}
        if not whole:
            figures["sd"] = float(np.std(values))
        return Result(figures, protocol, warnings_of(self.features.protocol))


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), of means (D,) and covariances (D, D) in float64.

    The trace of the root is the sum of singular values of C1^(1/2) C2^(1/2): no digits are lost to squaring, so that a
    set is at distance 0 from itself even where its covariance is singular.
    """
    root1, root2 = _root(cov1), _root(cov2)
    overlap = torch.linalg.svdvals(root1.T @ root2).sum()
    return float(((mean1 - mean2) ** 2).sum() + cov1.trace() + cov2.trace() - 2 * overlap)


def _root(covariance: Tensor) -> Tensor:
    """A matrix (D, rank) whose product with its transpose is the covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values.max().clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    root: Tensor = vectors[:, kept] * values[kept].sqrt()
    return root


def kernel_distance(one: np.ndarray, two: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy of (m, D) and (m, D) under the kernel (x.y / D + 1)^3."""
    m, dimensions = one.shape

    def k(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        kernels: np.ndarray = (x @ y.T / dimensions + 1) ** 3
        return kernels

    within = sum((each.sum() - np.trace(each)) / (m * (m - 1)) for each in (k(one, one), k(two, two)))
    return float(within - 2 * k(one, two).mean())


def _of_sets(
    name: str,
    paths: Two,
    features: Callable[[Context], Features],
    accumulator: type[Gaussians] | type[Kernels],
    figure: str,
    ready: Callable[[], object],
    needs: Callable[[], Published | None],
) -> Metric:
    def begin(context: Context) -> Gaussians | Kernels:
        return accumulator(paths, features(context), context.device, figure)

    # Two images of each set: covariances and unbiased kernel distances divide by n - 1.
    return Metric(name, paths, begin, higher=False, together=False, fewest=2, ready=ready, needs=needs)


def _timm(
    model: str, weights: str | None, accumulator: type[Gaussians] | type[Kernels], figure: str
) -> tuple[
    Callable[[Context], Features],
    type[Gaussians] | type[Kernels],
    str,
    Callable[[], object],
    Callable[[], Published | None],
]:
    if model == "classifier":
        if weights is not None:
            raise UserError("the model 'classifier' learns its weights from the training images: leave weights out")
        return lambda context: classifier_features(context, figure), accumulator, figure, always, always

    def features(context: Context) -> Features:
        return timm_features(model, weights, context.device)

    def ready() -> None:
        find_timm(model, weights)
        timm_features(model, weights, "cpu")

    return features, accumulator, figure, ready, lambda: timm_weights(model)
