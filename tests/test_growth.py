"""What a recipe grows into: batches in parts, averaged weights, weights to begin with, hooks that fail or come last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, Moment, losses_and_gradients, one_line, run, unitkit
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import unitkit as kit
from unitkit import SGD, Recipe, Trainer, UserError, Watch, load_recipe, psnr
from unitkit.ablation.folder import last_evaluation
from unitkit.hooks import Call
from unitkit.networks.average import Average
from unitkit.networks.state import unique_state
from unitkit.recipe import Hook
from unitkit.runs.checkpoint import load_model
from unitkit.runs.folder import RunFolder
from unitkit.runs.options import RunOptions
from unitkit.runs.samples import grid
from unitkit.runs.steps import all_steps, latest
from unitkit.runs.stored import read_tensors


def recipe(**changes: Any) -> Recipe:
    """Without noise and augmentation, by plain gradient descent."""
    plain = load_recipe(TINY, augment=False, noise=0.0, batch=2, steps=6)
    players = [replace(player, optimizer=SGD(lr=1e-3)) for player in plain.players]
    return replace(plain, **{"players": players, "evaluate": [psnr("aba", "a")], **changes})


def trainer(folder: Path, ours: Recipe | None = None, **options: Any) -> Trainer:
    return Trainer(ours or recipe(), RunOptions(folder, **{"device": "cpu", **options}))


def weights(ours: Trainer) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in unique_state(ours.model).items()}


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Batches in parts


@pytest.mark.parametrize("first", ["discriminator", "generator"])
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_batch_are_the_batch(tmp_path: Path, first: str, parts: int) -> None:
    """Whoever moves first: both players see the images of the same weights."""
    players = recipe().players if first == "discriminator" else recipe().players[::-1]
    one = trainer(tmp_path / "one", recipe(players=players, batch=parts))
    several = trainer(tmp_path / "several", recipe(players=players, batch=1, accumulate=parts))
    for step in range(2):
        found = losses_and_gradients(several.model, step, several.step(step))
        for name, value in losses_and_gradients(one.model, step, one.step(step)).items():
            largest = value.abs().max().item()
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-3 * largest + 1e-4, msg=f"{step}: {name}")


# Averaged weights


def test_the_average_is_that_of_its_formula(tmp_path: Path) -> None:
    """m <- k m + (1 - k) w after each step t, with k = min(decay, (1 + t) / (10 + t)): 0.1, 0.18, 0.25, then 0.27."""
    ours = trainer(tmp_path / "run", recipe(ema=0.27))
    expected = weights(ours)
    for step in range(6):
        ours.step(step)
        kept = (1 / 10, 2 / 11, 3 / 12, 0.27, 0.27, 0.27)[step]
        expected = {name: kept * t + (1 - kept) * weights(ours)[name] for name, t in expected.items()}
        assert ours.average
        for name, tensor in ours.average.tensors.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-7)


def test_an_average_goes_on_exactly(tmp_path: Path) -> None:
    watch = Watch([psnr("aa", "a")], every=2, images=2)
    whole, stopped = (trainer(tmp_path / name, recipe(ema=0.9, watch=watch)) for name in ("whole", "stopped"))
    assert whole.fit()
    stopped.hooks.insert(0, Call(lambda each, losses: each.done == 3 and each._ask_to_stop(15)))
    assert not stopped.fit() and stopped.done == 3
    del stopped
    resumed = trainer(tmp_path / "stopped", recipe(ema=0.9, watch=watch), resume=True)
    assert resumed.done == 3 and resumed.fit()
    newest = [latest(tmp_path / name / "checkpoints") for name in ("whole", "stopped")]
    for file in "model.safetensors", "training.safetensors", "ema.safetensors":
        one, two = (load_file(folder / file) for folder in newest if folder)
        assert equal(one, two), file
    assert whole.run.watched() == resumed.run.watched()


def test_what_is_counted_is_copied_and_what_is_fixed_is_kept() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    average = Average(model, 0.5)
    for step in range(3):
        model(torch.randn(2, 1, 4, 4))
        average.update(step)
        assert average.tensors["1.num_batches_tracked"] == step + 1
    assert not torch.equal(average.tensors["1.running_mean"], model[1].running_mean)
    with average.in_place():
        assert equal(model.state_dict(), average.tensors)
    assert not equal(model.state_dict(), average.tensors)


def test_a_buffer_that_another_tensor_replaces_is_followed() -> None:
    model = torch.nn.BatchNorm2d(2)
    average = Average(model, 0.5)
    model.running_mean = model.running_mean + 1  # as a module of one's own may do it
    average.update(0)
    assert torch.allclose(average.tensors["running_mean"], torch.full((2,), 0.9))  # 1 - 1/10 of the way
    with average.in_place():
        assert torch.equal(model.running_mean, average.tensors["running_mean"])
    assert torch.equal(model.running_mean, torch.ones(2))


def test_the_average_is_what_is_used(tmp_path: Path) -> None:
    """By metrics, grids, translations; the training goes on with its own weights."""
    ours = trainer(tmp_path / "run", recipe(ema=0.99))
    assert ours.fit() and ours.average
    before = weights(ours)
    assert not equal(before, ours.average.tensors)
    kept = ours.evaluate()
    assert kept["step"] == 6 and ours.evaluate(keep=False)["checkpoint"] == "step-00000006"
    assert len(json.loads((tmp_path / "run/metrics.json").read_text())["evaluations"]) == 1
    found = kept["metrics"]["psnr(aba, a)"]["figures"]
    assert equal(weights(ours), before) and ours.model.training

    folder = latest(tmp_path / "run/checkpoints")
    assert folder and equal(read_tensors(folder / "ema.safetensors"), ours.average.tensors)
    models = {kind: load_model(folder, weights=kind)[0] for kind in ("ema", "last")}  # type: ignore[arg-type]
    assert equal(unique_state(load_model(folder)[0]), unique_state(models["ema"]))
    assert equal(unique_state(models["ema"]), ours.average.tensors) and equal(unique_state(models["last"]), before)
    figures = {
        kind: kit.metrics.evaluate(model, ours.recipe.data, ours.recipe.evaluate, device="cpu")["psnr(aba, a)"][
            "figures"
        ]
        for kind, model in models.items()
    }
    assert figures["ema"] == found != figures["last"]
    drawn = np.asarray(grid(models["ema"], ours.recipe.data))
    assert np.array_equal(np.asarray(Image.open(ours.run.sample(6))), drawn)
    assert not np.array_equal(np.asarray(grid(models["last"], ours.recipe.data)), drawn)
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    translator = kit.load(tmp_path / "run", device="cpu")
    torch.testing.assert_close(translator.model(image, "ab"), models["ema"](image, "ab"))
    assert not torch.allclose(models["last"](image, "ab"), models["ema"](image, "ab"))


def test_figures_say_of_which_weights_they_are(tmp_path: Path) -> None:
    """Those of the last step neither overwrite the average's nor pass for them, in an ablation say."""
    folder = tmp_path / "run"
    assert unitkit("train", TINY, "steps=6", "ema=0.99", "--out", folder).status == 0
    for words in ((), ("--weights", "last"), ("--weights", "ema")):
        answer = unitkit("evaluate", folder, "--metrics", "psnr(aba, a)", *words)
        assert ("moving average" in answer.out) == ("last" not in words), answer
    of_average, of_last = RunFolder(folder).evaluations()
    assert (of_average["weights"], of_last["weights"]) == ("ema", "last")
    assert of_average["metrics"]["psnr(aba, a)"]["figures"] != of_last["metrics"]["psnr(aba, a)"]["figures"]
    assert last_evaluation(RunFolder(folder)) == of_average
    report = (folder / "report.html").read_text()
    assert report.count("moving average of the weights") == 1


