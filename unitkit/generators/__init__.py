"""Generators: a latent code to an image.

A generator is called as `part(in_channels, out_channels, **arguments)` and returns a `Tower` from a latent
(N, in_channels, h, w) to an image (N, out_channels, h * stride, w * stride) in [-1, 1].
"""

from ..registry import Registry

registry: Registry = Registry("generator")
register, spec = registry.register, registry.spec

from .conv32 import conv32
from .residual import residual

__all__ = ["conv32", "register", "registry", "residual", "spec"]
