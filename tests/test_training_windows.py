"""Load size and training windows apart: what a training sees, and what everything else does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import unitkit
from PIL import Image

from unitkit import UserError, open_data
from unitkit.check import check
from unitkit.data.batches import Batches
from unitkit.memory.fitting import _scaled
from unitkit.recipe_file import load_recipe
from unitkit.runs.options import RunOptions
from unitkit.trainer import Trainer

KNOBS = {"width": 4, "width_d": 4, "blocks": 1, "layers": 2, "batch": 2}
TINY = tuple(f"{name}={value}" for name, value in KNOBS.items())


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Two domains of images 20 x 24 whose red is the row, green the column and blue the image."""
    y, x = np.mgrid[0:20, 0:24]
    for label in ("one", "two"):
        for split, count in ("train", 3), ("val", 2):
            folder = tmp_path / "places" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                image = np.stack([10 * y, 10 * x, np.full_like(x, 20 * i)], axis=2).astype(np.uint8)
                Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path / "places"


def pixels(images: torch.Tensor) -> torch.Tensor:
    return ((images + 1) * 127.5).round().int()


def test_a_training_sees_windows_of_the_whole(places: Path) -> None:
    data = open_data(str(places), size=(8, 6), load=(20, 24))
    assert data.size == (20, 24) and data.window == (8, 6)
    assert {domain.test.size for domain in data.domains.values()} == {(20, 24)}
    seen = pixels(Batches(data, 400, seed=0, flip=True).batch(0)["b"])
    assert seen.shape == (400, 3, 8, 6)
    top, left = seen[:, 0, 0, 0] // 10, seen[:, 1, 0].min(dim=1).values // 10
    assert set(top.tolist()) == set(range(13)) and set(left.tolist()) == set(range(19))
    assert (seen[:, 0] == 10 * (top[:, None, None] + torch.arange(8)[:, None])).all()
    assert (seen[:, 1].sort(-1).values == 10 * (left[:, None, None] + torch.arange(6))).all()


def test_a_crop_shifts_windows_of_larger_images(places: Path) -> None:
    data = open_data(str(places), size=8, load=(20, 24))
    batches = Batches(data, 2, seed=0, crop=4)
    assert {decoded.images.size for decoded in batches.train.values()} == {(24, 28)}
    assert batches.batch(0)["a"].shape == (2, 3, 8, 8)


def test_without_a_load_size_windows_are_whole_images(places: Path) -> None:
    alone, both = (open_data(str(places), size=(20, 24), load=load) for load in (None, (20, 24)))
    assert alone.window == both.window == alone.size == both.size == (20, 24)
    for one, two in zip(Batches(alone, 4, 0).batch(3).values(), Batches(both, 4, 0).batch(3).values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"size": 32, "load": 16}, "windows of 32x32 needs images that are as large, and load=16"),
        ({"size": (8, 32), "load": (32, 16)}, "windows of 8x32"),
        ({"size": 8, "load": 0}, "load=0 is not possible"),
        ({"size": 8, "load": (0, 16)}, "load=(0, 16) is not possible"),
        ({"size": 0, "load": 16}, "size=0 is not possible"),
    ],
)
@pytest.mark.parametrize("data", ["", "portraits"])
def test_impossible_sizes(data: str, sizes: dict[str, Any], words: str, places: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_data(data or str(places), **sizes)
    assert words in str(caught.value)


def test_the_check_is_of_windows_and_of_whole_images() -> None:
    recipe = load_recipe("unit_maps", size=16, load="32x64")
    assert recipe.data.size == (32, 64)
    assert {tuple(image.shape[2:]) for name, image in check(recipe).readings.items() if name in ("a", "ab", "aba")} == {
        (16, 16)
    }
    with pytest.raises(UserError, match="images of 34x34 do not fit the encoder"):
        check(load_recipe("unit_maps", size=16, load=34))
    digits = load_recipe("digits_unit")
    with pytest.raises(UserError, match="these networks take images of 32x32 only, not 48x48"):
        check(replace(digits, data=replace(digits.data, size=(48, 48))))


def test_what_fits_is_asked_of_windows() -> None:
    data = open_data("terrain", size=(16, 32), load=64)
    scaled = _scaled(data, 8, 4)
    assert scaled.window == (8, 16) and scaled.size == (64, 64)
    whole = _scaled(open_data("terrain", size=(16, 32)), 8, 4)
    assert whole.window == whole.size == (8, 16)


def test_samples_metrics_and_watches_are_of_whole_images(tmp_path: Path, places: Path) -> None:
    out = tmp_path / "run"
    answer = unitkit(
        "train",
        "unit_maps",
        f"data={places}",
        "labels=one,two",
        "load=20x24",
        "size=8",
        *TINY,
        "steps=2",
        "sample_every=2",
        "--out",
        out,
    )
    assert answer.status == 0, answer.err
    found = json.loads((out / "metrics.json").read_text())["evaluations"][0]
    assert found["size"] == [20, 24] and found["trained_on"] == "windows of 8x8"
    (description,) = out.glob("checkpoints/*/model.json")
    assert json.loads(description.read_text())["size"] == [20, 24]
    with Image.open(out / "samples" / "step-00000002.png") as sheet:
        assert sheet.height > 6 * 20
    again = unitkit("train", "--resume", "--out", out, "steps=3")
    assert again.status == 0, again.err
    pushed = unitkit("push", out, "meier/places", "--dry-run", tmp_path / "card")
    assert pushed.status == 0, pushed.err
    assert "trained on windows of 8x8 out of images of 20x24." in (tmp_path / "card/README.md").read_text()
    with pytest.raises(UserError, match="its window differs, so it cannot go on"):
        recipe = load_recipe("unit_maps", data=str(places), labels="one,two", load="20x24", size=12, steps=4, **KNOBS)
        Trainer(recipe, RunOptions(out=out, resume=True))
