"""The device that a name on the command line means."""

from __future__ import annotations

import torch

from .errors import UserError, nearest


def choose_device(name: str) -> torch.device:
    """The device of a name. Raises `UserError` for one that torch does not know or that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError, OverflowError):
        raise UserError(f"unknown device '{name}'. {nearest(name, ['auto', 'cpu', 'cuda', 'mps'])}") from None
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if (device.index or 0) >= count.get(device.type, 0):
        raise UserError(f"there is no device '{name}' here (CUDA devices: {count['cuda']}); use --device cpu")
    return device
