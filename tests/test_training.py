"""Training: resuming exactly, being killed, signals, gradients that are not finite, full disks, the lock."""

from __future__ import annotations

import ast
import errno
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, Moment, one_line, run, start, unitkit, until
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import unitkit as kit
from unitkit import TrainingError, UserError, losses
from unitkit.data.tensors import at_once
from unitkit.hooks import Call
from unitkit.networks.state import weights_of
from unitkit.runs import checkpoint, samples
from unitkit.runs.folder import RunFolder
from unitkit.runs.options import RunOptions
from unitkit.runs.steps import all_steps
from unitkit.system import environment as environment_module
from unitkit.system.devices import enough_memory
from unitkit.system.environment import environment
from unitkit.trainer import Trainer

KILL = (signal.SIGKILL,)
TRAIN = ("--checkpoint-every", 3)


def rows(folder: Path) -> list[dict[str, float]]:
    """stats.jsonl without the seconds."""
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def state(folder: Path, step: int | None = None) -> dict[str, Tensor]:
    """All tensors of a checkpoint (the newest): weights and the optimizers' moments."""
    found = folder / "checkpoints" / f"step-{step:08d}" if step else RunFolder(folder).latest()
    return load_file(found / "model.safetensors") | load_file(found / "training.safetensors")


def same_state(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_same_run(one: Path, other: Path) -> None:
    assert RunFolder(one).latest().name == RunFolder(other).latest().name
    assert same_state(state(one), state(other))
    assert rows(one) == rows(other)


def whole_checkpoints(folder: Path) -> list[str]:
    """The names of the checkpoints, after seeing that each one loads."""
    found = all_steps(folder / "checkpoints")
    for each in found:
        checkpoint.load_model(each)
        load_file(each / "training.safetensors")
        assert checkpoint.load_step(each) == int(each.name.removeprefix("step-"))
    return [each.name for each in found]


def rubbish(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


# Resuming


def test_two_checkpoints_are_kept(trained: Path) -> None:
    assert whole_checkpoints(trained) == ["step-00000009", "step-00000012"]
    assert not rubbish(trained)


def test_n_steps_and_n_more_equal_2n(tmp_path: Path) -> None:
    for steps, name in (20, "whole"), (10, "run"):
        assert unitkit("train", TINY, f"steps={steps}", "--out", tmp_path / name, *TRAIN).status == 0
    answer = unitkit("train", "--resume", "--out", tmp_path / "run", "steps=20")
    assert answer.status == 0, answer.err
    assert "steps 10 to 20" in answer.out and "differ" not in answer.out
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 10, 20]
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_new_steps_are_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert unitkit("train", TINY, "steps=1", "--out", folder).status == 0
    answer = run(tmp_path / "log", "train", "--resume", "--out", folder, "steps=9", *TRAIN, moments=[moment("step", 7)])
    assert answer.status == -signal.SIGKILL
    assert "steps 6 to 9" in unitkit("train", "--resume", "--out", folder).out


def measured(folder: Path) -> list[dict[str, object]]:
    """What `metrics.json` holds, without the time of day."""
    found = json.loads((folder / "metrics.json").read_text())["evaluations"]
    return [{key: value for key, value in entry.items() if key != "measured"} for entry in found]


def test_resuming_a_complete_run_measures_it_again(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    (folder / "metrics.json").unlink()
    answer = unitkit("train", "--resume", "--out", folder)
    assert answer.status == 0
    assert "complete" in answer.out
    assert measured(folder) == measured(trained)
    assert_same_run(folder, trained)


def test_a_learning_rate_that_decays_resumes_exactly(tmp_path: Path) -> None:
    whole, stopped = (trainer(tmp_path / name, steps=10, decay=0.6) for name in ("whole", "stopped"))
    whole.fit()
    with pytest.raises(Killed):
        fit(stopped, killing(10))
    del stopped
    resumed = trainer(tmp_path / "stopped", steps=10, decay=0.6, resume=True)
    assert resumed.done == 8
    resumed.fit()
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_samples_come_in_the_same_order_after_resuming(tmp_path: Path) -> None:
    first = trainer(tmp_path / "run", steps=3)
    order = [first.batches.names(step) for step in range(6)]
    batches = [first.batches.batch(step) for step in range(6)]
    first.fit()
    del first
    resumed = trainer(tmp_path / "run", steps=6, resume=True)
    assert [resumed.batches.names(step) for step in range(6)] == order
    for step in (5, 3, 4):  # in any order
        again = resumed.batches.batch(step)
        assert all(torch.equal(again[letter], batches[step][letter]) for letter in "ab")


# kill -9


def moment(what: str, at: int, signals: tuple[signal.Signals, ...] = KILL) -> Moment:
    names = {
        "step": "unitkit.trainer:Trainer.step",
        "tensors": "unitkit.runs.stored:save_file",  # two in each checkpoint
        "flush": "unitkit.runs.checkpoint:flush",  # four files, the folder, and after the rename its parent
        "delete": "unitkit.runs.steps:shutil.rmtree",
        "optimizer": "torch.optim:Adam.step",  # two players
        "stats": "unitkit.runs.folder:RunFolder.append_stats",
        "json": "unitkit.runs.folder:RunFolder.write_json",
        "grid": "unitkit.hooks:save_grid",
        "measure": "unitkit.trainer:evaluate_with_protocol",
        "report": "unitkit.commands.train:write_report",
    }
    return Moment(names[what], at, signals)


@pytest.mark.parametrize(
    ("what", "at", "left"),
    [
        ("json", 1, None),  # before run.json is there: no run yet
        ("step", 1, []),
        ("stats", 2, [6, 9]),
        ("optimizer", 16, [3, 6]),  # between the turns of the two players in step 8
        ("tensors", 2, []),  # inside the first checkpoint
        ("tensors", 6, [3, 6]),
        ("flush", 15, [3, 6]),  # all files of the third are there
        ("flush", 18, [3, 6, 9]),  # renamed, its parent not yet flushed
        ("delete", 1, [6, 9]),  # of the oldest, which is one too many and has lost its name
        ("grid", 1, [6, 9]),  # in the last step
        ("measure", 1, [9, 12]),
        ("report", 1, [9, 12]),
    ],
)
def test_killed_and_resumed(trained: Path, tmp_path: Path, what: str, at: int, left: list[int] | None) -> None:
    folder = tmp_path / "run"
    answer = run(tmp_path / "log", "train", TINY, "--out", folder, *TRAIN, moments=[moment(what, at)])
    assert answer.status == -signal.SIGKILL
    if left is None:
        assert unitkit("train", TINY, "--out", folder, *TRAIN).status == 0
    else:
        steps = [f"step-{step:08d}" for step in left]
        assert whole_checkpoints(folder) == steps
        assert unitkit("train", "--resume", "--out", folder, "--checkpoint-every", 3).status == 0
    assert_same_run(folder, trained)
    assert whole_checkpoints(folder) == ["step-00000009", "step-00000012"]
    assert not rubbish(folder)
    assert measured(folder) == measured(trained)


def test_python_m_unitkit_killed_from_outside(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "unitkit", "train", str(TINY), "--out", str(folder), *map(str, TRAIN)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        until(lambda: any((folder / "checkpoints").glob("*")) or process.poll() is not None)  # mostly in a `.writing-`
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert unitkit("train", "--resume", "--out", folder, "--checkpoint-every", 3).status == 0
    assert_same_run(folder, trained)
    assert not rubbish(folder)


def test_a_half_written_checkpoint_is_none(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    shutil.copytree(folder / "checkpoints/step-00000012", folder / "checkpoints/.writing-step-00000015")
    assert whole_checkpoints(folder) == ["step-00000009", "step-00000012"]
    assert RunFolder(folder).latest().name == "step-00000012"


def test_a_last_line_of_statistics_cut_short(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints/step-00000012")
    whole = (folder / "stats.jsonl").read_text()
    (folder / "stats.jsonl").write_text(whole[:-40])
    assert [row["step"] for row in RunFolder(folder).stats()] == [1, 10]
    assert unitkit("train", "--resume", "--out", folder, "--checkpoint-every", 3).status == 0
    assert_same_run(folder, trained)


# Signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_the_present_step(trained: Path, tmp_path: Path, number: signal.Signals, status: int) -> None:
    folder = tmp_path / "run of [red]"
    answer = run(tmp_path / "log", "train", TINY, "--out", folder, *TRAIN, moments=[moment("step", 5, (number,))])
    assert answer.status == status
    assert answer.err == ""
    assert "stopped at step 5 with a checkpoint" in answer.out
    assert f"unitkit train --resume --out '{folder}'" in answer.out
    assert whole_checkpoints(folder)[-1] == "step-00000005"
    assert (folder / "samples/step-00000005.png").exists()
    assert unitkit("train", "--resume", "--out", folder, "--checkpoint-every", 3).status == 0
    assert_same_run(folder, trained)


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ((signal.SIGTERM, signal.SIGTERM), -signal.SIGTERM),
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGINT, signal.SIGTERM), -signal.SIGTERM),
    ],
)
def test_a_second_signal_ends_at_once(tmp_path: Path, signals: tuple[signal.Signals, ...], status: int) -> None:
    folder = tmp_path / "run"
    moments = [moment("step", 5, signals[:1]), moment("optimizer", 10, signals[1:])]
    answer = run(tmp_path / "log", "train", TINY, "--out", folder, *TRAIN, moments=moments)
    assert answer.status == status
    assert "Traceback" not in answer.err
    assert whole_checkpoints(folder) == ["step-00000003"]


def test_a_signal_in_the_last_save(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    moments = [moment("tensors", 8, (signal.SIGTERM,))]
    answer = run(tmp_path / "log", "train", TINY, "--out", folder, *TRAIN, moments=moments)
    assert answer.status == 143
    assert not (folder / "metrics.json").exists()
    assert unitkit("train", "--resume", "--out", folder).status == 0
    assert_same_run(folder, trained)


def test_ctrl_c_while_measuring(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    moments = [moment("measure", 1, (signal.SIGINT,))]
    answer = run(tmp_path / "log", "train", TINY, "@quick", "--out", folder, moments=moments)
    assert answer.status == 130
    assert answer.err == ""
    assert "--resume" in answer.out
    assert unitkit("train", "--resume", "--out", folder).status == 0


def test_fit_goes_on_after_a_signal(tmp_path: Path) -> None:
    ours = trainer(tmp_path / "run", steps=3)
    assert not fit(ours, lambda step: signal.raise_signal(signal.SIGINT))
    assert ours.done == 1
    assert ours.fit()
    assert ours.done == 3


# Gradients that are not finite


class Killed(BaseException):
    """Stands for the end of a process."""


def killing(at: int) -> Callable[[int], None]:
    def report(step: int) -> None:
        if step == at:
            raise Killed

    return report


def fit(ours: Trainer, report: Callable[[int], object]) -> bool:
    """Train, and after every step tell how many are done."""
    ours.hooks.insert(0, Call(lambda training, losses: report(training.done)))
    try:
        return ours.fit()
    finally:
        ours.hooks.pop(0)


def tiny_recipe(**knobs: Any) -> kit.Recipe:
    return kit.load_recipe(TINY, **{"steps": 3, **knobs})


def trainer(folder: Path, *, resume: bool = False, **knobs: Any) -> Trainer:
    return Trainer(tiny_recipe(**knobs), RunOptions(folder, device="cpu", checkpoint_every=4, resume=resume))


FAULT: dict[str, Any] = {"from": 10**9, "calls": 0, "what": None}


@losses.register()
def faulty(x: Tensor) -> Tensor:
    """A loss like any other, until its call number `from`: then NaN, or 0 with a gradient that is not finite."""
    FAULT["calls"] += 1
    if FAULT["calls"] < FAULT["from"]:
        return x.square().mean()
    if FAULT["what"] == "memory":
        return torch.empty(2**60).mean()
    return x.mean() * float("nan") if FAULT["what"] == "value" else (x - x.detach()).abs().sqrt().mean()


@contextmanager
def fault(what: str, step: int) -> Iterator[None]:
    """`faulty` goes wrong from a step on (from 1); its first call is that of the recipe's check."""
    FAULT.update({"from": step + 1, "calls": 0, "what": what})
    try:
        yield
    finally:
        FAULT["from"] = 10**9


def faulty_recipe(**knobs: Any) -> kit.Recipe:
    recipe = tiny_recipe(**knobs)
    gan_d, generator = recipe.players
    return replace(recipe, players=[gan_d, replace(generator, terms=[*generator.terms, 2 * faulty("ab")])])


@pytest.mark.parametrize("what", ["value", "gradient"])
def test_a_gradient_that_is_not_finite(tmp_path: Path, what: str) -> None:
    with fault(what, step=3):
        ours = Trainer(faulty_recipe(steps=9), RunOptions(tmp_path / "run", device="cpu", checkpoint_every=2))
        before: dict[str, Tensor] = {}

        ours.step(0), ours.step(1)
        ours.done = 2
        ours.save()
        names = ours.batches.names(2)
        before = {name: tensor.clone() for name, tensor in weights_of(ours.model).items()}
        with pytest.raises(TrainingError) as caught:
            ours.fit()
    message = str(caught.value)
    assert "\n" not in message
    assert "step 3" in message and "'generator'" in message and "faulty(ab)" in message
    for files in names.values():
        assert all(file in message for file in files)
    after = weights_of(ours.model)
    touched = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith("discriminators.") for name in touched)  # it had its turn before
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert whole_checkpoints(tmp_path / "run") == ["step-00000002"]


def test_no_player_moves_where_the_first_gradient_is_not_finite(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    recipe = replace(recipe, players=list(reversed(faulty_recipe().players)))
    with fault("gradient", step=1):
        ours = Trainer(recipe, RunOptions(tmp_path / "run", device="cpu"))
        before = {name: tensor.clone() for name, tensor in weights_of(ours.model).items()}
        with pytest.raises(TrainingError, match=r"step 1: .*'generator'.*faulty\(ab\)"):
            ours.fit()
    assert same_state(before, weights_of(ours.model))


FAULTY = """
from tiny import recipe as tiny
from test_training import faulty
from dataclasses import replace

def recipe(*, steps: int = 9):
    made = tiny(steps=steps)
    gan_d, generator = made.players
    return replace(made, players=[gan_d, replace(generator, terms=[*generator.terms, 2 * faulty("ab")])])
"""


@pytest.mark.parametrize(("what", "words"), [("gradient", "term faulty(ab)"), ("memory", "memory of cpu ran out")])
def test_training_that_fails_exits_with_1_and_one_line(tmp_path: Path, what: str, words: str) -> None:
    (tmp_path / "diverges.py").write_text(FAULTY)
    with fault(what, step=6):
        answer = unitkit("train", tmp_path / "diverges.py", "--out", tmp_path / "run", *TRAIN)
    assert answer.status == 1
    assert answer.err.startswith("training stopped: step 6")
    assert answer.err.count("\n") == 1
    assert words in answer.err
    assert whole_checkpoints(tmp_path / "run") == ["step-00000003"]


@pytest.mark.parametrize(
    ("where", "what", "step"),
    [("hooks.save_grid", "the sample grid of step 6", 6), ("trainer.evaluate_with_protocol", "measuring", 12)],
)
def test_memory_that_runs_out_beside_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, what: str, step: int
) -> None:
    monkeypatch.setattr(f"unitkit.{where}", lambda *_, **__: torch.empty(2**60))
    answer = unitkit("train", TINY, f"steps={step}", "--out", tmp_path / "run")
    assert answer.status == 1
    assert answer.err.startswith(f"training stopped: {what}: the memory of cpu ran out; lower batch=")
    assert answer.err.count("\n") == 1
    assert whole_checkpoints(tmp_path / "run")[-1] == f"step-{step:08d}"  # the steps done are kept


def test_other_runtime_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="sizes"), enough_memory(torch.device("cpu"), "step 1"):
        raise RuntimeError("sizes differ")


@pytest.mark.parametrize(("precision", "memory"), [("fp32", torch.contiguous_format), ("bf16", torch.channels_last)])
def test_weights_and_batches_lie_as_is_fastest(tmp_path: Path, precision: str, memory: torch.memory_format) -> None:
    """And as they lay before, where a run goes on."""

    def lies(ours: Trainer, memory: torch.memory_format) -> bool:
        weights = [m.weight for m in ours.model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        images = [each for each in ours.batches.batch(0).values() if each.dim() == 4]
        return all(each.is_contiguous(memory_format=memory) for each in [*weights, *images] if each.shape[1] > 1)

    folder = tmp_path / "run"
    ours = Trainer(tiny_recipe(), RunOptions(folder, device="cpu", precision=precision))
    assert lies(ours, memory)
    ours.fit()
    del ours
    other = {"NCHW": "channels-last", "channels-last": "NCHW"}
    record = json.loads((folder / "run.json").read_text())
    record["layout"] = other[record["layout"]]
    (folder / "run.json").write_text(json.dumps(record))
    resumed = Trainer(tiny_recipe(), RunOptions(folder, device="cpu", precision=precision, resume=True))
    assert not lies(resumed, memory) and resumed.placement.layout == record["layout"]


def test_large_images_are_fewer_at_once(tmp_path: Path) -> None:
    sizes = (16, 16), (32, 32), (64, 64), (128, 64), (256, 256), (1024, 2048)
    assert [at_once(size) for size in sizes] == [128, 128, 32, 16, 2, 1]
    ours = trainer(tmp_path / "run")
    whole = np.asarray(samples.grid(ours.model, ours.recipe.data, columns=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unitkit.runs.samples.at_once", lambda size: 2)
        in_turns = np.asarray(samples.grid(ours.model, ours.recipe.data, columns=3))
    assert np.abs(whole.astype(int) - in_turns).max() <= 1  # sums of another batch may round otherwise


def test_a_player_whose_terms_do_not_depend_on_it(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    idle = replace(recipe.players[0], terms=[kit.l1("aa", "a")])
    with pytest.raises(UserError, match=r"no term of player 'discriminator' depends on .* discriminators"):
        Trainer(replace(recipe, players=[idle, recipe.players[1]]), RunOptions(tmp_path, device="cpu")).fit()


# One training in a folder


def test_a_second_training_in_a_folder_is_refused(tmp_path: Path) -> None:
    first = trainer(tmp_path / "run")
    one_line(unitkit("train", TINY, "--out", tmp_path / "run"), "another training is running in")
    with pytest.raises(UserError, match="another training is running in"):
        trainer(tmp_path / "run", resume=True)
    first.fit()
    del first
    one_line(unitkit("train", "--resume", "--out", tmp_path / "run"), "no recipe.py", "from Python")
    assert trainer(tmp_path / "run", resume=True).done == 3


def test_another_process_holds_the_lock_until_it_is_killed(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(tmp_path / "log", "train", TINY, "steps=100000", "--out", folder, *TRAIN)
    until(lambda: (folder / "stats.jsonl").exists())
    answer = unitkit("train", "--resume", "--out", folder, "steps=20")
    assert answer.status == 2
    assert "another training is running" in answer.err
    assert process.process.pid
    os.kill(process.process.pid, signal.SIGKILL)
    assert process.wait().status == -signal.SIGKILL
    reached = max([0, *(int(name[5:]) for name in whole_checkpoints(folder))])
    assert unitkit("train", "--resume", "--out", folder, f"steps={reached + 1}").status == 0


def test_a_trainer_that_failed_to_start_frees_the_folder(tmp_path: Path) -> None:
    trainer(tmp_path / "run").fit()
    with pytest.raises(UserError, match="whose batch differs") as kept:  # the traceback is kept, as a notebook does
        trainer(tmp_path / "run", batch=3, resume=True)
    assert trainer(tmp_path / "run", resume=True).done == 3
    assert kept.value


@pytest.mark.parametrize("knobs", [{"width": 6}, {"batch": 3}, {"noise": 0.0}, {"shared": 0}])
def test_a_run_of_another_recipe_is_refused(trained: Path, tmp_path: Path, knobs: dict[str, Any]) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(UserError, match="another recipe"):
        trainer(folder, steps=30, resume=True, **knobs)
    assert_same_run(folder, trained)


def test_players_of_another_recipe_are_refused(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    recipe = tiny_recipe(steps=30)
    players = [replace(player, name=f"my {player.name}") for player in recipe.players]
    with pytest.raises(UserError, match="not of these players"):
        Trainer(replace(recipe, players=players), RunOptions(folder, device="cpu", resume=True))


# Disks that are full, and files that are damaged


def test_a_step_that_has_its_checkpoint_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = trainer(tmp_path / "run")
    ours.fit()
    newest = ours.run.latest()
    with monkeypatch.context() as patch:
        patch.setattr("unitkit.runs.stored.save_file", disk_full)
        ours.save()
    assert whole_checkpoints(tmp_path / "run") == [newest.name]
    (newest / "state.json").unlink()  # not whole
    ours.save()
    assert whole_checkpoints(tmp_path / "run") == [newest.name]


def disk_full(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_when_a_checkpoint_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[str] = []

    def save(tensors: Any, path: Path) -> None:
        if len(saved) == 5:  # the optimizers of the third checkpoint
            disk_full()
        saved.append(path.name)
        save_file(tensors, path)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("unitkit.runs.stored.save_file", save)
        answer = unitkit("train", TINY, "--out", folder, *TRAIN)
    one_line(answer, "step 9", "No space left on device", "step-00000006, stays", status=1)
    assert whole_checkpoints(folder) == ["step-00000003", "step-00000006"]
    assert not rubbish(folder)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("unitkit.runs.folder.json.dumps", "run.json"),
        ("unitkit.runs.samples.Image.Image.save", "step-00000006.png"),
        ("unitkit.templates.replacing", "report.html"),
    ],
)
def test_a_disk_that_is_full_when_something_else_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, words: str
) -> None:
    from unitkit.system import files

    def replacing(path: Path) -> Any:
        @contextmanager
        def full() -> Iterator[Path]:
            with files.replacing(path) as file:
                file.write_text("half")
                disk_full()
                yield file

        return full()

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(function, replacing if function.endswith("replacing") else disk_full)
        answer = unitkit("train", TINY, "steps=6", "--out", folder, *TRAIN)
    one_line(answer, "cannot write", words, "No space left on device", status=1)
    assert not rubbish(folder)
    if (folder / "run.json").exists():
        assert whole_checkpoints(folder)[-1] == "step-00000006"  # the steps done are kept
        assert unitkit("train", "--resume", "--out", folder).status == 0


def test_a_disk_that_is_full_when_statistics_are_written(tmp_path: Path) -> None:
    ours = trainer(tmp_path / "run", steps=6)

    def report(step: int) -> None:
        if step == 3:
            (tmp_path / "run/stats.jsonl").unlink()
            (tmp_path / "run/stats.jsonl").symlink_to("/dev/full")

    with pytest.raises(UserError, match=r"cannot write .*stats.jsonl: No space left on device"):
        fit(ours, report)
    assert whole_checkpoints(tmp_path / "run") == ["step-00000004", "step-00000006"]


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    answer = run(tmp_path / "log", "train", TINY, "--out", folder, *TRAIN, file_limit=30_000)
    one_line(answer, "could not write the checkpoint of step 3", "File too large", "no earlier one", status=1)
    assert not rubbish(folder) and whole_checkpoints(folder) == []


def test_a_real_disk_that_is_full(trained: Path, tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in (trained / "checkpoints/step-00000012").iterdir())
    disk = (tmp_path / "disk", int(2.5 * size) + 100_000)
    answer = run(tmp_path / "log", "train", TINY, "--out", disk[0] / "run", *TRAIN, small_disk=disk)
    if answer.status == 77:
        pytest.skip("no right to mount a small disk")
    one_line(answer, "could not write the checkpoint of step 9", "step-00000006, stays", status=1)
    assert whole_checkpoints(tmp_path / "copied/run") == ["step-00000003", "step-00000006"]
    assert not rubbish(tmp_path / "copied/run")
    shutil.move(tmp_path / "copied/run", tmp_path / "run")
    assert unitkit("train", "--resume", "--out", tmp_path / "run", "--checkpoint-every", 3).status == 0
    assert_same_run(tmp_path / "run", trained)


def damage(folder: Path, what: str) -> None:
    """Damage the newest checkpoint of a run, or its run.json."""
    newest = RunFolder(folder).latest()
    name, _, how = what.partition(" ")
    path = folder / name if name in ("run.json", "recipe.py") else newest / name
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "zeros":
        path.write_bytes(bytes(path.stat().st_size))
    elif how == "empty":
        path.write_bytes(b"")
    else:
        value = json.loads(path.read_text())
        exec(how, {"value": value})  # a small change of the JSON value
        path.write_text(json.dumps(value))


HEADER = "Error while deserializing header"
WEIGHTS = {f"model.safetensors {how}": (HEADER,) for how in ("truncated", "zeros", "empty")}


def files(folder: Path) -> dict[str, bytes]:
    """All that a folder holds, byte by byte."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        *WEIGHTS.items(),
        *((f"training.safetensors {how}", (HEADER, "step-00000009")) for how in ("truncated", "empty")),
        ("state.json truncated", ("cannot use", "(char ", "step-00000009")),
        ("state.json value.pop('step')", ("missing required field 'step'", "step-00000009")),
        ("state.json value['step'] = 9", ("its step is 9", "step-00000009")),
        ("state.json value['format'] = 9", ("is not of format 1",)),
        ("run.json truncated", ("cannot use", "(char ")),
        ("run.json value.pop('seed')", ("missing required field 'seed'; mend it",)),
        ("run.json value.pop('knobs')", ("says nothing of knobs",)),
        ("run.json value['knobs']['width'] = 5", ("is a run of another recipe: its model differs",)),
        ("recipe.py missing", ("holds no recipe.py",)),
        ("recipe.py empty", ("defines no function `recipe",)),
    ],
)
def test_resuming_from_what_is_damaged(trained: Path, tmp_path: Path, what: str, words: tuple[str, ...]) -> None:
    """One line says which file it is and what is wrong with it, and the run stays as it was, byte by byte."""
    folder = shutil.copytree(trained, tmp_path / "run")
    damage(folder, what)
    before, name = files(folder), what.partition(" ")[0]
    place = folder if name in ("run.json", "recipe.py") else folder / "checkpoints/step-00000012"
    named = "" if name == "recipe.py" or "knobs'][" in what else name  # the folder alone says enough there
    one_line(unitkit("train", "--resume", "--out", folder, "steps=21"), str(place), named, *words)
    assert files(folder) == before
    if what in WEIGHTS:
        answer = unitkit("train", "--resume", "--out", folder, "steps=21")
        one_line(answer, f"`unitkit translate {folder}/checkpoints/step-00000009 ...`", "to resume from it")
        shutil.rmtree(folder / "checkpoints/step-00000012")
        assert "steps 9 to 12" in unitkit("train", "--resume", "--out", folder).out


MODEL = "model.json value['model']"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        *WEIGHTS.items(),
        ("model.json truncated", ("cannot use", "(char ", "step-00000009")),
        ("model.json empty", ("Expecting value", "step-00000009")),
        ("model.json value['format'] = 2", ("is not of format 1",)),
        ("model.json value.pop('model')", ("missing required field 'model'",)),
        ("model.json value.pop('labels')", ("missing required field 'labels'",)),
        (f"{MODEL} = 7", ("model: Expected 'object', got 'int'",)),
        (f"{MODEL} = value['model']['arguments']['encoder']", ("describes no model, but the encoder 'residual'",)),
        (f"{MODEL}['name'] = 'os.system'", ("unknown model 'os.system'", "Choose from: classifier")),
        (f"{MODEL}['kind'] = 'os'", ("unknown kind of part 'os'",)),
        (f"{MODEL}['arguments']['channels'] = 'ab'", ("does not build",)),
        (f"{MODEL}['arguments']['channels'] = {{'a': -3, 'b': 3}}", ("does not build", "negative dimension -3")),
        (f"{MODEL}['arguments']['encoder'] = 'residual'", ("does not build",)),
        (
            f"{MODEL}['arguments']['encoder']['arguments']['width'] = 6",
            ("encoders.a.stages.0.0.weight", "[4, 3, 7, 7]"),
        ),
        (f"{MODEL}['arguments'].pop('sharing')", ("the model 'unit' needs the argument 'sharing'",)),
    ],
)
def test_using_what_is_damaged(trained: Path, tmp_path: Path, what: str, words: tuple[str, ...]) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    damage(folder, what)
    task = ("ab", trained / "samples/step-00000012.png", tmp_path / "x.png")
    one_line(unitkit("translate", folder, *task), *words)
    assert not (tmp_path / "x.png").exists()
    if what in WEIGHTS:
        other = folder / "checkpoints/step-00000009"
        one_line(unitkit("translate", folder, *task), f"`unitkit translate {other} ...`")
        assert unitkit("translate", other, *task).status == 0


def test_nothing_is_pickled() -> None:
    """Neither torch.load, torch.save nor pickle: loading a file never runs code.

    Weights that others publish come in torch's format; they are read in one place, as tensors alone. torch-fidelity's
    constructor insists on a file, and gets one in memory that holds nothing.
    """
    allowed = {
        "weights.py": 'torch.load(path, map_location="cpu", weights_only=True)',
        "features.py": "torch.save({}, nothing)",
    }
    for path in Path(kit.__file__).parent.rglob("*.py"):
        source = path.read_text("utf-8")
        if path.parent.name == "networks" and path.name in allowed:
            source = source.replace(allowed[path.name], "None", 1)
        assert not re.search(r"torch\.(load|save)\b|weights_only|allow_pickle=True|[^.\w](eval|exec)\(", source), path
        for node in ast.walk(ast.parse(source)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "cPickle", "dill", "shelve", "joblib", "marshal"} & set(names), path


def test_the_commit_is_that_of_the_package_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@localhost")
        return subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "-m", "x")
    (tmp_path / "run.py").touch()
    monkeypatch.setattr(environment_module, "__file__", str(tmp_path / "run.py"))
    assert environment()["commit"] is None  # as where it is installed into another project's folder
    git("add", "run.py")
    environment_module._commit.cache_clear()
    assert environment()["commit"] == git("rev-parse", "HEAD") != ""
    monkeypatch.setattr(environment_module, "__file__", str(tmp_path.parent / "run.py"))
    assert environment()["commit"] is None


def test_the_record_of_a_run(trained: Path) -> None:
    record = json.loads((trained / "run.json").read_text())
    assert record["knobs"]["width"] == 4 and record["seed"] == 0 and record["recipe"] == "tiny"
    assert record["versions"]["torch"] == importlib.metadata.version("torch")
    assert (trained / "recipe.py").read_text() == TINY.read_text()
    (entry,) = json.loads((trained / "metrics.json").read_text())["evaluations"]
    assert entry["step"] == 12 and entry["metrics"]["psnr(aa, a)"]["n"] == {"aa": 4, "a": 4}
    assert entry["data"] == record["data"] and entry["size"] == [16, 16] and entry["split"] == "test"
    assert time.strptime(record["started"], "%Y-%m-%dT%H:%M:%S%z")
