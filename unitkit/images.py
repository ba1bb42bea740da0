"""Between pictures as stored, uint8 (N, C, H, W), and images as networks see them, float32 in [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_tensor(pixels: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (N, C, H, W) to float32 in [-1, 1] on the device, channels last in memory."""
    tensor = torch.as_tensor(pixels).to(device, non_blocking=True)
    return (tensor.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def to_uint8(images: Tensor) -> np.ndarray:
    """float (N, C, H, W) in [-1, 1], clipped, to uint8 (N, C, H, W), rounded."""
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().contiguous().numpy()
