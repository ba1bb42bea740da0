"""Layers that compute what others do with less arithmetic: the same, forward and backward, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor, nn
from torch.nn import functional

from unitkit import generators
from unitkit.kernels.operators import LAYOUTS
from unitkit.networks import convolutions
from unitkit.networks.bounded import Meta
from unitkit.networks.convolutions import Conv2d, Doubling, PixelwiseTransposed
from unitkit.networks.layers import Padding, Smooth, Up, double, initialise, mirrored


class Case(NamedTuple):
    """A layer of ours and torch's of the same weights."""

    ours: nn.Module
    plain: nn.Module
    channels: int


def case(name: str) -> Case:
    torch.manual_seed(0)
    ours: nn.Module
    theirs: nn.Module
    if name == "doubling":
        ours, conv = Doubling(3, 2), nn.Conv2d(3, 2, 5, padding=2)
        conv.load_state_dict(ours.state_dict())
        return Case(ours, nn.Sequential(nn.Upsample(scale_factor=2), conv), 3)
    if name == "pixelwise transposed":
        ours, theirs = PixelwiseTransposed(5, 3), nn.ConvTranspose2d(5, 3, 1)
    else:
        kernel, stride, padding = {"few pixels": (3, 2, 1), "few pixels, 1x1": (1, 1, 0), "few pixels, 4x4": (4, 1, 2)}[
            name
        ]
        ours, theirs = (each(4, 6, kernel, stride, padding=padding) for each in (Conv2d, nn.Conv2d))
    theirs.load_state_dict(ours.state_dict())
    return Case(ours, theirs, 5 if isinstance(ours, PixelwiseTransposed) else 4)


CASES = ("doubling", "pixelwise transposed", "few pixels", "few pixels, 1x1", "few pixels, 4x4")


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small layers count as ones of many weights."""
    monkeypatch.setattr(convolutions, "MANY", 1)


def passed(layer: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """The output, and the gradients by the input and by the parameters."""
    x = x.detach().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(grad)
    return [y.detach(), *(p.grad for p in (x, *layer.parameters()) if p.grad is not None)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("memory", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("n", "height", "width"), [(1, 1, 1), (1, 2, 3), (2, 7, 5), (3, 8, 8)])
def test_in_float64(name: str, n: int, height: int, width: int, memory: torch.memory_format) -> None:
    ours, plain, channels = case(name)
    layer, plain = (each.double().to(memory_format=memory) for each in (ours, plain))
    x = torch.randn(n, channels, height, width, dtype=torch.float64).contiguous(memory_format=memory)
    grad = torch.randn_like(plain(x)).transpose(2, 3).contiguous().transpose(2, 3)  # of no usual layout
    found, expected = passed(layer, x, grad), passed(plain, x, grad)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(layer, x.requires_grad_())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_errs_no_more_than_the_plain_layers(name: str, dtype: torch.dtype) -> None:
    """Against float64, and in bfloat16 within autocast as a training has it."""
    layer, plain, channels = case(name)
    x = torch.randn(2, channels, 12, 12)
    grad = torch.randn_like(plain(x))
    found = {}
    for each in (layer, plain):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found[each] = passed(each, x, grad.to(dtype))
    exact = passed(plain.double(), x.double(), grad.double())

    def errors(each: nn.Module) -> list[float]:
        pairs = zip(found[each], exact, strict=True)
        return [((one.double() - other).norm() / other.norm()).item() for one, other in pairs]

    for ours, theirs in zip(errors(layer), errors(plain), strict=True):
        assert ours <= 2 * theirs + 1e-7


def test_few_pixels_are_a_product_of_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """And many are not, nor are few weights, nor what lies on another device."""
    layer, used = Conv2d(4, 6, 3, 2, padding=1), []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: used.append(tuple(x.shape)))
    layer(torch.zeros(4, 4, 8, 8))
    assert not used
    layer(torch.zeros(4, 4, 8, 10))
    layer(torch.zeros(1, 4, 8, 8, device="meta"))
    monkeypatch.setattr(convolutions, "MANY", layer.weight.numel() + 1)
    layer(torch.zeros(1, 4, 8, 8))
    assert used == [(4, 4, 8, 10), (1, 4, 8, 8), (1, 4, 8, 8)]


@pytest.mark.parametrize(
    "settings",
    [
        *({"padding": 1, "padding_mode": mode} for mode in ("zeros", "reflect", "replicate", "circular")),
        *({"dilation": 2, "padding": 2}, {"dilation": (1, 2)}, {"groups": 2}, {"bias": False}, {"stride": (2, 1)}),
        *({"padding": "same"}, {"padding": "valid"}, {"padding": (0, 2)}, {"groups": 4, "bias": False}),
    ],
    ids=str,
)
def test_few_pixels_with_any_settings_are_torchs(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours, theirs = (each(4, 8, 3, **settings).double() for each in (Conv2d, nn.Conv2d))
    theirs.load_state_dict(ours.state_dict())
    for shape in (2, 4, 5, 6), (4, 5, 6):  # a batch, and an image without one
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_a_layer_on_the_meta_device_draws_no_weights() -> None:
    """And what has values, made before, is filled as ever."""
    before = torch.full((3,), 7.0)
    state = torch.random.get_rng_state()
    with Meta():
        layer = nn.Conv2d(3, 4, 3)
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(before)
    assert layer.weight.is_meta and layer.weight.shape == (4, 3, 3, 3) and not layer.weight._version
    assert torch.equal(before, torch.zeros(3)) and torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_doublings(padding: Padding) -> None:
    """Each way by torch's functions alone, from the same weights."""
    x = torch.randn(2, 6, 5, 7)
    ways: dict[Up, Callable[[Tensor, Tensor], Tensor]] = {
        "transposed": lambda w, b: functional.conv_transpose2d(x, w, b, 2, padding=1, output_padding=1),
        "nearest": lambda w, b: functional.conv2d(framed(functional.interpolate(x, scale_factor=2)), w, b),
        "smooth": lambda w, b: smooth(functional.conv_transpose2d(x, w, b, stride=2)),
        "shuffle": lambda w, b: functional.pixel_shuffle(functional.conv2d(framed(x), w, b), 2),
    }

    def smooth(y: Tensor) -> Tensor:
        y = y[:, :, :-2] + 2 * y[:, :, 1:-1] + y[:, :, 2:]
        return (y[..., :-2] + 2 * y[..., 1:-1] + y[..., 2:]) / 16

    def framed(image: Tensor) -> Tensor:
        return functional.pad(image, (1, 1, 1, 1), "reflect" if padding == "reflect" else "constant")

    for how, plain in ways.items():
        layers = nn.Sequential(*double(6, 4, how, padding=padding))
        weight, bias = layers.parameters()
        y = layers(x)
        assert y.shape == (2, 4, 10, 14)
        torch.testing.assert_close(y, plain(weight, bias))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("how", get_args(Up))
