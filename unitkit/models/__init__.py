"""Models: towers of several domains, what they share, and the image paths that they can compute.

A model is called as `part(**arguments)` and gives `ImagePaths`: `parts` (what a player can train), `translates` (those
that image paths go through), and a graph of whatever can be read.
"""

from . import kinds
from .classifier import classifier
from .cogan import cogan
from .cut import cut
from .dtn import dtn
from .model import register, registry, spec
from .munit import munit
from .paths import ImagePaths
from .unit import unit

__all__ = ["ImagePaths", "classifier", "cogan", "cut", "dtn", "kinds", "munit", "register", "registry", "spec", "unit"]
