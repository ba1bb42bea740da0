"""`--profile`: where the time of a step goes, by tower and term, forward and backward; and a trace."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import one_way, recipe
from torch.profiler import record_function

from unitkit import RunOptions, Trainer
from unitkit.training import profile
from unitkit.training.profile import BACKWARD, MARK, OTHER, SKIPPED, Profile, by_label


@dataclass
class Event:
    """As much of an event of torch's profiler as is read."""

    name: str
    self_cpu_time_total: float
    cpu_parent: Any = None
    sequence_nr: int = -1
    self_device_time_total: float = field(default=0.0)


def test_an_operator_of_the_backward_pass_counts_where_that_of_the_forward_pass_does() -> None:
    turn = Event(f"{MARK}turn", 100.0)
    tower = Event(f"{MARK}tower", 10.0, turn)
    conv = Event("conv", 1000.0, tower, sequence_nr=7)
    term = Event(f"{MARK}term", 20.0, turn)
    mean = Event("mean", 200.0, term, sequence_nr=8)
    behind = Event(f"{BACKWARD}: ConvBackward", 1.0, turn, sequence_nr=7)
    inside = Event("conv_backward", 3000.0, behind)
    unknown = Event(f"{BACKWARD}: AccumulateGrad", 5.0, turn, sequence_nr=2**60)
    adam = Event("adam", 400.0)
    found = by_label([turn, tower, conv, term, mean, behind, inside, unknown, adam], 2, "cpu")
    assert found == {
        "turn": (0.05, 0.0025),
        "tower": (0.505, 1.5005),
        "term": (0.11, 0.0),
        OTHER: (0.2, 0.0),
    }
    conv.self_device_time_total = 6.0
    assert by_label([turn, tower, conv], 1, "cuda") == {"tower": (0.006, 0.0)}


@pytest.mark.parametrize("recompute", [(), ("encoders", "generators")])
def test_a_training_is_recorded_and_goes_on_as_it_was(
    recompute: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tower and term has its row; behind the recorded steps nothing of it is left."""
    opened: list[str] = []

    class Label(record_function):
        def __enter__(self) -> Label:
            opened.append(self.name)
            return super().__enter__()  # type: ignore[no-any-return]

        def __exit__(self, *error: Any) -> None:
            super().__exit__(*error)
            assert opened.pop() == self.name

    monkeypatch.setattr(profile, "record_function", Label)
    weights = {}
    shown: list[Profile] = []
    for name in "plain", "profiled":
        hooks = [Profile(shown.append, steps=2)] if name == "profiled" else []
        ours = replace(recipe(steps=6), recompute=recompute)
        trainer = Trainer(ours, RunOptions(tmp_path / name), hooks=hooks)
        trainer.fit()
        weights[name] = [p.detach().clone() for p in trainer.model.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(*weights.values(), strict=True))
    (found,) = shown
    assert not opened
    terms = {term.name for player in trainer.recipe.players for term in player.terms}
    towers = {"encoder a", "encoder b", "encoder a, encoder b", "generator a", "discriminator b"}
    assert towers | terms <= found.rows.keys() and OTHER in found.rows
    assert all(min(found.rows[tower]) > 0 for tower in towers)  # forward and backward
    lines = found.lines()
    assert [len(line) for line in lines] == [4] * len(found.rows)
    assert sum(float(line[3].rstrip("%")) for line in lines) == pytest.approx(100, abs=0.1 * len(lines))
    assert found.path and json.loads(found.path.read_text())["traceEvents"]
    computation = trainer.training_step.computation
    assert not {"images", "backward"} & vars(computation).keys()
    assert not any(stage._forward_hooks or stage._forward_pre_hooks for stage in trainer.model.modules())


def test_compiled_functions_are_recorded_as_they_are_without_and_are_compiled_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a player whose first turn is among the recorded steps."""
    real, said, shown, seen = torch.compile, list[str](), list[Profile](), list[bool]()

    def to_operators(function: Any, **_: Any) -> Any:
        seen.append(bool(shown))
        return real(function, fullgraph=True, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", to_operators)
    discriminator, generator = (ours := one_way()).players
    ours = replace(ours, players=[replace(discriminator, since=SKIPPED / 12), generator])
    options = RunOptions(tmp_path, compile=True)
    trainer = Trainer(ours, options, hooks=[Profile(shown.append, steps=2)], warn=said.append)
    for step in range(SKIPPED + 3):
        losses = trainer.step(step)
        trainer.done += 1
        for hook in trainer.hooks[1:2]:
            hook.after_step(trainer, losses)
    (found,) = shown
    terms = {term.name for player in ours.players for term in player.terms}
    assert {"encoder a", "generator b", "discriminator b", *terms} <= found.rows.keys()
    assert seen == [False, False, True, True]  # the generator's phase; behind the profile the discriminator's as well
    assert all(line.startswith("compiled") for line in said) and trainer.training_step.computation.on  # type: ignore[attr-defined]


def test_a_training_that_ends_before_it_is_recorded_says_so(tmp_path: Path) -> None:
    shown: list[Profile] = []
    for steps in (SKIPPED - 1, SKIPPED):
        said: list[str] = []
        hooks = [Profile(shown.append)]
        Trainer(recipe(steps=steps), RunOptions(tmp_path / str(steps)), hooks=hooks, warn=said.append).fit()
        assert said == [f"nothing was profiled: that begins after 3 steps, and there were {steps}"]
    assert not shown and profile.SKIPPED == 3
    Trainer(recipe(steps=SKIPPED + 1), RunOptions(tmp_path / "one"), hooks=[Profile(shown.append)]).fit()
    assert len(shown) == 1
