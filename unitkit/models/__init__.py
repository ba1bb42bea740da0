"""Models: towers of several domains, what they share, and the image paths that they can compute.

A model is called as `part(**arguments)`. It has `parts` (what a player can train), `translates` (the parts that
image paths go through), and the methods of `ImagePaths`.
"""

from ..registry import Registry

registry: Registry = Registry("model")
register, spec = registry.register, registry.spec

from .classifier import Classifier
from .cogan import Cogan
from .dtn import Dtn
from .paths import ImagePaths
from .unit import Unit

__all__ = ["Classifier", "Cogan", "Dtn", "ImagePaths", "Unit", "register", "registry", "spec"]
