"""Encoders: an image to the posterior over its latent code.

An encoder is called as `part(in_channels, **arguments)` and returns a `Tower` from (N, in_channels, H, W) to the
posterior's mean (N, channels, H / stride, W / stride), or to (mean, spread) where it learns the variance. A style
encoder's tower `pools` over the whole image, and gives a code (N, channels, 1, 1).
"""

from .conv32 import conv32
from .encoder import register, registry, spec
from .lenet import lenet
from .residual import residual
from .style import style
from .timm import timm

__all__ = ["conv32", "lenet", "register", "registry", "residual", "spec", "style", "timm"]
