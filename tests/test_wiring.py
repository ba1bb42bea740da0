"""Every field of a recipe and of a run's options arrives in the training: compared field by field.

A field that is new, of a recipe, a player, its Adam, a watch, the options, a trainer or the batches, has no check here,
and the tests fail with its name until it has one.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import TINY
from torch import Tensor

from unitkit import Adam, Affine, Linear, Player, Recipe, Trainer, Warmup, Watch, load_recipe, metrics, psnr, r1, ssim
from unitkit.commands.train import watching
from unitkit.data.batches import Batches
from unitkit.hooks import Call, Watcher
from unitkit.networks import graph
from unitkit.networks.state import unique_state
from unitkit.recipe import Hook
from unitkit.runs.checkpoint import load_model, load_step
from unitkit.runs.image_check import ImageCheck
from unitkit.runs.options import KEPT, Options, RunOptions
from unitkit.runs.steps import latest
from unitkit.runs.stored import read_tensors
from unitkit.system.errors import UserError
from unitkit.system.seeds import derive

Pair = tuple[object, object]  # what is found, and what the recipe says


def recipe() -> Recipe:
    """No field of it is at its default; nor are a player's, of one player at least, and of its Adam's."""
    plain = load_recipe(TINY, steps=6, batch=3)
    gan_d, generator = plain.players
    one = Adam(2e-3, weight_decay=0.02, decay=0.5, schedule=Warmup(0.25), clip=0.5, betas=(0.3, 0.9))
    two = Adam(1e-3, weight_decay=0.03, decay=0.75, schedule=Linear(end=0.5), clip=0.25, betas=(0.6, 0.95))
    return replace(
        plain,
        players=[
            replace(gan_d, optimizer=one, until=0.7),
            replace(generator, optimizer=two, since=0.3),
            Player("penalty", ["discriminators"], [0.5 * r1("a")], None, every=3),
        ],
        accumulate=2,
        flip=False,
        crop=3,
        affine=Affine(rotate=10, shift=0.1),
        ema=0.9,
        recompute=["generators"],
        evaluate=[psnr("aa", "a"), ssim("bb", "b")],
        sample_every=2,
        watch=Watch([psnr("aba", "a")], every=4, images=3, patience=5),
        hooks=[Call(lambda trainer, losses: None, every=4)],
    )


OPTIONS: dict[str, Any] = {
    "seed": 5,
    "device": "cpu",
    "precision": "bf16",
    "memory": "4T",  # where nothing has to change; what does, in test_memory.py
    "checkpoint_every": 2,
    "keep": 3,
    "sample_every": 3,
    "watch": "psnr(aba, a)",
    "watch_every": 2,
    "track": ("tensorboard",),
    "bad_images": "skip",
}
MOVES = {"discriminator": [0, 1, 2, 3, 4], "generator": [2, 3, 4, 5], "penalty": [0, 3]}  # of six steps


def covered(owner: object, names: Iterable[str], checks: Mapping[str, object]) -> None:
    """Every name has a check, and every check a name."""
    for name in names:
        assert name in checks, f"nothing tests that '{name}' of {owner} arrives where it should: add a check of it here"
    assert not checks.keys() - set(names), f"{owner} has no {sorted(checks.keys() - set(names))}: take the check away"


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_a_field_without_a_check_is_named() -> None:
    @dataclass(frozen=True)
    class Longer(Adam):
        amsgrad: bool = False

    with pytest.raises(AssertionError, match="'amsgrad' of Longer"):
        covered("Longer", [each.name for each in fields(Longer)], ADAM)
    with pytest.raises(AssertionError, match=r"Adam has no \['amsgrad'\]"):
        covered("Adam", [each.name for each in fields(Adam)], {**ADAM, "amsgrad": None})


def test_the_recipe_and_the_options_of_these_tests_are_at_no_default() -> None:
    """A field at its default would arrive without a wire."""
    ours = recipe()
    adams = [player.optimizer for player in ours.players if player.optimizer]
    groups: list[list[Any]] = [[ours], [*ours.players], [*adams], [ours.watch]]
    for group in groups:
        for each in fields(group[0]):
            default = each.default_factory() if each.default_factory is not MISSING else each.default
            assert any(getattr(one, each.name) != default for one in group), each.name
    defaults = {each.name: each.default for each in [*fields(RunOptions), *fields(Options)]}
    assert all(value != defaults[name] for name, value in OPTIONS.items())
    assert OPTIONS.keys() == defaults.keys() - {
        "out",
        "resume",
        "init_from",
        "compile",
    }  # of these, tests by themselves


# Field by field


class Wired:
    """A trainer of the recipe, what its batches were made with, and what it leaves."""

    def __init__(self, folder: Path) -> None:
        self.called: list[int] = []
        self.own = Call(lambda trainer, losses: self.called.append(trainer.done), every=4)
        self.recipe, self.told = replace(recipe(), hooks=[self.own]), {}
        self.warned: list[str] = []
        self.begun: list[object] = []
        self.recomputed: set[torch.nn.Module] = set()

        def batches(*given: Any, **named: Any) -> Batches:
            self.told = inspect.signature(Batches).bind(*given, **named).arguments
            return Batches(*given, **named)

        def begin(images: ImageCheck, batches: Batches, step: int, progress: Any = None) -> None:
            self.begun.append((batches, step, progress))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("unitkit.trainer.Batches", batches)
            patch.setattr("unitkit.trainer.ImageCheck.begin", begin)
            self.mine = Call(self.look)
            self.trainer = Trainer(
                self.recipe,
                RunOptions(folder, **OPTIONS),
                notes={"note": 1},
                files={"recipe.py": "text", "common.py": "more"},
                hooks=[self.mine],
                warn=self.warned.append,
                looked=self.look_at,
            )
        self.start = copy.deepcopy(self.trainer.model)
        self.rates: list[dict[str, float]] = []
        self.losses: dict[str, list[int]] = {}
        self.clipped: dict[str, list[Tensor]] = {}
        self.averages: list[dict[str, Tensor]] = []
        self.checkpoints: set[str] = set()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(graph, "checkpoint", self.recompute)
            for name, optimizer in self.trainer.optimizers.items():
                patch.setattr(optimizer, "step", partial(self.stepped, name, optimizer.step))
            assert self.trainer.fit()
        self.metrics = self.trainer.evaluate()["metrics"]

    def look_at(self, done: int, count: int) -> None:
        """Told of images that are looked at, which are none here."""

    def look(self, trainer: Trainer, losses: Mapping[str, Tensor]) -> None:
        optimizers = self.trainer.optimizers.items()
        self.rates.append({name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers})
        self.checkpoints |= {path.name for path in self.trainer.run.checkpoints.glob("*")}
        for name in losses:
            self.losses.setdefault(name, []).append(trainer.done - 1)
        self.averages.append({name: t.detach().clone() for name, t in unique_state(trainer.model).items()})

    def stepped(self, name: str, step: Callable[[], object]) -> None:
        gradients = [p.grad for p in self.trainer.training_step.parameters[name] if p.grad is not None]
        self.clipped.setdefault(name, []).append(torch.nn.utils.get_total_norm(gradients))
        step()

    def recompute(self, function: Any, *values: Any, **named: Any) -> Any:
        stage = function if isinstance(function, torch.nn.Module) else function.__closure__[0].cell_contents.stage
        self.recomputed.add(stage)
        return function(*values)

    def rate(self, player: Player) -> Pair:
        """The learning rate in every step where the player moves, from the documented formula."""
        adam = settings(self.recipe, player)
        moving = [step for step in MOVES[player.name] if self.owner(player) == player.name]
        formula = []
        for p in (step / self.recipe.steps for step in moving):
            besides = {"discriminator": min(1, p / 0.25), "generator": 1 - p / 2}[player.name]
            formula.append(adam.lr * besides * min(1.0, (1 - p) / adam.decay))
        return [self.rates[step][player.name] for step in moving], pytest.approx(formula, rel=1e-12)

    def owner(self, player: Player) -> str:
        return player.name if player.optimizer else "discriminator"

    def group(self, player: Player, name: str) -> object:
        (group,) = self.trainer.optimizers[self.owner(player)].param_groups
        return group[name]

    def trains(self, player: Player) -> Pair:
        model = self.trainer.model
        own = {id(p) for part in player.trains for p in getattr(model, part).parameters()}
        (group,) = self.trainer.optimizers[self.owner(player)].param_groups
        return sorted(id(p) for p in group["params"]), sorted(own)

    def steps_of(self, folder: str) -> list[int]:
        found = (self.trainer.run.path / folder).iterdir()
        return sorted(int(path.stem.removeprefix("step-")) for path in found)

    def moved(self, player: Player) -> Pair:
        """In which steps it has, as its terms and its optimizer's own count say."""
        found = {tuple(self.losses[f"{player.name}/{term.name}"]) for term in player.terms}
        states = self.trainer.optimizers[self.owner(player)].state.values()
        count = max(int(state["step"]) for state in states)
        expected = sum(len(MOVES[p.name]) for p in self.recipe.players if self.owner(p) == self.owner(player))
        return (found, count), ({tuple(MOVES[player.name])}, expected)

    def clips(self, player: Player) -> Pair:
        """Each of these gradients is larger, by far."""
        norms = self.clipped[self.owner(player)]
        return norms, [pytest.approx(settings(self.recipe, player).clip, rel=1e-4)] * len(norms)

    def average(self, decay: float) -> Pair:
        expected = {name: t.detach().clone() for name, t in unique_state(self.start).items()}
        for step, weights in enumerate(self.averages):
            kept = min(decay, (1 + step) / (10 + step))
            expected = {name: kept * t + (1 - kept) * weights[name] for name, t in expected.items()}
        found = read_tensors((latest(self.trainer.run.checkpoints) or Path()) / "ema.safetensors")
        close = {name for name, t in found.items() if torch.allclose(t, expected[name], rtol=1e-5, atol=1e-7)}
        return close, expected.keys()

    def hook(self, kind: type[Hook]) -> Any:
        (found,) = [hook for hook in self.trainer.hooks if isinstance(hook, kind)]
        return found


