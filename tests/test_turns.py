"""How players move: optimizers, gradients that are clipped, lazy players, frozen towers, weights on a schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import TINY
from safetensors.torch import load_file
from test_growth import equal, recipe, trainer, weights
from torch import Tensor

from unitkit import (
    SGD,
    Adam,
    AdamW,
    Cosine,
    Linear,
    Player,
    Ramp,
    Recipe,
    RMSprop,
    Steps,
    Timm,
    Trainer,
    UserError,
    Warmup,
    discriminators,
    encoders,
    generators,
    kl,
    l1,
    load_recipe,
    models,
    r1,
    sharing,
)
from unitkit.check import check
from unitkit.hooks import Call
from unitkit.losses import Loss, Term
from unitkit.networks import graph
from unitkit.optimizers import Optimizer
from unitkit.runs.options import RunOptions
from unitkit.runs.steps import latest
from unitkit.schedules import Constant, Schedule
from unitkit.system.errors import TrainingError
from unitkit.training.computation import Computation, Images

OPTIMIZERS = {
    "Adam": Adam(lr=1e-3, decay=0.5),
    "AdamW": AdamW(lr=1e-3, schedule=Warmup(0.4) * Cosine()),
    "SGD": SGD(lr=1e-3, nesterov=True),
    "RMSprop": RMSprop(lr=1e-4, momentum=0.5),
    "lion": Timm("lion", lr=1e-4),
    "adan": Timm("adan", lr=1e-3),
    "lamb": Timm("lamb", lr=1e-3),
    "nadamlegacy": Timm("nadamlegacy", lr=1e-3),  # which keeps a number that is no float32
}


def recomputed(ours: Recipe, folder: Path) -> tuple[Trainer, dict[str, Tensor]]:
    made = trainer(folder, ours)
    losses = made.step(0)
    return made, losses | {name: p.grad for name, p in made.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("parts", [["encoders"], ["generators"], ["discriminators"], None], ids=str)
def test_what_is_computed_again_is_the_same(tmp_path: Path, parts: list[str] | None) -> None:
    """With dropout, whose masks must come again, and discriminators that begin with several scales."""
    arguments = dict(recipe().model.arguments)
    arguments["encoder"] = encoders.residual(width=4, blocks=1, dropout=0.5)
    arguments["generator"] = generators.residual(width=4, blocks=1, dropout=0.5)
    arguments["discriminator"] = discriminators.multiscale(width=4, layers=1, scales=2)
    ours = recipe(model=models.spec("unit", **arguments))
    _, plain = recomputed(ours, tmp_path / "plain")
    parts = parts or ["encoders", "generators", "discriminators"]
    made, found = recomputed(replace(ours, recompute=parts), tmp_path / "again")
    assert plain.keys() == found.keys()
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
    phase = made.training_step.plan.at(0)
    calls = [call for program in (phase.images, *(turn.program for turn in phase.turns)) for call in program.calls]
    stages = [stage for call in calls for stage in graph.stages_of(call.function)]
    again = {stage.stage for stage in stages if isinstance(stage, graph._Recomputed)}
    assert again == {stage for part in parts for tower in getattr(made.model, part).values() for stage in tower.stages}


def test_a_part_of_a_batch_leaves_no_graph_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a later turn sees of images is not what made them: else memory would hold all micro-batches at once."""
    ours = recipe(batch=1, accumulate=2)
    ours = replace(ours, players=ours.players[::-1])  # the generator moves first
    made, held = trainer(tmp_path / "run", ours), []
    backward = Computation.backward

    def seen(self: Any, turn: Any, images: Images, *more: Any) -> Any:
        held.append((turn.player.name, any(t.requires_grad for t in images.values if isinstance(t, Tensor))))
        return backward(self, turn, images, *more)

    monkeypatch.setattr(Computation, "backward", seen)
    made.step(0)
    assert held == [("generator", True), ("generator", True), ("discriminator", False), ("discriminator", False)]


def test_a_player_that_moves_now_and_then_is_logged(tmp_path: Path) -> None:
    """At the steps at which it moves: every tenth, as of others, would meet none of every 16th."""
    lazy = [Player("lazy", ["discriminators"], [r1("a")], None, every=every) for every in (16, 2)]
    players = [*recipe().players, lazy[0], replace(lazy[1], name="often")]
    ours = trainer(tmp_path / "run", recipe(players=players, steps=34, sample_every=40))
    assert ours.fit()
    rows = {row["step"]: row for row in ours.run.stats()}
    assert list(rows) == [1, 10, 11, 17, 20, 21, 30, 31, 33, 34]
    assert [step for step, row in rows.items() if "lazy/r1(a)" in row] == [1, 17, 33]
    assert [step for step, row in rows.items() if "often/r1(a)" in row] == [1, 11, 17, 21, 31, 33]


