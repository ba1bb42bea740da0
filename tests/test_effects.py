"""What each field of a recipe does: a training with this one changed differs in what it should, and in nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import TINY
from test_bad_images import damage, photos
from test_wiring import covered
from torch import Tensor

from unitkit import (
    Adam,
    Affine,
    Linear,
    Player,
    Recipe,
    Trainer,
    UserError,
    Watch,
    l1,
    load_recipe,
    models,
    psnr,
    r1,
)
from unitkit.data.drawn.rendered import portraits
from unitkit.hooks import Call
from unitkit.losses import Term
from unitkit.runs.checkpoint import averages
from unitkit.runs.options import RunOptions
from unitkit.runs.steps import all_steps
from unitkit.runs.stored import read_tensors

STEPS = 4
Change = tuple[Callable[[Recipe], Recipe], str]  # what is changed, and the kinds of outcome that differ then


def recipe() -> Recipe:
    plain = load_recipe(TINY, steps=STEPS, augment=False)
    gan_d, generator = (replace(player, optimizer=Adam(1e-3)) for player in plain.players)
    watch = Watch([psnr("aa", "a")], every=2, images=2)
    return replace(plain, players=[gan_d, generator], sample_every=2, watch=watch)


def outcome(ours: Recipe, folder: Path, **options: Any) -> dict[str, Any]:
    """All that a training leaves, by kind."""
    trainer = Trainer(ours, RunOptions(folder, **{"device": "cpu", "checkpoint_every": 2, **options}))
    parts = ("encoders", "generators", "discriminators")
    start = state(trainer)
    before, moved, files = start, [], []

    def report(trainer: Any, losses: Mapping[str, Tensor]) -> None:
        nonlocal before
        now = state(trainer)
        changed = {name.partition(".")[0] for name in now if not torch.equal(now[name], before[name])}
        moved.append([part for part in parts if part in changed])
        files.append(sorted(path.name for path in trainer.run.checkpoints.glob("*")))
        before = now

    trainer.hooks.insert(0, Call(report))
    first, names = trainer.batches.batch(1), trainer.batches.names(1)
    assert trainer.fit()
    rows = trainer.run.watched()
    kept = [read_tensors(each / "ema.safetensors") for each in all_steps(trainer.run.checkpoints) if averages(each)]
    return {
        "start": start,
        "batch": first,
        "names": names,
        "losses": [sorted(row) for row in trainer.run.stats()],
        "weights": before,
        "average": {f"{place} {name}": t for place, each in enumerate(kept) for name, t in each.items()},
        "moved": moved,
        "steps": trainer.done,
        "samples": sorted(path.name for path in trainer.run.samples.iterdir()),
        "checkpoints": [*files, sorted(path.name for path in trainer.run.checkpoints.iterdir())],
        "watched": [[row["step"], *sorted(row)] for row in rows],
        "figures": [{key: row[key] for key in row if key != "step"} for row in rows],
        "metrics": sorted(trainer.evaluate()["metrics"]),
        "players": sorted(trainer.optimizers),
        "hooks": [type(hook).__name__ for hook in trainer.hooks],
    }


def state(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {kind for kind in one if not equal(one[kind], other[kind])}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    same: bool = one == other
    return same


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return outcome(recipe(), tmp_path_factory.mktemp("usual") / "run")


def of_recipe(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda ours: replace(ours, **changes)


def of_generator(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda ours: replace(ours, players=[ours.players[0], replace(ours.players[1], **changes)])


def of_judge(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda ours: replace(ours, players=[replace(ours.players[0], **changes), ours.players[1]])


def of_adam(**changes: Any) -> Callable[[Recipe], Recipe]:
    return of_generator(optimizer=Adam(**{"lr": 1e-3, **changes}))


def of_watch(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda ours: replace(ours, watch=replace(ours.watch, **changes) if ours.watch else None)


def quieter(ours: Recipe) -> Recipe:
    return replace(ours, model=models.spec("unit", **{**ours.model.arguments, "noise": 0.5}))


def halved(ours: Recipe) -> Recipe:
    """The generator trains its generators alone."""
    return of_generator(trains=["generators"])(ours)


TRAINED, FILES = "weights figures", "samples checkpoints watched"
RECIPE: dict[str, Change] = {
    "model": (quieter, TRAINED),
    "players": (lambda ours: replace(ours, players=ours.players[::-1]), TRAINED),
    "data": (of_recipe(data=portraits(size=16, n=12, n_test=4)), f"batch names {TRAINED}"),
    "steps": (of_recipe(steps=6), f"steps moved {FILES} {TRAINED}"),
    "batch": (of_recipe(batch=3), f"batch names {TRAINED}"),
    "accumulate": (of_recipe(accumulate=2), f"batch names {TRAINED}"),
    "flip": (of_recipe(flip=True), f"batch {TRAINED}"),
    "crop": (of_recipe(crop=3), f"batch {TRAINED}"),
    "affine": (of_recipe(affine=Affine(rotate=10)), f"batch {TRAINED}"),
    "ema": (of_recipe(ema=0.9), "average figures"),  # and what is written of them
    "recompute": (of_recipe(recompute=["encoders", "generators", "discriminators"]), ""),  # see below
    "evaluate": (of_recipe(evaluate=[psnr("bb", "b")]), "metrics"),
    "sample_every": (of_recipe(sample_every=3), "samples"),
    "watch": (of_recipe(watch=None), "watched figures hooks"),
    "hooks": (of_recipe(hooks=[Call(lambda trainer, losses: None)]), "hooks"),
}
PLAYER: dict[str, Change] = {
    "name": (of_generator(name="other"), "losses players"),
    "trains": (halved, f"moved {TRAINED}"),
    "terms": (of_generator(terms=[l1("aa", "a"), l1("bb", "b")]), f"losses {TRAINED}"),
    "optimizer": (of_generator(optimizer=Adam(2e-3)), TRAINED),
    "since": (of_generator(since=0.5), f"losses moved {TRAINED}"),
    "until": (of_judge(until=0.5), f"losses moved {TRAINED}"),
    "every": (of_judge(every=2), f"losses moved {TRAINED}"),
}
ADAM: dict[str, Change] = {
    "lr": (of_adam(lr=2e-3), TRAINED),
    "betas": (of_adam(betas=(0.9, 0.999)), TRAINED),
    "weight_decay": (of_adam(weight_decay=0.1), TRAINED),
    "decay": (of_adam(decay=1.0), TRAINED),
    "schedule": (of_adam(schedule=Linear(end=0.5)), TRAINED),
    "clip": (of_adam(clip=1e-3), TRAINED),
}
WATCH: dict[str, Change] = {
    "metrics": (of_watch(metrics=[psnr("bb", "b")]), "watched figures"),
    "every": (of_watch(every=3), "watched figures"),
    "images": (of_watch(images=3), "figures"),
    # Nothing is better than the first measurement of a constant, so the second of three is the last.
    "patience": (of_watch(metrics=[psnr("a", "a")], every=1, patience=2), f"losses steps moved {FILES} {TRAINED}"),
}
CHANGES = [*RECIPE.items(), *PLAYER.items(), *ADAM.items(), *WATCH.items()]


def test_every_field_has_a_change_here() -> None:
    for owner, changes in (Recipe, RECIPE), (Player, PLAYER), (Adam, ADAM), (Watch, WATCH):
        covered(owner.__name__, [each.name for each in fields(owner)], changes)


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[name for name, _ in CHANGES])
def test_a_changed_field_changes_what_it_should(
    usual: dict[str, Any], tmp_path: Path, name: str, change: Change
) -> None:
    changed, kinds = change
    found = outcome(changed(recipe()), tmp_path / "run")
    if name == "recompute":  # what is computed twice may round otherwise
        for weight, value in found["weights"].items():
            torch.testing.assert_close(value, usual["weights"][weight], rtol=1e-4, atol=1e-5)
        assert differing(usual, found) <= {"weights", "figures"}
        return
    assert differing(usual, found) == set(kinds.split())


def test_a_player_without_an_optimizer_moves_by_that_of_another(usual: dict[str, Any], tmp_path: Path) -> None:
    lazy = Player("penalty", ["discriminators"], [10 * r1("a")], None, every=4)
    found = outcome(replace(recipe(), players=[*recipe().players, lazy]), tmp_path / "run")
    assert differing(usual, found) == {"losses", *TRAINED.split()}
    assert found["losses"] == [sorted([*usual["losses"][0], "penalty/r1(a)"]), usual["losses"][1]]


def test_terms_are_told_the_share_of_the_training_that_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a ramp goes by."""
    trainer, told, value = Trainer(recipe(), RunOptions(tmp_path / "run", device="cpu")), [], Term.value
    monkeypatch.setattr(Term, "value", lambda term, *given: told.append(given[1]) or value(term, *given))
    for step in range(STEPS):
        trainer.step(step)
    each = sum(len(player.terms) for player in trainer.checked.players)
    assert told == [step / STEPS for step in range(STEPS) for _ in range(each)]


