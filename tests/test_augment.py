"""What a discriminator sees in place of an image: each change by itself, its share, and its gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unitkit import discriminators, load_recipe
from unitkit.check import check
from unitkit.discriminators.augment import Augment, cut, mirrored, recoloured, shifted

CHANGES = {"mirrored": mirrored, "shifted": shifted, "recoloured": recoloured, "cut": cut}


def images(n: int, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0)) + 0.5  # nothing is 0


def test_shifts_move_images_as_a_whole() -> None:
    torch.manual_seed(0)
    x, seen = images(64), set()
    for one, moved in zip(x, shifted(x), strict=True):
        found = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if torch.equal(moved, _moved(one, down, right))
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert {down for down, _ in seen} == set(range(-2, 3)) and {right for _, right in seen} == set(range(-3, 4))


def _moved(image: Tensor, down: int, right: int) -> Tensor:
    _, height, width = image.shape
    found = torch.zeros_like(image)
    rows, columns = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    found[:, rows, columns] = image[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    return found


def test_cuts_are_squares_at_every_place() -> None:
    torch.manual_seed(0)
    x = images(400)
    y = cut(x)
    hidden = (y == 0).all(1)
    assert torch.equal(y, torch.where(hidden[:, None], 0.0, x))
    rows, columns = hidden.any(2).sum(1), hidden.any(1).sum(1)
    assert (rows.max(), columns.max()) == (8, 8) and (rows * columns == hidden.sum((1, 2))).all()
    assert rows.min() == columns.min() == 4  # half over the border
    assert hidden.any(0).all() and not hidden.all(0).any()


def test_colours() -> None:
    torch.manual_seed(0)
    x = images(200)
    y = recoloured(x)
    # Every colour of an image moves along one line: brightness and contrast scale grey, saturation the rest.
    grey, other = x.mean(1).flatten(1), y.mean(1).flatten(1)
    slope = (other - other.mean(1, keepdim=True)).norm(dim=1) / (grey - grey.mean(1, keepdim=True)).norm(dim=1)
    assert 0.5 <= slope.min() < 0.6 and 1.4 < slope.max() <= 1.5
    brighter = y.mean((1, 2, 3)) - x.mean((1, 2, 3))
    assert -0.5 <= brighter.min() < -0.45 and 0.45 < brighter.max() <= 0.5
    chroma = (y - y.mean(1, keepdim=True)).flatten(1).norm(dim=1) / (x - x.mean(1, keepdim=True)).flatten(1).norm(dim=1)
    assert (chroma / slope).min() < 0.05 and 1.95 < (chroma / slope).max() <= 2


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_happens_to_its_share(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in CHANGES.keys() - {name}:
        monkeypatch.setattr(f"unitkit.discriminators.augment.{other}", lambda x: x)
    torch.manual_seed(0)
    x = images(400)
    changed = (Augment(0.3)(x) != x).flatten(1).any(1).float().mean()
    assert 0.2 < changed < 0.38


def test_nothing_happens_outside_training_or_without_a_share() -> None:
    x = images(4)
    assert torch.equal(Augment(0.5).eval()(x), x) and torch.equal(Augment(0.0)(x), x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("n", [1, 2])
def test_its_gradient_is_that_of_finite_differences(n: int, layout: torch.memory_format) -> None:
    x = images(n, 8, 8).double().to(memory_format=layout).requires_grad_()

    def seen(x: Tensor) -> Tensor:
        torch.manual_seed(4)
        return Augment(0.7)(x)

    assert torch.autograd.gradcheck(seen, (x,), fast_mode=True) and not torch.equal(seen(x), x)
    assert torch.autograd.gradgradcheck(seen, (x,), fast_mode=True)  # of which R1 makes use


LAYOUTS: dict[str, Callable[[float], torch.nn.Module]] = {
    "strided": lambda share: discriminators.strided(width=4, layers=2, augment=share).build(3),
    "coupled": lambda share: discriminators.coupled(width=4, front=1, back=1, augment=share).build(3),
    "multiscale": lambda share: discriminators.multiscale(width=4, layers=2, scales=2, augment=share).build(3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_discriminators_see_augmented_images(layout: str) -> None:
    """Stages are as many as without, so that sharing counts the same; two passes over one image differ."""
    x, plain, augmented = images(8, 32, 32), LAYOUTS[layout](0.0), LAYOUTS[layout](0.8)
    assert len(plain.stages) == len(augmented.stages)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in augmented.parameters())

    def flat(value: object) -> Tensor:
        return torch.cat([each.flatten() for each in (value if isinstance(value, tuple) else (value,))])

    assert torch.equal(flat(plain(x)), flat(plain(x))) and not torch.equal(flat(augmented(x)), flat(augmented(x)))
    assert torch.equal(flat(augmented.eval()(x)), flat(augmented(x)))


def test_a_recipe_says_the_share() -> None:
    model = check(load_recipe("unit_faces", augment=0.4)).model
    found = [layer.share for layer in model.modules() if isinstance(layer, Augment)]
    assert found == [0.4, 0.4]
    assert not any(isinstance(layer, Augment) for layer in check(load_recipe("unit_faces")).model.modules())
