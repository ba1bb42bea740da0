"""Triton kernels of `fused.norm_act`: instance norm, activation, residual and reflection in one pass, and its gradient.

To be imported where there is Triton only. A program holds a tile, some channels of one image times some pixels, wide in
whichever lie side by side in memory. Where all pixels of a channel fit, one kernel reads them once. Otherwise a first
kernel leaves the sums of chunks of pixels, and a second adds them up and writes tile by tile. Sums are in float32, of
float64 in float64, and in a fixed order.

The backward reads the norm's input, its mean and 1 / standard deviation: the normalised value, and on which side of the
activation it lies, are computed again, and nothing else is kept.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _channels(channels, BLOCK_C: tl.constexpr):
    """The image of this program, and its channels [BLOCK_C, 1]."""
    blocks = tl.cdiv(channels, BLOCK_C)
    c = (tl.program_id(0) % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    return (tl.program_id(0) // blocks).to(tl.int64), c[:, None]


@triton.jit
def _at(n, c, p, channels, pixels, LAST: tl.constexpr):
    """Where pixel p of channel c of image n lies, in channels-last or else in NCHW."""
    return (n * pixels + p) * channels + c if LAST else (n * channels + c) * pixels + p


@triton.jit
def _mirrored(i, size, PADDING: tl.constexpr, WHICH: tl.constexpr):
    """Where row i of `size` is in the padded map, and whether: itself (0), before the first (1), after the last (2)."""
    if WHICH == 0:
        place, there = i + PADDING, i >= 0
    elif WHICH == 1:
        place, there = PADDING - i, (i >= 1) & (i <= PADDING)
    else:
        place, there = PADDING + 2 * (size - 1) - i, (i >= size - 1 - PADDING) & (i <= size - 2)
    return place, there


@triton.jit
def moments_of_chunks(
    x, sums, rows, channels, pixels, chunk,
    LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Of a chunk of pixels: the mean, and the sum of squares around it (Chan, Golub and LeVeque 1983)."""
    n, c = _channels(channels, BLOCK_C)
    s = tl.program_id(1)
    mean = tl.zeros([BLOCK_C, 1], sums.dtype.element_ty)
    squares = tl.zeros([BLOCK_C, 1], sums.dtype.element_ty)
    for start in range(0, chunk, BLOCK_P):
        p = s * chunk + start + tl.arange(0, BLOCK_P)[None, :]
        mask = (c < channels) & (p < pixels)
        value = tl.load(x + _at(n, c, p, channels, pixels, LAST), mask=mask, other=0.0).to(mean.dtype)
        count = tl.minimum(tl.maximum(pixels - s * chunk - start, 0), BLOCK_P).to(mean.dtype)
        own = tl.sum(value, 1)[:, None] / tl.maximum(count, 1.0)
        apart = tl.where(mask, value - own, 0.0)
        share = count / tl.maximum(start + count, 1.0)
        squares += tl.sum(apart * apart, 1)[:, None] + (own - mean) * (own - mean) * share * start
        mean += (own - mean) * share
    place = s * rows + n * channels + c
    tl.store(sums + place, mean, mask=c < channels)
    tl.store(sums + tl.num_programs(1) * rows + place, squares, mask=c < channels)