def test_weights_are_the_trainings_again_after_an_evaluation_that_fails(tmp_path: Path) -> None:
    ours = trainer(tmp_path / "run", recipe(ema=0.99))
    ours.step(0)
    before = weights(ours)
    with pytest.raises(ZeroDivisionError), ours.averaged() as model:
        assert ours.average and equal(unique_state(model), ours.average.tensors) and not equal(weights(ours), before)
        raise ZeroDivisionError
    assert equal(weights(ours), before)


def test_a_run_keeps_its_average_for_life(tmp_path: Path) -> None:
    ours = trainer(tmp_path / "run", recipe(ema=0.9, steps=1))
    ours.fit()
    del ours
    with pytest.raises(UserError, match="another recipe: its ema differs"):
        trainer(tmp_path / "run", recipe(steps=2), resume=True)
    (all_steps(tmp_path / "run/checkpoints")[0] / "ema.safetensors").unlink()
    with pytest.raises(UserError, match=r"cannot use .*ema.safetensors"):
        trainer(tmp_path / "run", recipe(ema=0.9, steps=2), resume=True)


# Weights to begin with


def wider(ours: Recipe) -> Recipe:
    """The discriminators have twice the channels, and nothing else has changed."""
    arguments = {**ours.model.arguments, "discriminator": kit.discriminators.spec("strided", width=8, layers=2)}
    return replace(ours, model=kit.models.spec("unit", **arguments))


