"""What schedules, optimizers and readings keep."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import discriminators, encoders, generators, models, sharing
from ..losses.reading import Reading
from ..networks.graph import Graph
from ..networks.nested import map_tensors
from ..registry import Spec
from ..runs import checkpoint
from ..system.errors import UserError
from .contracts import require


def check_schedule(label: str, spec: Spec) -> None:
    """Numbers of at least 0 that are a function of the share alone, and multiply and add as numbers do."""
    schedule = spec.build()
    for step in range(21):
        progress = step / 20
        value = schedule(progress)
        require(isinstance(value, float) and 0 <= value < float("inf"), f"{label} gives {value!r} at {progress}")
        require(value == spec.build()(progress), f"{label} differs at {progress} when built again")
        require((2 * schedule)(progress) == 2 * value, f"{label} times 2 is not its double at {progress}")
        require((schedule + schedule)(progress) == 2 * value, f"{label} plus itself is not its double at {progress}")
    require(bool(str(schedule)), f"{label} has no name")


def check_optimizer(label: str, spec: Spec) -> None:
    """Weights move against their gradient's sense, and as they would have after a turn to the disk."""
    settings = spec.build()
    require(settings.lr_at(0.0) > 0, f"{label} begins with a learning rate of {settings.lr_at(0.0)}")
    halved = settings(decay=0.5)
    require(halved.lr_at(0.75) == 0.5 * settings.lr_at(0.75), f"{label} with decay=0.5 is not halved at 3/4")
    torch.manual_seed(0)
    whole, x = nn.Linear(6, 4), torch.randn(8, 6)
    stopped = copy.deepcopy(whole)
    target = torch.randn(8, 4)
    before = float((whole(x) - target).square().mean().detach())
    _steps(settings, whole, x, target, 60)
    require(float((whole(x) - target).square().mean().detach()) < before, f"{label} makes a loss no smaller")

    first = _steps(settings, stopped, x, target, 30)
    again = copy.deepcopy(stopped)
    resumed = settings.build(list(again.parameters()), fused=False)
    with tempfile.TemporaryDirectory() as folder:
        place = checkpoint.save(Path(folder), 30, model=stopped, description={}, optimizers={"player": first}, keep=1)
        checkpoint.load_training(again, {"player": resumed}, place)
    _steps(settings, again, x, target, 30, resumed)
    for name, tensor in whole.state_dict().items():
        require(torch.equal(tensor, again.state_dict()[name]), f"{label}: {name} is another after save and load")


def _steps(
    settings: Any, model: nn.Module, x: torch.Tensor, target: torch.Tensor, count: int, optimizer: Any = None
) -> torch.optim.Optimizer:
    optimizer = optimizer or settings(lr=1e-2).build(list(model.parameters()), fused=False)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    for _ in range(count):
        optimizer.zero_grad()
        (model(x) - target).square().mean().backward()
        optimizer.step()
    made: torch.optim.Optimizer = optimizer
    return made


def check_reading(label: str, spec: Spec) -> None:
    """Some model of the package gives it, finite and the same for the same images; others refuse it in one line."""
    given = 0
    for built in _models():
        torch.manual_seed(0)
        model = built.build().eval()
        batch = {letter: torch.rand(2, channels, 32, 32) * 2 - 1 for letter, channels in model.channels.items()}
        for path in ("a", "ab", "generators"):
            name = str(Reading(spec.name, path))
            try:
                model.trace(Graph(), Reading(spec.name, path))
            except UserError as error:
                require("\n" not in str(error), f"{label} is refused in more than one line: {error}")
                continue
            given += 1
            one, other = (model.read(batch, [name])[name] for _ in range(2))
            found: list[torch.Tensor] = []
            map_tensors(one, lambda tensor, found=found: found.append(tensor) or tensor)  # type: ignore[misc]
            again: list[torch.Tensor] = []
            map_tensors(other, lambda tensor, again=again: again.append(tensor) or tensor)  # type: ignore[misc]
            require(all(tensor.isfinite().all() for tensor in found), f"{label} of '{path}' is not finite")
            same = all(torch.equal(x, y) for x, y in zip(found, again, strict=True))
            require(same, f"{label} of '{path}' differs on equal images")
    require(given > 0, f"no model gives {label}")


def _models() -> list[Spec]:
    channels = {"a": 3, "b": 3}
    encoder, generator = encoders.residual(width=4, blocks=1), generators.residual(width=4, blocks=1)
    lenet = discriminators.lenet(width=4, classes=10)
    networks = {"channels": channels, "encoder": encoder, "generator": generator}
    return [
        models.spec("unit", **networks, discriminator=lenet, sharing=sharing.soft(generator=1), pool=2, size=(32, 32)),
        models.spec("cut", **networks, discriminator=discriminators.strided(width=4, layers=2), layers=(0, 1)),
        models.munit(
            channels=channels,
            encoder=encoder,
            style_encoder=encoders.style(width=4, downs=2, style=3),
            generator=generators.adain(blocks=1, ups=2, style=3, mlp=8),
            discriminator=lenet,
            sharing=sharing.none(),
        ),
    ]
