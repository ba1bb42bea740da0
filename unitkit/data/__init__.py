"""Training data: where images come from, how they are kept, and the batches that a training step sees."""

from . import rendered  # noqa: F401 (registers its data sources)
from .domains import Data, Domain, datasets, open_data

__all__ = ["Data", "Domain", "datasets", "open_data"]