@pytest.mark.parametrize("ema", [0.0, 0.99])
@pytest.mark.parametrize("checkpoint", ["", "checkpoints/step-00000003"])
def test_a_training_begins_with_the_weights_of_another(tmp_path: Path, checkpoint: str, ema: float) -> None:
    """With the average where there is one, of a run or of a checkpoint of one; what does not fit is listed."""
    first = trainer(tmp_path / "first", recipe(ema=ema, steps=3))
    first.fit()
    theirs = first.average.tensors if first.average else weights(first)
    ours = trainer(tmp_path / "second", recipe(ema=0.5), init_from=tmp_path / "first" / checkpoint, seed=1)
    assert equal(weights(ours), theirs) and ours.unmatched == [] and ours.done == 0
    assert ours.average and equal(ours.average.tensors, theirs)  # which begins with them, too
    assert not any(optimizer.state for optimizer in ours.optimizers.values())
    assert json.loads((tmp_path / "second/run.json").read_text())["init_from"] == str(tmp_path / "first" / checkpoint)

    other = trainer(tmp_path / "third", wider(recipe()), init_from=tmp_path / "first", seed=1)
    fitting = {name for name in theirs if not name.startswith("discriminators")}
    fresh = weights(trainer(tmp_path / "fourth", wider(recipe()), seed=1))
    assert set(other.unmatched) == {name for name, t in theirs.items() if t.shape != fresh[name].shape} != set()
    assert not set(other.unmatched) & fitting
    for name, tensor in weights(other).items():
        assert torch.equal(tensor, fresh[name] if name in other.unmatched else theirs[name]), name


def test_a_run_with_weights_of_another_has_them_when_it_is_resumed(tmp_path: Path) -> None:
    """Killed before its first checkpoint is due, and the other run is gone."""
    trainer(tmp_path / "first").fit()
    words = ("train", TINY, "steps=4", "--init-from", tmp_path / "first", "--out")
    assert run(tmp_path / "log", *words, tmp_path / "whole").status == 0
    killed = Moment("unitkit.trainer:Trainer.step", 3)
    assert run(tmp_path / "log", *words, tmp_path / "run", moments=[killed]).status < 0
    begun = RunFolder(tmp_path / "run").latest()
    assert begun.name == "step-00000000"
    shutil.rmtree(tmp_path / "first")
    shutil.copytree(tmp_path / "run", tmp_path / "early")
    assert unitkit("train", "--resume", "--out", tmp_path / "run").status == 0
    one, two = (load_file(RunFolder(tmp_path / name).latest() / "model.safetensors") for name in ("whole", "run"))
    assert equal(one, two)
    shutil.rmtree(tmp_path / "early/checkpoints" / begun.name)
    answer = unitkit("train", "--resume", "--out", tmp_path / "early")
    one_line(answer, "ended before it kept the weights of", "train with --init-from again")


def test_weights_that_cannot_be_begun_with(tmp_path: Path) -> None:
    trainer(tmp_path / "first", recipe(steps=1)).fit()
    with pytest.raises(UserError, match="holds no checkpoint to begin with"):
        trainer(tmp_path / "run", init_from=tmp_path)
    shutil.copytree(latest(tmp_path / "first/checkpoints") or Path(), tmp_path / "odd")
    save_file({"strange": torch.zeros(1)}, tmp_path / "odd/model.safetensors")
    with pytest.raises(UserError, match=r"no weight of .*odd fits this model: they are of other networks"):
        trainer(tmp_path / "run", init_from=tmp_path / "odd")
    assert not (tmp_path / "run/run.json").exists()  # so that the same command, mended, begins
    assert trainer(tmp_path / "run", init_from=tmp_path / "first").unmatched == []