def test_doublings_have_the_gradient_of_finite_differences(
    how: Up, padding: Padding, n: int, layout: torch.memory_format
) -> None:
    layers = nn.Sequential(*double(3, 2, how, padding=padding)).double().to(memory_format=layout)
    names = [name for name, _ in layers.named_parameters()]
    x = torch.randn(n, 3, 4, 5, dtype=torch.double).to(memory_format=layout)

    def doubled(x: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(layers, dict(zip(names, weights, strict=True)), (x,))

    inputs = (x.requires_grad_(), *layers.parameters())
    assert torch.autograd.gradcheck(doubled, inputs, fast_mode=True)


def test_a_shuffle_starts_without_a_checkerboard() -> None:
    """Away from borders the four pixels that come of one are alike, until something is learnt."""
    layers = initialise(nn.Sequential(*double(6, 4, "shuffle")), "kaiming")
    y = layers(torch.randn(1, 6, 4, 4))
    assert torch.equal(y[..., ::2, ::2], y[..., 1::2, 1::2]) and torch.equal(y[..., ::2, ::2], y[..., ::2, 1::2])
    assert y.std() > 0.1 and len(layers[0].weight.unique()) > 100


def unevenness(layers: nn.Module) -> float:
    """How much a flat map varies after layers, away from its borders, over its size there."""
    y = layers(torch.randn(1, 6, 1, 1).expand(1, 6, 8, 8).contiguous()).detach()[..., 4:-4, 4:-4]
    return float(y.std((2, 3)).max() / y.abs().mean())


@pytest.mark.parametrize("how", ["smooth", "nearest", "shuffle"])
def test_generators_start_without_a_checkerboard(how: Up) -> None:
    torch.manual_seed(0)
    tower = generators.residual.build(6, 4, width=4, blocks=0, ups=1, up=how)
    assert unevenness(tower) < 1e-5
    if how == "smooth":
        (layer,) = (layer for layer in tower.modules() if layer.__class__ is nn.ConvTranspose2d)
        assert torch.equal(layer.weight, layer.weight.flip(2)) and torch.equal(layer.weight, layer.weight.flip(3))


def test_smoothing_leaves_no_checkerboard_whatever_is_learnt() -> None:
    torch.manual_seed(0)
    plain, smooth = (nn.Sequential(*double(6, 4, how, kernel=4)) for how in ("transposed", "smooth"))
    assert unevenness(plain) > 0.1 and unevenness(mirrored(plain)) < 1e-5 and unevenness(smooth) < 1e-5


def test_smoothing_is_a_convolution_with_the_binomial_filter() -> None:
    x = torch.randn(2, 3, 7, 9, dtype=torch.double)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    wanted = [[convolve2d(plane, kernel, mode="valid") for plane in image] for image in x]
    torch.testing.assert_close(Smooth().double()(x), torch.from_numpy(np.array(wanted)))
