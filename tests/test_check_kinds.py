"""What is put into a recipe in place of what belongs there: refused in a line, field by field, before anything runs."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from commands import TINY
from test_wiring import covered

from unitkit import (
    SGD,
    Adam,
    Player,
    Recipe,
    Timm,
    UserError,
    Watch,
    discriminators,
    encoders,
    generators,
    l1,
    load_recipe,
    models,
    psnr,
    sharing,
)
from unitkit.check import check
from unitkit.optimizers import Optimizer
from unitkit.recipe import Hook

PLAIN = load_recipe(TINY)
# By field: what does not belong there, and what is said of it besides the field's name.
RECIPE: dict[str, list[tuple[Any, str]]] = {
    "model": [(None, "a Spec"), (PLAIN.model.build(), "not a ImagePaths"), (sharing.none(), "sharing 'none'")],
    "players": [
        (PLAIN.players[0], "a list, each a Player"),
        ([PLAIN.model], "Player"),
        (Player, "call it, Player(...)"),
    ],
    "data": [(None, "a Data"), ("portraits", "not 'portraits'")],
    "steps": [(10.5, "a whole number"), ("10", "not '10'"), (True, "not True"), (0, "at least 1")],
    "batch": [("2", "a whole number"), (0, "at least 1")],
    "accumulate": [(1.0, "a whole number"), (0, "at least 1")],
    "flip": [("yes", "true or false")],
    "crop": [(0.5, "a whole number"), (-1, "at least 0")],
    "affine": [(0.1, "a Affine or none")],
    "ema": [("0.9", "a number"), (1.0, "below 1")],
    "recompute": [("encoders", "a list, each text"), (["encodrs"], "Did you mean 'encoders'")],
    "evaluate": [(["psnr(aba, a)"], "a list, each a Metric"), (psnr("aa", "a"), "a list")],
    "sample_every": [(2.5, "a whole number"), (0, "at least 1")],
    "watch": [([psnr("aa", "a")], "a Watch or none")],
    "hooks": [([Hook], "call it, Hook(...)"), ([lambda trainer, losses: None], "each a Hook"), (Hook(), "a list")],
}
PLAYER: dict[str, list[tuple[Any, str]]] = {
    "name": [(3, "text")],
    "trains": [("encoders", "a list, each text"), (["encoder"], "Did you mean 'encoders'")],
    "terms": [(l1("aa", "a"), "a list, each a Term"), ([l1], "call it, l1(...)"), ([3.0], "not [3.0]")],
    "optimizer": [("adam", "a Optimizer or none"), (Adam, "call it, Adam(...)")],
    "since": [("0.1", "a number")],
    "until": [("1", "a number")],
    "every": [(2.5, "a whole number"), ("2", "a whole number")],
}


def changed(player: Player, name: str, value: Any) -> Player:
    """Without what a player's own checks say of numbers that are no numbers."""
    made = replace(player)
    object.__setattr__(made, name, value)
    return made


def test_every_field_is_tried() -> None:
    for owner, tried in (Recipe, RECIPE), (Player, PLAYER):
        covered(owner.__name__, [each.name for each in fields(owner)], tried)


@pytest.mark.parametrize(("name", "value", "says"), [(n, v, s) for n, each in RECIPE.items() for v, s in each])
def test_what_does_not_belong_into_a_recipe(name: str, value: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        check(replace(PLAIN, **{name: value}))
    assert name.rstrip("s") in str(caught.value) and says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value", "says"), [(n, v, s) for n, each in PLAYER.items() for v, s in each])
def test_what_does_not_belong_into_a_player(name: str, value: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        check(replace(PLAIN, players=[PLAIN.players[0], changed(PLAIN.players[1], name, value)]))
    assert name.rstrip("s") in str(caught.value) and says in str(caught.value) and "\n" not in str(caught.value)


def test_what_does_not_belong_into_parts() -> None:
    arguments = PLAIN.model.arguments
    for wrong, says in (
        ({"encoder": encoders.residual}, "residual itself (call it: residual(...))"),
        ({"encoder": "residual"}, "not 'residual'"),
        ({"encoder": generators.residual()}, "generator 'residual'"),
        ({"generator": discriminators.strided()}, "discriminator 'strided'"),
        ({"sharing": None}, "sharing"),
    ):
        with pytest.raises(UserError) as caught:
            models.spec("unit", **{**arguments, **wrong}).build()
        assert says in str(caught.value)
    for make, says in (
        (lambda: l1(3, "a"), "the loss l1 reads image paths, such as 'ab', not 3"),
        (lambda: Adam(betas=0.9), "Adam's betas must be several values with commas between, not 0.9"),
        (lambda: Adam(betas=(0.9, 2)), "Adam's betas"),
        (lambda: Adam(betas=(0.9, 0.9, 0.9)), "Adam's betas"),
        (lambda: SGD(nesterov=1), "SGD's nesterov must be true or false"),
        (lambda: Adam()(lrr=3), "Adam has no 'lrr'. Did you mean 'lr'"),
        (lambda: Timm("kron"), "keeps what no checkpoint can hold"),
        (lambda: Timm("lionn"), "Did you mean 'lion'"),
    ):
        with pytest.raises(UserError) as caught:
            make()  # type: ignore[no-untyped-call]
        assert says in str(caught.value), caught.value


def test_settings_of_ones_own_optimizer_are_checked_too() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Mine(Optimizer):
        """Of two kinds of tuples."""

        betas: tuple[float, float] = (0.9, 0.99)
        steps: tuple[int, ...] = ()

    Mine(betas=(0.5, 1), steps=(1, 2, 3))
    for wrong in {"betas": 0.9}, {"betas": (0.9,)}, {"steps": (1, 0.5)}, {"steps": 3}:
        with pytest.raises(UserError, match=f"Mine's {next(iter(wrong))} must be several values"):
            Mine(**wrong)  # type: ignore[arg-type]


def test_what_a_recipe_leaves_unsaid() -> None:
    """Nothing that changes a training, but for the mirror; and what was said stays so."""
    bare = Recipe(PLAIN.model, (), PLAIN.data, 1)
    left = {each.name: getattr(bare, each.name) for each in fields(bare)}
    assert {name: left[name] for name in ("batch", "accumulate", "flip", "crop", "affine", "ema", "sample_every")} == {
        "batch": 1,
        "accumulate": 1,
        "flip": True,
        "crop": 0,
        "affine": None,
        "ema": 0.0,
        "sample_every": 500,
    }
    assert not any((left["recompute"], left["evaluate"], left["watch"], left["hooks"]))
    watch = Watch([psnr("aa", "a")])
    for value, name in (PLAIN, "steps"), (PLAIN.players[0], "every"), (watch, "every"), (Adam(), "lr"):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)