def test_the_command_says_what_does_not_match(tmp_path: Path) -> None:
    assert unitkit("train", TINY, "steps=1", "--out", tmp_path / "first").status == 0
    answer = unitkit("train", TINY, "steps=1", "--out", tmp_path / "second", "--init-from", tmp_path / "first")
    assert answer.status == 0 and "do not match" not in answer.out, answer
    answer = unitkit(
        "train", TINY, "steps=1", "width=6", "--out", tmp_path / "third", "--init-from", tmp_path / "first"
    )
    assert answer.status == 0 and "weights do not match those of" in answer.out, answer


# Hooks


class Told(Hook):
    """Keeps what it is called with, and fails when it is asked to."""

    def __init__(self, name: str, log: list[str], every: int = 1, last: bool = False, fails: int = 0) -> None:
        self.name, self.log, self.every, self.last, self.fails = name, log, every, last, fails

    def start(self, trainer: Any) -> None:
        self.log.append(f"{self.name} start")

    def after_step(self, trainer: Any, losses: Mapping[str, Tensor]) -> None:
        self.log.append(f"{self.name} {trainer.done}")
        if trainer.done == self.fails:
            raise ZeroDivisionError

    def after_samples(self, trainer: Any, grid: Path) -> None:
        self.log.append(f"{self.name} {grid.name}")

    def after_checkpoint(self, trainer: Any, checkpoint: Path) -> None:
        self.log.append(f"{self.name} {checkpoint.name}")

    def after_evaluation(self, trainer: Any, results: Mapping[str, Any]) -> None:
        self.log.append(f"{self.name} {', '.join(results)}")

    def finish(self, trainer: Any) -> None:
        self.log.append(f"{self.name} finish")


def test_hooks_are_called_in_order_and_the_last_ones_last(tmp_path: Path) -> None:
    log: list[str] = []
    late, given = Told("late", log, every=4, last=True), Told("given", log, every=2)
    ours = Trainer(
        recipe(steps=5, sample_every=4, hooks=[late], watch=Watch([psnr("aa", "a")], every=3, images=2)),
        RunOptions(tmp_path / "run", device="cpu"),
        hooks=[given],
    )
    assert ours.fit()
    ours.evaluate()
    both = ["given {0}", "late {0}"]
    assert log == [
        *(line.format("start") for line in both),
        "given 2",
        *(line.format("step-00000003") for line in both),  # the best
        *(line.format("psnr(aa, a)") for line in both),
        "given 4",
        "late 4",
        *(line.format("step-00000004.png") for line in both),
        "late 5",  # at the end, though it is not due
        *(line.format("step-00000005.png") for line in both),
        *(line.format("step-00000005") for line in both),
        *(line.format("finish") for line in both),
        *(line.format("psnr(aba, a)") for line in both),
    ]


@pytest.mark.parametrize("last", [False, True])
def test_the_steps_done_are_kept_where_a_hook_fails(tmp_path: Path, last: bool) -> None:
    log: list[str] = []
    ours = Trainer(
        recipe(hooks=[Told("it", log, fails=4, last=last)]), RunOptions(tmp_path / "run", device="cpu"), notes={}
    )
    with pytest.raises(ZeroDivisionError):
        ours.fit()
    assert [path.name for path in all_steps(tmp_path / "run/checkpoints")] == ["step-00000004"]
    assert equal(load_file(ours.run.latest() / "model.safetensors"), weights(ours)) and log[-1] == "it finish"
    del ours
    assert trainer(tmp_path / "run", resume=True).fit()


def test_hooks_with_last_are_called_where_a_signal_stops_the_training(tmp_path: Path) -> None:
    log: list[str] = []
    ours = trainer(tmp_path / "run", recipe(hooks=[Told("it", log, every=100, last=True)]))
    ours.hooks.insert(0, Call(lambda each, losses: each.done == 2 and each._ask_to_stop(15)))
    assert not ours.fit()
    assert "it 2" in log and ours.run.sample(2).exists() and ours.run.latest().name == "step-00000002"


def test_a_hook_ends_a_training_early(tmp_path: Path) -> None:
    class Enough(Hook):
        def ends(self, trainer: Any) -> bool:
            return bool(trainer.done >= 3)

    ours = trainer(tmp_path / "run", recipe(hooks=[Enough()]))
    assert ours.fit() and ours.finished and ours.done == 3
    assert ours.run.latest().name == "step-00000003" and ours.run.sample(3).exists()
