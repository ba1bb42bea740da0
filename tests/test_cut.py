"""CUT: PatchNCE beside a double loop over places, the paths and the projections of its model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from unitkit import (
    Recipe,
    RunOptions,
    Trainer,
    UserError,
    discriminators,
    encoders,
    generators,
    load_recipe,
    models,
    patch_nce,
    testing,
)
from unitkit.check import check
from unitkit.kernels.operators import LAYOUTS
from unitkit.losses import Patches
from unitkit.models import ImagePaths
from unitkit.registry import Spec
from unitkit.testing.finite_differences import in_double

RECIPE = Path(__file__).parents[1] / "recipes" / "cut.py"
SHAPES = ((3, 5, 7), (6, 3, 4))


def cut(**changes: Any) -> Spec:
    return models.cut(
        **{
            "channels": {"a": 3, "b": 3},
            "encoder": encoders.residual(width=4, blocks=1),
            "generator": generators.residual(width=4, blocks=1),
            "discriminator": discriminators.strided(width=4, layers=2),
            "projection": 8,
            **changes,
        }
    )


def patches(images: int, projections: list[nn.Module], memory: Any = torch.contiguous_format) -> Patches:
    return Patches(tuple(in_double(torch.randn(images, *shape), memory) for shape in SHAPES), projections)


def mlps() -> list[nn.Module]:
    each = (nn.Sequential(nn.Linear(c, 8), nn.Tanh(), nn.Linear(8, 5)) for c, _, _ in SHAPES)
    return [mlp.double() for mlp in each]


def by_the_paper(query: Patches, key: Patches, places: list[list[int]], t: float) -> float:
    """Equations 2 and 3, place by place: S places of each layer, negatives from the same image."""
    losses = []
    for layer, (q, k) in enumerate(zip(query.layers, key.layers, strict=True)):
        h = query.projections[layer]
        for image in range(len(q)):
            v = {s: h(q[image].flatten(1)[:, s]) for s in places[layer]}
            others = {s: h(k[image].flatten(1)[:, s]) for s in places[layer]}
            for s in places[layer]:
                similar = {o: math.exp((v[s] @ others[o]).item() / t) for o in places[layer]}
                losses.append((-math.log(similar[s] / sum(similar.values())), len(places[layer]) * len(q)))
    return sum(value / count for value, count in losses) / len(query.layers)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("count", [1, 9, 500])
def test_the_value_is_that_of_the_formula(images: int, count: int) -> None:
    torch.manual_seed(0)
    shared = mlps()
    query, key = patches(images, shared), patches(images, shared)
    torch.manual_seed(7)
    found = patch_nce.function(query, key, patches=count, temperature=0.5)
    torch.manual_seed(7)
    places = [torch.randperm(h * w)[:count].tolist() for _, h, w in SHAPES]
    assert found.item() == pytest.approx(by_the_paper(query, key, places, 0.5), rel=1e-10)


def test_places_are_of_torchs_generator() -> None:
    torch.manual_seed(0)
    shared = mlps()
    query, key = patches(2, shared), patches(2, shared)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(patch_nce.function(query, key, patches=6))
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_is_that_of_finite_differences(images: int, layout: Any) -> None:
    """By the queries and the projections of the queries: none goes into the keys."""
    torch.manual_seed(0)
    of_queries, of_keys = mlps(), mlps()
    query, key = patches(images, of_queries, LAYOUTS[layout]), patches(images, of_keys, LAYOUTS[layout])
    leaves = {f"layer {place}": layer.requires_grad_() for place, layer in enumerate(query.layers)}
    for place, mlp in enumerate(of_queries):
        leaves |= {f"projection {place} {name}": p for name, p in mlp.named_parameters()}
    testing.check_gradients("patch_nce", lambda: {"": patch_nce.function(query, key, patches=9)}, leaves)
    for layer in key.layers:
        layer.requires_grad_()
    value = patch_nce.function(query, key, patches=9)
    into_keys = torch.autograd.grad(value, [*key.layers, *(p for mlp in of_keys for p in mlp.parameters())],
                                    allow_unused=True)  # fmt: skip
    assert all(gradient is None for gradient in into_keys)


# The model


def test_paths_and_readings() -> None:
    model: ImagePaths = cut().build().train()
    for path in (
        "a",
        "b",
        "ab",
        "b/ab",
        "ab/a",
        "patches:a",
        "patches:ab/a",
        "patches:b/a",
        "patches:b/ab/a",
        "score:ab",
    ):
        assert model.has(path), path
    for path in ("ba", "aa", "aba", "patches:b", "patches:ab", "code:b", "score:a"):
        assert not model.has(path), path
    batch = {letter: torch.rand(2, 3, 16, 24) for letter in "ab"}
    found = model.read(batch, ["ab/a", "ab", "b/ab", "patches:ab/a", "patches:b/a"])
    assert torch.equal(found["ab"], found["ab/a"])
    read = model.generators["b"](model.encoders["a"](batch["b"]))
    torch.testing.assert_close(found["b/ab"], read)
    layers = found["patches:ab/a"].layers
    assert torch.equal(layers[0], found["ab"])
    value = layers[0]
    for number, stage in enumerate(model.encoders["a"].stages, start=1):
        value = stage(value)
        if number in (2, 3, 4):
            torch.testing.assert_close(layers[(2, 3, 4).index(number) + 1], value)
    for layer, projection in zip(layers, found["patches:ab/a"].projections, strict=True):
        vectors = projection(layer.movedim(1, -1))
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))


def test_encoder_generator_and_projections_are_reached() -> None:
    model: ImagePaths = cut().build().train()
    batch = {letter: torch.rand(2, 3, 16, 24) for letter in "ab"}
    patch_nce("ab/a", "a")(model.read(batch, ["patches:ab/a", "patches:a"])).backward()
    for part in ("encoders", "generators", "projections"):
        for name, parameter in getattr(model, part).named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.any())
            assert reached or parameter.dim() < 2, f"{part}.{name}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": {"a": 3, "b": 1}}, "the same channels, not {'a': 3, 'b': 1}"),
        ({"channels": dict.fromkeys("abc", 3)}, "there are 3: a, b, c"),
        ({"channels": {"a": 3}}, "two or more"),
        ({"layers": (0, 5)}, "from 0, the image, to 4, the last stage of the encoder 'residual', not 0, 5"),
        ({"layers": (1, 1)}, "different numbers"),
        ({"layers": ()}, "not none"),
        ({"encoder": generators.residual()}, "encoder is given as the generator 'residual'"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        cut(**changes).build()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_other_models_have_no_patches() -> None:
    arguments = {name: value for name, value in cut().arguments.items() if name != "projection"}
    unit = models.spec("unit", **arguments, sharing=Spec("sharing", "none"))
    with pytest.raises(UserError, match="'patches:a' needs a model with projections, such as cut"):
        unit.build().check("patches:a")


def test_an_image_is_read_as_one_of_as_many_channels() -> None:
    arguments = {name: value for name, value in cut().arguments.items() if name != "projection"}
    unit = models.spec("unit", **{**arguments, "channels": {"a": 3, "b": 1}}, sharing=Spec("sharing", "none"))
    with pytest.raises(UserError, match="'b/a' reads an image of 1 channels as one of 3, those of a"):
        unit.build().check("b/ab")


# The recipe


def small(preset: str | None = None, **knobs: Any) -> Recipe:
    return load_recipe(RECIPE, preset, **{"size": 16, "width": 4, "layers": 2, "steps": 4, **knobs})


def test_the_objective_is_the_papers() -> None:
    discriminator, generator = small().players
    assert [(term.name, term.weight) for term in discriminator.terms] == [("gan_d(b, ab, mode=least-squares)", 0.5)]
    assert [(term.name, term.weight) for term in generator.terms] == [
        ("gan_g(ab, mode=least-squares)", 1.0),
        ("patch_nce(ab/a, a)", 1.0),
        ("patch_nce(b/ab/a, b/a)", 1.0),
    ]
    fast = check(small("fast")).players[1]
    assert [(term.name, term.weight) for term in fast.terms] == [
        ("gan_g(ab, mode=least-squares)", 1.0),
        ("patch_nce(ab/a, a)", 10.0),
    ]


def test_a_whole_step_beside_finite_differences() -> None:
    testing.check_step(small(nce_layers=(0, 2)))


def test_a_run_resumes_exactly(tmp_path: Path) -> None:
    """The places that a step draws are its own."""
    whole = Trainer(small(), RunOptions(tmp_path / "whole", device="cpu"))
    whole.fit()
    stopped = Trainer(small(), RunOptions(tmp_path / "run", device="cpu"))
    for stopped.done in (1, 2):
        stopped.step(stopped.done - 1)
    stopped.save()
    del stopped
    resumed = Trainer(small(), RunOptions(tmp_path / "run", device="cpu", resume=True))
    assert resumed.done == 2
    resumed.fit()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
