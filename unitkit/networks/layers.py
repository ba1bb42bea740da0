"""Layers that networks are made of, and how their weights are drawn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels.norms import BatchNorm, InstanceNorm
from .tower import Tower


class Residual(nn.Module):
    """x + f(x), with f: conv 3x3, instance norm, ReLU, conv 3x3, instance norm [, dropout]."""

    def __init__(self, channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            InstanceNorm(),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            InstanceNorm(),
            *([nn.Dropout(dropout)] if dropout else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.body(x)
        return x + change


class ShiftNorm(BatchNorm):
    """Batch norm with a learned shift and no learned scale, as in the released digits networks."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + self.shift[:, None, None]


class Coordinates(nn.Module):
    """Append two channels with each pixel's x and y in [-1, 1]: (N, C, H, W) -> (N, C + 2, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        ys = torch.linspace(-1, 1, h, device=x.device, dtype=x.dtype).view(1, 1, h, 1).expand(n, 1, h, w)
        xs = torch.linspace(-1, 1, w, device=x.device, dtype=x.dtype).view(1, 1, 1, w).expand(n, 1, h, w)
        return torch.cat([x, xs, ys], dim=1)


def initialise(tower: Tower, init: str) -> Tower:
    """Draw the weights of every convolution and linear layer; biases start at 0.

    Args:
        init: "gaussian", N(0, 0.02) as in the released code; "kaiming", N(0, 2 / fan-in), which keeps the signal's
            size through layers without norm; or "uniform", weights and biases up to 1 / sqrt(fan-in) on both sides of
            0, as PyTorch's layers draw them by themselves.
    """
    if init == "uniform":
        return tower
    for module in tower.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if init == "gaussian":
                nn.init.normal_(module.weight, 0.0, 0.02)
            else:
                # A transposed convolution's fan-in counts its input channels, which are dimension 0 of its weight.
                transposed = isinstance(module, nn.ConvTranspose2d)
                nn.init.kaiming_normal_(module.weight, a=0.01, mode="fan_out" if transposed else "fan_in")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return tower