def of_both(ours: Recipe, optimizer: Optimizer) -> Recipe:
    return replace(ours, players=[replace(player, optimizer=optimizer) for player in ours.players])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_exactly(tmp_path: Path, name: str) -> None:
    """Six steps are three and three more, bit by bit, with noise and augmentation."""
    ours = of_both(load_recipe(TINY, steps=6), OPTIMIZERS[name])
    whole, stopped = (trainer(tmp_path / folder, ours) for folder in ("whole", "run"))
    start = weights(whole)
    assert whole.fit()
    assert all(not torch.equal(tensor, start[n]) for n, tensor in weights(whole).items())
    stopped.hooks.insert(0, Call(lambda each, losses: each.done == 3 and each._ask_to_stop(15)))
    assert not stopped.fit()
    del stopped
    resumed = trainer(tmp_path / "run", ours, resume=True)
    assert resumed.done == 3 and resumed.fit()
    newest = [latest(tmp_path / folder / "checkpoints") for folder in ("whole", "run")]
    for file in "model.safetensors", "training.safetensors":
        one, two = (load_file(folder / file) for folder in newest if folder)
        assert one and equal(one, two), file


def gradients(ours: Trainer, player: str) -> Tensor:
    return torch.cat([p.grad.flatten().clone() for p in ours.training_step.parameters[player] if p.grad is not None])


@pytest.mark.parametrize("clip", [1e-3, 0.1, 1e6])
def test_a_gradient_keeps_its_direction_and_at_most_its_norm(tmp_path: Path, clip: float) -> None:
    free = trainer(tmp_path / "free")
    bound = trainer(tmp_path / "bound", of_both(recipe(), SGD(lr=1e-3, clip=clip)))
    given: dict[str, Tensor] = {}
    for name, optimizer in bound.optimizers.items():
        step = optimizer.step
        optimizer.step = lambda n=name, s=step: (given.update({n: gradients(bound, n)}), s())  # type: ignore[assignment,misc]
    losses, others = free.step(0), bound.step(0)
    assert equal(losses, others) or clip < 1  # the generator has met the discriminator that moved otherwise
    one, two = gradients(free, "discriminator"), given["discriminator"]
    torch.testing.assert_close(two, one * min(1.0, clip / one.norm().item()), rtol=1e-4, atol=1e-8)
    for gradient in given.values():
        assert gradient.norm() <= clip * (1 + 1e-5)
    assert all(gradient.norm() > 0.99 * clip for gradient in given.values()) or clip > 1


def test_a_lazy_player_moves_the_optimizer_of_an_earlier_one(tmp_path: Path) -> None:
    ours = recipe(steps=8)
    lazy = Player("penalty", ["discriminators"], [r1("a"), r1("b")], None, every=3)
    ours = replace(ours, players=[*ours.players, lazy])
    run = trainer(tmp_path / "run", ours)
    assert list(run.optimizers) == ["discriminator", "generator"]
    assert run.checked.owners == {
        "discriminator": "discriminator",
        "generator": "generator",
        "penalty": "discriminator",
    }
    counts: list[int] = []
    seen: list[set[str]] = []
    optimizer, step = run.optimizers["discriminator"], run.optimizers["discriminator"].step
    optimizer.step = lambda: (counts.append(run.done), step())  # type: ignore[assignment,misc]
    run.hooks.insert(0, Call(lambda each, losses: seen.append({name.partition("/")[0] for name in losses})))
    assert run.fit()
    assert [place for place, names in enumerate(seen) if "penalty" in names] == [0, 3, 6]
    assert counts == sorted([*range(8), 0, 3, 6])
    stored = load_file(run.run.latest() / "training.safetensors")
    assert {name.partition("/")[0] for name in stored} == {"discriminator", "generator"}


