"""How a tensor of images lies in memory."""

from __future__ import annotations

from torch import Tensor


def channels_last(x: Tensor) -> bool:
    """Whether channels of (N, C, H, W) lie side by side and pixels do not; of what is cut out of such a tensor too."""
    return x.dim() == 4 and x.shape[1] > 1 and not x.is_contiguous() and x.stride(1) == 1
