"""Players that rest outside their phases, DTN and CoGAN among them, and twins that start alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import TINY
from test_adaptation import classifier, few
from torch import Tensor

from unitkit import (
    Adam,
    Player,
    Recipe,
    Trainer,
    accuracy,
    classify,
    constancy,
    discriminators,
    encoders,
    gan_d,
    gan_g,
    generators,
    l2,
    load_recipe,
    models,
    multiclass_gan_d,
    multiclass_gan_g,
    sharing,
    weight_distance,
)
from unitkit.check import check
from unitkit.hooks import Call
from unitkit.losses import Term
from unitkit.runs.options import RunOptions
from unitkit.runs.samples import rows_for
from unitkit.system.errors import UserError
from unitkit.translate import Translator

# CoGAN


def cogan(shared: int = 2) -> Any:
    torch.manual_seed(0)
    return models.spec(
        "cogan",
        channels={"a": 1, "b": 3},
        generator=generators.spec("conv32", width=4, init="kaiming"),
        discriminator=discriminators.spec("lenet", width=4, classes=10),
        sharing=sharing.spec("tie", generator=shared, discriminator=2),
        latent=8,
    ).build()


def test_cogan_draws_one_noise_for_all_domains() -> None:
    model = cogan().eval()
    assert [p for p in ("a", "b", "za", "zb", "ab", "z", "zab", "code:z") if model.has(p)] == [
        *("a", "b", "za", "zb", "code:z")
    ]
    noise = model.draw(3, (32, 32), "cpu")
    images = model.read({"z": noise}, ["za", "zb"])
    for letter in "ab":
        torch.testing.assert_close(images[f"z{letter}"], model.generators[letter](noise))
    torch.manual_seed(3)
    drawn = model.read({"a": torch.zeros(5, 1, 32, 32)}, ["za", "code:z"])
    assert drawn["za"].shape == (5, 1, 32, 32) and drawn["code:z"].mean.shape == (5, 8, 1, 1)
    assert rows_for(model, ["a", "b"]) == ["a", "b", "za", "zb"]
    with pytest.raises(UserError, match="'za' begins with noise"):
        Translator(model, {"a": "one", "b": "other"}).check("za")
    with pytest.raises(UserError, match="two or more single lower-case letters but z"):
        models.spec("cogan", **{**_arguments(), "channels": {"a": 1, "z": 1}}).build()


def _arguments() -> dict[str, Any]:
    return {
        "generator": generators.spec("conv32", width=4),
        "discriminator": discriminators.spec("lenet", width=4),
        "sharing": sharing.spec("none"),
    }


# DTN: phases


def dtn(steps: int = 8) -> Recipe:
    images = few()
    return Recipe(
        model=models.spec(
            "dtn",
            channels=images.channels,
            encoder=encoders.spec("lenet", width=4, code=8),
            generator=generators.spec("conv32", width=4, init="kaiming"),
            discriminator=discriminators.spec("lenet", width=4, classes=10, gan_classes=3),
        ),
        players=[
            Player("features", ["encoders", "classifiers"], [classify("a")], Adam(lr=1e-2), until=0.5),
            Player(
                "discriminator",
                ["discriminators"],
                [multiclass_gan_d("ab", "bb", "b"), classify("ab")],
                Adam(),
                since=0.5,
            ),
            Player(
                "generator",
                ["generators"],
                [multiclass_gan_g("ab", target=2), constancy("a", "ab"), l2("bb", "b")],
                since=0.5,
            ),
        ],
        data=images,
        steps=steps,
        batch=3,
        flip=False,
        evaluate=[accuracy("a"), accuracy("b")],
    )


def weights(model: Any, part: str) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in getattr(model, part).state_dict().items()}


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def _stopped_after(steps: int, out: Path) -> None:
    trainer = Trainer(dtn(), RunOptions(out))
    trainer.hooks.insert(
        0, Call(lambda trainer, losses: setattr(trainer, "stopping", 15) if trainer.done == steps else None)
    )
    assert not trainer.fit()
    assert trainer.done == steps


def test_players_rest_outside_their_phase_and_a_run_is_resumed_across_it(tmp_path: Path) -> None:
    trainer = Trainer(dtn(), RunOptions(tmp_path / "whole", checkpoint_every=3))
    moved: list[list[str]] = []
    for step in range(8):
        before = {part: weights(trainer.model, part) for part in trainer.model.parts}
        trainer.step(step)
        moved.append([part for part in before if not same(before[part], weights(trainer.model, part))])
    assert moved == [["encoders", "classifiers"]] * 4 + [["generators", "discriminators"]] * 4

    whole = Trainer(dtn(), RunOptions(tmp_path / "again"))
    assert whole.fit()
    _stopped_after(3, tmp_path / "part")  # in the first phase: two players have no moments yet
    gc.collect()  # what trained held the folder
    resumed = Trainer(dtn(), RunOptions(tmp_path / "part", resume=True))
    assert resumed.done == 3 and resumed.fit()
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert set(whole.evaluate()["metrics"]) == {"accuracy(a)", "accuracy(b)"}


def test_dtn_has_one_feature_function_and_translates_into_one_domain() -> None:
    model = dtn().model.build().eval()
    assert model.encoders["a"] is model.encoders["b"]
    assert [p for p in ("ab", "bb", "aa", "ba", "class:a", "class:b", "class:ab", "score:a") if model.has(p)] == [
        *("ab", "bb", "class:a", "class:b", "class:ab")
    ]
    x = torch.rand(2, 1, 32, 32)
    batch = {"a": x, "label:a": torch.tensor([3, 4])}
    names = ["ab", "class:a", "class:ab", "score:ab", "code:ab"]
    readings = model.read(batch, names)
    f = model.encoders["a"](x)
    torch.testing.assert_close(readings["class:a"].logits, model.classifiers["a"](f))
    torch.testing.assert_close(readings["ab"], model.generators["b"](f))
    torch.testing.assert_close(readings["code:ab"].mean, model.encoders["a"](readings["ab"]))
    assert torch.equal(readings["class:ab"].actual, batch["label:a"]) and readings["score:ab"][0].shape == (2, 3, 1, 1)
    with pytest.raises(UserError, match="there is no domain 'c' to translate into"):
        models.spec("dtn", **{**dtn().model.arguments, "into": "c"}).build()
    with pytest.raises(UserError, match="one encoder sees all domains, so they need the same channels"):
        models.spec("dtn", **{**dtn().model.arguments, "channels": {"a": 3, "b": 1}}).build()


@pytest.mark.parametrize("span", [(0.5, 0.5), (-0.1, 1), (0, 1.1)])
def test_a_phase_that_cannot_be_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="expected 0 <= since < until <= 1"):
        Player("g", ["generators"], [], since=span[0], until=span[1])


def test_some_player_moves_in_the_last_step() -> None:
    recipe = classifier([classify("a")])
    with pytest.raises(UserError, match="no player moves in the last step"):
        check(replace(recipe, players=[replace(recipe.players[0], until=0.5)]))


def test_more_steps_do_not_wake_a_player_that_rests(tmp_path: Path) -> None:
    assert Trainer(dtn(steps=4), RunOptions(tmp_path)).fit()
    gc.collect()  # what trained held the folder
    with pytest.raises(
        UserError, match=r"'features' rests after 50% of the steps, .* since step 2; of 10 it would move"
    ):
        Trainer(dtn(steps=10), RunOptions(tmp_path, resume=True))
    gc.collect()
    assert Trainer(dtn(steps=8), RunOptions(tmp_path, resume=True)).done == 4


def test_a_player_rests_from_the_very_step_at_which_its_phase_ends(tmp_path: Path) -> None:
    _stopped_after(4, tmp_path)  # of 8, where "features" moves until half
    gc.collect()
    with pytest.raises(
        UserError, match=r"'features' rests after 50% of the steps, .* since step 4; of 10 it would move"
    ):
        Trainer(dtn(steps=10), RunOptions(tmp_path, resume=True))


def test_a_phase_between_two_steps_is_refused() -> None:
    recipe = dtn(steps=5)
    late = [replace(recipe.players[0], until=0.9), *(replace(player, since=0.9) for player in recipe.players[1:])]
    with pytest.raises(UserError, match=r"'discriminator' moves from 0.9 to 1.0 .* none of 5 steps lies there"):
        check(replace(recipe, players=late))
    check(replace(recipe, players=late, steps=10))


def test_the_feature_function_of_dtn_is_a_function() -> None:
    arguments = dtn().model.arguments
    with pytest.raises(UserError, match="'conv32' keeps batch statistics"):
        models.spec("dtn", **{**arguments, "encoder": encoders.spec("conv32", width=4)}).build()


# Twins


def test_twins_start_alike(tmp_path: Path) -> None:
    model = cogan(shared=0)
    strategy = sharing.spec("tie", discriminator=1, twins=True)
    torch.manual_seed(0)
    alike = models.spec(
        "cogan", **{**_arguments(), "channels": {"a": 1, "b": 1}, "sharing": strategy, "latent": 8}
    ).build()
    one, other = alike.generators["a"].stages, alike.generators["b"].stages
    assert same(one.state_dict(), other.state_dict()) and one[0] is not other[0]
    assert not same(model.generators["a"].stages[0].state_dict(), model.generators["b"].stages[0].state_dict())
    torch.manual_seed(0)
    apart = models.spec("cogan", **{**_arguments(), "channels": {"a": 1, "b": 3}, "sharing": strategy}).build()
    assert same(apart.generators["a"].stages[0].state_dict(), apart.generators["b"].stages[0].state_dict())


def test_twins_part_in_training(tmp_path: Path) -> None:
    """Each domain's own images move its own towers; what they share stays one."""
    images = few(n=8, n_test=4)
    networks = {**_arguments(), "sharing": sharing.spec("tie", generator=1, discriminator=1, twins=True), "latent": 8}
    recipe = Recipe(
        model=models.spec("cogan", channels=images.channels, **networks),
        players=[
            Player("discriminator", ["discriminators"], [gan_d("a", "za"), gan_d("b", "zb")]),
            Player("generator", ["generators"], [gan_g("za"), gan_g("zb")]),
        ],
        data=images,
        steps=2,
        batch=3,
    )
    trainer = Trainer(recipe, RunOptions(tmp_path / "run", device="cpu"))
    for part in (trainer.model.generators, trainer.model.discriminators):
        assert same(part["a"].state_dict(), part["b"].state_dict())
    start = {part: weights(trainer.model, part) for part in trainer.model.parts}
    trainer.step(0), trainer.step(1)
    for part, shared in ("generators", 0), ("discriminators", -1):
        one, other = (getattr(trainer.model, part)[letter].stages for letter in "ab")
        assert one[shared] is other[shared]
        for place, (ours, theirs) in enumerate(zip(one, other, strict=True)):
            if ours is not theirs and list(ours.parameters()):
                assert not same(ours.state_dict(), theirs.state_dict()), (part, place)
        now = weights(trainer.model, part)
        assert not any(torch.equal(now[name], start[part][name]) for name in now if name.endswith("weight")), part


