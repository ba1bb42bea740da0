"""Training data: where images come from, how they are kept, and the batches that a training step sees."""

from .affine import Affine
from .digits import Digits, digits
from .domain import Domain
from .domains import Data
from .domains import datasets as registry
from .drawn import rendered  # noqa: F401 (registers its data sources)
from .opening import Open, open_data

register, spec = registry.register, registry.spec

__all__ = ["Affine", "Data", "Digits", "Domain", "Open", "digits", "open_data", "register", "registry", "spec"]
