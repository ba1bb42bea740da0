"""Generators: a latent code to an image.

A generator is called as `part(in_channels, out_channels, **arguments)` and returns a `Tower` from a latent
(N, in_channels, h, w) to an image (N, out_channels, h * stride, w * stride) in [-1, 1]. Where the tower says that it
reads a `style` too, it takes (latent, style (N, style, 1, 1)).
"""

from .adain import adain
from .conv32 import conv32
from .generator import register, registry, spec
from .residual import residual
from .upsampling import upsampling

__all__ = ["adain", "conv32", "register", "registry", "residual", "spec", "upsampling"]