@pytest.mark.parametrize(
    ("trains", "words"),
    [
        (["encoders"], "has no optimizer, and no earlier player trains just encoders: give it one"),
        (["discriminators.a"], "has no optimizer, and no earlier player trains just discriminators.a: give it one"),
    ],
)
def test_a_player_without_an_optimizer_needs_an_earlier_one(trains: Sequence[str], words: str) -> None:
    lazy = Player("penalty", trains, [r1("a")], None)
    with pytest.raises(UserError, match=words):
        check(recipe(players=[*recipe().players, lazy]))
    with pytest.raises(UserError, match="give it one"):  # a later one does not do
        check(recipe(players=[replace(lazy, trains=["discriminators"]), *recipe().players]))


def test_images_are_computed_once_a_step_and_anew_where_an_earlier_player_has_moved_them(tmp_path: Path) -> None:
    judge, maker = recipe().players
    other = replace(maker, name="other", trains=["generators"], terms=[l1("aa", "a")])
    maker = replace(maker, trains=["encoders"])
    cases = ([judge, maker], [False, False]), ([maker, judge, other], [False, False, True])
    for place, (order, anew) in enumerate(cases):
        run = trainer(tmp_path / str(place), recipe(players=order))
        step = run.training_step
        assert [turn.anew for turn in step.plan.at(0).turns] == anew
        made, images = [], step.computation.images
        step.computation.images = lambda *given, m=made, f=images: m.append(1) or f(*given)  # type: ignore[method-assign,misc]
        run.step(0)
        assert len(made) == 1 + sum(anew)


@pytest.mark.parametrize("part", [0, 1])
def test_a_gradient_that_is_not_finite_is_traced_to_its_term_in_any_part_of_a_batch(tmp_path: Path, part: int) -> None:
    run = trainer(tmp_path / "run", recipe(batch=1, accumulate=2))
    bad = run.batches.batch(0)["a"][part : part + 1]

    def root(made: Tensor, image: Tensor) -> Tensor:  # 0, with a gradient of infinity times 0
        wrong = not image.is_meta and torch.equal(image, bad)
        return (made - made.detach()).abs().sqrt().sum() if wrong else made.sum()

    judge, maker = recipe().players
    terms = [*maker.terms, Term(Loss(root), ("aa", "a"))]
    other = trainer(tmp_path / "other", recipe(players=[judge, replace(maker, terms=terms)], batch=1, accumulate=2))
    with pytest.raises(TrainingError, match=r"player '\w+' is not finite, from the term root"):
        other.step(0)


def unshared(ours: Recipe) -> Recipe:
    return replace(ours, model=models.spec("unit", **{**ours.model.arguments, "sharing": sharing.none()}))


def of_generator(ours: Recipe, **changes: Any) -> Recipe:
    return replace(ours, players=[ours.players[0], replace(ours.players[1], **changes)])


@pytest.mark.parametrize(
    ("trains", "moved"),
    [
        (["generators", "encoders.a"], ("generators.", "encoders.a.")),
        (["generators.b"], ("generators.b.",)),
        (["encoders.a.stages.0", "generators.a.stages.1"], ("encoders.a.stages.0.", "generators.a.stages.1.")),
    ],
)
def test_what_no_player_trains_stays(tmp_path: Path, trains: Sequence[str], moved: tuple[str, ...]) -> None:
    run = trainer(tmp_path / "run", of_generator(unshared(recipe()), trains=trains))
    before = weights(run)
    for step in range(3):
        run.step(step)
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, before[name]) != name.startswith((*moved, "discriminators.")), name


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("generatrs", r"player 'generator' trains 'generatrs'. Did you mean 'generators'\?"),
        ("encoders.c", r"player 'generator' trains 'encoders.c'. Did you mean 'encoders.b'\?"),
        ("encoders.a.stages.9", r"player 'generator' trains 'encoders.a.stages.9'. Did you mean 'encoders.a.stages"),
    ],
)
def test_a_path_that_is_not_there_is_refused_with_the_nearest(path: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(of_generator(recipe(), trains=[path, "encoders.a"]))


# Schedules


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Constant(3), {0: 3, 0.5: 3, 1: 3}),
        (Ramp(10), {0: 0, 0.1: math.tanh(0.5), 0.5: math.tanh(2.5), 1: math.tanh(5)}),
        (Linear(), {0: 1, 0.25: 0.75, 1: 0}),
        (Linear(end=3, since=0.5), {0: 1, 0.49: 1, 0.5: 1, 0.75: 2, 1: 3}),
        (Linear(since=1), {0: 1, 1: 1}),
        (Cosine(), {0: 1, 0.5: 0.5, 1: 0}),
        (Cosine(end=0.2, since=0.5), {0: 1, 0.5: 1, 0.75: 0.6, 1: 0.2}),
        (Cosine(since=1), {0: 1, 1: 1}),
        (Steps(0.5, every=0.1), {0: 1, 0.09: 1, 0.1: 0.5, 0.3: 0.125, 0.95: 0.5**9}),
        (Warmup(0.5), {0: 0, 0.25: 0.5, 0.5: 1, 1: 1}),
        (Warmup(0), {0: 1, 1: 1}),
        (2 * Linear(), {0: 2, 0.5: 1, 1: 0}),
        (Warmup(0.5) * Linear(), {0: 0, 0.25: 0.375, 0.5: 0.5, 1: 0}),
        (Linear() + 1, {0: 2, 0.5: 1.5, 1: 1}),
        (1 + Linear() + Warmup(0.5), {0: 2, 0.5: 2.5, 1: 2}),
    ],
    ids=str,
)
def test_schedules_at_their_ends_and_middles(schedule: Schedule, points: Mapping[float, float]) -> None:
    assert {p: schedule(p) for p in points} == {p: pytest.approx(value, abs=1e-12) for p, value in points.items()}


