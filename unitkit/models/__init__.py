"""Models: towers of several domains, what they share, and the image paths that they can compute.

A model is called as `part(**arguments)`. It has `parts` (what a player can train), `translates` (the parts that
image paths go through), and the methods of `Unit`.
"""

from ..registry import Registry

registry: Registry = Registry("model")
register, spec = registry.register, registry.spec

from .unit import Unit

__all__ = ["Unit", "register", "registry", "spec"]
