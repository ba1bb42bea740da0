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
from unitkit.data import numerals

RECIPES = Path(__file__).parents[1] / "recipes"
METHODS = ("digits_unit", "digits_cogan", "digits_dann", "digits_dtn", "digits_source_only")
SHARED = Path(os.environ.get("UNITKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
SMALL = {"width": 4, "batch": 4, "steps": 6}


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


def trained(recipe: Recipe, out: Path) -> dict[str, torch.Tensor]:
    assert Trainer(recipe, out).fit()
    return load_file(next((out / "checkpoints").glob("step-*")) / "model.safetensors")


@pytest.mark.parametrize("name", METHODS)
def test_noise_for_the_classes_of_the_target_changes_no_weight(name: str, tmp_path: Path) -> None:
    found = []
    for noise in (None, 1):
        data = mnist_and_usps(tmp_path / f"data{noise}", noise)
        recipe = load_recipe(RECIPES / f"{name}.py", source="mnist", target="usps", data=str(data), **SMALL)
        assert recipe.data.domains["b"].train_classes is None
        found.append(trained(recipe, tmp_path / f"run{noise}"))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_the_oracle_does_see_the_classes_of_the_target(tmp_path: Path) -> None:
    found = []
    for noise in (None, 1):
        data = mnist_and_usps(tmp_path / f"data{noise}", noise)
        recipe = load_recipe(RECIPES / "digits_target_oracle.py", target="usps", data=str(data), **SMALL)
        found.append(trained(recipe, tmp_path / f"run{noise}"))
    assert not all(torch.equal(found[0][key], found[1][key]) for key in found[0])


# Knobs of a short training, and by how much it must beat chance (0.1) on the target's held-out images.
SHORT: dict[str, tuple[dict[str, Any], float]] = {
    "digits_source_only": ({"width": 8, "steps": 100}, 0.35),
    "digits_target_oracle": ({"width": 8, "steps": 100}, 0.35),
    "digits_dann": ({"width": 8, "steps": 100}, 0.35),
    "digits_unit": ({"width": 4, "discriminator_width": 8, "steps": 100}, 0.35),
    "digits_cogan": ({"width": 4, "discriminator_width": 8, "steps": 100}, 0.35),
    "digits_dtn": ({"width": 4, "discriminator_width": 8, "features": 8, "steps": 160}, 0.2),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_short_run_on_drawn_digits_beats_chance(name: str, tmp_path: Path) -> None:
    knobs, margin = SHORT[name]
    recipe = load_recipe(RECIPES / f"{name}.py", **knobs, batch=32, warp=0, dropout=0.0, lr=3e-3)
    source = "printed"  # easier than "rendered": a hundred steps suffice
    images = digits(source=source, target="printed", n=600, n_test=200)
    grey = {**recipe.model.arguments, "channels": images.channels}
    recipe = replace(recipe, data=images, model=replace(recipe.model, arguments=grey), watch=None)
    trainer = Trainer(recipe, tmp_path / "run")
    assert trainer.fit()
    figures = trainer.evaluate()["metrics"]
    assert figures["accuracy(b)"]["figures"]["accuracy"] > 0.1 + margin
    assert np.sum(figures["accuracy(b)"]["details"]["confusion"]) == 200


@pytest.mark.parametrize("name", METHODS)
def test_digits_of_another_size_or_place_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"these networks take images of 32x32 only, not 28x28"):
        load_recipe(RECIPES / f"{name}.py", size=28).checked()
    with pytest.raises(UserError, match="mnist"):
        load_recipe(RECIPES / f"{name}.py", source="mnist", data=str(tmp_path))
    with pytest.raises(UserError, match="one of mnist, usps"):
        load_recipe(RECIPES / f"{name}.py", source="minst")


@pytest.mark.skipif(not (SHARED / "usps").is_dir(), reason="needs real digits: set UNITKIT_SHARED_DATA to their folder")
def test_source_only_on_real_digits_lies_between_chance_and_the_oracle(tmp_path: Path) -> None:
    def figure(name: str, **knobs: Any) -> float:
        recipe = load_recipe(RECIPES / f"{name}.py", data=str(SHARED), target="usps", width=8, steps=80, **knobs)
        trainer = Trainer(replace(recipe, watch=None), tmp_path / name)
        assert trainer.fit()
        found: float = trainer.evaluate()["metrics"]["accuracy(b)"]["figures"]["accuracy"]
        return found

    assert 0.3 < figure("digits_source_only", source="mnist") < figure("digits_target_oracle") - 0.05
