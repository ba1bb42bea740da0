"""Instance norm and what follows it in a residual block, as one operator: in plain torch, and as a Triton kernel.

The kernel has not been measured on a GPU yet, and is off: `Placement.kernels` switches it on in a model's residual
blocks, and `python benchmarks/kernels.py --device cuda` measures it.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from .norms import EPS, check_pixels, instance_norm

Activation = Literal["none", "relu", "leaky_relu"]
SLOPES: dict[Activation, float] = {"none": 1.0, "relu": 0.0, "leaky_relu": 0.01}  # below 0
TRITON = find_spec("triton") is not None  # not imported: most processes never need it
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # tests run the kernels on a CPU, very slowly


def norm_act(
    x: Tensor, *, activation: Activation = "none", residual: Tensor | None = None, padding: int = 0, fused: bool = False
) -> Tensor:
    """pad(act(instance_norm(x)) + residual): (N, C, H, W) to (N, C, H + 2 padding, W + 2 padding).

    Statistics are in float32 at least; the dtype is that of x, or of x and the residual together.

    Args:
        residual: what is added behind the activation, of the shape of x.
        padding: by how many pixels to reflect for the convolution that follows. One that pads with zeros does so by
            itself, without a copy, and wants 0 here.
        fused: by the kernel, where it runs (`fusible`); otherwise and by default by torch's operators. The kernel's
            result lies in memory as x does, in NCHW or channels-last. It cannot be differentiated twice.

    Raises:
        ValueError: maps of a single pixel, or not larger than the padding.
        UserError: the kernel's result is differentiated twice.
    """
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"a residual of {tuple(residual.shape)} cannot be added to {tuple(x.shape)}")
    if fused and fusible(x):
        from . import triton_ops

        check_pixels(x)
        check_reflection(x, padding)
        y: Tensor = triton_ops.norm_act(x, residual, SLOPES[activation], padding, EPS)[0]
        return y
    y = instance_norm(x)
    if activation != "none":  # in place: the norm's gradient does not read its result
        y = functional.leaky_relu_(y, SLOPES[activation]) if activation == "leaky_relu" else functional.relu_(y)
    return reflect(y if residual is None else y + residual, padding)


def fusible(x: Tensor) -> bool:
    """Whether the kernel runs on this map: there is Triton, and the map is on a GPU."""
    return TRITON and (x.is_cuda or INTERPRETED)


def reflect(x: Tensor, by: int) -> Tensor:
    """Height and width padded by reflection, as flipped edges joined on: torch's own has a CUDA backward that is not
    deterministic. Raises what `check_reflection` does."""
    if not by:
        return x
    check_reflection(x, by)
    for dimension in (2, 3):
        size = x.shape[dimension]
        before, after = x.narrow(dimension, 1, by), x.narrow(dimension, size - 1 - by, by)
        x = torch.cat([before.flip(dimension), x, after.flip(dimension)], dimension)
    return x


def check_reflection(x: Tensor, by: int) -> None:
    """Raise `ValueError` for maps that are not larger than the padding."""
    if min(x.shape[2:]) <= by:
        raise ValueError(f"maps of {x.shape[2]}x{x.shape[3]} cannot be padded by {by} of their own reflection")
