"""The registry of encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from ..networks.tower import Tower
from ..registry import Part, Registry

P = ParamSpec("P")

registry: Registry = Registry("encoder")
spec = registry.spec


def register(build: Callable[Concatenate[int, P], Tower]) -> Part[P, Tower]:
    """Decorator: a function becomes an encoder, under its own name."""
    return Part(registry, build)
