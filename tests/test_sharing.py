"""Sharing: what is tied, the gradient of tied stages, ties that cannot be, soft sharing, tied weights in a file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from unitkit import discriminators, encoders, generators, models, open_data, sharing
from unitkit.check import check
from unitkit.losses import weight_distance
from unitkit.losses.bundles import cycle, gan, vae
from unitkit.networks.state import weights_of
from unitkit.recipe import Player, Recipe
from unitkit.registry import Spec
from unitkit.runs import checkpoint
from unitkit.system.errors import UserError

TOWERS = {"encoders": 5, "generators": 5, "discriminators": 3}  # stages of each


def unit(strategy: Spec, channels: dict[str, int] | None = None, noise: float = 1.0) -> Spec:
    return models.spec(
        "unit",
        channels=channels or {"a": 3, "b": 3},
        encoder=encoders.spec("residual", width=4, blocks=2),
        generator=generators.spec("residual", width=4, blocks=2),
        discriminator=discriminators.spec("strided", width=4, layers=2),
        sharing=strategy,
        noise=noise,
    )


def shared(model: Any, part: str) -> list[bool]:
    """For each stage, whether all domains have one and the same."""
    towers = getattr(model, part).values()
    return [len({id(stage) for stage in stages}) == 1 for stages in zip(*(t.stages for t in towers), strict=True)]


def built(spec: Spec, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return spec.build()


# Ties


def test_tied_gradient_is_the_sum_over_two_untied_copies() -> None:
    tied = built(unit(sharing.spec("tie", encoder=2, generator=2, discriminator=2))).double()
    untied = built(unit(sharing.spec("none")), seed=1).double()
    untied.load_state_dict(tied.state_dict())  # which names a tied weight once for each domain
    game = gan("ab", "ba", weight=10, mode="least-squares")
    terms = [*vae("a", "b"), *game.d, *game.g, *cycle("aba", "bab")]
    names = [name for term in terms for name in map(str, term.reads)]
    batch = {letter: torch.rand(2, 3, 16, 24, dtype=torch.float64) * 2 - 1 for letter in "ab"}
    for model in (tied, untied):
        torch.manual_seed(3)  # the same noise
        readings = model.train().read(batch, names)
        torch.autograd.backward(torch.stack([term.weight * term(readings) for term in terms]).sum())

    summed = 0
    copies = {name: p.grad for name, p in untied.named_parameters()}
    for part in TOWERS:
        for index, together in enumerate(shared(tied, part)):
            a, b = (dict(getattr(tied, part)[letter].stages[index].named_parameters()) for letter in "ab")
            for name in a:
                one, other = (copies[f"{part}.{letter}.stages.{index}.{name}"] for letter in "ab")
                wanted = [one + other] * 2 if together else [one, other]
                assert torch.allclose(a[name].grad, wanted[0], rtol=1e-10, atol=1e-10), (part, index, name)
                assert torch.allclose(b[name].grad, wanted[1], rtol=1e-10, atol=1e-10), (part, index, name)
                summed += together and bool(one.any()) and bool(other.any())
    assert summed >= 3  # the comparison was not of zeros


@pytest.mark.parametrize("part", TOWERS)
@pytest.mark.parametrize("letters", ["ab", "abc"])
def test_tie_counts_stages_from_the_latent_and_from_the_discriminators_end(part: str, letters: str) -> None:
    stages = TOWERS[part]
    for count in range(stages + 1):
        model = built(unit(sharing.spec("tie", **{part[:-1]: count}), dict.fromkeys(letters, 3)))
        ties = [True] * count + [False] * (stages - count)
        assert shared(model, part) == (ties if part == "generators" else ties[::-1])
        for other in TOWERS.keys() - {part}:
            assert not any(shared(model, other))


def test_all_and_none() -> None:
    everything, nothing = built(unit(sharing.spec("all"))), built(unit(sharing.spec("none")))
    for part in TOWERS:
        assert all(shared(everything, part)) and not any(shared(nothing, part))


def test_tied_domains_of_other_channels_share_all_but_what_meets_the_image() -> None:
    model = built(unit(sharing.spec("tie", encoder=4, generator=4, discriminator=2), {"a": 3, "b": 1}))
    assert [sum(shared(model, part)) for part in TOWERS] == [4, 4, 2]


@pytest.mark.parametrize(
    ("part", "shapes"),
    [
        ("encoders", ("[4, 3, 7, 7]", "[4, 1, 7, 7]")),
        ("generators", ("[4, 3, 1, 1]", "[4, 1, 1, 1]")),
        ("discriminators", ("[4, 3, 3, 3]", "[4, 1, 3, 3]")),
    ],
)
@pytest.mark.parametrize("strategy", ["tie", "soft"])
def test_an_impossible_tie_names_both_shapes(part: str, shapes: tuple[str, str], strategy: str) -> None:
    with pytest.raises(UserError) as caught:
        built(unit(sharing.spec(strategy, **{part[:-1]: TOWERS[part]}), {"a": 3, "b": 1}))
    message = str(caught.value)
    assert f"of the {part}" in message and "\n" not in message
    assert all(shape in message for shape in shapes)


def test_all_of_other_channels_names_both_shapes() -> None:
    with pytest.raises(UserError, match=r"\[4, 3, 7, 7\] in one domain and \[4, 1, 7, 7\] in another"):
        built(unit(sharing.spec("all"), {"a": 3, "b": 1}))


@pytest.mark.parametrize("strategy", ["tie", "soft"])
@pytest.mark.parametrize("part", TOWERS)
def test_more_stages_than_there_are(strategy: str, part: str) -> None:
    with pytest.raises(UserError, match=f"cannot share 9 stages of the {part}, which have {TOWERS[part]}"):
        built(unit(sharing.spec(strategy, **{part[:-1]: 9})))
    with pytest.raises(
        UserError, match=f"wants {part[:-1]} to be a whole number of at least 0 and at most 65536, not -1"
    ):
        sharing.spec(strategy, **{part[:-1]: -1})


# Soft sharing


def test_soft_sharing_keeps_weights_apart_and_pull_draws_them_together() -> None:
    model = built(unit(sharing.spec("soft", encoder=2, generator=1, discriminator=2)))
    assert {part: len(pairs) for part, pairs in model.soft_pairs.items()} == {
        "encoders": 2,
        "generators": 1,
        "discriminators": 2,
    }
    assert not any(any(shared(model, part)) for part in TOWERS)
    for (one, other), index in zip(model.soft_pairs["encoders"], (3, 4), strict=True):
        assert one is model.encoders["a"].stages[index] and other is model.encoders["b"].stages[index]

    term = weight_distance("encoders")
    assert [*map(str, term.reads)] == ["weights:encoders"]
    links = model.soft_pairs["encoders"]
    pairs = [pair for one, other in links for pair in zip(one.parameters(), other.parameters(), strict=True)]
    value = term(model.read({}, map(str, term.reads)))
    difference = torch.cat([(p - q).flatten() for p, q in pairs])
    assert torch.allclose(value, difference.square().mean())

    torch.autograd.backward(value)
    for p, q in pairs:  # a step against the gradient moves each towards the other
        assert torch.allclose(p.grad, 2 * (p - q) / difference.numel(), atol=1e-9) and torch.equal(p.grad, -q.grad)
    with torch.no_grad():
        for p in itertools.chain(*pairs):
            p -= 0.1 * difference.numel() / 2 * p.grad
    assert torch.allclose(term(model.read({}, map(str, term.reads))), 0.64 * value)


def test_soft_sharing_of_three_domains_links_each_to_the_first() -> None:
    model = built(unit(sharing.spec("soft", generator=1), dict.fromkeys("abc", 3)))
    first, second, third = (model.generators[letter].stages[0] for letter in "abc")
    assert model.soft_pairs == {"generators": [(first, second), (first, third)]}


def recipe(strategy: Spec, *more: Any) -> Recipe:
    game = gan("ab", "ba")
    data = open_data("portraits", size=16)
    players = [
        Player("discriminator", ["discriminators"], game.d),
        Player("generator", ["encoders", "generators"], [*vae("a", "b"), *game.g, *more]),
    ]
    return Recipe(unit(strategy), players, data, steps=1)


def test_soft_sharing_that_nothing_pulls_is_refused() -> None:
    soft = sharing.spec("soft", encoder=1, generator=1)
    with pytest.raises(
        UserError, match=r"pairs stages of the generators, .* add weight \* weight_distance\('generators'\)"
    ):
        check(recipe(soft, 10 * weight_distance("encoders")))
    with pytest.raises(UserError, match="pairs stages of the encoders"):
        check(recipe(soft, 0 * weight_distance("encoders"), 10 * weight_distance("generators")))
    check(recipe(soft, 10 * weight_distance("encoders"), 10 * weight_distance("generators")))


def test_a_pull_without_soft_sharing_is_refused() -> None:
    with pytest.raises(
        UserError, match="'weights:encoders' needs soft sharing of the encoders; parts shared softly here: none"
    ):
        check(recipe(sharing.spec("tie", encoder=1), 10 * weight_distance("encoders")))


# Tied weights in a file


@pytest.mark.parametrize(
    "strategy", [sharing.spec("tie", encoder=2, generator=1, discriminator=2), sharing.spec("all")]
)
def test_a_tied_tensor_is_stored_once_and_still_tied_after_loading(strategy: Spec, tmp_path: Path) -> None:
    saved, loaded = built(unit(strategy)), built(unit(strategy), seed=1)
    save_file(weights_of(saved), tmp_path / "model.safetensors")
    stored = load_file(tmp_path / "model.safetensors")
    assert len(stored) == len(list(saved.parameters())) < len(saved.state_dict())
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in saved.parameters())

    checkpoint.load_weights(loaded, tmp_path)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    for part in TOWERS:
        assert shared(loaded, part) == shared(saved, part)
