"""Every recipe in recipes/: it loads, checks, shows and trains; and the objectives beside their papers' formulas."""

from __future__ import annotations

import ast
import copy
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sets import pictures, save
from typer.testing import CliRunner

from unitkit import Data, Recipe, Trainer, UserError
from unitkit.check import check
from unitkit.cli import app
from unitkit.data import spec
from unitkit.discriminators.augment import Augment
from unitkit.kernels.norms import InstanceNorm
from unitkit.memory.fitting import Fitting
from unitkit.networks.layers import Placed, Reflect, Smooth
from unitkit.recipe_file import read_recipe_file, shipped
from unitkit.runs.options import RunOptions
from unitkit.runs.samples import rows_of

RECIPES = sorted(shipped().values())
TINY = {"size": 32, "width": 4, "blocks": 2, "layers": 3, "scales": 2, "nce_layers": (0, 1), "batch": 2, "steps": 3}
SMALLEST = {"width": 4, "blocks": 1, "layers": 2, "scales": 1, "nce_layers": "0"}  # few operators, soon predicted


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def tiny(path: Path, data: Data | None = None, **knobs: Any) -> Recipe:
    """The recipe at a size that a test can train, on `data` if given (few portraits are quick to measure)."""
    file = read_recipe_file(path)
    recipe = file.build(file.values(None, {k: v for k, v in TINY.items() if k in file.knobs} | knobs))
    return replace(recipe, data=data) if data else recipe


def few(recipe: Recipe) -> Data:
    """A few images in place of the recipe's own, of the same kind."""
    channels = recipe.data.channels
    digits = recipe.data.name.startswith("digits")
    kind = {"channels": channels["a"]} if digits else {"domains": len(channels)}
    made: Data = spec("digits" if digits else "portraits", size=32, n=8, n_test=4, **kind).build()
    return made


def named(name: str) -> Path:
    return next(path for path in RECIPES if path.stem == name)


def test_it_is_checked_with_its_defaults_and_presets(path: Path) -> None:
    file = read_recipe_file(path)
    assert {"data", "size", "width", "batch", "steps"} <= set(file.knobs)
    for preset in (None, *file.presets):
        check(file.build(file.values(preset)))


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_checked_with_a_folder_of_images(path: Path, channels: int, tmp_path: Path) -> None:
    """Which know no ground truth: what is measured then is another list."""
    file = read_recipe_file(path)
    ours = file.build(file.values(None))
    if ours.data.name.startswith("digits"):
        pytest.skip("takes digits alone, which have classes")
    shown = pictures(2, 0, 64, channels)
    for split, label in itertools.product(("train", "test"), ours.data.labels.values()):
        save(tmp_path / split / label, shown)
    knobs = {"data": str(tmp_path)}
    for preset in (None, *(name for name, knobs_of in file.presets.items() if "size" not in knobs_of)):
        recipe = check(file.build(file.values(preset, knobs))).recipe
        assert recipe.data.channels == dict.fromkeys(recipe.data.channels, channels)


def test_it_shows_and_documents_every_knob(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fitting, "largest_batch", lambda *_: 7)  # two predictions more; test_memory.py looks for it
    file = read_recipe_file(path)
    assert [knob.name for knob in file.knobs.values() if not knob.help] == []
    small = [f"{name}={value}" for name, value in (SMALLEST | {"size": 32}).items() if name in file.knobs]
    shown = CliRunner().invoke(app, ["show", str(path), *small])
    assert shown.exit_code == 0 and f"knobs of {path.stem}" in shown.output
    assert "not predicted" not in shown.output and "batch=7" in shown.output


def test_type_checkers_see_the_arguments_of_its_parts() -> None:
    """No part by its name in quotes, and no dictionary of arguments, behind which a misspelt one hides from them."""
    for path in RECIPES[0].parent.glob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            called = ast.unparse(call.func)
            kind, _, part = called.partition(".")
            if kind in ("encoders", "generators", "discriminators", "models", "sharing"):
                assert part != "spec" and all(each.arg for each in call.keywords), f"{path.name}: {called}"


def test_it_trains(path: Path, tmp_path: Path) -> None:
    recipe = tiny(path)
    recipe = tiny(path, few(recipe))
    trainer = Trainer(recipe, RunOptions(tmp_path / "run"))
    assert trainer.fit()
    found = trainer.evaluate()["metrics"]
    assert set(found) == {metric.name for metric in recipe.evaluate} != set()


