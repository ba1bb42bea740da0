"""R1 beside its formula, and the second derivative that it takes beside finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unitkit import Player, Tower, discriminators, encoders, generators, models, sharing, testing
from unitkit.kernels.norms import BatchNorm, InstanceNorm
from unitkit.kernels.operators import LAYOUTS
from unitkit.losses import r1
from unitkit.models import ImagePaths
from unitkit.testing.finite_differences import in_double, off_its_start
from unitkit.training.plan import Plan


def reads(discriminator: Tower) -> ImagePaths:
    """A model of nothing but a discriminator of domain b."""
    return ImagePaths({"b": 3}, discriminators={"b": discriminator}, parts=("discriminators",), translates=())


def normed(norm: Callable[[int], nn.Module]) -> Tower:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), norm(4), nn.LeakyReLU(0.2, inplace=True))
    return Tower([layers, nn.Conv2d(4, 1, 1)], channels=1)


def built(name: str) -> tuple[Tower, tuple[int, int]]:
    if name == "instance norm":
        return normed(lambda channels: InstanceNorm()), (10, 14)
    if name == "batch norm":
        return normed(BatchNorm), (10, 14)
    small = {"width": 2, **({"front": 1, "back": 1} if name == "coupled" else {})}
    tower: Tower = discriminators.registry.spec(name, **small).build(3)
    return tower, tower.size or (24, 20)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_the_value_is_that_of_the_formula(images: int) -> None:
    """gamma / 2 E[||grad D(x)||^2], one image and one gradient at a time."""
    torch.manual_seed(0)
    tower, x = discriminators.multiscale.build(3, width=4, layers=2, scales=2).double(), torch.randn(images, 3, 16, 12)
    gamma, squares = 10.0, []
    for image in x.double():
        leaf = image.clone().requires_grad_()
        maps = tower(leaf[None])
        (gradient,) = torch.autograd.grad(sum(scale.sum() for scale in maps), leaf)
        squares.append(sum(float(number) ** 2 for number in gradient.flatten()))
    term = gamma * r1("b")
    found = term.weight_at(0) * term(reads(tower).read({"b": x.double()}, ["grad:b"]))
    assert found.item() == pytest.approx(gamma / 2 * sum(squares) / images, rel=1e-12)


@pytest.mark.parametrize("name", [*discriminators.registry, "instance norm", "batch norm"])
def test_the_second_derivative_is_that_of_finite_differences(name: str) -> None:
    """In both memory formats, for one image and for two; a norm's backward pass has to have the right gradient too."""
    for (layout, memory), images in itertools.product(LAYOUTS.items(), (1, 2)):
        torch.manual_seed(0)
        tower, size = built(name)
        model = reads(tower).double().to(memory_format=memory).train()
        off_its_start(model)
        x = in_double(torch.rand(images, 3, *size) * 2 - 1, memory)

        def value(model: ImagePaths = model, x: Tensor = x) -> dict[str, Tensor]:
            return {"r1": r1("b")(model.read({"b": x}, ["grad:b"]))}

        try:
            value()
        except ValueError as error:  # batch statistics of one image at 1x1
            assert images == 1 and "more than 1 value per channel" in str(error)
            continue
        parameters = dict(model.named_parameters())
        assert any(g.any() for g in torch.autograd.grad(value()["r1"], list(parameters.values()), allow_unused=True)
                   if g is not None)  # fmt: skip
        testing.check_gradients(f"R1 of {name}, {images} images in {layout}", value, parameters)


def test_a_lazy_player_regularises() -> None:
    """R1 in a player of its own, every few steps, by the discriminator's optimizer (StyleGAN2)."""
    model = models.unit(
        channels={"a": 3, "b": 3},
        encoder=encoders.residual(width=4, blocks=1),
        generator=generators.residual(width=4, blocks=1),
        discriminator=discriminators.strided(width=4, layers=2),
        sharing=sharing.none(),
    ).build()
    terms = [10 * r1("a"), 10 * r1("b")]
    plan = Plan(model, [Player("r1", ["discriminators"], terms, every=4)], steps=8)
    (turn,) = plan.at(0).turns
    assert not plan.at(1).turns and not turn.through
    images = plan.at(0).images.start({letter: torch.randn(2, 3, 16, 16) for letter in "ab"})
    values = turn.program.run(turn.start(plan.at(0).images.run(images)))
    total = torch.stack([term.value([values[slot] for slot in slots]) for term, slots in turn.terms]).sum()
    total.backward()
    for name, parameter in model.discriminators.named_parameters():
        assert parameter.dim() < 2 or parameter.grad is not None, name
