"""Two ranks: their mean gradient is that of the whole batch, and they hold one set of weights."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import TINY, Moment, Started, losses_and_gradients, one_line, start, unitkit
from ranks import on_two_ranks, torchrun
from safetensors.torch import load_file

from unitkit import Trainer, Watch, load_recipe, psnr
from unitkit.hooks import Samples, Watcher
from unitkit.networks.state import weights_of
from unitkit.runs.folder import RunFolder
from unitkit.runs.options import RunOptions
from unitkit.system import dist


def two_ranks(folder: Path, *words: object, moments: tuple[Moment, ...] = (), of: int = 1) -> list[Started]:
    """A training on two ranks, as torchrun starts it. `moments` are of one of them."""
    folder.mkdir(exist_ok=True)
    return [
        start(
            folder / f"log{rank}",
            "train",
            *words,
            moments=moments if rank == of else (),
            environment=environment,
            weights=folder,
        )
        for rank, environment in enumerate(torchrun())
    ]


def talk(environment: dict[str, str], folder: Path) -> None:
    """One of two ranks: what it hears of both, into a file."""
    os.environ.update(environment)
    alone = [dist.rank(), dist.world(), dist.of_first("mine"), dist.gather([3]), dist.any_rank(True)]
    dist.start()
    dist.start()  # a second time changes nothing
    ours = dist.rank()
    heard = {
        "alone": alone,
        "rank": [ours, dist.world()],
        "of first": dist.of_first(f"rank {ours} says: \u00e9 and \udcff"),
        "gathered": dist.gather([f"one of {ours}"] * (ours + 1)),
        "any": [dist.any_rank(flag) for flag in (False, ours == 0, ours == 1, True)],
        "mean": {name: float(value) for name, value in dist.mean({"x": torch.tensor(1.0 + ours)}).items()},
    }
    dist.stop()
    (folder / f"{ours}.json").write_text(json.dumps({**heard, "after": [dist.rank(), dist.world()]}))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed")
def test_ranks_hear_each_other(tmp_path: Path) -> None:
    assert on_two_ranks(talk, tmp_path) == [0, 0]
    heard = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [each.pop("rank") for each in heard] == [[0, 2], [1, 2]]
    assert (
        heard[0]
        == heard[1]
        == {
            "alone": [0, 1, "mine", [3], True],
            "of first": "rank 0 says: \u00e9 and \udcff",
            "gathered": ["one of 0", "one of 1", "one of 1"],
            "any": [False, True, True, True],
            "mean": {"x": 1.5},
            "after": [0, 1],
        }
    )


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed")
def test_two_ranks_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    knobs = ("noise=0", "augment=no", "steps=4", "lr=1e-3")
    ranks = two_ranks(tmp_path / "two", TINY, "batch=2", *knobs, "--out", tmp_path / "run2")
    whole = Trainer(
        load_recipe(TINY, batch=4, noise=0.0, augment=False, steps=4, lr=1e-3),
        RunOptions(tmp_path / "run1", device="cpu"),
    )
    steps: dict[str, torch.Tensor] = {}
    for step in range(4):
        steps |= losses_and_gradients(whole.model, step, whole.step(step))
    answers = [rank.wait() for rank in ranks]
    assert [answer.status for answer in answers] == [0, 0], answers
    assert "protocol: step 4" in answers[0].out and answers[1].out == ""
    first, second = (load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    saved = load_file(RunFolder(tmp_path / "run2").latest() / "model.safetensors")
    assert all(torch.equal(first[name], saved[name]) for name in first)
    each = [load_file(tmp_path / "two" / f"rank{rank}.steps.safetensors") for rank in (0, 1)]
    assert each[0].keys() == each[1].keys() == steps.keys()
    losses, gradients = ([name for name in steps if name.startswith(kind)] for kind in ("loss", "gradient"))
    assert len(losses) == 4 * 12 and len(gradients) == 4 * len(list(whole.model.parameters()))
    for name in losses:  # of half the batch on each rank
        assert not torch.equal(each[0][name], each[1][name])
        torch.testing.assert_close((each[0][name] + each[1][name]) / 2, steps[name], rtol=1e-4, atol=1e-6, msg=name)
    one = weights_of(whole.model)
    # A bias before an instance norm changes nothing: its gradient is rounding, which Adam makes into steps.
    idle = {name for name in one if ".body." in name and name.endswith("bias")}
    assert len(idle) == 4  # of towers that share their blocks
    for name in gradients:  # a sum in the place of the mean would be twice as long, and Adam would not mind
        assert torch.equal(each[0][name], each[1][name])
        scale = steps[name].abs().max().item() * (name.split()[-1] not in idle)
        torch.testing.assert_close(each[0][name], steps[name], rtol=0, atol=1e-3 * scale + 1e-5, msg=name)
    worst = {name: (one[name] - first[name]).abs().max().item() for name in one.keys() - idle}
    assert max(worst.values()) < 1e-5, worst
    rows = RunFolder(tmp_path / "run2").stats()
    assert [row["step"] for row in rows] == [1, 4]  # of rank 0 alone
    for row in rows:  # the means over ranks
        logged = {f"loss {row['step'] - 1} {name}": value for name, value in row.items()}
        for name in logged.keys() & losses:
            assert logged[name] == pytest.approx((each[0][name] + each[1][name]).item() / 2, rel=1e-6)
        assert len(logged.keys() & losses) == 12
    record = json.loads((tmp_path / "run2/run.json").read_text())
    assert record["world"] == 2
    one_line(
        unitkit("train", "--resume", "--out", tmp_path / "run2", "steps=9"),
        "4 images of each domain a step, 2 on each of 2",
        "give batch=4",
    )


def test_a_signal_on_one_rank_stops_both(tmp_path: Path) -> None:
    moments = (Moment("unitkit.trainer:Trainer.step", 3, (signal.SIGTERM,)),)
    words = (TINY, "--out", tmp_path / "run")
    ranks = two_ranks(tmp_path / "two", *words, moments=moments)
    answers = [rank.wait() for rank in ranks]
    assert [answer.status for answer in answers] == [143, 143], answers
    assert "stopped at step 3 with a checkpoint" in answers[0].out
    ranks = two_ranks(tmp_path / "two", "--resume", "--out", tmp_path / "run")
    assert [rank.wait().status for rank in ranks] == [0, 0]
    first, second = (load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_rank_that_is_killed_ends_the_other_with_one_line(tmp_path: Path) -> None:
    """The first, which the others have joined by; of the second, see test_restart."""
    moments = (Moment("unitkit.system.gradients:GradientMean.finish", 5, (signal.SIGKILL,)),)
    began = time.monotonic()
    ranks = two_ranks(tmp_path / "two", TINY, "--out", tmp_path / "run", moments=moments, of=0)
    answers = [rank.wait() for rank in ranks]
    assert answers[0].status == -signal.SIGKILL and answers[1].status == 1, answers
    assert answers[1].err.startswith("training stopped: another process of this training has ended"), answers[1]
    assert answers[1].err.count("\n") == 1 and time.monotonic() - began < 30


def test_ranks_agree_on_a_new_folder_and_go_on_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    knobs = ("noise=0", "augment=no", "lr=1e-5", "batch=2", "steps=4")  # Adam moves by lr whatever the last digits
    answers = [rank.wait() for rank in two_ranks(tmp_path / "two", TINY, *knobs)]
    assert [answer.status for answer in answers] == [0, 0], answers
    (folder,) = (tmp_path / "runs/tiny").iterdir()
    words = ("batch=4", "steps=8")
    answer = unitkit("train", "--resume", "--out", folder, *words)
    assert answer.status == 0 and "batch 4 for each of 1, where it was 2 for each of 2 processes" in answer.out, answer
    assert unitkit("train", TINY, *knobs[:3], *words, "--out", tmp_path / "one").status == 0
    rows, others = (RunFolder(each).stats() for each in (folder, tmp_path / "one"))
    assert rows[-1]["step"] == others[-1]["step"] == 8
    for name, value in others[-1].items():
        if name != "seconds":
            assert rows[-1][name] == pytest.approx(value, rel=1e-4), name  # the same images, summed otherwise


def test_what_one_rank_refuses_is_one_line_on_each(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.py").write_text("mine")
    answers = [rank.wait() for rank in two_ranks(tmp_path / "two", TINY, "--out", tmp_path / "run")]
    one_line(answers[0], "holds recipe.py")
    assert answers[1].status == 1 and answers[1].err.count("\n") == 1, answers[1]
    assert answers[1].err.startswith("training stopped: another process of this training has ended")


def test_what_the_first_rank_alone_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids and evaluations: another rank, whose turn comes too, touches nothing."""
    ours = replace(load_recipe(TINY, steps=1), watch=Watch([psnr("aa", "a")], every=1, images=2))
    trainer = Trainer(ours, RunOptions(tmp_path / "run", device="cpu"))
    losses, trainer.done = trainer.step(0), 1
    hooks = [hook for hook in trainer.hooks if isinstance(hook, Samples | Watcher)]
    for rank in (1, 2, 0):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        for hook in hooks:
            hook.after_step(trainer, losses)
        written = [*trainer.run.samples.iterdir(), *trainer.run.watched()]
        assert len(written) == (2 if rank == 0 else 0), rank