# What of CycleGAN's paper the default knobs change, sizes excepted.
PAPER = {name: read_recipe_file("cyclegan").presets["paper"][name] for name in ("norm", "init", "lr", "lambda_idt")}


def test_cyclegan_minimises_the_objective_of_its_paper(tmp_path: Path) -> None:
    recipe = tiny(named("cyclegan"), few(tiny(named("cyclegan"))), flip=False, pool=0, **PAPER)
    trainer = Trainer(recipe, RunOptions(tmp_path / "run"))
    start = copy.deepcopy(trainer.model)
    batch = trainer.batches.batch(0)
    a, b = batch["a"], batch["b"]

    def to_b(x: torch.Tensor) -> torch.Tensor:
        return start.generators["b"](start.encoders["a"](x))

    def to_a(x: torch.Tensor) -> torch.Tensor:
        return start.generators["a"](start.encoders["b"](x))

    judge_a, judge_b = start.discriminators["a"], start.discriminators["b"]
    fake_a, fake_b = to_a(b), to_b(a)
    expected = {
        "generator/gan_g(ab, mode=least-squares)": ((judge_b(fake_b) - 1) ** 2).mean(),
        "generator/gan_g(ba, mode=least-squares)": ((judge_a(fake_a) - 1) ** 2).mean(),
        "generator/l1(aba, a)": (to_a(fake_b) - a).abs().mean(),
        "generator/l1(bab, b)": (to_b(fake_a) - b).abs().mean(),
        "discriminator/gan_d(a, ba, mode=least-squares)": (
            ((judge_a(a) - 1) ** 2).mean() + (judge_a(fake_a.detach()) ** 2).mean()
        ),
        "discriminator/gan_d(b, ab, mode=least-squares)": (
            ((judge_b(b) - 1) ** 2).mean() + (judge_b(fake_b.detach()) ** 2).mean()
        ),
    }
    losses = trainer.step(0)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value.detach(), rtol=1e-4, atol=1e-6)

    weights = {"gan_g": 1.0, "l1": 10.0, "gan_d": 0.5}
    for player, parts in ("generator", ("encoders", "generators")), ("discriminator", ("discriminators",)):
        terms = (weights[re.split(r"[/(]", k)[1]] * v for k, v in expected.items() if k.startswith(player))
        own = [p for part in parts for p in getattr(start, part).parameters()]
        theirs = [p.grad for part in parts for p in getattr(trainer.model, part).parameters()]
        for gradient, trained in zip(torch.autograd.grad(sum(terms), own), theirs, strict=True):
            assert trained is not None
            torch.testing.assert_close(trained, gradient, rtol=1e-3, atol=1e-5)


def test_cyclegan_trains_at_the_learning_rate_of_its_paper(tmp_path: Path) -> None:
    """The same for half of the training, and from there on a straight line to 0: what the optimizers step with."""
    recipe = tiny(named("cyclegan"), few(tiny(named("cyclegan"))), steps=1000, **PAPER)
    trainer = Trainer(recipe, RunOptions(tmp_path / "run", device="cpu"))
    for step, share in (0, 1.0), (499, 1.0), (500, 1.0), (750, 0.5), (999, 0.002):
        trainer.step(step)
        assert len(trainer.optimizers) == 2
        for optimizer in trainer.optimizers.values():
            assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(2e-4 * share, rel=1e-9)], step


def test_unit_three_translates_between_every_two_domains() -> None:
    for domains, count in (2, 2), (3, 6):
        recipe = tiny(named("unit_three"), domains=domains)
        checked = check(recipe)
        terms = {player.name: {term.name: term.weight for term in player.terms} for player in checked.players}
        letters = "abc"[:domains]
        pairs = [x + y for x in letters for y in letters if x != y]
        assert len(pairs) == count
        generator = terms["generator"]
        assert {name for name in generator if name.startswith("gan_g")} == {
            f"gan_g({pair}, mode=least-squares)" for pair in pairs
        }
        assert {name for name in generator if name.startswith("l1")} == {
            *(f"l1({x}{x}, {x})" for x in letters),
            *(f"l1({pair}{pair[0]}, {pair[0]})" for pair in pairs),
        }
        # The KL of a real image: once in L_VAE, and once in each cycle that starts from it.
        assert generator["kl(a)"] == pytest.approx(0.01 * domains) and generator["kl(ab)"] == pytest.approx(0.01)
        assert {name.count(",") - 1 for name in terms["discriminator"]} == {domains - 1}
        counterparts = {metric.name for metric in recipe.evaluate if metric.name.startswith("ground_truth")}
        assert counterparts == {f"ground_truth({pair})" for pair in pairs}
    assert " ".join(rows_of(list("abc"))) == "a aa ab aba ac aca b bb ba bab bc bcb c cc ca cac cb cbc"


