"""Encoders: an image to the posterior over its latent code.

An encoder is called as `part(in_channels, **arguments)` and returns a `Tower` from (N, in_channels, H, W) to the
posterior's mean (N, channels, H / stride, W / stride), or to (mean, spread) where it learns the variance.
"""

from ..registry import Registry

registry: Registry = Registry("encoder")
register, spec = registry.register, registry.spec

from .conv32 import conv32
from .lenet import lenet
from .residual import residual
from .timm import timm

__all__ = ["conv32", "lenet", "register", "registry", "residual", "spec", "timm"]