# Options of the trainer


@pytest.mark.parametrize(
    ("option", "kinds"),
    [
        ({"seed": 1}, f"start batch names {TRAINED}"),
        ({"checkpoint_every": 3}, "checkpoints"),
        ({"checkpoint_every": 1, "keep": 3}, "checkpoints"),
        ({"sample_every": 3}, "samples"),
        # What the command makes a watch and hooks of, and a trainer by itself does not.
        ({"watch": "psnr(bb, b)", "watch_every": 1, "track": ("tensorboard",)}, ""),
    ],
    ids=["seed", "checkpoint_every", "keep", "sample_every", "of the command"],
)
def test_a_changed_option_changes_what_it_should(
    usual: dict[str, Any], tmp_path: Path, option: dict[str, Any], kinds: str
) -> None:
    assert differing(usual, outcome(recipe(), tmp_path / "run", **option)) == set(kinds.split())


def test_grids_and_checkpoints_are_of_the_steps_that_were_asked_for(usual: dict[str, Any], tmp_path: Path) -> None:
    ours = replace(recipe(), sample_every=3, watch=None, steps=7)
    found = outcome(ours, tmp_path / "run", checkpoint_every=2)
    assert found["samples"] == [f"step-{step:08d}.png" for step in (3, 6, 7)]  # the last step has one always
    steps = [[int(name.removeprefix("step-")) for name in names] for names in found["checkpoints"]]
    # As seen after each step, before that step is saved, and at the end.
    assert steps == [[], [], [2], [2], [2, 4], [2, 4], [4, 6], [6, 7]]


