"""The recipes of domain adaptation: noise for the target's classes changes nothing, and each beats chance."""

from __future__ import annotations

import gzip
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from unitkit import Recipe, Trainer, UserError, digits, load_recipe
from unitkit.check import check
from unitkit.data.drawn import numerals
from unitkit.recipe_file import read_recipe_file
from unitkit.runs.options import RunOptions

RECIPES = Path(__file__).parents[1] / "recipes"
METHODS = ("digits_unit", "digits_unit_2017", "digits_cogan", "digits_dann", "digits_dtn", "digits_classifier")
SHARED = Path(os.environ.get("UNITKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
SMALL = {"width": 4, "width_d": 4, "batch": 4, "steps": 4}


def idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


def mnist_and_usps(folder: Path, noise: int | None) -> Path:
    """Small files of both, drawn; with `noise`, the target's training classes are drawn at random from it."""
    for name, side in ("mnist", 28), ("usps", 16):
        (folder / name).mkdir(parents=True)
        arrays: dict[str, np.ndarray] = {}
        for split, n in ("train", 40), ("test", 12):
            keys = [(0, split == "test", side, i) for i in range(n)]
            arrays[f"x_{split}"] = numerals.render(keys, "printed", size=(side, side))[:, 0]
            arrays[f"y_{split}"] = numerals.classes(keys)
        if name == "usps":
            if noise is not None:
                arrays["y_train"] = np.random.default_rng(noise).integers(0, 10, 40)
            np.savez(folder / name / "usps.npz", **arrays)
            continue
        for split, stem in ("train", "train"), ("test", "t10k"):
            idx(folder / name / f"{stem}-images-idx3-ubyte.gz", arrays[f"x_{split}"])
            idx(folder / name / f"{stem}-labels-idx1-ubyte.gz", arrays[f"y_{split}"])
    return folder


def small(name: str, **knobs: Any) -> Recipe:
    """The recipe, of a size that a test can train."""
    path = RECIPES / f"{name}.py"
    known = read_recipe_file(path).knobs
    return load_recipe(path, **{key: value for key, value in SMALL.items() if key in known}, **knobs)


def trained(recipe: Recipe, out: Path) -> dict[str, torch.Tensor]:
    assert Trainer(recipe, RunOptions(out)).fit()
    return load_file(next((out / "checkpoints").glob("step-*")) / "model.safetensors")


@pytest.mark.parametrize("name", METHODS)
def test_noise_for_the_classes_of_the_target_changes_no_weight(name: str, tmp_path: Path) -> None:
    found = []
    for noise in (None, 1):
        data = mnist_and_usps(tmp_path / f"data{noise}", noise)
        recipe = small(name, source="mnist", target="usps", data=str(data))
        assert recipe.data.domains["b"].train_classes is None
        found.append(trained(recipe, tmp_path / f"run{noise}"))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_the_oracle_does_see_the_classes_of_the_target(tmp_path: Path) -> None:
    found = []
    for noise in (None, 1):
        data = mnist_and_usps(tmp_path / f"data{noise}", noise)
        recipe = small("digits_classifier", classes="target", target="usps", data=str(data))
        found.append(trained(recipe, tmp_path / f"run{noise}"))
    assert not all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_the_2017_recipe_minimises_what_the_released_code_does() -> None:
    recipe = load_recipe(RECIPES / "digits_unit_2017.py", width=4, width_d=4, batch=3)
    assert len(recipe.data.domains["b"].train) == 2 * len(recipe.data.domains["a"].train)  # the target inverted, too
    model = recipe.model.build().eval()  # no dropout
    random = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 3, 3, 32, 32, generator=random) * 2 - 1
    truth = torch.tensor([1, 0, 7])
    terms = {player.name: player.terms for player in check(recipe).players}

    def total(player: str) -> torch.Tensor:
        names = [name for term in terms[player] for name in map(str, term.reads)]
        readings = model.read({"a": a, "b": b, "label:a": truth}, names)
        return torch.stack([term.weight * term(readings) for term in terms[player]]).sum()

    codes = {letter: model.encoders[letter](x) for letter, x in (("a", a), ("b", b))}
    images = {x + y: model.generators[y](codes[x][0]) for x in "ab" for y in "ab"} | {"a": a, "b": b}

    def top(path: str) -> torch.Tensor:
        value = images[path]
        for stage in model.discriminators[path[-1]].stages[:-1]:
            value = stage(value)
        return value

    def told(path: str, real: bool) -> torch.Tensor:
        logits = model.discriminators[path[-1]](images[path])[0].flatten()
        return -torch.log(torch.sigmoid(logits if real else -logits)).mean()

    judged = sum(
        told(x, True) + (told(y + x, False) + told(x + x, False)) / 2  # real; a translation and a reconstruction
        for x, y in ("ab", "ba")
    )
    right = -model.discriminators["a"](a)[1].log_softmax(1)[range(3), truth].mean()
    matched = sum((top(x + y) - top(x + x)).square().sum() / 3 for x, y in ("ab", "ba"))
    torch.testing.assert_close(total("discriminator"), judged + 10 * right + 1e-4 * matched)

    priors = sum((mu**2 + sd**2 - (sd**2).log() - 1).sum() / 3 for mu, sd in codes.values())
    errors = sum((images[x + x] - images[x]).square().mean() * 3 * 32 * 32 for x in "ab")
    fooled = sum(told(path, True) for path in ("aa", "bb", "ab", "ba")) / 2
    torch.testing.assert_close(total("generator"), 1e-4 * priors + 1e-3 * errors + fooled)


# Knobs of a short training, and by how much it must beat chance (0.1) on the target's held-out images: by five of its
# standard deviations or more. Seeds 0, 1 and 2 reach 0.40, 0.40 and 0.31 with digits_unit, 0.49, 0.42 and 0.47 with
# digits_cogan, and 0.32, 0.39 and 0.40 with digits_dtn.
SHORT: dict[str, tuple[dict[str, Any], float]] = {
    "digits_classifier": ({"width": 8, "steps": 100}, 0.35),
    "digits_dann": ({"width": 8, "steps": 100}, 0.35),
    "digits_unit": ({"width": 4, "width_d": 8, "steps": 40, "lambda_infomax": 0.3}, 0.2),
    "digits_cogan": ({"width": 4, "width_d": 8, "steps": 40}, 0.25),
    "digits_dtn": ({"width": 4, "width_d": 8, "features": 8, "steps": 100}, 0.15),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_short_run_on_drawn_digits_beats_chance(name: str, tmp_path: Path) -> None:
    """Two sets of one look: what is shown is that all parts of a recipe learn, not that its domains come together."""
    knobs, margin = SHORT[name]
    recipe = load_recipe(RECIPES / f"{name}.py", **knobs, batch=32, affine=0, dropout=0.0, lr=3e-3)
    images = digits(source="printed", target="printed", n=300, n_test=100)
    grey = {**recipe.model.arguments, "channels": images.channels}
    recipe = replace(recipe, data=images, model=replace(recipe.model, arguments=grey), watch=None)
    trainer = Trainer(recipe, RunOptions(tmp_path / "run"))
    assert trainer.fit()
    figures = trainer.evaluate()["metrics"]
    assert figures["accuracy(b)"]["figures"]["accuracy"] > 0.1 + margin
    assert np.sum(figures["accuracy(b)"]["details"]["confusion"]) == 100


@pytest.mark.parametrize("name", METHODS)
def test_digits_of_another_size_or_place_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"these networks take images of 32x32 only, not 28x28"):
        check(load_recipe(RECIPES / f"{name}.py", size=28))
    with pytest.raises(UserError, match="mnist"):
        load_recipe(RECIPES / f"{name}.py", source="mnist", data=str(tmp_path))
    with pytest.raises(UserError, match="one of mnist, usps"):
        load_recipe(RECIPES / f"{name}.py", source="minst")


@pytest.mark.skipif(not (SHARED / "usps").is_dir(), reason="needs real digits: set UNITKIT_SHARED_DATA to their folder")
def test_source_only_on_real_digits_lies_between_chance_and_the_oracle(tmp_path: Path) -> None:
    def figure(name: str, **knobs: Any) -> float:
        recipe = load_recipe(
            RECIPES / f"{name}.py", data=str(SHARED), target="usps", width=8, steps=80, padding=False, **knobs
        )
        trainer = Trainer(
            replace(recipe, watch=None), RunOptions(tmp_path / f"{name}-{len(knobs)}-{knobs.get('classes')}")
        )
        assert trainer.fit()
        found: float = trainer.evaluate()["metrics"]["accuracy(b)"]["figures"]["accuracy"]
        return found

    assert 0.3 < figure("digits_classifier", source="mnist") < figure("digits_classifier", classes="target") - 0.05
