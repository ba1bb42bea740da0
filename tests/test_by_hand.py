"""A training beside one that is done by hand, from the formulas: the same weights."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from test_wiring import recipe, settings
from torch import Tensor

from unitkit import Trainer
from unitkit.data.batches import Batches
from unitkit.runs.options import RunOptions
from unitkit.system.seeds import seed_step
from unitkit.training.plan import reads


def test_a_training_is_that_of_its_recipe_by_hand(tmp_path: Path) -> None:
    """Adam from its paper, the schedule from its formula, the clipped gradient of the plain sum: the same weights.

    Of batches in two parts, whose gradients are added; the third player moves the first's weights every third step.
    """
    ours = recipe()
    trainer = Trainer(ours, RunOptions(tmp_path / "run", device="cpu", seed=5))
    model = copy.deepcopy(trainer.model)
    batches = Batches(ours.data, 6, 5, flip=False, crop=3, affine=ours.affine)
    moments: dict[Tensor, tuple[Tensor, Tensor, int]] = {}
    for step in range(ours.steps):
        p = step / ours.steps
        moving = [player for player in ours.players if player.since <= p < player.until and step % player.every == 0]
        whole = batches.batch(step)
        for player in moving:
            weights = list({id(p): p for part in player.trains for p in getattr(model, part).parameters()}.values())
            sums: dict[Tensor, Tensor] = {}
            for number in (0, 1):
                part = {name: images[3 * number : 3 * number + 3] for name, images in whole.items()}
                seed_step(5, step, 0, number)
                readings = model.read(part, [str(reading) for reading in reads(moving)])
                loss = torch.stack([term.weight * term(readings, p) for term in player.terms]).sum()
                found = torch.autograd.grad(loss, weights, allow_unused=True)  # the penalty does not see every bias
                for weight, gradient in zip(weights, found, strict=True):
                    if gradient is not None:
                        sums[weight] = sums.get(weight, 0) + gradient / 2
            adam = settings(ours, player)
            assert adam.clip and adam.schedule
            norm = torch.stack([gradient.square().sum() for gradient in sums.values()]).sum().sqrt()
            rate = adam.lr * min(1.0, (1 - p) / adam.decay) * adam.schedule(p)
            with torch.no_grad():
                for weight, gradient in sums.items():
                    m, v, count = moments.get(weight, (torch.zeros_like(weight), torch.zeros_like(weight), 0))
                    g = gradient * min(1, adam.clip / norm) + adam.weight_decay * weight
                    m, v = (b * o + (1 - b) * n for b, o, n in zip(adam.betas, (m, v), (g, g**2), strict=True))
                    moments[weight] = m, v, count + 1
                    one, two = (1 - beta ** (count + 1) for beta in adam.betas)
                    weight -= rate * (m / one) / ((v / two).sqrt() + 1e-8)
        trainer.step(step)
        # A bias before an instance norm changes nothing: its gradient is rounding, which Adam makes into steps.
        for (name, found), expected in zip(trainer.model.named_parameters(), model.parameters(), strict=True):
            if ".body." in name and name.endswith("bias"):
                continue
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5, msg=f"{name} after step {step}")