def gradients(trainer: Trainer) -> Tensor:
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


def test_bf16_differs_from_fp32_and_is_near_it(tmp_path: Path) -> None:
    full, half = (
        Trainer(recipe(), RunOptions(tmp_path / precision, device="cpu", precision=precision))
        for precision in ("fp32", "bf16")
    )
    assert equal(state(full), state(half)) and {t.dtype for t in state(half).values()} == {torch.float32}
    losses, others = full.step(0), half.step(0)
    for name, value in losses.items():
        assert others[name] != value and others[name].item() == pytest.approx(value.item(), rel=0.05, abs=1e-3), name
    ours, theirs = gradients(full), gradients(half)
    assert not torch.equal(ours, theirs) and torch.cosine_similarity(ours, theirs, dim=0) > 0.95


def test_what_is_looked_at_is_told_and_bad_images_are_met_as_is_asked(tmp_path: Path) -> None:
    damage(photos(tmp_path / "photos", "png") / "train/x/03.png")
    ours = load_recipe(TINY, data=str(tmp_path / "photos"), steps=1)
    with pytest.raises(UserError, match=r"x/03\.png"):
        Trainer(ours, RunOptions(tmp_path / "stop", device="cpu", bad_images="stop"))
    told: list[str] = []
    looked: list[tuple[int, int]] = []
    trainer = Trainer(
        ours,
        RunOptions(tmp_path / "skip", device="cpu", bad_images="skip"),
        warn=told.append,
        looked=lambda done, count: looked.append((done, count)),
    )
    assert any("x/03.png" in line for line in told) and looked[-1] == (24, 24)  # 8 and 4 of two domains
    assert trainer.fit() and trainer.run.bad_images()[0].name.endswith("x/03.png")
    assert not any("03.png" in name for step in range(20) for name in trainer.batches.names(step)["a"])


def test_the_least_that_a_trainer_takes(tmp_path: Path) -> None:
    found = outcome(replace(recipe(), steps=2, watch=None), tmp_path / "run", checkpoint_every=1, seed=0)
    assert found["checkpoints"][1:] == [["step-00000001"], ["step-00000001", "step-00000002"]]
    wrong = {"checkpoint_every": 0, "sample_every": 0, "watch_every": 0, "keep": 1, "seed": -1}
    for name, value in wrong.items():
        with pytest.raises(UserError, match=f"{name} must be at least {value + 1}, not {value}"):
            RunOptions(tmp_path / "wrong", **{name: value})
    with pytest.raises(UserError, match=r"unknown precision 'fp16'\. Did you mean 'bf16'"):
        RunOptions(tmp_path / "wrong", precision="fp16")
    with pytest.raises(UserError, match="bad images can be met with stop or skip, not 'keep'"):
        RunOptions(tmp_path / "wrong", bad_images="keep")
    with pytest.raises(UserError, match="a run that is resumed has weights already: leave init_from out"):
        RunOptions(tmp_path / "wrong", resume=True, init_from=tmp_path)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_counts_the_evaluations_without_a_better_one(tmp_path: Path, patience: int) -> None:
    """Of a constant, where none is better than the first."""
    constant = Watch([psnr("a", "a")], every=1, images=2, patience=patience)
    trainer = Trainer(replace(recipe(), steps=6, watch=constant), RunOptions(tmp_path / "run", device="cpu"))
    assert trainer.fit() and trainer.done == 1 + patience


def test_a_watch_looks_after_a_share_of_the_training(tmp_path: Path) -> None:
    assert [Watch([psnr("aa", "a")], every=every).period(10) for every in (0.25, 0.05, 1, 7)] == [2, 1, 1, 7]
    found = outcome(of_watch(every=0.5)(replace(recipe(), steps=6)), tmp_path / "run")
    assert [row[0] for row in found["watched"]] == [3, 6]
    for wrong in (0, -0.5, 1.5):
        with pytest.raises(UserError, match="every must be at least 1, or a share between 0 and 1"):
            Watch([psnr("aa", "a")], every=wrong)
