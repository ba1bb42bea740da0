"""The pool of earlier translations: the rule of CycleGAN's code, and resuming with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from unitkit import (
    Adam,
    Player,
    Recipe,
    RunOptions,
    Trainer,
    UserError,
    discriminators,
    encoders,
    gan,
    generators,
    l1,
    models,
    open_data,
    sharing,
)
from unitkit.check import check
from unitkit.models.pool import ImagePool

SHAPE = (1, 2, 3)


def numbered(*numbers: float) -> Tensor:
    """Images that can be told apart."""
    return torch.stack([torch.full(SHAPE, float(number)) for number in numbers])


def recipe(*, pool: int = 3, steps: int = 6, pooled: bool = True, accumulate: int = 1) -> Recipe:
    images = open_data("portraits", size=16, domains=2)
    l_gan = gan("ab", "ba", weight=1, mode="least-squares", pool=pooled)
    model = models.unit(
        channels=images.channels,
        encoder=encoders.residual(width=4, blocks=1),
        generator=generators.residual(width=4, blocks=1),
        discriminator=discriminators.strided(width=4, layers=2),
        sharing=sharing.none(),
        noise=0.0,
        pool=pool,
        size=images.window if pool else None,
    )
    players = [
        Player("generator", ["encoders", "generators"], [*l_gan.g, 10 * l1("aba", "a"), 10 * l1("bab", "b")], Adam()),
        Player("discriminator", ["discriminators"], l_gan.d, Adam()),
    ]
    return Recipe(model, players, images, steps=steps, batch=2, accumulate=accumulate)


def tensors(folder: Path) -> dict[str, Tensor]:
    (newest,) = sorted((folder / "checkpoints").glob("step-*"))[-1:]
    return load_file(newest / "model.safetensors") | load_file(newest / "training.safetensors")


def test_the_rule_is_cyclegans() -> None:
    """It fills first; then an image, every other time or so, is exchanged for one that it held."""
    torch.manual_seed(0)
    pool = ImagePool(4, SHAPE).train()
    assert torch.equal(pool.exchange(numbered(0, 1, 2)), numbered(0, 1, 2))
    held, swaps = [0.0, 1.0, 2.0], 0
    for number in range(3, 2003):
        given = float(pool.exchange(numbered(number))[0, 0, 0, 0])
        if len(held) < 4:
            assert given == number
            held.append(float(number))
        elif given != number:
            held[held.index(given)] = float(number)
            swaps += 1
        assert pool.images[:, 0, 0, 0].tolist()[: len(held)] == held
    assert 900 < swaps < 1100 and int(pool.filled) == 4


def test_images_of_one_batch_come_one_after_another() -> None:
    """A second image can take out the first of the same batch, as in the code's loop."""
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        pool = ImagePool(1, SHAPE).train()
        given = pool.exchange(numbered(1, 2, 3))[:, 0, 0, 0].tolist()
        kept = float(pool.images[0, 0, 0, 0])
        assert sorted([*given, kept])[0] == 1.0 and given[0] == 1.0
        seen.add((*given, kept))
    assert seen == {(1, 2, 3, 1), (1, 1, 3, 2), (1, 2, 1, 3), (1, 1, 2, 3)}


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("batch", [2, 5, 9])
def test_a_batch_is_exchanged_as_by_a_loop_over_its_images(count: int, batch: int) -> None:
    pool, held, number = ImagePool(count, SHAPE).train(), [], 0.0
    for seed in range(20):
        torch.manual_seed(seed)
        places, swaps = torch.randint(count, (batch,)).tolist(), (torch.rand(batch) < 0.5).tolist()
        images, expected = [number + i for i in range(batch)], []
        number += batch
        for image, place, swap in zip(images, places, swaps, strict=True):
            if len(held) < count:
                held.append(image)
            elif swap:
                image, held[place] = held[place], image
            expected.append(image)
        torch.manual_seed(seed)
        assert pool.exchange(numbered(*images))[:, 0, 0, 0].tolist() == expected
        assert pool.images[:, 0, 0, 0].tolist()[: len(held)] == held and int(pool.filled) == len(held)


def test_what_it_gives_is_its_own_and_has_no_gradient() -> None:
    torch.manual_seed(0)
    pool, image = ImagePool(1, SHAPE).train(), numbered(1).requires_grad_()
    pool.exchange(numbered(0))
    for _ in range(10):
        given = pool.exchange(image)
        assert not given.requires_grad
        given.zero_()
        assert set(pool.images.flatten().tolist()) <= {0.0, 1.0}
    assert pool.exchange(image.bfloat16()).dtype == torch.bfloat16 and pool.images.dtype == torch.float32


def test_evaluation_and_checks_leave_it_alone() -> None:
    pool = ImagePool(2, SHAPE).eval()
    before = torch.get_rng_state()
    assert torch.equal(pool.exchange(numbered(5, 6, 7)), numbered(5, 6, 7))
    assert int(pool.filled) == 0 and torch.equal(torch.get_rng_state(), before)
    checked = check(recipe())
    assert checked.model.pools["b"].images.is_meta and torch.equal(torch.get_rng_state(), before)
    assert checked.readings["score.pooled:ab"][0].shape == checked.readings["score:b"][0].shape


def test_only_the_discriminators_turn_moves_it(tmp_path: Path) -> None:
    trainer = Trainer(recipe(), RunOptions(tmp_path / "run", device="cpu"))
    pools: Any = trainer.model.pools
    phase, computation = trainer.training_step.plan.at(0), trainer.training_step.computation
    generator, discriminator = phase.turns
    images = computation.images(phase, trainer.batches.batch(0))
    computation.losses(generator, images, 0)
    assert int(pools["a"].filled) == int(pools["b"].filled) == 0
    computation.losses(discriminator, images, 0)
    assert int(pools["a"].filled) == int(pools["b"].filled) == 2
    trainer.model.eval().read(trainer.batches.batch(0), ["score.pooled:ab", "ab"])
    assert int(pools["b"].filled) == 2


@pytest.mark.parametrize("accumulate", [1, 2])
def test_resuming_is_exact(tmp_path: Path, accumulate: int) -> None:
    """Six steps, and three and three: the same weights, and the same images in the pools."""
    Trainer(recipe(accumulate=accumulate), RunOptions(tmp_path / "whole", device="cpu")).fit()
    Trainer(recipe(steps=3, accumulate=accumulate), RunOptions(tmp_path / "run", device="cpu")).fit()
    halfway = tensors(tmp_path / "run")
    resumed = Trainer(recipe(accumulate=accumulate), RunOptions(tmp_path / "run", device="cpu", resume=True))
    assert resumed.done == 3
    pools: Any = resumed.model.pools
    for letter in "ab":
        assert torch.equal(pools[letter].images, halfway[f"buffers/pools.{letter}.images"])
    resumed.fit()
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "run")
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    assert whole["buffers/pools.a.filled"] == 3 and whole["buffers/pools.b.images"].any()
    assert not any("pools" in name for name in load_file(next((tmp_path / "run").rglob("model.safetensors"))))


def test_a_pool_that_is_wanting_is_refused() -> None:
    with pytest.raises(UserError, match=r"gan_d_pooled.*needs a pool of images: give the model one, pool=50"):
        check(recipe(pool=0))
    without = recipe().model
    without = replace(without, arguments={k: v for k, v in without.arguments.items() if k != "size"})
    with pytest.raises(UserError, match="a pool of 3 images has to know their size: give size="):
        without.build()
    check(recipe(pooled=False))
