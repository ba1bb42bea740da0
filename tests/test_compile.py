"""A step through torch.compile: the same as the plain one, whole, compiled once, and given up where it fails.

Most is compiled to plain operators here, which takes a second; one test takes torch's own compiler.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipes import RECIPES, few, tiny
from tiny import one_way, recipe
from torch import Tensor

import unitkit
from unitkit import Player, Recipe, RunOptions, Trainer, UserError
from unitkit.kernels.norms import InstanceNorm
from unitkit.models import kinds
from unitkit.networks.bf16 import Bf16Weights
from unitkit.networks.nested import map_tensors
from unitkit.recipe_file import read_recipe_file
from unitkit.runs.stored import read_tensors
from unitkit.schedules import Ramp
from unitkit.training import compiled
from unitkit.training.compiled import Compiled
from unitkit.training.difference import difference, tensors_in

REAL = torch.compile
# Whose parts, each by itself, are those of others.
ALIKE = (
    *("digits_classifier", "digits_cogan", "digits_dann", "digits_dtn", "digits_unit"),
    *("unit_faces", "unit_maps", "unit_three"),
)
SMALL = {"blocks": 1, "layers": 1, "downs": 1, "scales": 1}  # what is repeated is compiled again and again


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Compiled to plain operators; a second graph of a function is an error."""
    torch._dynamo.reset()
    seen = {"functions": 0}

    def to_operators(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        seen["functions"] += 1
        assert options.pop("fullgraph") and options.pop("options")
        return REAL(function, fullgraph=True, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", to_operators)
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield seen
    torch._dynamo.reset()


@pytest.fixture
def uncompiled(counted: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counted as above and not compiled at all, where it is the number that matters."""

    def as_it_is(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        counted["functions"] += 1
        return function

    monkeypatch.setattr(torch, "compile", as_it_is)
    return counted


def trained(
    ours: Recipe, out: Path, steps: int, *, compile: bool, precision: str = "fp32"
) -> tuple[Trainer, list[str]]:
    """A training after some steps, and the lines that it said."""
    lines: list[str] = []
    trainer = Trainer(ours, RunOptions(out, compile=compile, precision=precision), warn=lines.append)
    for step in range(steps):
        trainer.step(step)
        trainer.done += 1
    return trainer, lines


def same(plain: Trainer, other: Trainer, share: float) -> None:
    """Weights and buffers are the same, to a share of a weight. Biases are compared only where the share is 0: before a
    norm their gradient is but rounding, of which Adam makes a step as large as any."""
    expected, found = plain.model.state_dict(), other.model.state_dict()
    for name, tensor in expected.items():
        if share and name.endswith("bias"):
            continue
        torch.testing.assert_close(found[name], tensor, rtol=share, atol=share / 10, msg=name)


def once(recipe: Recipe) -> Recipe:
    """Each loss of a player once for paths of a length: what the other direction has is compiled alike."""

    def first(player: Player) -> Player:
        kept = {(term.loss, *(len(each.path) for each in term.reads)): term for term in reversed(player.terms)}
        return replace(player, terms=list(reversed(kept.values())))

    return replace(recipe, players=[first(player) for player in recipe.players])


@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem not in ALIKE], ids=lambda path: path.stem)
def test_every_method_is_compiled_whole_and_once_and_trains_the_same(path: Path, tmp_path: Path) -> None:
    knobs = {name: value for name, value in SMALL.items() if name in read_recipe_file(path).knobs}
    ours = tiny(path, few(tiny(path)), **knobs)
    ours = once(ours)
    plain, _ = trained(ours, tmp_path / "plain", 2, compile=False)
    made, lines = trained(ours, tmp_path / "compiled", 2, compile=True)
    assert [line for line in lines if not re.match(r"compiled (\d|one)", line)] == []
    same(plain, made, 1e-3)


def penalised(every: int) -> Recipe:
    """With R1 of a player of its own."""
    ours = recipe()
    discriminator, generator = ours.players
    lazy = Player("penalty", ["discriminators"], [unitkit.r1("a")], None, every=every)
    return replace(ours, players=[discriminator, lazy, generator])


def test_a_phase_compiles_nothing_that_another_has_compiled(tmp_path: Path, uncompiled: dict[str, int]) -> None:
    """And second derivatives are not compiled at all."""
    made, _ = trained(penalised(every=2), tmp_path, 3, compile=True)
    assert len(made.training_step.plan.phases) == 2
    assert uncompiled["functions"] == 3  # images, discriminator, generator


def test_a_phase_that_reads_one_more_real_image_has_an_image_pass_of_its_own(
    tmp_path: Path, uncompiled: dict[str, int]
) -> None:
    """Though what is computed of images is the same."""
    discriminator, generator = (ours := one_way()).players
    later = replace(ours, players=[replace(discriminator, since=1 / 12), generator])
    trained(later, tmp_path, 2, compile=True)
    assert uncompiled["functions"] == 4


@pytest.fixture
def another_gradient() -> Iterator[str]:
    """A kind of reading that a user has registered."""
    kinds.register("grad.own", gradient=True)(lambda model, graph, path: kinds.grad(model, graph, path))
    yield "grad.own"
    del kinds.registry.parts["grad.own"]


def test_what_differentiates_twice_or_changes_is_computed_plainly(
    another_gradient: str, tmp_path: Path, uncompiled: dict[str, int]
) -> None:
    ours = one_way()
    discriminator, generator = ours.players
    both = replace(discriminator, terms=[*discriminator.terms, unitkit.r1("a")])
    trained(replace(ours, players=[both, generator]), tmp_path / "r1", 1, compile=True)
    assert uncompiled["functions"] == 2
    own = unitkit.losses.Loss(unitkit.r1.function, kinds=(another_gradient,))
    both = replace(discriminator, terms=[*discriminator.terms, own("a")])
    trained(replace(ours, players=[both, generator]), tmp_path / "own", 1, compile=True)
    assert uncompiled["functions"] == 4
    growing = replace(generator, terms=[*generator.terms, Ramp(3.0) * unitkit.l1("ab", "a")])
    trained(replace(ours, players=[discriminator, growing]), tmp_path / "weight", 2, compile=True)
    assert uncompiled["functions"] == 7  # a weight that changes is nothing of the function


@pytest.mark.usefixtures("uncompiled")
def test_no_gradient_is_computed_of_the_other_players_weights(tmp_path: Path) -> None:
    made, _ = trained(recipe(), tmp_path, 1, compile=True)
    computation = made.training_step.computation
    asked, run = [], Compiled._run

    def seen(self: Any, key: Any, name: str, function: Any, given: Any) -> Any:
        asked.append({name.partition(".")[0] for name, p in made.model.named_parameters() if p.requires_grad})
        return run(self, key, name, function, given)

    computation._run = partial(seen, computation)  # type: ignore[attr-defined]
    made.step(1)
    assert asked[1:] == [{"discriminators"}, {"encoders", "generators"}]
    assert all(p.requires_grad for p in made.model.parameters())


def test_a_checkpoint_is_the_same_with_and_without(tmp_path: Path) -> None:
    """Its files and their tensors' names; a run goes on as it last was, unless another thing is said."""
    kept: dict[str, Any] = {}
    for name, compile in (("plain", False), ("compiled", True)):
        made, _ = trained(one_way(), tmp_path / name, 1, compile=compile)
        made.save()
        kept[name] = {
            path.name: sorted(read_tensors(path)) if path.suffix == ".safetensors" else []
            for path in sorted((tmp_path / name / "checkpoints" / "step-00000001").iterdir())
        }
        del made
    assert kept["plain"] == kept["compiled"]
    resumed = Trainer(one_way(), RunOptions(tmp_path / "compiled", resume=True))
    assert isinstance(resumed.training_step.computation, Compiled) and resumed.done == 1
    del resumed
    plainly = Trainer(one_way(), RunOptions(tmp_path / "compiled", resume=True, compile=False))
    assert not isinstance(plainly.training_step.computation, Compiled)
    del plainly
    again = Trainer(one_way(), RunOptions(tmp_path / "compiled", resume=True))
    assert not isinstance(again.training_step.computation, Compiled)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_computes_something_else_is_given_up(
    accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a line, and nothing of it is in the weights."""
    ours = replace(recipe(batch=1), accumulate=accumulate)
    plain, _ = trained(ours, tmp_path / "plain", 2, compile=False)

    def wrong(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def call(given: Any) -> Any:
            found = function(given)
            return {k: 1.1 * v for k, v in found.items()} if isinstance(found, dict) else found

        return call

    monkeypatch.setattr(torch, "compile", wrong)
    made, lines = trained(ours, tmp_path / "wrong", 2, compile=True)
    assert lines[0].startswith("compiled, the turn of 'discriminator' differs by 0.1: training goes on as without")
    assert not made.training_step.computation.on  # type: ignore[attr-defined]
    same(plain, made, 0.0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_images_without_a_gradient_that_are_wrong_are_given_up(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a step in which the generator does not move: others are compared by the gradient that goes through them."""
    discriminator, generator = (ours := one_way()).players
    lazy = replace(ours, players=[discriminator, replace(generator, every=2)])
    plain, _ = trained(lazy, tmp_path / "plain", 2, compile=False, precision=precision)

    def wrong(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def call(given: Any) -> Any:
            found = function(given)
            of_turn = isinstance(found, dict) or any(x.requires_grad for x in tensors_in(found))
            return found if of_turn else list(map_tensors(tuple(found), lambda x: 1.1 * x))

        return call

    monkeypatch.setattr(torch, "compile", wrong)
    made, lines = trained(lazy, tmp_path / "wrong", 2, compile=True, precision=precision)
    said = "compiled, the image pass differs by 0.1: training goes on as without --compile"
    assert [line for line in lines if line.startswith("compiled,")] == [said]
    same(plain, made, 0.0)


def test_what_cannot_be_compiled_is_computed_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = trained(one_way(), tmp_path / "plain", 1, compile=False)
    forward = InstanceNorm.forward

    def breaking(self: Any, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return forward(self, x)

    monkeypatch.setattr(InstanceNorm, "forward", breaking)
    made, lines = trained(one_way(), tmp_path / "broken", 1, compile=True)
    assert lines[0].startswith("the image pass cannot be compiled and is computed as without --compile (")
    same(plain, made, 1e-4)


def test_without_a_compiler_it_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def none() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler.*install one, or train with --no-compile"):
        Trainer(recipe(), RunOptions(tmp_path, compile=True))
    with pytest.raises(UserError, match="for the CPU and CUDA devices, not mps"):
        compiled.check_compiler(torch.device("mps"))


def test_torchs_own_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the discriminator's turn and the images that it is given: others take a minute."""
    monkeypatch.setattr(torch, "compile", REAL)
    ours = replace(game := one_way(), players=game.players[:1])
    plain, _ = trained(ours, tmp_path / "plain", 2, compile=False)
    made, lines = trained(ours, tmp_path / "compiled", 2, compile=True)
    assert len(lines) == 1 and re.fullmatch(r"compiled 2 functions of the step in \d+ s", lines[0])
    same(plain, made, 1e-3)


def test_how_far_tensors_are_apart() -> None:
    one, small = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1e-6])
    assert difference([one], [one]) == difference([None], [None]) == 0
    assert difference([1.1 * one], [one]) == pytest.approx(0.1)
    assert difference([small], [-small]) == pytest.approx(2)
    assert difference([one, small], [one, -small]) == pytest.approx(2e-6 / 0.05)  # a hundredth of the largest norm
    assert difference([one, None], [one, small]) == difference([one * torch.nan], [one]) == float("inf")


@pytest.mark.usefixtures("uncompiled")
def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Within what computes plainly, in float32, or to try: the next step is compiled, in bfloat16."""
    made, _ = trained(one_way(), tmp_path, 0, compile=True, precision="bf16")
    ours = made.training_step.computation
    assert isinstance(ours, Compiled) and ours.weights
    for block in ours.plain, ours._in_fp32, ours.weights.set_aside:
        with ours.ready():
            seen = [p.dtype for p in made.model.parameters()]
            with pytest.raises(KeyboardInterrupt), block():
                raise KeyboardInterrupt
            assert seen == [p.dtype for p in made.model.parameters()]
        assert ours.on and ours.precision == "bf16" and ours.weights
    made.model.register_buffer("count", torch.zeros(()))
    with pytest.raises(KeyboardInterrupt), compiled._rehearsal(made.model, torch.device("cpu")):
        made.model.count += 1
        raise KeyboardInterrupt
    assert made.model.count == 0


# bfloat16


def test_copies_are_cast_when_the_weights_have_moved(tmp_path: Path) -> None:
    """By an optimizer, fused or not, or by what fills them; those of tied weights once."""
    made, _ = trained(recipe(), tmp_path, 0, compile=False)
    halves = Bf16Weights(made.model)
    convolutions = [m for m in made.model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert set(halves.copies) == {p for module in convolutions for p in module.parameters()}
    parameters = list(made.model.parameters())
    ways = {"plain": {}, "fused": {"fused": True}, "foreach": {"foreach": True}}
    for how in (*ways, "filled"):
        for p in parameters:
            p.grad = torch.ones_like(p)
        if how in ways:
            torch.optim.Adam(parameters, lr=0.1, **ways[how]).step()
            halves.moved(parameters)
        else:
            with torch.no_grad():
                parameters[0].zero_()
        with halves.in_place():
            assert all(module.weight.dtype == torch.bfloat16 for module in convolutions)
        assert all(torch.equal(copy, p.bfloat16()) for p, copy in halves.copies.items()), how
    assert all(p.dtype == torch.float32 for p in made.model.parameters())
    seen = [copy._version for copy in halves.copies.values()]
    halves.refresh()
    assert [copy._version for copy in halves.copies.values()] == seen  # nothing has moved: nothing is cast


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_those_of_autocast(accumulate: int, tmp_path: Path) -> None:
    """Which casts the weights itself, in every region."""
    ours, found = replace(recipe(batch=1), accumulate=accumulate), []
    for own in (True, False):
        made = Trainer(ours, RunOptions(tmp_path / str(own), precision="bf16"))
        if not own:
            made.training_step.computation.weights = None
        losses = made.step(0)
        found.append([*losses.values(), *(p.grad for p in made.model.parameters())])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.01 * float(other.abs().max()) + 1e-6)


def test_compiled_in_bf16(tmp_path: Path) -> None:
    made, lines = trained(one_way(), tmp_path, 2, compile=True, precision="bf16")
    assert len(lines) == 1 and made.training_step.computation.on  # type: ignore[attr-defined]