@pytest.mark.parametrize("discriminator", ["strided", "coupled", "multiscale"])
def test_networks_have_what_the_knobs_say(discriminator: str) -> None:
    """Padding, doublings and augmentation, in every tower."""
    file = read_recipe_file(named("unit_faces"))
    given = {"padding": "reflect", "up": "shuffle", "augment": 0.25, "discriminator": discriminator}
    model = check(file.build(file.values(None, given))).model
    for part in (model.encoders, model.generators):
        assert any(isinstance(layer, Reflect) for layer in part.modules())
    assert any(isinstance(layer, torch.nn.PixelShuffle) for layer in model.generators.modules())
    shares = [layer.share for layer in model.modules() if isinstance(layer, Augment)]
    assert shares == [0.25, 0.25]


@pytest.mark.parametrize("kernel", [3, 4])
def test_transposed_convolutions_have_the_kernel_that_the_knob_says(kernel: int) -> None:
    file = read_recipe_file(named("unit_faces"))
    model = check(file.build(file.values(None, {"kernel": kernel}))).model
    sides = {layer.kernel_size for layer in model.modules() if isinstance(layer, torch.nn.ConvTranspose2d)}
    assert sides == {(kernel, kernel), (1, 1)}


@pytest.mark.parametrize(
    "recipe, preset", [("unit_faces", "photo"), ("unit_streets", "day_night"), ("unit_animals", "cats_dogs")]
)
def test_presets_for_photographs_double_smoothly(recipe: str, preset: str) -> None:
    file = read_recipe_file(named(recipe))
    model = check(file.build(file.values(preset, {"data": "portraits", "size": 64}))).model
    assert sum(isinstance(layer, Smooth) for layer in model.generators["a"].modules()) == 2


def test_discriminators_match_where_the_recipe_is_asked_to() -> None:
    file = read_recipe_file(named("unit_faces"))
    for matching, preset in (False, None), (True, None), (True, "photo"):
        given = {} if preset else {"matching": matching}
        discriminator = file.build(file.values(preset, given)).players[0]
        paths = [term.paths for term in discriminator.terms]
        assert paths == ([("b", "ab", "a/b"), ("a", "ba", "b/a")] if matching else [("b", "ab"), ("a", "ba")])


@pytest.mark.parametrize("recipe", ["unit_faces", "unit_animals", "unit_streets"])
def test_grey_and_colour_cannot_be_matched(recipe: str, tmp_path: Path) -> None:
    for name, channels in ("grey", 1), ("red", 3):
        save(tmp_path / "train" / name, pictures(3, channels, 64, channels))
    file = read_recipe_file(named(recipe))
    with pytest.raises(UserError, match=r"cannot match grey and colour .*channels=3 or matching=no"):
        file.build(file.values(None, {"data": str(tmp_path), "matching": True, "one_encoder": False}))


def test_networks_of_digits_have_what_the_knobs_say() -> None:
    file = read_recipe_file(named("digits_unit"))
    for placed, norm in (True, False), (False, True):
        model = check(file.build(file.values(None, {"placed": placed, "norm": norm}))).model
        for part in (model.encoders, model.generators):
            for tower in part.values():
                layers = list(tower.modules())
                assert any(isinstance(layer, Placed) for layer in layers) == placed
                # Two in each of two blocks, and one after each of two strides.
                assert sum(isinstance(layer, InstanceNorm) for layer in layers) == 4 + 2 * norm
        first, second = model.encoders.values()
        assert (first.stages[0] is not second.stages[0]) == placed  # alone of all stages of one encoder


@pytest.mark.parametrize(
    ("recipe", "discriminators"),
    [("unit_faces", 25_240_065), ("unit_animals", 50_298_114), ("unit_streets", 9_308_934)],
)
def test_released_networks_have_as_many_parameters_as_the_authors(recipe: str, discriminators: int) -> None:
    """Counted on their code at width 64; encoders and generators are the same in all three."""
    file = read_recipe_file(named(recipe))
    model = check(file.build(file.values("paper"))).model
    sizes = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in model.parts}
    assert sizes.pop("discriminators") == discriminators
    assert sum(sizes.values()) == 18_017_286
