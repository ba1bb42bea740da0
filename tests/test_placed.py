"""Where a domain's images lie, as it is learnt: against torch's spatial transformer, and by finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unitkit import encoders, generators
from unitkit.kernels.operators import LAYOUTS
from unitkit.networks.layers import Placed


def placed(scale: tuple[float, float], shift: tuple[float, float]) -> Placed:
    """One that sees so much larger a part, so far off, along rows and columns."""
    layer = Placed().double()
    with torch.no_grad():
        for values, given in (layer.scale, scale), (layer.shift, shift):
            values.copy_(torch.tensor(given, dtype=torch.double) / layer.RATE)
    return layer


def outside(x: Tensor) -> Tensor:
    """The median of the pixels along each image's border, the upper one of two."""
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[..., 0], x[..., -1]], 2)
    n, channels, count = border.shape
    return border.kthvalue(count // 2 + 1).values.view(n, channels, 1, 1)


@pytest.mark.parametrize("memory", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    ("scale", "shift"), [((0.417, -0.313), (0.113, -0.219)), ((-0.5, -0.6), (0.0, 0.0)), ((1.3, 0.9), (1.1, 0.3))]
)
def test_is_a_spatial_transformer(
    n: int, scale: tuple[float, float], shift: tuple[float, float], memory: torch.memory_format
) -> None:
    layer = placed(scale, shift)
    x = torch.randn(n, 3, 8, 6, dtype=torch.double).to(memory_format=memory).requires_grad_()
    theta = torch.tensor([[1 + scale[1], 0, shift[1]], [0, 1 + scale[0], shift[0]]], dtype=torch.double)
    grid = functional.affine_grid(theta.expand(n, 2, 3), list(x.shape), align_corners=False)
    torch.testing.assert_close(layer(x), functional.grid_sample(x - outside(x), grid, align_corners=False) + outside(x))
    parameters = dict(layer.named_parameters())
    assert torch.autograd.gradcheck(
        lambda x, *given: torch.func.functional_call(layer, dict(zip(parameters, given, strict=True)), x),
        (x, *parameters.values()),
    )


def test_starts_as_the_identity_and_can_be_learnt() -> None:
    """A blob's place elsewhere, from the start, where all places lie on pixels and a kink would have no slope."""
    layer, axis = Placed(), torch.linspace(-1, 1, 32)
    image = torch.exp(-4 * (axis[:, None].square() + axis.square()))[None, None]
    smaller = torch.exp(-16 * ((axis[:, None] - 0.2).square() + (axis + 0.1).square()))[None, None]
    torch.testing.assert_close(layer(image), image, atol=1e-5, rtol=0)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
    losses = []
    for _ in range(300):
        loss = (layer(image) - smaller).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 100
    torch.testing.assert_close(1 + layer.RATE * layer.scale.detach(), torch.tensor([2.0, 2.0]), atol=0.15, rtol=0)


def test_is_the_first_stage_of_an_encoder_and_the_last_of_a_generator() -> None:
    """So that stages which domains share are the same ones as without it."""
    for placed, expected in (False, 10 * [False]), (True, [True, *10 * [False], True]):
        encoder = encoders.residual(width=4, blocks=2, placed=placed).build(3)
        generator = generators.residual(width=4, blocks=2, placed=placed).build(encoder.channels, 3)
        assert [isinstance(stage, Placed) for stage in (*encoder.stages, *generator.stages)] == expected
