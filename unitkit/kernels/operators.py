"""The operators that training is made of, each beside a reference of sums, products and slices alone.

`faults` runs them on a device as a training does: forward and backward, in both memory formats, for one image and two,
in float32 and within bfloat16 autocast; and compares with the reference in float64 on the CPU in NCHW.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from ..networks.convolutions import Conv2d, Doubling, PixelwiseTransposed
from .norms import (
    batch_norm,
    batch_norm_reference,
    instance_norm,
    instance_norm_reference,
    layer_norm,
    layer_norm_reference,
)

Layout = Literal["NCHW", "channels-last"]
Precision = Literal["fp32", "bf16"]
LAYOUTS: dict[Layout, torch.memory_format] = {
    "NCHW": torch.contiguous_format,
    "channels-last": torch.channels_last,
}
# Of a tensor's norm: far above rounding (TF32 of CUDA included) and far below a gradient that is another's.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-2, "bf16": 6e-2}
SIZE = (9, 7)


@dataclass(frozen=True)
class Operator:
    """An operator of images (N, C, H, W) and weights, and its reference."""

    name: str
    run: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    channels: int = 4
    weights: tuple[tuple[int, ...], ...] = ()
    size: tuple[int, int] = SIZE


@dataclass(frozen=True)
class Fault:
    """An operator that is wrong: `error` is the largest of its results' and gradients', as a share of their norms."""

    operator: str
    precision: Precision
    layout: Layout
    error: float


def _convolution(kernel: int, stride: int, padding: int, groups: int = 1) -> Operator:
    def run(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return functional.conv2d(x, w, b, stride, padding, groups=groups)

    inside, outside = (1, 4) if groups > 1 else (4, 6)
    kind = f"depthwise convolution {kernel}x{kernel}" if groups > 1 else f"convolution {kernel}x{kernel}"
    name = kind + (f" of stride {stride}" if stride > 1 else "")
    return Operator(name, run, _sum_of_taps(stride, padding), weights=((outside, inside, kernel, kernel), (outside,)))


def _sum_of_taps(stride: int, padding: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A convolution with zero padding, each channel by itself where weights are of one."""

    def reference(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        x = functional.pad(x, (padding,) * 4)
        kernel = w.shape[2]
        high, wide = ((edge - kernel) // stride + 1 for edge in x.shape[2:])
        y = b[:, None, None].expand(len(x), len(b), high, wide)
        for i, j in itertools.product(range(kernel), repeat=2):
            seen = x[:, :, i : i + stride * (high - 1) + 1 : stride, j : j + stride * (wide - 1) + 1 : stride]
            tap = w[:, :, i, j]
            y = y + (seen * tap.T[:, :, None, None] if w.shape[1] == 1 else torch.einsum("nchw,oc->nohw", seen, tap))
        return y

    return reference


def _layer(name: str, layer: nn.Module, reference: Callable[..., Tensor], channels: int = 4) -> Operator:
    """A layer of `networks.convolutions`, which is computed another way than torch's."""

    def run(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        found: Tensor = functional_call(layer, {"weight": w, "bias": b}, (x,))
        return found

    shapes = tuple(tuple(p.shape) for p in layer.parameters())
    return Operator(name, run, reference, channels, weights=shapes)


def _doubled(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _sum_of_taps(1, 2)(_twice(x), w, b)


def _twice(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def _transposed(kernel: int, stride: int, padding: int, more: int = 0) -> Operator:
    def run(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return functional.conv_transpose2d(x, w, b, stride, padding, more)

    def reference(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        n, _, h, wide = x.shape
        rows, columns = (stride * (edge - 1) + kernel + more for edge in (h, wide))
        y = torch.zeros(n, w.shape[1], rows, columns, dtype=x.dtype)
        for i, j in itertools.product(range(kernel), repeat=2):
            part = torch.einsum("nchw,co->nohw", x, w[:, :, i, j])
            place = functional.pad(_spread(part, stride), (j, columns, i, rows))[:, :, :rows, :columns]
            y = y + place
        return y[:, :, padding : rows - padding, padding : columns - padding] + b[:, None, None]

    name = f"transposed convolution {kernel}x{kernel}" + (f" of stride {stride}" if stride > 1 else "")
    return Operator(name, run, reference, weights=((4, 6, kernel, kernel), (6,)))


def _spread(x: Tensor, stride: int) -> Tensor:
    """Each pixel followed by stride - 1 zeros in both directions."""
    n, c, h, w = x.shape
    y = torch.zeros(n, c, h, stride, w, stride, dtype=x.dtype)
    mask = torch.zeros(1, 1, 1, stride, 1, stride, dtype=x.dtype)
    mask[..., 0, :, 0] = 1
    return (y + x[:, :, :, None, :, None] * mask).reshape(n, c, h * stride, w * stride)


def _pad(mode: str) -> Operator:
    def indices(length: int) -> Tensor:
        places = torch.arange(-2, length + 2)
        if mode == "replicate":
            return places.clamp(0, length - 1)
        return (length - 1) - ((length - 1) - places.abs()).abs()

    def reference(x: Tensor) -> Tensor:
        return x[:, :, indices(x.shape[2])][:, :, :, indices(x.shape[3])]

    return Operator(f"padding, {mode}", lambda x: functional.pad(x, (2, 2, 2, 2), mode=mode), reference)


def _pool(x: Tensor) -> Tensor:
    h, w = (edge // 2 * 2 for edge in x.shape[2:])
    parts = [x[:, :, i:h:2, j:w:2] for i, j in itertools.product(range(2), repeat=2)]
    return torch.stack(parts).amax(0)


OPERATORS = (
    *(_convolution(*each) for each in ((1, 1, 0), (3, 1, 1), (7, 1, 3), (3, 2, 1), (4, 2, 1), (5, 1, 2), (5, 2, 2))),
    _convolution(5, 2, 0, groups=4),
    *(_transposed(*each) for each in ((1, 1, 0), (3, 2, 1, 1), (4, 2, 1), (4, 1, 0))),
    _layer("convolution of few pixels", Conv2d(128, 128, 4, 2, 1, device="meta"), _sum_of_taps(2, 1), 128),
    _layer("transposed convolution by a product", PixelwiseTransposed(4, 6), _transposed(1, 1, 0).reference),
    _layer("convolution that doubles", Doubling(4, 6), _doubled),
    Operator("instance norm", instance_norm, instance_norm_reference),
    Operator("layer norm", layer_norm, layer_norm_reference),
    Operator(
        "batch norm",
        lambda x: batch_norm(x, None, None, training=True),
        lambda x: batch_norm_reference(x, None, None, training=True),
    ),
    Operator(
        "batch norm of maps one pixel wide",
        lambda x: batch_norm(x, None, None, training=True),
        lambda x: batch_norm_reference(x, None, None, training=True),
        size=(9, 1),
    ),
    _pad("replicate"),
    _pad("reflect"),
    Operator("max-pooling", lambda x: functional.max_pool2d(x, 2), _pool),
    Operator("mean pooling", lambda x: functional.adaptive_avg_pool2d(x, 1), lambda x: x.mean((2, 3), keepdim=True)),
    Operator(
        "nearest upsampling",
        lambda x: functional.interpolate(x, scale_factor=2, mode="nearest"),
        _twice,
    ),
    Operator("tanh", torch.tanh, lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
    Operator("softplus", functional.softplus, lambda x: (1 + x.exp()).log()),
    Operator("leaky ReLU", lambda x: functional.leaky_relu(x, 0.01), lambda x: torch.where(x > 0, x, 0.01 * x)),
)
ADAM = "fused Adam"


def faults(device: torch.device) -> Iterator[Fault]:
    """Every operator that is wrong on the device, by precision and memory format. Takes a second on a CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for operator in OPERATORS:
            for precision, layout in itertools.product(TOLERANCE, LAYOUTS):
                error = max(_error(operator, device, precision, layout, n) for n in (1, 2))
                if not error <= TOLERANCE[precision]:
                    yield Fault(operator.name, precision, layout, error)
        for layout in LAYOUTS:
            error = _adam_error(device, layout)
            if not error <= TOLERANCE["fp32"]:
                yield Fault(ADAM, "fp32", layout, error)


def _error(operator: Operator, device: torch.device, precision: Precision, layout: Layout, n: int) -> float:
    memory = LAYOUTS[layout]
    inputs = [torch.randn(n, operator.channels, *operator.size), *(torch.randn(shape) for shape in operator.weights)]
    if precision == "bf16":  # values that both precisions have
        inputs = [each.bfloat16().float() for each in inputs]
    wanted = [each.double().requires_grad_() for each in inputs]
    result = operator.reference(*wanted)
    grad = torch.randn(result.shape)
    expected = [result, *torch.autograd.grad(result, wanted, grad.double())]
    given = [each.to(device, memory_format=memory if each.dim() == 4 else torch.preserve_format) for each in inputs]
    given = [each.requires_grad_() for each in given]
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            # As within a network, where what comes before is in bfloat16.
            image = given[0].bfloat16() if precision == "bf16" else given[0]
            found = operator.run(image, *given[1:])
        grad = grad.to(found.device, found.dtype).contiguous(memory_format=memory)
        results = [found, *torch.autograd.grad(found, given, grad)]
    except Exception:  # not to be had on this device, in whatever words
        return float("inf")
    pairs = [(x.detach().cpu().double(), y.detach()) for x, y in zip(results, expected, strict=True)]
    return max(float((x - y).norm() / y.norm().clamp_min(1e-6)) for x, y in pairs)


def _adam_error(device: torch.device, layout: Layout) -> float:
    """How far three steps of Adam with weight decay are from its formula (Kingma and Ba 2015, algorithm 1)."""
    start, *grads = torch.randn(4, 6, 4, 3, 3)
    weight = torch.nn.Parameter(start.clone().to(device).contiguous(memory_format=LAYOUTS[layout]))
    lr, one, two, decay = 0.1, 0.5, 0.999, 0.01
    try:
        adam = torch.optim.Adam([weight], lr=lr, betas=(one, two), weight_decay=decay, fused=True)
        for grad in grads:
            weight.grad = grad.to(device).contiguous(memory_format=LAYOUTS[layout])
            adam.step()
    except Exception:
        return float("inf")
    value, mean, square = start.double(), torch.zeros(1), torch.zeros(1)
    for step, grad in enumerate(grads, start=1):
        decayed = grad.double() + decay * value
        mean, square = one * mean + (1 - one) * decayed, two * square + (1 - two) * decayed**2
        value = value - lr * (mean / (1 - one**step)) / ((square / (1 - two**step)).sqrt() + 1e-8)
    moved = weight.detach().cpu().double() - start
    return float((moved - (value - start)).norm() / (value - start).norm())