@pytest.mark.parametrize("order", [1, -1])
def test_a_step_of_one_player_leaves_the_others_alone(tmp_path: Path, order: int) -> None:
    """Though the generator learns through the discriminator, and sees its scores: weights and gradients stay."""
    recipe = load_recipe(TINY, steps=3)
    trainer = Trainer(replace(recipe, players=recipe.players[::order]), RunOptions(tmp_path / "run", device="cpu"))
    names = {p: name for name, p in trainer.model.named_parameters()}
    own = {player: {names[p] for p in parameters} for player, parameters in trainer.training_step.parameters.items()}
    assert not set.intersection(*own.values()) and set.union(*own.values()) == set(names.values())

    def seen() -> dict[str, tuple[Tensor, Tensor | None]]:
        return {name: (p.detach().clone(), None if p.grad is None else p.grad.clone()) for p, name in names.items()}

    def differing(one: dict[str, Any], other: dict[str, Any], place: int) -> set[str]:
        pairs = {name: (one[name][place], other[name][place]) for name in one}
        same = {name for name, (x, y) in pairs.items() if x is y or (x is not None and y is not None and x.equal(y))}
        return pairs.keys() - same

    states: list[tuple[str, dict[str, Any]]] = []
    for player, optimizer in trainer.optimizers.items():
        step = optimizer.step
        optimizer.step = lambda p=player, s=step: (s(), states.append((p, seen())))  # type: ignore[assignment,misc]
    before = seen()
    for step in range(2):
        trainer.step(step)
    assert [player for player, _ in states] == [player.name for player in recipe.players[::order]] * 2
    for player, after in states:
        assert differing(before, after, 0) == differing(before, after, 1) == own[player], player
        before = after


def test_reading_kinds_that_hang_together() -> None:
    """The scores of a feature's head are the scores of the path."""
    model = cogan().eval()
    batch = {"a": torch.rand(2, 1, 32, 32)}
    readings = model.read(batch, ["feature:a", "score:a"])
    top, head = readings["feature:a"]
    assert torch.equal(head(top)[0], readings["score:a"][0])
    terms: list[Callable[..., Term]] = [gan_d, gan_g, weight_distance]
    assert [term("a").reads[0].kind for term in terms] == ["score", "score", "weights"]