def test_a_weight_on_a_schedule_is_that_of_its_gradient(tmp_path: Path) -> None:
    """Which is nothing at the first step, and what the ramp says later."""
    run = trainer(tmp_path / "run", of_generator(recipe(), terms=[Ramp(10) * l1("aba", "a")]))
    plain = trainer(tmp_path / "plain", of_generator(recipe(), terms=[l1("aba", "a")]))
    for step in 0, 3:
        plain.model.load_state_dict(run.model.state_dict())
        losses, others = run.step(step), plain.step(step)
        assert equal(losses, others)  # they are unweighted
        found, whole = gradients(run, "generator"), gradients(plain, "generator")
        torch.testing.assert_close(found, whole * math.tanh(2.5 if step else 0), rtol=1e-4, atol=1e-7)
        assert whole.abs().max() > 0 and (found.abs().max() > 0) == (step > 0)


def test_weights_of_one_term_are_added(tmp_path: Path) -> None:
    terms: list[Term] = [2 * kl("a"), Linear(end=0) * kl("a"), 3 * (Warmup(0.5) * kl("a")), l1("aa", "a")]
    found, _ = check(of_generator(recipe(), terms=terms)).players[1].terms
    assert [found.weight_at(p) for p in (0, 0.25, 0.5, 0.75)] == pytest.approx([3, 4.25, 5.5, 5.25])
    run = trainer(tmp_path / "run", of_generator(recipe(), terms=terms))
    same = trainer(tmp_path / "same", of_generator(recipe(), terms=[5.5 * kl("a"), l1("aa", "a")]))
    for each in run, same:
        each.step(3)
    torch.testing.assert_close(gradients(run, "generator"), gradients(same, "generator"), rtol=1e-5, atol=1e-7)


# Images that another domain's encoder reads


def test_an_image_read_as_one_of_another_domain(tmp_path: Path) -> None:
    run = trainer(tmp_path / "run", unshared(recipe()))
    model, batch = run.model.eval(), run.batches.batch(0)
    found = model.read(batch, ["b/ab", "ab/a", "ab", "code:ab/a", "b/a"])
    towers, codes = model.generators, model.encoders
    torch.testing.assert_close(found["b/ab"], towers["b"](codes["a"](batch["b"])))
    assert torch.equal(found["ab/a"], found["ab"]) and torch.equal(found["b/a"], batch["b"])
    torch.testing.assert_close(found["code:ab/a"].mean, codes["a"](found["ab"]))
    assert not torch.allclose(found["code:ab/a"].mean, codes["b"](found["ab"]))
    for wrong in "b/", "/ab", "b//ab", "b/xb":
        with pytest.raises(UserError, match=r"is not an image path here|is not a reading"):
            model.check(wrong)


def test_the_identity_loss_is_its_formula(tmp_path: Path) -> None:
    run = Trainer(
        of_generator(unshared(recipe()), terms=[5 * l1("b/ab", "b")]), RunOptions(tmp_path / "run", device="cpu")
    )
    b = run.batches.batch(0)["b"]
    expected = (run.model.generators["b"](run.model.encoders["a"](b)) - b).abs().mean()
    torch.testing.assert_close(run.step(0)["generator/l1(b/ab, b)"], expected.detach())