def settings(ours: Recipe, player: Player) -> Adam:
    found = player.optimizer or ours.players[0].optimizer
    assert isinstance(found, Adam)
    return found


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Wired:
    return Wired(tmp_path_factory.mktemp("wired") / "run")


RECIPE: dict[str, Callable[[Wired, Recipe], Pair]] = {
    "model": lambda w, r: (
        [(name, p.shape) for name, p in w.start.named_parameters()],
        [(name, p.shape) for name, p in r.model.build().named_parameters()],
    ),
    "players": lambda w, r: (list(w.trainer.training_step.parameters), [player.name for player in r.players]),
    "data": lambda w, r: (w.told["data"], r.data),
    "steps": lambda w, r: (w.trainer.done, r.steps),
    "batch": lambda w, r: (
        {len(part["a"]) for part in w.trainer.training_step._micro_batches(w.trainer.batches.batch(0))},
        {r.batch},
    ),
    "accumulate": lambda w, r: (len(w.trainer.training_step._micro_batches(w.trainer.batches.batch(0))), r.accumulate),
    "flip": lambda w, r: (w.told["flip"], r.flip),
    "crop": lambda w, r: (w.told["crop"], r.crop),
    "affine": lambda w, r: (w.told["affine"], r.affine),
    "ema": lambda w, r: w.average(r.ema),
    "recompute": lambda w, r: (
        w.recomputed,
        {s for part in r.recompute for tower in getattr(w.trainer.model, part).values() for s in tower.stages},
    ),
    "evaluate": lambda w, r: (list(w.metrics), [metric.name for metric in r.evaluate]),
    "sample_every": lambda w, r: (unsaid(r).every, r.sample_every),  # the options say otherwise here
    "watch": lambda w, r: (w.hook(Watcher).watch, r.watch),
    "hooks": lambda w, r: (w.called, [4]),
}
PLAYER: dict[str, Callable[[Wired, Player], Pair]] = {
    "name": lambda w, p: (p.name in w.trainer.training_step.parameters, True),
    "trains": lambda w, p: w.trains(p),
    "terms": lambda w, p: (
        {name for name in w.losses if name.startswith(f"{p.name}/")},
        {f"{p.name}/{term.name}" for term in p.terms},
    ),
    "optimizer": lambda w, p: (p.name in w.trainer.optimizers, bool(p.optimizer)),  # and field by field below
    "since": lambda w, p: w.moved(p),
    "until": lambda w, p: w.moved(p),
    "every": lambda w, p: w.moved(p),
}
ADAM: dict[str, Callable[[Wired, Player], Pair]] = {
    "lr": lambda w, p: w.rate(p),
    "betas": lambda w, p: (w.group(p, "betas"), settings(w.recipe, p).betas),
    "weight_decay": lambda w, p: (w.group(p, "weight_decay"), settings(w.recipe, p).weight_decay),
    "decay": lambda w, p: w.rate(p),
    "schedule": lambda w, p: w.rate(p),
    "clip": lambda w, p: w.clips(p),
}
WATCH: dict[str, Callable[[Wired, Watch], Pair]] = {
    "metrics": lambda w, x: (list(w.trainer.run.watched()[0])[1:], [metric.name for metric in x.metrics]),
    "every": lambda w, x: ([row["step"] for row in w.trainer.run.watched()], [x.every]),
    "images": lambda w, x: (
        w.trainer.run.watched()[0]["psnr(aba, a)"],
        metrics.evaluate(kept(w), w.recipe.data, x.metrics, device="cpu", max_images=x.images)["psnr(aba, a)"][
            "figures"
        ],
    ),
    "patience": lambda w, x: (w.hook(Watcher).watch.patience, x.patience),
}
BATCHES: dict[str, Callable[[Wired], object]] = {
    "data": lambda w: w.recipe.data,
    "batch": lambda w: w.recipe.batch * w.recipe.accumulate,
    "seed": lambda w: OPTIONS["seed"],
    "device": lambda w: torch.device("cpu"),
    "flip": lambda w: w.recipe.flip,
    "crop": lambda w: w.recipe.crop,
    "affine": lambda w: w.recipe.affine,
    "rank": lambda w: 0,  # of others in test_dist.py
    "world": lambda w: 1,
    "limit_bytes": lambda w: None,  # what is free decides
    "memory_format": lambda w: torch.channels_last,  # of bf16
    "bad": lambda w: w.trainer.images.bad,
    "skip": lambda w: w.trainer.images.skip,
}
TRAINER: dict[str, Callable[[Wired], Pair]] = {
    "recipe": lambda w: (w.trainer.recipe is w.recipe, True),
    "options": lambda w: (isinstance(w.trainer.options, Options), True),  # and field by field below
    "notes": lambda w: (w.trainer.run.record["note"], 1),
    "files": lambda w: (
        [(w.trainer.run.path / name).read_text() for name in ("recipe.py", "common.py")],
        ["text", "more"],
    ),
    "hooks": lambda w: (w.mine in w.trainer.hooks and len(w.rates), w.recipe.steps),
    "warn": lambda w: (w.trainer.images.warn, w.warned.append),
    "looked": lambda w: (w.begun, [(w.trainer.batches, 0, w.look_at)]),
}
RUN: dict[str, Callable[[Wired], Pair]] = {
    "out": lambda w: (w.trainer.run.path, w.trainer.options.out),
    "seed": lambda w: (next(iter(w.start.parameters())).flatten().tolist(), start_weights(w)),
    "device": lambda w: ({p.device.type for p in w.trainer.model.parameters()}, {"cpu"}),
    "precision": lambda w: (w.trainer.run.record["precision"], "bf16"),  # its effect in test_effects.py
    "compile": lambda w: (w.trainer.run.record["compile"], False),  # of one that is in test_compile.py
    "memory": lambda w: ([line for line in w.warned if "--memory 4T: nothing is changed" in line], w.warned[:1]),
    "resume": lambda w: (w.trainer.run.record.get("history", []), []),  # of one that goes on in test_training.py
    "init_from": lambda w: ("init_from" in w.trainer.run.record, False),  # of one in test_growth.py
    "checkpoint_every": lambda w: (sorted(w.checkpoints), ["step-00000002", "step-00000004"]),
    "keep": lambda w: (w.steps_of("checkpoints"), [2, 4, 6]),
    "sample_every": lambda w: (w.steps_of("samples"), [3, 6]),
    # The command makes these of the recipe's watch and the trainer's hooks; the run remembers them.
    "watch": lambda w: ([m.name for m in watched(w).metrics], ["psnr(aba, a)"]),
    "watch_every": lambda w: (watched(w).every, 2),
    "track": lambda w: (w.trainer.run.record["track"], ["tensorboard"]),
    "bad_images": lambda w: ((w.trainer.images.policy, w.trainer.run.record["bad_images"]), ("skip", "skip")),
}


