"""The registry of discriminators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from ..networks.tower import Tower
from ..registry import Part, Registry

P = ParamSpec("P")

registry: Registry = Registry("discriminator")
spec = registry.spec


def register(build: Callable[Concatenate[int, P], Tower]) -> Part[P, Tower]:
    """Decorator: a function becomes a discriminator, under its own name."""
    return Part(registry, build)
