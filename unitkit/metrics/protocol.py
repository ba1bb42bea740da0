"""An evaluation with its protocol: everything that someone needs who wants the same figures again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from ..data import Data
from ..system.environment import versions
from .evaluation import Measured, evaluate
from .metric import Metric

PACKAGES = ("unitkit", "torch", "torchvision", "torchmetrics", "torch-fidelity", "lpips", "timm", "numpy", "pillow")


def evaluate_with_protocol(
    model: Measured,
    data: Data,
    metrics: Sequence[Metric],
    *,
    checkpoint: str,
    step: int,
    weights: str = "last",
    device: torch.device | str = "cpu",
    seed: int = 0,
    max_images: int = 0,
) -> dict[str, Any]:
    """`evaluate`, and beside the figures all that they hang on: of checkpoint, data, images, machine and versions.

    Args:
        checkpoint: the name of the model's.
        step: its steps.
        weights: which of the checkpoint's weights the model has: "ema", their moving average, or "last".
    """
    results = evaluate(model, data, metrics, device=device, seed=seed, max_images=max_images)
    return {
        "checkpoint": checkpoint,
        "step": step,
        "weights": weights,
        "seed": seed,
        "data": {"name": data.name, "fingerprint": data.fingerprint(), **data.facts},
        "split": "test",
        "images": max_images or "all",
        **({"left_out": data.left_out} if data.left_out else {}),
        "size": list(data.size),
        **({"trained_on": f"windows of {data.window[0]}x{data.window[1]}"} if data.window != data.size else {}),
        "resampling": "files: scaled to cover the size, Lanczos with antialiasing, cut to the centre; arrays likewise",
        "rounding": "images rounded to 8 bits before they are compared",
        "latent": "mean of the posterior",
        "device": str(device),
        "versions": versions(*PACKAGES),
        "measured": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "metrics": results,
    }