def unsaid(ours: Recipe) -> Any:
    """The hook that draws samples where the options leave open when."""
    (found,) = [hook for hook in Trainer._hooks(_Bare(ours), ()) if type(hook).__name__ == "Samples"]  # type: ignore[arg-type]
    return found


class _Bare:
    """As much of a trainer as makes its hooks."""

    def __init__(self, ours: Recipe) -> None:
        self.recipe, self.run, self.options = replace(ours, watch=None), None, RunOptions("x").resolved({}, "fp32")


def watched(wired: Wired) -> Watch:
    found = watching(replace(wired.recipe, watch=None), wired.trainer.options, {}).watch
    assert found
    return found


def kept(wired: Wired) -> Any:
    """The model of the best checkpoint, which is that of the only evaluation."""
    found = latest(wired.trainer.run.best)
    assert found and load_step(found) == 4
    return load_model(found)[0]


def start_weights(wired: Wired) -> list[float]:
    torch.manual_seed(derive(OPTIONS["seed"]))
    first: list[float] = next(iter(wired.recipe.model.build().parameters())).flatten().tolist()
    return first


def test_every_field_of_a_recipe_arrives(wired: Wired) -> None:
    covered("Recipe", [each.name for each in fields(Recipe)], RECIPE)
    covered("Watch", [each.name for each in fields(Watch)], WATCH)
    for name, check in RECIPE.items():
        assert_pair(f"recipe.{name}", partial(check, wired, wired.recipe))
    for name, watch in WATCH.items():
        assert wired.recipe.watch
        assert_pair(f"watch.{name}", partial(watch, wired, wired.recipe.watch))


