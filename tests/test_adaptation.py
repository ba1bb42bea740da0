"""Domain adaptation: each loss against its formula, readings that cannot be, accuracy, affine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from unitkit import (
    Affine,
    Player,
    Ramp,
    Recipe,
    Trainer,
    Watch,
    accuracy,
    agreement,
    classify,
    constancy,
    digits,
    discriminators,
    feature_matching,
    infomax,
    metrics,
    models,
    multiclass_gan_d,
    multiclass_gan_g,
    reversal,
    sharing,
    total_variation,
)
from unitkit.check import check
from unitkit.losses import Classes, Features, Posterior, Term, reverse
from unitkit.runs.options import RunOptions
from unitkit.runs.report import picks
from unitkit.system.errors import UserError


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Losses


def test_reversal_gives_the_head_its_gradient_and_the_features_minus_lambda_times_theirs() -> None:
    features, x, y = nn.Linear(5, 4).double(), random(3, 5), random(3, 5, seed=1)
    head = nn.Linear(4, 1).double()

    def scored(top: Tensor) -> tuple[Tensor]:
        return (head(top)[:, :, None, None],)

    def told() -> Tensor:
        return softplus(-head(features(x))).mean() + softplus(head(features(y))).mean()

    value = reversal.function(Features(features(x), scored), Features(features(y), scored), strength=0.3)
    weights = [*features.parameters(), *head.parameters()]
    found, plain = torch.autograd.grad(value, weights), torch.autograd.grad(told(), weights)
    torch.testing.assert_close(value, told())
    for gradient, expected, factor in zip(found, plain, (-0.3, -0.3, 1.0, 1.0), strict=True):
        torch.testing.assert_close(gradient, factor * expected)

    # By hand: d/dw softplus(-v w x) = -v x sigmoid(-v w x), reversed.
    w, v = torch.tensor(0.7, requires_grad=True), torch.tensor(-1.2, requires_grad=True)
    torch.autograd.backward(softplus(-v * reverse(2.0 * w, 0.5)))
    assert w.grad is not None and v.grad is not None
    slope = -1 / (1 + math.exp(-1.2 * 0.7 * 2.0))
    assert w.grad.item() == pytest.approx(-0.5 * slope * -1.2 * 2.0, rel=1e-5)
    assert v.grad.item() == pytest.approx(slope * 0.7 * 2.0, rel=1e-5)


def test_a_ramp_is_the_schedule_of_its_paper_and_reaches_the_loss_through_the_term() -> None:
    ramp = Ramp(10)
    for progress, expected in (0.0, 0.0), (0.1, 0.46212), (0.5, 0.98661), (1.0, 0.99991):
        assert ramp(progress) == pytest.approx(expected, abs=1e-5)
    term = reversal("a", "b", strength=ramp)
    assert term.name == "reversal(a, b, strength=ramp(10))" and [*map(str, term.reads)] == ["feature:a", "feature:b"]
    top = random(2, 3).requires_grad_()
    readings = {name: Features(top, lambda t: (t[:, :1, None, None],)) for name in map(str, term.reads)}
    plain = torch.autograd.grad(term.loss.function(*readings.values()), top)[0]
    for progress in (0.0, 0.25, 1.0):
        found = torch.autograd.grad(term(readings, progress), top)[0]
        torch.testing.assert_close(found, ramp(progress) * plain)


def _entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(p)).sum())


def test_each_loss_is_its_formula() -> None:
    logits, truth = random(4, 3), torch.tensor([2, 0, 1, 1])
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
    right = -np.mean([math.log(p[i, c]) for i, c in enumerate(truth.tolist())])
    assert classify.function(Classes(logits, truth)).item() == pytest.approx(right)
    each = np.mean([_entropy(row) for row in p])
    unsure = infomax.function(Classes(logits, None), balance=0.5).item()
    assert unsure == pytest.approx(each - 0.5 * _entropy(p.mean(axis=0)))
    sure = infomax.function(Classes(1e4 * torch.eye(3), None))  # each certain, all classes equal: -log 3
    assert sure.item() == pytest.approx(-math.log(3))

    x, y = random(2, 5), random(2, 5, seed=1)
    one, other = (Features(each, lambda top: (top,)) for each in (x, y))
    assert feature_matching.function(one, other).item() == pytest.approx(((x - y) ** 2).mean().item())
    assert feature_matching.function(one, other, norm="l1").item() == pytest.approx((x - y).abs().mean().item())
    assert feature_matching.function(one, other, reduce="sum").item() == pytest.approx(((x - y) ** 2).sum().item() / 2)

    codes = [Posterior(random(2, 3, 1, 1, seed=s), None, random(2, 3, 1, 1, seed=s + 5)) for s in (0, 1)]
    assert constancy.function(*codes).item() == pytest.approx((codes[0].mean - codes[1].mean).square().mean().item())

    image = random(1, 2, 4, 5)
    a = image.numpy()
    squares = [
        (a[0, c, i, j + 1] - a[0, c, i, j]) ** 2 + (a[0, c, i + 1, j] - a[0, c, i, j]) ** 2
        for c in range(2)
        for i in range(3)
        for j in range(4)
    ]
    assert total_variation.function(image).item() == pytest.approx(np.mean(np.sqrt(squares)), rel=1e-6)
    assert total_variation.function(image, power=2).item() == pytest.approx(np.mean(squares))
    flat = torch.zeros(1, 1, 4, 4, requires_grad=True)
    assert torch.autograd.grad(total_variation.function(flat), flat)[0].isfinite().all()

    maps = [(random(2, 3, 2, 2, seed=s),) for s in range(3)]
    logs = [m[0].log_softmax(dim=1) for m in maps]
    assert multiclass_gan_d.function(*maps).item() == pytest.approx(-sum(logs[i][:, i].mean().item() for i in range(3)))
    assert multiclass_gan_g.function(maps[0], target=2).item() == pytest.approx(-logs[0][:, 2].mean().item())


# Recipes without classes, wrong readings


def few(source: str = "printed", target: str = "printed", n: int = 24, n_test: int = 10, **options: Any) -> Any:
    return digits(source=source, target=target, n=n, n_test=n_test, **options)


def classifier(terms: list[Term], **options: Any) -> Recipe:
    images = few()
    return Recipe(
        model=models.spec(
            "classifier",
            channels=images.channels,
            discriminator=discriminators.spec("lenet", width=4, classes=10),
            sharing=sharing.spec("all"),
        ),
        players=[Player("classifier", ["discriminators"], terms)],
        data=images,
        batch=3,
        flip=False,
        **{"steps": 4, **options},
    )


def test_classes_of_the_target_cannot_be_read() -> None:
    check(classifier([classify("a")]))
    with pytest.raises(
        UserError, match=r"the term classify\(b\) cannot be computed: the data give a training no class"
    ):
        check(classifier([classify("b")]))
    with pytest.raises(UserError, match=r"'class:a' needs a discriminator with a class head, such as lenet"):
        plain = discriminators.spec("lenet", width=4)
        recipe = classifier([classify("a")])
        arguments = {**recipe.model.arguments, "discriminator": plain}
        check(replace(recipe, model=models.spec("classifier", **arguments)))
    with pytest.raises(UserError, match=r"needs the classes of domain 'a', and the data 'portraits' know none"):
        from unitkit import open_data

        portraits = open_data("portraits", size=32)
        recipe = classifier([infomax("a")], evaluate=[accuracy("a")])
        wide = models.spec("classifier", **{**recipe.model.arguments, "channels": portraits.channels})
        check(replace(recipe, model=wide, data=portraits))


def test_heads_that_do_not_fit_the_terms_are_refused() -> None:
    recipe = classifier([classify("a")])
    few_classes = discriminators.spec("lenet", width=4, classes=5)
    with pytest.raises(UserError, match=r"'class:a' has 5 classes, and the data have 10"):
        check(
            replace(recipe, model=models.spec("classifier", **{**recipe.model.arguments, "discriminator": few_classes}))
        )
    scales = discriminators.spec("multiscale", width=4, layers=2)
    recipe = classifier([reversal("a", "b")])
    with pytest.raises(UserError, match=r"'feature:a' needs a discriminator of one scale"):
        check(replace(recipe, model=models.spec("classifier", **{**recipe.model.arguments, "discriminator": scales})))
    with pytest.raises(UserError, match="dropout to be a number of at least 0 and below 1"):
        discriminators.spec("lenet", dropout=1.0)
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(UserError, match="a Ramp's sharpness must be a number of at least 0"):
            Ramp(wrong)


@pytest.mark.parametrize("path", ["ab", "za", "z", "ba", "c", ""])
def test_a_model_says_which_paths_it_has(path: str) -> None:
    model = classifier([classify("a")]).model.build()
    assert not model.has(path)
    with pytest.raises(UserError, match=f"'{path}' is not an image path here: .* and this model has a, b"):
        model.check(path)


# Accuracy, and what a watch would pick


class Told:
    """A model that tells classes from the mean of an image, and knows nothing else."""

    def __init__(self) -> None:
        self.training = False

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...

    def read(self, batch: Mapping[str, Tensor], names: list[str]) -> dict[str, Any]:
        return {name: Classes(self.logits(batch[name[-1]]), None) if ":" in name else batch[name] for name in names}

    def logits(self, images: Tensor) -> Tensor:
        told = (images.mean(dim=(1, 2, 3)) * 1000).long() % 10
        return torch.eye(10)[told]


def test_accuracy_counts_and_keeps_the_confusion() -> None:
    data = few(n_test=40)
    found = metrics.evaluate(Told(), data, [accuracy("b")], batch=7)["accuracy(b)"]
    domain = data.domains["b"]
    images = torch.from_numpy(np.stack([domain.test.load(i) for i in range(40)])).float() / 127.5 - 1
    told = Told().logits(images).argmax(dim=1).numpy()
    counts = np.zeros((10, 10), int)
    for true, guess in zip(domain.test_classes, told, strict=True):
        counts[true, guess] += 1
    size = len(found["details"]["confusion"])
    assert found["details"]["confusion"] == counts[:size, :size].tolist() and counts.sum() == counts[:size, :size].sum()
    assert found["figures"] == {"accuracy": (told == domain.test_classes).mean()}
    assert found["n"] == {"class:b": 40, "label:b": 40} and found["higher"]


def test_agreement_counts_what_two_paths_are_told_as() -> None:
    class Twice(Told):
        """Translations are half as bright."""

        def read(self, batch: Mapping[str, Tensor], names: list[str]) -> dict[str, Any]:
            return {name: Classes(self.logits(batch["b"] / (1 + name.endswith("a"))), None) for name in names}

    data = few(n_test=40)
    found = metrics.evaluate(Twice(), data, [agreement("ba")], batch=7)["agreement(ba)"]
    images = torch.from_numpy(np.stack([data.domains["b"].test.load(i) for i in range(40)])).float() / 127.5 - 1
    real, translated = (Told().logits(each).argmax(dim=1).numpy() for each in (images, images / 2))
    assert 0 < found["figures"]["agreement"] == (real == translated).mean() < 1
    assert found["details"]["classes"][real[0]][translated[0]] == np.sum(
        (real == real[0]) & (translated == translated[0])
    )
    assert np.sum(found["details"]["classes"]) == 40 and found["n"] == {"class:b": 40, "class:ba": 40}
    with pytest.raises(UserError, match="give a path such as 'ba'"):
        agreement("b")


def test_figures_of_the_last_step_of_the_pick_and_of_the_flatterer(tmp_path: Path) -> None:
    watch = Watch([accuracy("a"), accuracy("b")], every=2, images=0)
    trainer = Trainer(classifier([classify("a")], steps=6, watch=watch), RunOptions(tmp_path / "run"))
    assert picks(trainer.run) is None
    for step, a, b in (2, 0.5, 0.9), (4, 0.8, 0.6), (6, 0.7, 0.7):
        trainer.run.append_watched({"step": step, "accuracy(a)": {"accuracy": a}, "accuracy(b)": {"accuracy": b}})
    found = picks(trainer.run)
    assert found is not None
    _, head, rows = found
    assert head[1:] == ["last step", "step chosen by accuracy(a)", "step chosen by itself: leaks the test"]
    assert rows == [
        ["accuracy(a)", "70.0 % (step 6)", "80.0 % (step 4)", "80.0 % (step 4)"],
        ["accuracy(b)", "70.0 % (step 6)", "60.0 % (step 4)", "90.0 % (step 2)"],
    ]


# Warps


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_warp_moves_images_as_it_says() -> None:
    images = torch.rand(4, 1, 12, 16)
    torch.testing.assert_close(Affine()(images, generator()), images, atol=1e-5, rtol=0)
    assert Affine(shear=0.1) and not Affine() and not 0 * Affine(rotate=20)
    assert torch.equal(Affine(rotate=20)(images, generator()), Affine(rotate=20)(images, generator()))
    assert not torch.equal(Affine(rotate=20)(images, generator()), Affine(rotate=20)(images, generator(1)))
    assert 0.5 * Affine(rotate=20, scale=0.5, shift=0.1) == Affine(rotate=10, scale=0.25, shift=0.05)

    # A disc keeps its shape under a turn of an image that is not square; it grows and shrinks with the scale.
    y, x = torch.meshgrid(torch.arange(48) - 23.5, torch.arange(80) - 39.5, indexing="ij")
    disc = ((x**2 + y**2) < 15**2).float().expand(8, 1, -1, -1)
    area = disc[0].sum()
    turned = Affine(rotate=180)(disc, generator())
    assert (turned - disc).abs().mean() < 0.02
    sizes = Affine(scale=0.3)(disc, generator()).sum(dim=(1, 2, 3)) / area
    assert sizes.min() < 0.8 and sizes.max() > 1.1 and sizes.min() > 0.7**2 * 0.97 and sizes.max() < 1.3**2 * 1.03
    stretched = Affine(stretch=0.3)(disc, generator())
    torch.testing.assert_close(stretched.sum(dim=(1, 2, 3)) / area, torch.ones(8), atol=0.03, rtol=0)
    shifted = Affine(shift=0.1)(disc, generator())
    centres = (shifted * x).sum(dim=(1, 2, 3)) / shifted.sum(dim=(1, 2, 3))
    assert centres.abs().max() <= 8.01 and centres.std() > 1

    for wrong in ({"rotate": 181}, {"scale": 1.0}, {"shift": -0.1}):
        with pytest.raises(UserError, match=r"an affine transform needs rotate in \[0, 180\]"):
            Affine(**wrong)


def test_features_that_are_matched_differ_by_their_images_alone() -> None:
    """Dropout is behind the features: in training, too, two equal images have equal features, and two have scores."""
    torch.manual_seed(0)
    tower = discriminators.spec("lenet", width=4, classes=10, dropout=0.9).build(1)
    tower.stages[1].eval()  # the dropout between two layers is another thing
    x = torch.rand(6, 1, 32, 32)
    tops = []
    for _ in range(2):
        value = x
        for stage in tower.stages[:-1]:
            value = stage(value)
        tops.append(value)
    assert tower.training and torch.equal(*tops)
    assert not torch.equal(tower.stages[-1](tops[0])[1], tower.stages[-1](tops[0])[1])
