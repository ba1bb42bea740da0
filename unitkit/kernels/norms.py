"""Normalisation that is right for every number of images and every layout in memory, forward and backward.

Not torch's own `instance_norm`, nor `batch_norm` on images: on the CPU (torch 2.14) the first gives the gradient of
another layout when one image meets a gradient in channels-last, and so does the second for maps one pixel wide. Both
go wrong over the two ways in which such a tensor's strides can be read; with height and width as one dimension there
is a single way. Each function has a plain reference beside it, the formula itself, for tests and for devices where the
operator under it is wrong: `doctor` finds those, and sets `reference` in the modules of a model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-5


class InstanceNorm(nn.Module):
    """`instance_norm` as a module, without weights.

    Attributes:
        reference: compute by the formula, where the operator is wrong.
    """

    reference = False

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm_reference(x) if self.reference else instance_norm(x)


class LayerNorm(nn.Module):
    """`layer_norm` as a module, with a learned scale and shift of each channel.

    Attributes:
        reference: compute by the formula, where the operator is wrong.
    """

    reference = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        normal = layer_norm_reference(x) if self.reference else layer_norm(x)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class BatchNorm(nn.BatchNorm2d):
    """`batch_norm` as a module, with the arguments, weights and buffers of torch's.

    Attributes:
        reference: compute by the formula, where the operator is wrong.
    """

    reference = False

    def forward(self, input: Tensor) -> Tensor:
        assert self.momentum is not None and self.num_batches_tracked is not None, "these are torch's defaults"
        if self.training:
            self.num_batches_tracked.add_(1)
        function = batch_norm_reference if self.reference else batch_norm
        mean, variance = self.running_mean, self.running_var
        y = function(input, mean, variance, training=self.training, momentum=self.momentum, eps=self.eps)
        return y * self.weight[:, None, None] + self.bias[:, None, None] if self.affine else y


def instance_norm(x: Tensor, eps: float = EPS) -> Tensor:
    """Each channel of each image with mean 0 and variance 1 over its pixels: (N, C, H, W) to the same.

    The result has the dtype of `x`, within autocast too, and sums are in float32 at least. Raises `ValueError` for
    maps of a single pixel.
    """
    check_pixels(x)
    flat = x.flatten(2)
    # The operator behind `layer_norm`, which autocast would run in float32 on CUDA.
    normal: Tensor = torch.native_layer_norm(flat, flat.shape[2:], None, None, eps)[0]
    return normal.view(x.shape)


def instance_norm_reference(x: Tensor, eps: float = EPS) -> Tensor:
    """`instance_norm` by its formula: (x - mean) / sqrt(variance + eps), the variance over n."""
    check_pixels(x)
    return _normal(x, x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True), eps)


def layer_norm(x: Tensor, eps: float = EPS) -> Tensor:
    """Each image with mean 0 and variance 1 over its channels and pixels: (N, C, H, W) to the same.

    As of `instance_norm`, the result has the dtype of `x`, and sums are in float32 at least.
    """
    flat = x.flatten(1)
    normal: Tensor = torch.native_layer_norm(flat, flat.shape[1:], None, None, eps)[0]
    return normal.view(x.shape)


def layer_norm_reference(x: Tensor, eps: float = EPS) -> Tensor:
    """`layer_norm` by its formula."""
    return _normal(x, x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), unbiased=False, keepdim=True), eps)


def batch_norm(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = EPS,
) -> Tensor:
    """Each channel with mean 0 and variance 1 over the batch, or in evaluation by `mean` and `variance` (C,).

    (N, C, H, W) to the same. While training, `mean` and `variance` move by `momentum` towards those of the batch.
    Raises `ValueError` where the batch has one value a channel.
    """
    normal = functional.batch_norm(x.flatten(2), mean, variance, training=training, momentum=momentum, eps=eps)
    return normal.view(x.shape)


def batch_norm_reference(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = EPS,
) -> Tensor:
    """`batch_norm` by its formula; what the running variance moves towards is the batch's over n - 1."""
    if not training:
        assert mean is not None and variance is not None, "without those of the batch there are running ones"
        return _normal(x, mean[:, None, None], variance[:, None, None], eps)
    count = x.numel() // x.shape[1]
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    own_mean = x.mean((0, 2, 3), keepdim=True)
    own_variance = x.var((0, 2, 3), unbiased=False, keepdim=True)
    if mean is not None and variance is not None:
        with torch.no_grad():
            mean.lerp_(own_mean.flatten().to(mean.dtype), momentum)
            variance.lerp_(own_variance.flatten().to(variance.dtype) * count / (count - 1), momentum)
    return _normal(x, own_mean, own_variance, eps)


def _normal(x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    return (x - mean) * (variance + eps).rsqrt()


def check_pixels(x: Tensor) -> None:
    """Raise `ValueError` for maps of a single pixel."""
    if x.shape[2] * x.shape[3] == 1:
        raise ValueError("instance norm of maps of 1x1 pixel leaves nothing of them: give larger images")
