"""Checkpoints whose files are not as the training wrote them, or are of another run: named, and never gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import TINY, one_line, unitkit
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from unitkit import load_recipe
from unitkit.networks import bounded
from unitkit.runs import checkpoint
from unitkit.runs.folder import RunFolder
from unitkit.system.errors import UserError

FILES = ("model.safetensors", "ema.safetensors", "training.safetensors", "model.json")
Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs 0 and 7, by their seeds: four steps, with a moving average, checkpoints of the second and the fourth."""
    home = tmp_path_factory.mktemp("runs")
    for seed in (0, 7):
        words = ("steps=4", "ema=0.5", "--checkpoint-every", 2, "--seed", seed, "--out", home / str(seed))
        assert unitkit("train", TINY, *words).status == 0
    return home


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "0", tmp_path / "run"))


def last(run: Path) -> Path:
    return run / "checkpoints/step-00000004"


def resume(run: Path) -> tuple[object, ...]:
    return ("train", "--resume", "--out", run, "steps=6")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_step_or_another_run_is_noticed(run: Path, runs: Path, name: str) -> None:
    strangers = [runs / "7/checkpoints/step-00000004"]
    if name != "model.json":  # which is the same at every step
        strangers.append(runs / "0/checkpoints/step-00000002")
    else:
        description = json.loads((last(run) / name).read_text())
        description["model"]["arguments"]["noise"] = 0.5
        (strangers := [run.parent / "edited"])[0].mkdir()
        (strangers[0] / name).write_text(json.dumps(description))
    for stranger in strangers:
        shutil.copy(stranger / name, last(run) / name)
        one_line(unitkit(*resume(run)), f"{last(run) / name}: it is not as the training wrote it", "delete")


def test_a_checkpoint_of_another_run_is_noticed(run: Path, runs: Path) -> None:
    shutil.rmtree(last(run))
    shutil.copytree(last(runs / "7"), last(run))
    one_line(unitkit(*resume(run)), "this checkpoint is of another run", "step-00000002")
    shutil.rmtree(last(run))
    assert "steps 2 to 6" in unitkit(*resume(run)).out


CHANGES: dict[str, Change] = {
    "nothing": lambda _: {},
    "one parameter's": lambda t: {name: each for name, each in t.items() if not name.startswith(min(t)[:40])},
    "one player's": lambda t: {name: each for name, each in t.items() if not name.startswith("generator")},
    "counts of 0": lambda t: {name: each * (not name.endswith("/step")) for name, each in t.items()},
    "counts of many": lambda t: {name: each + 9.0 * name.endswith("/step") for name, each in t.items()},
    "others": lambda t: {name: each + 1e-9 for name, each in t.items()},
}


@pytest.mark.parametrize("change", CHANGES)
def test_moments_that_are_not_those_of_the_step_are_noticed(run: Path, change: str) -> None:
    path = last(run) / "training.safetensors"
    save_file(CHANGES[change](load_file(path)), path)
    one_line(unitkit(*resume(run)), f"{path}: ")


@pytest.mark.parametrize("key", ["lr", "weight_decay", "params", "betas"])
def test_no_file_sets_an_optimizer(run: Path, key: str) -> None:
    """Nor does one that says nothing of what its files are, as of another hand."""
    path, state = last(run) / "training.safetensors", last(run) / "state.json"
    save_file({**load_file(path), f"generator/group 0/{key}": torch.tensor(0.9)}, path)
    state.write_text('{"format": 1, "step": 4}')
    one_line(unitkit(*resume(run)), f"'generator/group 0/{key}' is nothing that its optimizer keeps")


def test_a_moving_average_that_is_gone_is_not_passed_over(run: Path, tmp_path: Path) -> None:
    (last(run) / "ema.safetensors").unlink()
    Image.new("RGB", (16, 16)).save(tmp_path / "in.png")
    for words in (
        ("translate", run, "ab", tmp_path / "in.png", tmp_path / "out.png"),
        ("evaluate", run),
        resume(run),
        ("train", TINY, "ema=0.5", "--init-from", run, "--out", tmp_path / "new"),
    ):
        one_line(unitkit(*words), "ema.safetensors")
    words = ("translate", run, "ab", tmp_path / "in.png", tmp_path / "out.png", "--weights")
    one_line(unitkit(*words, "ema"), "the moving average is gone; --weights last")
    assert unitkit(*words, "last").status == 0


def test_what_says_nothing_of_its_files_is_gone_on_with(run: Path) -> None:
    (last(run) / "state.json").write_text('{"format": 1, "step": 4}')
    assert unitkit(*resume(run)).status == 0


def test_a_pool_of_images_is_no_sign_of_a_hostile_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of CycleGAN at 640 pixels are hundreds of times its weights; here the limits are that much nearer."""
    recipe = load_recipe("cyclegan", size=32, width=2, blocks=1)
    description = {"model": recipe.model.to_json(), "size": [32, 32], "labels": recipe.data.labels}
    place = checkpoint.save(tmp_path, 1, model=recipe.model.build(), description=description, optimizers={}, keep=1)
    monkeypatch.setattr(bounded, "MORE_BYTES", 0)
    assert checkpoint.load_model(place)[1].size == (32, 32)
    (place / "training.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="far more memory than the weights"):
        checkpoint.load_model(place)


def test_runs_have_names_of_their_own(runs: Path) -> None:
    names = {RunFolder(runs / seed).record["id"] for seed in "07"}
    assert len(names) == 2
    checkpoint.refuse_changed(last(runs / "0"), RunFolder(runs / "0").record["id"])
    with pytest.raises(UserError, match="of another run"):
        checkpoint.refuse_changed(last(runs / "0"), RunFolder(runs / "7").record["id"])
