"""Gradients averaged in buckets: two ranks take the steps of one, whatever the recipe, to the rounding of float64."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from commands import TINY, losses_and_gradients
from ranks import on_two_ranks
from safetensors.torch import load_file, save_file
from tiny import one_way
from torch import Tensor, nn

from unitkit import load_recipe
from unitkit.check import check
from unitkit.kernels.placement import Placement
from unitkit.models.munit import Munit
from unitkit.networks.state import weights_of
from unitkit.runs.options import RunOptions
from unitkit.system import dist, gradients, seeds
from unitkit.system.errors import UserError
from unitkit.system.gradients import GradientMean
from unitkit.training.plan import trained
from unitkit.training.step import TrainingStep

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed")
STEPS = 3


@dataclass(frozen=True)
class Case:
    """A recipe, with what is drawn at random off or alike, and how its gradients travel."""

    recipe: str
    knobs: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)  # fields of the recipe
    bucket: int = 2000  # bytes: dozens of buckets
    compile: bool = False


QUIET = {"noise": 0.0, "batch": 2}
SMALL = {"size": 16, "width": 4, "layers": 2, "batch": 2}
CASES = {
    "unit": Case(str(TINY), QUIET),
    "unit in one message": Case(str(TINY), QUIET, bucket=2**30),
    "unit accumulated and recomputed": Case(
        str(TINY), QUIET, {"accumulate": 2, "recompute": ("encoders", "generators")}
    ),
    # Whose first turns are computed twice, plainly too, and send their gradients once.
    "unit compiled": Case(str(TINY), QUIET, {"players": one_way().players[:1]}, 300, True),
    # Its pool is filling, and gives back what comes in; r1 trains the discriminators too, with their optimizer.
    "cyclegan": Case("cyclegan", {**SMALL, "blocks": 2, "lambda_r1": 1.0}),
    "munit": Case("munit", {**SMALL, "blocks": 1, "style_downs": 2, "mlp": 8, "width_d": 4}),
    "cut": Case("cut", {**SMALL, "width_d": 4, "patches": 10_000}),  # all places
}


PLAIN = Placement("NCHW", fused=False)


def steps(case: Case) -> Iterator[tuple[str, Tensor]]:
    """Losses and gradients of each step, and the last weights, by name: of this rank's part of the images."""
    rank, world = dist.rank(), dist.world()
    recipe = replace(load_recipe(case.recipe, steps=16, **case.knobs), **case.more)
    torch.manual_seed(0)
    model = recipe.model.build().double().train()
    checked = check(recipe)
    options = RunOptions("nowhere", device="cpu", compile=case.compile).resolved({}, "fp32")
    step = TrainingStep(
        recipe, checked, model, options, torch.device("cpu"), PLAIN, lambda number: {}, list[str]().append
    )
    step.means = {player.name: GradientMean(trained(model, player), case.bucket) for player in checked.players}
    count = recipe.batch * recipe.accumulate * 2 // world
    for number in range(STEPS):
        images = torch.Generator().manual_seed(number)
        whole = {
            letter: torch.rand(count * world, 3, 16, 16, generator=images, dtype=torch.float64) * 2 - 1
            for letter in recipe.data.domains
        }
        if world == 1:  # the same number of parts, of twice the images
            step.recipe = replace(recipe, batch=recipe.batch * 2)
        losses = step({letter: each[rank * count :][:count] for letter, each in whole.items()}, number)
        yield from losses_and_gradients(model, number, dist.mean(losses)).items()
    for known in (each for mean in step.means.values() for each in mean.known.values()):
        assert sum(map(len, known.parameters)) == len(known.number)  # each is sent once
    assert not case.compile or len(step.computation.agreed) == len(checked.players)  # type: ignore[attr-defined]
    for name, value in weights_of(model).items():
        yield f"weight {name}", value.clone()
    counts = [len(each.parameters) for mean in step.means.values() for each in mean.known.values()]
    yield "buckets", torch.tensor(max(counts, default=0))


def drawn(self: Munit, channels: int, given: Tensor | None, images: Tensor) -> Tensor:
    """Of the styles of the whole batch, those of this rank."""
    styles = torch.randn(len(images) * dist.world(), channels, 1, 1, device=images.device).to(images.dtype)
    return styles.chunk(dist.world())[dist.rank()]


def walk(environment: dict[str, str], folder: Path, cases: Mapping[str, Case] = CASES) -> None:
    """One of two ranks, or one alone: all cases, each into a file, and what a chain of layers tells."""
    os.environ.update(environment)
    dist.start()
    alike = mock.patch(
        "unitkit.training.step.seed_step", lambda seed, step, rank, *part: seeds.seed_step(seed, step, 0)
    )
    real = torch.compile  # to plain operators, which takes less time
    compiled = mock.patch("torch.compile", lambda function, **_: real(function, fullgraph=True, backend="aot_eager"))
    with alike, compiled, mock.patch.object(Munit, "_drawn_style", drawn):
        for name, case in cases.items():
            save_file(dict(steps(case)), folder / f"{name} {dist.rank()}.safetensors")
    if dist.world() > 1:
        (folder / f"chain {dist.rank()}.json").write_text(json.dumps(chain()))
    dist.stop()


