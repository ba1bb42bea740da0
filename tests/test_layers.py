"""Layers that compute what others do with less arithmetic: the same, forward and backward, to rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unitkit.kernels.operators import LAYOUTS
from unitkit.networks.layers import Doubling


def plain(layer: Doubling) -> nn.Sequential:
    """Each pixel doubled and then the convolution, with the same weights."""
    conv = nn.Conv2d(layer.in_channels, layer.out_channels, 5, padding=2)
    conv.load_state_dict(layer.state_dict())
    return nn.Sequential(nn.Upsample(scale_factor=2), conv.to(layer.weight.dtype))


def passed(layer: nn.Module, x: Tensor, slope: Tensor) -> list[Tensor]:
    """The output, and the gradients by the input and by the parameters."""
    x = x.detach().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(slope)
    return [y.detach(), *(p.grad for p in (x, *layer.parameters()) if p.grad is not None)]


@pytest.mark.parametrize("memory", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("n", "height", "width"), [(1, 1, 1), (1, 2, 3), (2, 7, 5), (3, 8, 8)])
def test_doubling_before_and_after(n: int, height: int, width: int, memory: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = Doubling(3, 2).double()
    x = torch.randn(n, 3, height, width, dtype=torch.float64).contiguous(memory_format=memory)
    slope = torch.randn(n, 2, 2 * width, 2 * height, dtype=torch.float64).transpose(2, 3)  # of no usual layout
    found, expected = passed(layer, x, slope), passed(plain(layer), x, slope)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(layer, x.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_doubling_errs_no_more_than_the_plain_layers(dtype: torch.dtype) -> None:
    """Against float64, and in bfloat16 within autocast as a training has it."""
    torch.manual_seed(0)
    layer = Doubling(16, 8)
    x, slope = torch.randn(2, 16, 12, 12), torch.randn(2, 8, 24, 24)
    exact = passed(plain(layer).double(), x.double(), slope.double())

    def errors(each: nn.Module) -> list[float]:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = passed(each, x, slope.to(dtype))
        return [((one.double() - other).norm() / other.norm()).item() for one, other in zip(found, exact, strict=True)]

    for ours, theirs in zip(errors(layer), errors(plain(layer)), strict=True):
        assert ours <= 2 * theirs