def test_every_field_of_a_player_and_of_its_adam_arrives(wired: Wired) -> None:
    covered("Player", [each.name for each in fields(Player)], PLAYER)
    covered("Adam", [each.name for each in fields(Adam)], ADAM)
    for player in wired.recipe.players:
        for name, check in {**ADAM, **PLAYER}.items():
            assert_pair(f"{player.name}.{name}", partial(check, wired, player))


def test_every_argument_of_a_trainer_and_of_its_batches_arrives(wired: Wired) -> None:
    covered("Trainer", parameters(Trainer), TRAINER)
    covered("RunOptions", [each.name for each in fields(RunOptions)], RUN)
    covered("Batches", parameters(Batches), BATCHES)
    for name, check in {**TRAINER, **RUN}.items():
        assert_pair(f"Trainer({name})", partial(check, wired))
    for name, expected in BATCHES.items():
        assert wired.told.get(name) == expected(wired), f"Batches({name})"


def test_the_record_keeps_the_options_and_a_resumed_run_goes_by_them(wired: Wired) -> None:
    record = wired.trainer.run.record
    resumed = RunOptions(wired.trainer.run.path, resume=True).resolved(record, "fp32")
    assert {name: getattr(resumed, name) for name in KEPT} == {
        name: {"compile": False, **OPTIONS}[name] for name in KEPT
    }
    anew = {
        "memory": "2T",
        "checkpoint_every": 7,
        "keep": 9,
        "sample_every": 8,
        "watch": "ssim(aa, a)",
        "watch_every": 6,
    }
    said = RunOptions(wired.trainer.run.path, resume=True, track=(), bad_images="stop", **anew).resolved(record, "fp32")
    assert {name: getattr(said, name) for name in anew} == anew and said.track == () and said.bad_images == "stop"
    for name, other in {"seed": 6, "precision": "fp32"}.items():
        with pytest.raises(
            UserError, match=f"is a run with {name} {OPTIONS[name]}, not {other}: to resume, leave {name} out"
        ):
            RunOptions(wired.trainer.run.path, resume=True, **{name: other}).resolved(record, "fp32")


def assert_pair(what: str, check: Callable[[], Pair]) -> None:
    found, expected = check()
    assert found == expected, what