class Told(GradientMean):
    """Tells which parameters leave, and how many gradients were whole then."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__(parameters, bucket=800)
        self.told: list[tuple[int, list[str]]] = []

    def _send(self, bucket: list[nn.Parameter]) -> None:
        names = [name for name, p in self.parameters.items() if any(p is each for each in bucket)]
        self.told.append((len(self.finished), names))
        super()._send(bucket)


def chain() -> dict[str, Any]:
    """One of two ranks: how the gradients of a chain of layers leave, and what is refused."""
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Linear(10, 10, bias=False) for _ in range(4)), nn.Linear(10, 3))
    layers[0].weight = nn.Parameter(torch.randn(10, 10).t())  # lies in memory otherwise than it reads
    names = dict(layers.named_parameters())
    layers(torch.ones(1, 10)).sum().backward()
    assert not names["0.weight"].grad.is_contiguous()
    found: dict[str, Any] = {"alone": names["0.weight"].grad.tolist(), "first layers": [], "refused": []}
    mean = Told(names)

    def turn(mean: GradientMean, first: int) -> None:
        layers.zero_grad(set_to_none=True)
        mean.begin("a program")
        layers[first:](torch.full((1, 10), 1.0 + dist.rank())).sum().backward()
        mean.finish()

    for _ in range(2):
        turn(mean, 0)
        found["first layers"].append(names["0.weight"].grad.tolist())
    found |= {"sent": list(mean.told), "hooks left": sum(len(p._post_accumulate_grad_hooks) for p in names.values())}
    for each, first in (mean, 1), (GradientMean(names), dist.rank()):
        try:
            turn(each, first)
        except UserError as error:
            found["refused"].append(str(error))
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert on_two_ranks(walk, folder) == [0, 0]
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_take_the_steps_of_one(two: Path, tmp_path: Path, name: str) -> None:
    walk({}, tmp_path, {name: CASES[name]})
    one = load_file(tmp_path / f"{name} 0.safetensors")
    ranks = [load_file(two / f"{name} {rank}.safetensors") for rank in (0, 1)]
    buckets = [int(each.pop("buckets")) for each in (one, *ranks)]
    assert buckets[0] == 0 and buckets[1] == buckets[2]
    assert (buckets[1] > 4) == (CASES[name].bucket < 2**20)
    assert one.keys() == ranks[0].keys() == ranks[1].keys()
    for kind, tolerance in ("loss", 1e-12), ("gradient", 1e-11), ("weight", 1e-8):
        found = [each for each in one if each.startswith(kind)]
        assert len(found) > 10 or (kind == "loss" and len(found) >= STEPS)
        for each in found:
            assert torch.equal(ranks[0][each], ranks[1][each]), each
            scale = max(1.0, one[each].abs().max().item())
            torch.testing.assert_close(ranks[0][each], one[each], rtol=0, atol=tolerance * scale, msg=each)


def test_buckets_leave_while_backward_goes_on(two: Path) -> None:
    """Of a chain of layers: 400 bytes each, and at its end 120 with 12 of bias; 800 in a bucket."""
    for rank in (0, 1):
        told = json.loads((two / f"chain {rank}.json").read_text())
        buckets = [["3.weight", "4.weight", "4.bias"], ["1.weight", "2.weight"], ["0.weight"]]
        ends = [[6, each] for each in buckets]  # all six gradients are whole, in the turn that finds their order
        assert told["sent"] == [*ends, *map(list, zip((3, 5, 6), buckets, strict=True))]
        assert told["hooks left"] == 0
        for first in told["first layers"]:  # 1 and 2 times the same image, by hand
            torch.testing.assert_close(torch.tensor(first), 1.5 * torch.tensor(told["alone"]))


def test_parameters_that_have_a_gradient_now_and_then_or_here_and_there_are_refused(two: Path) -> None:
    for rank in (0, 1):
        now, here = json.loads((two / f"chain {rank}.json").read_text())["refused"]
        assert "the gradient of 0.weight comes and goes" in now
        assert "only some of 2 processes have a gradient of 0.weight" in here


def test_a_backward_that_fails_leaves_no_hooks_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "world", lambda: 2)
    layer = nn.Linear(2, 2)
    mean = GradientMean(dict(layer.named_parameters()))
    for _ in range(2):  # the first of which never comes to its end
        mean.begin("a program")
    layer(torch.ones(1, 2)).sum().backward()
    assert len(mean.finished) == 2
