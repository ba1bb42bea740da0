"""Metrics whose weights others publish keep their contract too: with a small network in the place of theirs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

import unitkit.metrics  # noqa: F401 (importing the kind is what registers its parts)
from unitkit import testing
from unitkit.metrics.networks.features import Features
from unitkit.metrics.perceptual import Distance
from unitkit.registry import REGISTRIES
from unitkit.system.errors import UserError


def lacking(name: str) -> str:
    """What a metric says that is not on this machine, its weights, without which the contract sees no figure of it."""
    metric = REGISTRIES["metric"][name]
    wanted = [p for p in inspect.signature(metric).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    try:
        metric(*("ab", "b")[: len(wanted)]).ready()
    except UserError as error:
        return str(error)
    return ""


def vectors(scale: float) -> Features:
    """Eight numbers of a picture: a random projection of its mean colours in four quarters."""
    projection = torch.randn(12, 8, generator=torch.Generator().manual_seed(0)) * scale
    facts = {"weights": "small.pth", "sha256": "0" * 16, "published": None}
    return Features(lambda pixels: adaptive_avg_pool2d(pixels.float() / 255, 2).flatten(1) @ projection, facts)


def apart(scale: float) -> tuple[Distance, dict[str, Any]]:
    """The distance of two pictures in those vectors."""
    features = vectors(scale)

    def distance(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        found: np.ndarray = (features(one, "cpu") - features(two, "cpu")).square().sum(dim=1).numpy()
        return found

    return distance, features.protocol


NETWORKS: dict[str, tuple[str, Callable[[float], object]]] = {
    "fid": ("distances.inception", vectors),
    "kid": ("distances.inception", vectors),
    "frechet": ("distances.timm_features", vectors),
    "kernel": ("distances.timm_features", vectors),
    "lpips": ("perceptual.lpips_distance", apart),
}


def with_small_network(monkeypatch: pytest.MonkeyPatch, name: str, scale: float = 1.0) -> None:
    place, network = NETWORKS[name]
    monkeypatch.setattr(f"unitkit.metrics.{place}", lambda *_: network(scale))
    monkeypatch.setattr(
        "unitkit.metrics.networks.published.Published.find", lambda self, given: Path(__file__)
    )  # is not read


@pytest.mark.parametrize("name", NETWORKS)
def test_metrics_with_networks_keep_their_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_small_network(monkeypatch, name)
    assert not lacking(name)
    testing.check("metric", name)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_gives_no_numbers_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_small_network(monkeypatch, name, scale=float("nan"))
    with pytest.raises(AssertionError, match=r"\bnan\b|_LinAlgError"):
        testing.check("metric", name)
