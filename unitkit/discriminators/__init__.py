"""Discriminators: an image to maps of real-or-generated logits.

A discriminator is called as `part(in_channels, **arguments)` and returns a `Tower` from (N, in_channels, H, W) to a
`Tensor` or tuple of logit maps (N, 1, h, w): positive means real; or (N, gan_classes, h, w) for a
multi-class GAN loss.
A tower with a class head (`classes` given) ends in the tuple (logits, class logits (N, classes)). What the last stage
reads are its features.
"""

from .conv32 import conv32
from .discriminator import register, registry, spec
from .lenet import lenet
from .multiscale import multiscale
from .strided import coupled, strided

__all__ = ["conv32", "coupled", "lenet", "multiscale", "register", "registry", "spec", "strided"]
