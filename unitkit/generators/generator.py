"""The registry of generators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from ..networks.tower import Tower
from ..registry import Part, Registry

P = ParamSpec("P")

registry: Registry = Registry("generator")
spec = registry.spec


def register(build: Callable[Concatenate[int, int, P], Tower]) -> Part[P, Tower]:
    """Decorator: a function becomes a generator, under its own name."""
    return Part(registry, build)
