"""LPIPS between images, and the diversity of one image's translations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..annotations import AtLeast
from ..data.tensors import to_tensor
from .metric import Context, Metric, Result, named, reference_for, register
from .networks.published import BACKBONES
from .networks.weights import facts, fill, read, warnings_of

Net = Literal["alex", "vgg", "squeeze"]


SMALLEST = {"alex": 35, "vgg": 16, "squeeze": 17}  # sides in pixels below which a layer has nothing left
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


@register
def lpips(path: str, to: str, *, net: Net = "alex", weights: str | None = None) -> Metric:
    """Learned perceptual distance (Zhang et al. 2018, version 0.1) of images one by one: `("aba", "a")`.

    `weights` is the backbone's file as torchvision publishes it; the linear layers come with the lpips package.

    Returns figure `lpips`, the mean over images; 0 is best.
    """
    reads = (path, reference_for(path, to))

    def begin(context: Context) -> Mean:
        distance, protocol = lpips_distance(net, weights, context.device)
        return Mean(reads, distance, "lpips", protocol)

    name, title = named("lpips", path, to, net=(net, "alex"), weights=(weights, None))
    return Metric(
        name,
        reads,
        begin,
        higher=False,
        smallest=SMALLEST[net],
        ready=lambda: lpips_distance(net, weights, "cpu"),
        needs=lambda: BACKBONES[net],
        title=title,
    )


@register
def diversity(
    path: str,
    *,
    samples: Annotated[int, AtLeast(2)] = 4,
    distance: Literal["l2", "lpips"] = "l2",
    net: Net = "alex",
    weights: str | None = None,
) -> Metric:
    """How far apart the translations of one image lie that come from different samples of its latent: `("ab")`.

    Returns figure `diversity`, the mean over images and over pairs of `samples` translations; `l2` is the root of the
        mean square difference, of 255, `lpips` the learned distance. 0 where the model knows a single answer.
    """
    reads = tuple(f"sample{k}:{path}" for k in range(samples))

    def begin(context: Context) -> Mean:
        measure, protocol = (
            (_l2, {"distance": "root of the mean square, of 255"})
            if distance == "l2"
            else lpips_distance(net, weights, context.device)
        )
        return Mean(reads, measure, "diversity", {**protocol, "samples": samples, "sample_seed": context.seed})

    def ready() -> None:
        if distance == "lpips":
            lpips_distance(net, weights, "cpu")

    options: dict[str, tuple[object, object]] = {"samples": (samples, 4), "distance": (distance, "l2")}
    if distance == "lpips":
        options |= {"net": (net, "alex"), "weights": (weights, None)}
    name, title = named("diversity", path, **options)
    smallest, units = (SMALLEST[net], {}) if distance == "lpips" else (1, {"diversity": "of 255"})
    return Metric(
        name,
        reads,
        begin,
        higher=True,
        smallest=smallest,
        ready=ready,
        needs=lambda: BACKBONES[net] if distance == "lpips" else None,
        title=title,
        units=units,
    )


class Mean:
    """The mean over images of a distance, and over all pairs of readings."""

    def __init__(self, reads: tuple[str, ...], distance: Distance, name: str, protocol: dict[str, Any]) -> None:
        self.reads, self.distance, self.name, self.protocol = reads, distance, name, protocol
        self.total, self.count = 0.0, 0

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        for one, two in itertools.combinations(self.reads, 2):
            values = self.distance(images[one], images[two])
            self.total, self.count = self.total + float(values.sum()), self.count + len(values)

    def result(self, n: Mapping[str, int]) -> Result:
        warnings = warnings_of(self.protocol) if "published" in self.protocol else ()
        return Result({self.name: self.total / self.count}, self.protocol, warnings)


def lpips_distance(net: str, weights: str | None, device: torch.device | str) -> tuple[Distance, dict[str, Any]]:
    """LPIPS of two batches of uint8 images (N, C, H, W), as float64 (N,), and its protocol.

    Raises:
        UserError: weights that are missing, damaged or of another network.
    """
    path = BACKBONES[net].find(weights)
    network = _lpips(net, path, path.stat().st_mtime_ns).to(device)

    def distance(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            values: Tensor = network(*(_rgb(to_tensor(each, device)) for each in (one, two)))
        flat: np.ndarray = values.flatten().cpu().double().numpy()
        return flat

    return distance, {"features": f"LPIPS 0.1, {net}", **facts(path, BACKBONES[net].digest)}


@lru_cache(maxsize=3)
def _lpips(net: str, path: Path, changed: int) -> Any:
    import warnings

    from lpips import LPIPS

    with warnings.catch_warnings():  # it calls torchvision in a way that is being retired
        warnings.simplefilter("ignore")
        with torch.random.fork_rng(devices=[]):
            network = LPIPS(net=net, pnet_rand=True, verbose=False)
    what = BACKBONES[net].what
    state = {name: t for name, t in read(path, what).items() if name.startswith("features.")}
    # The package cuts the backbone's `features` into slices, which keep the numbers of their layers.
    places = {name.partition(".")[2]: name for name in network.net.state_dict()}
    renamed = {places.get(name.removeprefix("features."), name): tensor for name, tensor in state.items()}
    fill(network.net, renamed, path, what)
    return network.eval().requires_grad_(False)


def _l2(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    squares: np.ndarray = (one.astype(np.float64) - two) ** 2
    roots: np.ndarray = np.sqrt(squares.mean(axis=(1, 2, 3)))
    return roots


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
