"""Between images as stored, (N, C, H, W), and images as networks see them, float32 in [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .values import BYTES, Values, signed


def to_tensor(
    pixels: np.ndarray | Tensor,
    device: torch.device | str = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
    values: Values = BYTES,
) -> Tensor:
    """Stored images (N, C, H, W) to float32 in [-1, 1] on the device, in a memory format."""
    tensor = signed(torch.as_tensor(pixels).to(device, non_blocking=True))
    # Rearranged as they are stored: of bytes a quarter of the memory to move.
    return values.normalised(tensor.contiguous(memory_format=memory_format))


def to_uint8(images: Tensor) -> np.ndarray:
    """float (N, C, H, W) in [-1, 1], clipped, to uint8 (N, C, H, W), rounded."""
    return BYTES.restored(images)


def at_once(size: tuple[int, int]) -> int:
    """How many images of (height, width) networks take at once outside training: 128 of 32x32, fewer of larger ones."""
    height, width = size
    return min(128, max(1, 32 * 64 * 64 // (height * width)))
