"""Each path is computed once, what weighs nothing costs nothing, and towers run together where they are shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_objective import built, close, random, unit
from torch import nn

from unitkit import open_data, sharing
from unitkit.check import Checked, check
from unitkit.losses import gan_d, gan_g, kl, l1
from unitkit.losses.bundles import cycle, gan, vae
from unitkit.networks.graph import Graph, Program
from unitkit.networks.tower import Tower, Value
from unitkit.recipe import Player, Recipe
from unitkit.runs.options import RunOptions
from unitkit.system.errors import UserError
from unitkit.trainer import Trainer


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Calls:
    """Counts how often each stage runs, and on how many images."""

    def __init__(self, model: Any) -> None:
        self.batches: dict[nn.Module, list[int]] = {}
        for part in model.parts:
            for stage in (stage for tower in getattr(model, part).values() for stage in tower.stages):
                self.batches[stage] = []
        for stage in self.batches:
            stage.register_forward_hook(self._note)

    def _note(self, stage: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        first = inputs[0][0] if isinstance(inputs[0], tuple) else inputs[0]
        self.batches[stage].append(len(first))

    def of(self, tower: Tower, stage: int) -> list[int]:
        return self.batches[tower.stages[stage]]


def test_each_path_is_computed_once_and_a_shared_trunk_on_all_at_once() -> None:
    model = built(unit())
    calls = Calls(model)
    batch = {"a": random(2, 3, 16, 16), "b": random(2, 1, 16, 16)}
    names = ["aa", "bb", "ab", "ba", "aba", "bab", "code:ab", "score:a", "score:b", "score:ab", "score:ba"]
    model.read(batch, names)
    # Two rounds: the real images, then their translations. Private stages run by domain, the tied ones on both.
    for letter in "ab":
        assert calls.of(model.encoders[letter], 0) == [2, 2]
        assert calls.of(model.encoders[letter], -1) == [4, 4]
        # Both latents pass the trunk of two stages once, whichever domains decode them.
        assert calls.of(model.generators[letter], 0) == calls.of(model.generators[letter], 1) == [4, 4]
        assert calls.of(model.generators[letter], 2) == [4, 2]  # aa and ba, then aba
        assert calls.of(model.discriminators[letter], 0) == [4]  # the real images and the translations


def test_only_what_the_terms_need_is_computed() -> None:
    model = built(unit())
    calls = Calls(model)
    batch = {"a": random(2, 3, 16, 16), "b": random(2, 1, 16, 16)}
    assert model.read(batch, ["ab"]).keys() == {"ab"}
    assert calls.of(model.encoders["b"], 0) == [] and calls.of(model.generators["a"], 2) == []
    model.read(batch, ["score:b"])
    assert calls.of(model.discriminators["a"], 0) == [] and calls.of(model.encoders["b"], 0) == []


def recipe(players: list[Player], **arguments: Any) -> Recipe:
    data = open_data("portraits", size=16)
    channels = {"a": 3, "b": 3}
    return Recipe(unit(channels=channels, **arguments), players, data, steps=1, batch=2)


def players(**changed: Any) -> list[Player]:
    game = gan("ab", "ba")
    terms = vae("a", "b") + game.g + cycle("aba", "bab", **changed)
    return [Player("discriminator", ["discriminators"], game.d), Player("g", ["encoders", "generators"], terms)]


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    yield Trainer(recipe(players()), RunOptions(tmp_path / "run", device="cpu"))


def test_a_training_step_runs_encoders_and_generators_once_for_both_players(trainer: Trainer) -> None:
    calls = Calls(trainer.model)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    losses = trainer.step(0)
    for letter in "ab":
        assert calls.of(trainer.model.encoders[letter], 0) == [2, 2]
        assert calls.of(trainer.model.generators[letter], 0) == [4, 4]
        # The discriminator's turn sees real images and translations; the generator's turn translations alone.
        assert calls.of(trainer.model.discriminators[letter], 0) == [4, 2]
    assert all(value.isfinite() for value in losses.values())
    moved = {
        part
        for name, p in trainer.model.named_parameters()
        if not torch.equal(p, before[name])
        for part in trainer.model.parts
        if name.startswith(part)
    }
    assert moved == set(trainer.model.parts)


# Terms that weigh nothing


def test_a_term_of_weight_0_costs_nothing() -> None:
    checked = check(recipe(players(kl=0, likelihood=0)))
    assert not any("aba" in name or "bab" in name for name in checked.reads)
    assert "aba" not in checked.readings and "code:ab" not in checked.readings and "score:ab" in checked.readings
    assert not any(term.weight == 0 for player in checked.players for term in player.terms)


def test_a_player_whose_terms_all_weigh_0_sits_out() -> None:
    game = gan("ab", weight=0)
    checked = check(recipe([Player("d", ["discriminators"], game.d), Player("g", ["encoders"], vae("a"))]))
    assert [player.name for player in checked.players] == ["g"] and "score:a" not in checked.readings
    with pytest.raises(UserError, match="every term of every player has weight 0"):
        check(recipe([Player("d", ["discriminators"], game.d)]))


def weights(checked: Checked, player: int) -> dict[str, float]:
    return {term.name: term.weight for term in checked.players[player].terms}


def test_a_term_that_two_bundles_ask_for_is_computed_once() -> None:
    """The KL of a real image is in L_VAE and in L_CC: its weights add up."""
    found = weights(check(recipe(players())), 1)
    assert found["kl(a)"] == pytest.approx(0.2) and found["kl(ab)"] == pytest.approx(0.1)
    assert Counter(name.partition("(")[0] for name in found) == {"kl": 4, "l1": 4, "gan_g": 2}


# The algebra of terms


def test_terms_multiply_and_name_themselves() -> None:
    term = 2 * (l1("aba", "a") * 3)
    assert (term.weight, term.name, [*map(str, term.reads)]) == (6, "l1(aba, a)", ["aba", "a"])
    assert l1("aba", "a").weight == 1 and (0 * term).weight == 0
    x, y = random(1, 1, 2, 2), random(1, 1, 2, 2)
    assert close(term({"aba": x, "a": y}), (x - y).abs().mean())  # the weight stays outside
    assert str(*kl("ab", on="sample").reads) == "code:ab" and kl("ab", on="sample").name == "kl(ab, on=sample)"
    assert kl("ab", on="mean").name == "kl(ab)"  # a default goes unsaid
    assert [*map(str, gan_d("b", "ab", mode="hinge").reads)] == ["score:b", "score:ab"]


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "2", None])
def test_a_weight_is_a_number_of_at_least_0(weight: Any) -> None:
    with pytest.raises(UserError, match=r"the weight of l1\(aa, a\) must be a number of at least 0"):
        l1("aa", "a") * weight


def test_nonsense_in_terms_is_refused() -> None:
    with pytest.raises(UserError, match=r"takes no argument 'mod'\. Did you mean 'mode'"):
        gan_g("ab", mod="hinge")
    with pytest.raises(UserError, match="wants mode to be one of non-saturating"):
        gan_g("ab", mode="hing")
    with pytest.raises(UserError, match=r"unknown mode of the GAN loss 'hing'\. Did you mean 'hinge'"):
        gan("ab", mode="hing")  # type: ignore[arg-type]
    for path in ("ab", "aa", "abc", "a"):
        with pytest.raises(UserError, match="a cycle ends where it began, such as 'aba'"):
            cycle(path)
    with pytest.raises(UserError, match=r"the term l1\(ax, a\) of player 'g': 'ax' is not an image path here"):
        check(recipe([Player("g", ["encoders"], [l1("ax", "a")])]))


# Towers that one program runs


def run_together(jobs: Sequence[tuple[Tower, Value]]) -> list[Value]:
    graph = Graph()
    names = [f"input {min(i for i, (_, other) in enumerate(jobs) if other is value)}" for _, value in jobs]
    outputs = [
        graph.tower(tower, graph.input(name), translates=True)[-1] for name, (tower, _) in zip(names, jobs, strict=True)
    ]
    program = Program(graph, outputs)
    values = program.run(program.start(dict(zip(names, (value for _, value in jobs), strict=True))))
    return [values[graph.nodes.index(node)] for node in outputs]


@pytest.mark.parametrize("tied", [0, 1, 3])
def test_together_is_each_alone(tied: int) -> None:
    model = built(unit(sharing.spec("tie", generator=tied))).requires_grad_(False)
    a, b = model.generators.values()
    z, other, wide = random(2, 16, 4, 6), random(3, 16, 4, 6), random(2, 16, 4, 7)
    jobs = [(a, z), (b, z), (b, other), (a, other), (a, wide), (a, z)]
    alone = [tower(value) for tower, value in jobs]
    together = run_together(jobs)
    assert all(close(x, y) for x, y in zip(together, alone, strict=True))
    assert together[0] is together[5]  # one tower, one input: one result
    assert run_together([]) == []


def test_what_is_joined_for_one_stage_stays_joined_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """But where something else reads what is between them."""
    model = built(unit(sharing.spec("tie", generator=3))).requires_grad_(False)
    a, b = model.generators.values()
    graph, joined = Graph(), []
    outputs = {tower: graph.tower(tower, graph.input(name), translates=True) for name, tower in (("a", a), ("b", b))}
    cat = torch.cat
    monkeypatch.setattr(torch, "cat", lambda tensors, *more: (joined.append(len(tensors)), cat(tensors, *more))[1])
    batch = {"a": random(2, 16, 4, 6), "b": random(3, 16, 4, 6)}
    found = []
    for read in (), (1,):  # the stage whose output is read too
        wanted = [outputs[tower][place] for tower in (a, b) for place in (*read, -1)]
        program = Program(graph, wanted)
        values = program.run(program.start(batch))
        found.append([values[graph.nodes.index(outputs[tower][-1])] for tower in (a, b)])
    assert joined == [2, 2, 2]  # once, and then twice
    assert len(a.stages) > 3 and all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_together_on_towers_of_tuples_and_of_other_lengths() -> None:
    model = built(unit(channels={"a": 3, "b": 3})).requires_grad_(False)
    pyramid, encoder = model.discriminators["a"], model.encoders["a"]
    x, y = random(2, 3, 16, 24), random(1, 3, 16, 24)
    jobs = [(pyramid, x), (encoder, y), (pyramid, y), (encoder, x)]
    together = run_together(jobs)
    for (tower, value), found in zip(jobs, together, strict=True):
        expected = tower(value)
        pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
        assert all(close(one, two) for one, two in pairs)
