"""The registry of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

from ..registry import Part, Registry
from .paths import ImagePaths

P = ParamSpec("P")

registry: Registry = Registry("model")
spec = registry.spec


def register(build: Callable[P, ImagePaths]) -> Part[P, ImagePaths]:
    """Decorator: a function becomes a model, under its own name."""
    return Part(registry, build)
