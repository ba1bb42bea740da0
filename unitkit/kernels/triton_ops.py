"""The kernels of `triton_norm` as an operator of torch, with its gradient: `torch.compile` sees through it on CUDA.

To be imported where there is Triton only; `fused.norm_act` is what networks call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch._library.custom_ops import CustomOpDef
from torch.library import custom_op, triton_op, wrap_triton

from ..system.errors import UserError
from . import triton_norm
from .layout import channels_last

PART = 4096  # pixels times channels of a tile that has not all pixels of a channel
PROGRAMS = 1024  # that the kernel of chunks should have, to fill a large GPU
CHUNKS = 16  # of a channel's pixels at most


def _operator(name: str) -> Callable[[Callable[..., tuple[Tensor, Tensor]]], CustomOpDef]:
    """An operator of a name, from a function that calls kernels."""
    # A compiler sees kernels through `triton_op`. Interpreted ones compute what no graph holds, and stay one call.
    make: Any = custom_op if triton.knobs.runtime.interpret else triton_op
    operator: Callable[[Callable[..., tuple[Tensor, Tensor]]], CustomOpDef] = make(name, mutates_args=())
    return operator


class Tiling(NamedTuple):
    """How a map is split: tiles of channels times pixels; chunks of a channel's pixels, 0 where a tile has all."""

    channels: int
    pixels: int
    chunks: int
    chunk: int
    warps: int

    @classmethod
    def of(cls, x: Tensor, last: bool, padding: int) -> Tiling:
        """For a map in channels-last or NCHW. Reflection takes more registers, and leaves a thread fewer values."""
        n, c, h, w = x.shape
        # In channels-last, as many channels as make a sector of 32 bytes; some more where pixels come in parts anyway.
        channels = min(triton.next_power_of_2(c), 8) if last else 1
        pixels = triton.next_power_of_2(h * w)
        held = 16 if padding else 32
        if channels * pixels <= 512 * held:
            return cls(channels, pixels, 0, 0, max(4, channels * pixels // (32 * held)))
        channels = min(triton.next_power_of_2(c), 32) if last else 1
        pixels = PART // channels
        tiles = triton.cdiv(h * w, pixels)
        chunks = min(triton.cdiv(PROGRAMS, n * triton.cdiv(c, channels)), CHUNKS, tiles)
        each = triton.cdiv(tiles, chunks)
        return cls(channels, pixels, triton.cdiv(tiles, each), each * pixels, PART // (32 * held))

    def blocks(self, x: Tensor) -> int:
        """The tiles that lie side by side in channels, of all images."""
        return x.shape[0] * int(triton.cdiv(x.shape[1], self.channels))

    def tiles(self, x: Tensor) -> int:
        """The tiles that the pixels of a channel make."""
        return int(triton.cdiv(x.shape[2] * x.shape[3], self.pixels))


def _laid_out(x: Tensor, last: bool) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _map(like: Tensor, dtype: torch.dtype, padding: int = 0) -> Tensor:
    """An empty map in the format of `like`, padded."""
    n, c, h, w = like.shape
    memory = torch.channels_last if channels_last(like) else torch.contiguous_format
    shape = (n, c, h + 2 * padding, w + 2 * padding)
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=memory)


def _sums(x: Tensor, count: int) -> Tensor:
    """Two numbers of each channel of each image, empty: (2, count, N C)."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty((2, count, x.shape[0] * x.shape[1]), dtype=dtype)


@_operator("unitkit::norm_act")
def norm_act(x: Tensor, residual: Tensor | None, slope: float, padding: int, eps: float) -> tuple[Tensor, Tensor]:
    """See `fused.norm_act`; and (2, 1, N C), mean and 1 / standard deviation. `slope` is that of values below 0."""
    last = channels_last(x)
    tiling = Tiling.of(x, last, padding)
    y = _map(x, x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype), padding)
    moments, sums = _sums(x, 1), _sums(x, max(1, tiling.chunks))
    n, c, h, w = x.shape
    x = _laid_out(x, last)
    block = {"LAST": last, "BLOCK_C": tiling.channels, "BLOCK_P": tiling.pixels, "num_warps": tiling.warps}
    if tiling.chunks:
        grid = (tiling.blocks(x), tiling.chunks)
        wrap_triton(triton_norm.moments_of_chunks)[grid](x, sums, n * c, c, h * w, tiling.chunk, **block)
    wrap_triton(triton_norm.forward)[(tiling.blocks(x), tiling.tiles(x))](
        x,
        x if residual is None else _laid_out(residual, last),
        y,
        moments,
        sums,
        n * c,
        c,
        h,
        w,
        tiling.chunk,
        eps,
        SLOPE=slope,
        PADDING=padding,
        RESIDUAL=residual is not None,
        CHUNKS=tiling.chunks,
        **block,
    )
    return y, moments


@_operator("unitkit::norm_act_backward")
def norm_act_backward(
    gradient: Tensor, x: Tensor, moments: Tensor, slope: float, padding: int, unpadded: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of `norm_act` by x, and, where `unpadded`, by what was padded, which is that by the residual."""
    last = channels_last(x)
    tiling = Tiling.of(x, last, padding)
    dx, outer, sums = _map(x, x.dtype), _outer(gradient, x, unpadded), _sums(x, max(1, tiling.chunks))
    n, c, h, w = x.shape
    x, gradient = _laid_out(x, last), _laid_out(gradient, last)
    block = {
        "SLOPE": slope,
        "PADDING": padding,
        "LAST": last,
        "BLOCK_C": tiling.channels,
        "BLOCK_P": tiling.pixels,
        "num_warps": tiling.warps,
    }
    if tiling.chunks:
        grid = (tiling.blocks(x), tiling.chunks)
        wrap_triton(triton_norm.grads_of_chunks)[grid](
            x, gradient, moments, sums, n * c, c, h, w, tiling.chunk, **block
        )
    wrap_triton(triton_norm.backward)[(tiling.blocks(x), tiling.tiles(x))](
        x, gradient, moments, sums, dx, outer, n * c, c, h, w, UNPADDED=unpadded, CHUNKS=tiling.chunks, **block
    )
    return dx, outer


def _outer(gradient: Tensor, x: Tensor, wanted: bool) -> Tensor:
    return _map(x, gradient.dtype) if wanted else gradient.new_empty(0)


@norm_act.register_fake
def _(x: Tensor, residual: Tensor | None, slope: float, padding: int, eps: float) -> tuple[Tensor, Tensor]:
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return _map(x, dtype, padding), _sums(x, 1)


@norm_act_backward.register_fake
def _(
    gradient: Tensor, x: Tensor, moments: Tensor, slope: float, padding: int, unpadded: bool
) -> tuple[Tensor, Tensor]:
    return _map(x, x.dtype), _outer(gradient, x, unpadded)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, residual, ctx.slope, ctx.padding, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.residual = None if residual is None else residual.dtype
    ctx.save_for_backward(x, output[1])


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, moments = ctx.saved_tensors
    separate = ctx.needs_input_grad[1] and ctx.padding > 0
    dx, outer = norm_act_backward(gradient, x, moments, ctx.slope, ctx.padding, separate)
    of_residual = (outer if separate else gradient).to(ctx.residual) if ctx.needs_input_grad[1] else None
    return dx, of_residual, None, None, None


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise UserError(
        "the kernel of norm_act cannot be differentiated twice, which a penalty on gradients through a norm asks for: "
        "train without kernels (Placement.kernels)"
    )


norm_act.register_autograd(_differentiate, setup_context=_remember)
norm_act_backward.register_autograd(_refuse)