@triton.jit
def forward(
    x, residual, y, moments, sums, rows, channels, height, width, chunk, eps,
    SLOPE: tl.constexpr, PADDING: tl.constexpr, RESIDUAL: tl.constexpr, LAST: tl.constexpr,
    CHUNKS: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """The result of a tile; and once for each channel, mean and 1 / standard deviation. CHUNKS is 0 for whole maps."""
    n, c = _channels(channels, BLOCK_C)
    pixels = height * width
    p = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
    mask = (c < channels) & (p < pixels)
    place = _at(n, c, p, channels, pixels, LAST)
    value = tl.load(x + place, mask=mask, other=0.0).to(moments.dtype.element_ty)
    if CHUNKS:
        mean, squares = tl.zeros([BLOCK_C, 1], value.dtype), tl.zeros([BLOCK_C, 1], value.dtype)
        for s in tl.static_range(CHUNKS):
            own = tl.load(sums + s * rows + n * channels + c, mask=c < channels, other=0.0)
            within = tl.load(sums + (CHUNKS + s) * rows + n * channels + c, mask=c < channels, other=0.0)
            count = tl.minimum(tl.maximum(pixels - s * chunk, 0), chunk).to(value.dtype)
            share = count / tl.minimum((s + 1) * chunk, pixels)
            squares += within + (own - mean) * (own - mean) * share * tl.minimum(s * chunk, pixels)
            mean += (own - mean) * share
    else:
        mean = tl.sum(value, 1)[:, None] / pixels
        apart = tl.where(mask, value - mean, 0.0)
        squares = tl.sum(apart * apart, 1)[:, None]
    rstd = 1.0 / tl.sqrt(squares / pixels + eps)
    once = (c < channels) & (tl.program_id(1) == 0)
    tl.store(moments + n * channels + c, mean, mask=once)
    tl.store(moments + rows + n * channels + c, rstd, mask=once)

    result = (value - mean) * rstd
    result = tl.where(result > 0, result, SLOPE * result)
    if RESIDUAL:
        result += tl.load(residual + place, mask=mask, other=0.0).to(value.dtype)
    result = result.to(y.dtype.element_ty)
    if PADDING:
        wide = width + 2 * PADDING
        padded = wide * (height + 2 * PADDING)
        for down in tl.static_range(3):
            i, above = _mirrored(p // width, height, PADDING, down)
            for across in tl.static_range(3):
                j, beside = _mirrored(p % width, width, PADDING, across)
                copied = _at(n, c, i * wide + j, channels, padded, LAST)
                tl.store(y + copied, result, mask=mask & above & beside)
    else:
        tl.store(y + place, result, mask=mask)


@triton.jit
def _grads(
    x, gradient, moments, n, c, p, mask, rows, channels, height, width,
    SLOPE: tl.constexpr, PADDING: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """Of a tile: 1 / standard deviation, the normalised value z, the gradient by z, and that before the activation."""
    pixels = height * width
    mean = tl.load(moments + n * channels + c, mask=c < channels, other=0.0)
    rstd = tl.load(moments + rows + n * channels + c, mask=c < channels, other=0.0)
    place = _at(n, c, p, channels, pixels, LAST)
    value = tl.load(x + place, mask=mask, other=0.0).to(mean.dtype)
    z = tl.where(mask, (value - mean) * rstd, 0.0)
    if PADDING:  # gathered from where a pixel was copied to, so that the order of the sum is fixed
        grad = tl.zeros_like(z)
        wide = width + 2 * PADDING
        padded = wide * (height + 2 * PADDING)
        for down in tl.static_range(3):
            i, above = _mirrored(p // width, height, PADDING, down)
            for across in tl.static_range(3):
                j, beside = _mirrored(p % width, width, PADDING, across)
                copied = _at(n, c, i * wide + j, channels, padded, LAST)
                grad += tl.load(gradient + copied, mask=mask & above & beside, other=0.0).to(z.dtype)
    else:
        grad = tl.load(gradient + place, mask=mask, other=0.0).to(z.dtype)
    return rstd, z, tl.where(z > 0, grad, SLOPE * grad), grad


@triton.jit
def grads_of_chunks(
    x, gradient, moments, sums, rows, channels, height, width, chunk,
    SLOPE: tl.constexpr, PADDING: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Of a chunk of pixels: the sums of the gradient by z, and of its products with z."""
    n, c = _channels(channels, BLOCK_C)
    s = tl.program_id(1)
    total = tl.zeros([BLOCK_C, 1], sums.dtype.element_ty)
    product = tl.zeros([BLOCK_C, 1], sums.dtype.element_ty)
    for start in range(0, chunk, BLOCK_P):
        p = s * chunk + start + tl.arange(0, BLOCK_P)[None, :]
        mask = (c < channels) & (p < height * width)
        _, z, grad, _ = _grads(
            x, gradient, moments, n, c, p, mask, rows, channels, height, width, SLOPE, PADDING, LAST
        )  # fmt: skip
        total += tl.sum(grad, 1)[:, None]
        product += tl.sum(grad * z, 1)[:, None]
    place = s * rows + n * channels + c
    tl.store(sums + place, total, mask=c < channels)
    tl.store(sums + tl.num_programs(1) * rows + place, product, mask=c < channels)


@triton.jit
def backward(
    x, gradient, moments, sums, dx, unpadded, rows, channels, height, width,
    SLOPE: tl.constexpr, PADDING: tl.constexpr, UNPADDED: tl.constexpr, LAST: tl.constexpr,
    CHUNKS: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Of a tile: dx = (g - mean(g) - z mean(g z)) / standard deviation, g the gradient by z; and g before padding and
    activation."""
    n, c = _channels(channels, BLOCK_C)
    pixels = height * width
    p = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
    mask = (c < channels) & (p < pixels)
    rstd, z, grad, outer = _grads(
        x, gradient, moments, n, c, p, mask, rows, channels, height, width, SLOPE, PADDING, LAST
    )  # fmt: skip
    if CHUNKS:
        total, product = tl.zeros([BLOCK_C, 1], z.dtype), tl.zeros([BLOCK_C, 1], z.dtype)
        for s in tl.static_range(CHUNKS):
            total += tl.load(sums + s * rows + n * channels + c, mask=c < channels, other=0.0)
            product += tl.load(sums + (CHUNKS + s) * rows + n * channels + c, mask=c < channels, other=0.0)
    else:
        total, product = tl.sum(grad, 1)[:, None], tl.sum(grad * z, 1)[:, None]
    place = _at(n, c, p, channels, pixels, LAST)
    result = (grad - total / pixels - z * (product / pixels)) * rstd
    tl.store(dx + place, result.to(dx.dtype.element_ty), mask=mask)
    if UNPADDED:
        tl.store(unpadded + place, outer.to(unpadded.dtype.element_ty), mask=mask)
