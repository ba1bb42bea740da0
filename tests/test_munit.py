"""MUNIT: what its image paths mean, its objective beside the paper's equations, and translations in styles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import unitkit
from PIL import Image
from torch import Tensor, nn

import unitkit as kit
from unitkit import Recipe, Trainer, UserError, discriminators, encoders, generators, load_recipe, models, sharing
from unitkit.check import check
from unitkit.commands.translate import jobs
from unitkit.data.drawn.rendered import portraits
from unitkit.generators.adain import FromStyle
from unitkit.losses import Posterior, code_l1, style_l1
from unitkit.models.inference import Inference
from unitkit.models.munit import Munit
from unitkit.networks.blending import TILE
from unitkit.networks.layers import AdaptiveResidual
from unitkit.networks.tiling import RULES
from unitkit.runs.options import RunOptions
from unitkit.translate import Translator

RECIPE = Path(__file__).parents[1] / "recipes/munit.py"


def small(**changes: Any) -> Munit:
    parts: dict[str, Any] = {
        "channels": {"a": 3, "b": 3},
        "encoder": encoders.residual(width=4, blocks=1),
        "style_encoder": encoders.style(width=4, downs=2, style=3),
        "generator": generators.adain(blocks=2, style=3, mlp=16),
        "discriminator": discriminators.strided(width=4, layers=2),
        "sharing": sharing.none(),
    }
    torch.manual_seed(0)
    model = models.munit(**{**parts, **changes}).build()
    assert isinstance(model, Munit)
    return model


def images(count: int = 2, size: tuple[int, int] = (16, 24)) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {letter: torch.rand(count, 3, *size) * 2 - 1 for letter in "ab"}


def tiny(**knobs: Any) -> Recipe:
    values: dict[str, Any] = {"size": 16, "width": 4, "blocks": 1, "style_downs": 2, "mlp": 8, "layers": 2, "steps": 3}
    recipe = load_recipe(RECIPE, **{**values, "width_d": 4, **knobs})
    return replace(recipe, data=portraits(size=16, n=13, n_test=4), flip=False)


# Image paths


@pytest.mark.parametrize("training", [True, False])
def test_what_the_paths_are_made_of(training: bool) -> None:
    model, batch = small().train(training), images()
    names = [
        "aa",
        "ab",
        "aba",
        "abab",
        "code:a",
        "code:ab",
        "code:aba",
        "style:a",
        "style.drawn:ab",
        "style.drawn:abab",
    ]
    found = model.read(batch, names)

    def made(letter: str, code: str, style: Tensor) -> Tensor:
        image: Tensor = model.generators[letter]((found[f"code:{code}"].mean, style))
        return image

    own, drawn = model.style_encoders["a"](batch["a"]), found["style.drawn:ab"]
    assert torch.equal(found["style:a"], own) and own.shape == (2, 3, 1, 1)
    for path, wanted in {
        "aa": made("a", "a", own),
        "ab": made("b", "a", drawn),
        "aba": made("a", "ab", own),
        "abab": made("b", "aba", drawn),
    }.items():
        torch.testing.assert_close(found[path], wanted, rtol=1e-4, atol=1e-5)
    assert drawn is found["style.drawn:abab"]
    assert bool(drawn.any()) == training  # the prior's mean in evaluation
    assert torch.equal(found["code:a"].sample, found["code:a"].mean)


def test_styles_are_drawn_from_the_prior_or_given() -> None:
    model = small()
    drawn = model.train().read(images(2000, (8, 8)), ["style.drawn:ab"])["style.drawn:ab"]
    assert drawn.mean().abs() < 0.05 and (drawn.std() - 1).abs() < 0.05
    assert len(drawn.unique()) == drawn.numel()  # each image has its own
    batch, given = images(), torch.randn(2, 3, 1, 1)
    model.eval().sampling = True
    one, other = (model.read(batch, ["ab"])["ab"] for _ in range(2))
    assert not torch.equal(one, other)
    one, other = (model.read({**batch, "style:b": given}, ["ab"])["ab"] for _ in range(2))
    assert torch.equal(one, other)
    found = model.read({"a": batch["a"], "style:a": given, "style:b": given}, ["aa", "code:a", "style.drawn:ab"])
    assert torch.equal(found["style.drawn:ab"], given)
    torch.testing.assert_close(found["aa"], model.generators["a"]((found["code:a"].mean, given)))


def test_three_domains_and_images_read_as_anothers() -> None:
    model = small(channels={"a": 3, "b": 3, "c": 1}).train()
    batch = {**images(), "c": torch.rand(2, 1, 16, 24)}
    found = model.read(
        batch, ["abc", "style.drawn:ab", "style.drawn:abc", "style.drawn:ac", "b/ab", "code:b/a", "style:b"]
    )
    assert found["abc"].shape == (2, 1, 16, 24)
    assert torch.equal(found["style.drawn:abc"], found["style.drawn:ac"])
    assert not torch.equal(found["style.drawn:abc"], found["style.drawn:ab"])
    identity = model.generators["b"]((found["code:b/a"].mean, found["style:b"]))
    torch.testing.assert_close(found["b/ab"], identity, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reading", ["style.drawn:a", "style.drawn:aa", "style.drawn:aba", "style.drawn:ab/a"])
def test_no_style_is_drawn_where_an_image_has_one(reading: str) -> None:
    with pytest.raises(UserError, match="no style is drawn"):
        small().check(reading)


def test_towers_that_do_not_fit() -> None:
    unit = {"encoder": encoders.residual(width=4, blocks=1), "generator": generators.residual(width=4, blocks=1)}
    rest = {"discriminator": discriminators.strided(width=4, layers=2), "sharing": sharing.none()}
    channels = {"a": 3, "b": 3}
    for reading in "style:a", "style.drawn:ab":
        with pytest.raises(UserError, match="needs a model that has styles"):
            models.unit(channels=channels, **unit, **rest).build().check(reading)
    with pytest.raises(UserError, match="reads a style of 8 channels, and this model has no style"):
        models.unit(channels=channels, **{**unit, "generator": generators.adain()}, **rest).build()
    with pytest.raises(UserError, match="one code for a whole image"):
        models.unit(channels=channels, **{**unit, "encoder": encoders.style(downs=2)}, **rest).build()
    with pytest.raises(UserError, match="reads no style, and this model has a style of 3 channels"):
        small(generator=unit["generator"])
    with pytest.raises(UserError, match="reads a style of 5 channels, and this model has a style of 3"):
        small(generator=generators.adain(style=5))
    with pytest.raises(UserError, match="'residual' gives no one style"):
        small(style_encoder=unit["encoder"])
    with pytest.raises(UserError, match="style_encoder is given as the generator 'adain'"):
        small(style_encoder=generators.adain())
    with pytest.raises(UserError, match=r"too small for the style encoder.* give 16 pixels"):
        small(style_encoder=encoders.style(width=4, downs=4, style=3)).check_size((8, 16))


# Parts and losses


def test_adain_by_its_formula() -> None:
    torch.manual_seed(0)
    block, x, parameters = AdaptiveResidual(4), torch.randn(2, 4, 5, 7), torch.randn(2, 20)
    shift, scale, shift_2, scale_2 = (parameters[:, 4 * i : 4 * i + 4, None, None] for i in range(4))

    def normal(y: Tensor) -> Tensor:
        return (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()

    y = torch.relu(scale * normal(block.first(x)) + shift)
    y = x + scale_2 * normal(block.second(y)) + shift_2
    found = block((x, parameters))
    assert isinstance(found, tuple)
    torch.testing.assert_close(found[0], y)
    assert torch.equal(found[1], parameters[:, 16:])
    torch.testing.assert_close(block((x, parameters[:, :16])), y)


def test_a_generator_starts_with_scales_around_1() -> None:
    tower = generators.adain.build(8, 3, blocks=2, style=3, mlp=16)
    _, parameters = tower.stages[0]((torch.randn(1, 8, 4, 4), torch.zeros(1, 3, 1, 1)))
    assert parameters.tolist() == [([0.0] * 8 + [1.0] * 8) * 4]


def test_losses_of_codes_and_styles() -> None:
    one, other = torch.randn(2, 2, 4, 3, 5)
    code, wanted = Posterior(one, None, one + 7), Posterior(other, torch.ones_like(other), other - 7)
    torch.testing.assert_close(code_l1("ab", "a")({"code:ab": code, "code:a": wanted}), (one - other).abs().mean())
    style, drawn = torch.randn(2, 2, 8, 1, 1)
    term = style_l1("ab", "ab")
    assert [str(reading) for reading in term.reads] == ["style:ab", "style.drawn:ab"]
    torch.testing.assert_close(term({"style:ab": style, "style.drawn:ab": drawn}), (style - drawn).abs().mean())


def test_the_objective_of_the_paper() -> None:
    """Equations 1 to 5, with the weights of the released code."""
    checked = check(tiny(lambda_cyc=10))
    model = checked.recipe.model.build().train()
    batch = {x: torch.rand(2, 3, 16, 16) * 2 - 1 for x in "ab"}
    readings = model.read(batch, checked.reads)
    a, b = batch["a"], batch["b"]
    content, style, make, judge = model.encoders, model.style_encoders, model.generators, model.discriminators
    s_a, s_b = readings["style.drawn:ba"], readings["style.drawn:ab"]
    c_a, c_b = content["a"](a), content["b"](b)
    ab, ba = make["b"]((c_a, s_b)), make["a"]((c_b, s_a))

    def off(x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().mean()

    def squared(letter: str, x: Tensor, wanted: float) -> Tensor:
        (scores,) = judge[letter](x)
        found: Tensor = ((scores - wanted) ** 2).mean()
        return found

    expected = {
        "l1(aa, a)": (10, off(make["a"]((c_a, style["a"](a))), a)),
        "l1(bb, b)": (10, off(make["b"]((c_b, style["b"](b))), b)),
        "code_l1(ab, a)": (1, off(content["b"](ab), c_a)),
        "code_l1(ba, b)": (1, off(content["a"](ba), c_b)),
        "style_l1(ab, ab)": (1, off(style["b"](ab), s_b)),
        "style_l1(ba, ba)": (1, off(style["a"](ba), s_a)),
        "gan_g(ab, mode=least-squares)": (1, squared("b", ab, 1)),
        "gan_g(ba, mode=least-squares)": (1, squared("a", ba, 1)),
        "l1(aba, a)": (10, off(make["a"]((content["b"](ab), style["a"](a))), a)),
        "l1(bab, b)": (10, off(make["b"]((content["a"](ba), style["b"](b))), b)),
        "gan_d(b, ab, mode=least-squares)": (1, squared("b", b, 1) + squared("b", ab, 0)),
        "gan_d(a, ba, mode=least-squares)": (1, squared("a", a, 1) + squared("a", ba, 0)),
    }
    terms = {term.name: term for player in checked.players for term in player.terms}
    assert terms.keys() == expected.keys()
    for name, (weight, value) in expected.items():
        assert terms[name].weight_at(0) == weight, name
        torch.testing.assert_close(terms[name](readings), value, rtol=1e-4, atol=1e-5)


def test_the_recipe_and_its_preset() -> None:
    without = {term.name for player in check(tiny()).players for term in player.terms}
    assert "l1(aba, a)" not in without and "l1(aa, a)" in without  # lambda_cyc is 0
    paper = check(load_recipe(RECIPE, "paper"))
    adam = paper.players[1].optimizer
    assert adam is not None
    assert [adam.lr_at(progress) for progress in (0, 0.1, 0.25)] == [1e-4, 5e-5, 2.5e-5]


# A trained model in use


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("munit") / "run"
    trainer = Trainer(tiny(), RunOptions(folder))
    assert trainer.fit()
    figures = trainer.evaluate()["metrics"]
    assert {"diversity(ab)", "ground_truth(ab)"} <= set(figures)
    return folder


@pytest.fixture(scope="module")
def translator(run: Path) -> Translator:
    return kit.load(run, device="cpu")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_a_resumed_training_draws_the_same_styles(tmp_path: Path) -> None:
    """Nothing of the trainer or the checkpoint knows of styles, and they come back bit for bit."""

    def weights(steps: int, folder: Path, resume: bool = False) -> dict[str, Tensor]:
        trainer = Trainer(tiny(steps=steps, lr_every=1), RunOptions(folder, resume=resume))
        assert trainer.fit()
        found: dict[str, Tensor] = trainer.model.state_dict()
        return found

    weights(2, tmp_path / "run")
    ours, theirs = weights(4, tmp_path / "run", resume=True), weights(4, tmp_path / "whole")
    assert ours.keys() == theirs.keys() and any(name.startswith("style_encoders") for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_styles_of_images_and_of_seeds(translator: Translator) -> None:
    image, like = noise(20, 28), noise(30, 17, seed=1)
    plain = translator.translate(image, "ab")
    of_image = translator.translate(image, "ab", style=like)
    assert not same(plain, of_image) and of_image.size == (28, 20)
    assert same(of_image, translator.translate(image, "ab", style=translator.style(like, "b")))
    before = torch.random.get_rng_state()
    one, other = (translator.translate(image, "ab", seed=seed) for seed in (0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not same(one, other) and same(one, translator.translate(image, "ab", seed=0))
    # A path that comes back has the image's own style, and that of another where one is given.
    own = translator.translate(image, "aa")
    assert same(own, translator.translate(image, "aa", style=image))
    assert not same(own, translator.translate(image, "aa", style=like))
    assert translator.translate(noise(1, 3), "aba").size == (3, 1)


def test_a_style_and_a_seed_are_one_too_many(translator: Translator) -> None:
    with pytest.raises(UserError, match="not both"):
        translator.translate(noise(16, 16), "ab", style=noise(16, 16), seed=0)
    with pytest.raises(UserError, match="not an image path"):
        translator.style(noise(16, 16), "x")


def wide() -> np.ndarray:
    """An image in tiles, darker on its left."""
    image = noise(16, TILE + 100)
    image[:, : TILE // 2] //= 4
    return image


def test_the_style_of_a_large_image_is_that_of_all_its_pixels(translator: Translator) -> None:
    x = torch.from_numpy(wide()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        whole = translator.model.style_encoders["a"](x)
        back = translator.model(x, "aa")
    assert (translator.style(wide(), "a") - whole).norm() < 1e-5 * whole.norm()
    found = np.asarray(translator.translate(wide(), "aa")).transpose(2, 0, 1) / 127.5 - 1
    assert np.abs(found - back[0].clamp(-1, 1).numpy()).max() < 1.01 / 127.5


def test_all_blended_tiles_of_an_image_have_its_style(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    """One style for a whole image: the mean of those of its tiles, which is about that of all at once."""
    seen: list[Tensor] = []
    read: Callable[..., Any] = translator.model.read

    def spy(batch: Any, readings: Any, run: Any) -> Any:
        seen.extend(batch[name] for name in batch if name == "style:a")
        return read(batch, readings, run)

    monkeypatch.setattr(translator.model, "read", spy)
    monkeypatch.setattr(translator, "inference", Inference(translator.model))
    monkeypatch.delitem(RULES, FromStyle)
    monkeypatch.delitem(RULES, nn.AdaptiveAvgPool2d)
    translator.translate(wide(), "aa")
    assert len(seen) == 2 and torch.equal(seen[0], seen[1])
    x = torch.from_numpy(wide()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        whole = translator.model.style_encoders["a"](x)
    assert (seen[0] - whole).norm() < 0.1 * whole.norm()
    assert all("blended" in note for note in translator.inference.notes) and len(translator.inference.notes) == 1


def test_samples_on_the_command_line(run: Path, translator: Translator, tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / f"in/{'deep/' * number}{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(16, 20, number)).save(path)
    answer = unitkit("translate", run, "ab", tmp_path / "in", tmp_path / "out", "--samples", 2, "--seed", 3)
    assert answer.status == 0, answer.err
    assert "4 images in" in answer.out
    made = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    assert made == {"0-1.png", "0-2.png", "deep/1-1.png", "deep/1-2.png"}
    for name, seed in ("deep/1-1.png", 3), ("deep/1-2.png", 4):
        with Image.open(tmp_path / "out" / name) as found:
            assert same(found, translator.translate(noise(16, 20, 1), "ab", seed=seed))
    more = unitkit("translate", run, "ab", tmp_path / "in", tmp_path / "out", "--samples", 3, "--seed", 3)
    assert "4 of 6 were done before" in more.out and "2 images in" in more.out
    other = unitkit("translate", run, "ab", tmp_path / "in", tmp_path / "out", "--samples", 2, "--seed", 4)
    assert "before" not in other.out
    one = unitkit("translate", run, "ab", tmp_path / "in/0.png", tmp_path / "one.png", "--samples", 1)
    assert one.status == 0 and (tmp_path / "one-1.png").is_file() and not (tmp_path / "one.png").exists()


def test_samples_of_a_video_that_was_stopped(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are whole are not translated again."""
    pytest.importorskip("av")
    first, *rest = (Image.fromarray(noise(16, 20, number)) for number in range(3))
    first.save(tmp_path / "in.gif", save_all=True, append_images=rest)
    seen: list[int] = []
    stream = Translator.stream

    def counted(self: Translator, images: Iterator[Any], *rest: Any) -> Any:
        seen.append(len(found := list(images)))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return stream(self, iter(found), *rest)

    monkeypatch.setattr(Translator, "stream", counted)
    words = ("translate", run, "ab", tmp_path / "in.gif", tmp_path / "out.gif", "--samples", 2)
    stopped = unitkit(*words)
    assert stopped.status == 130 and "the same command goes on from there" in stopped.err
    whole = (tmp_path / "out-1.gif").read_bytes()
    done = unitkit(*words)
    assert done.status == 0 and done.out.startswith("3 of the frames were there from an earlier call"), done
    assert seen == [3, 3, 3] and (tmp_path / "out-1.gif").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.gif", "out-1.gif", "out-2.gif"]


def test_a_style_on_the_command_line(run: Path, translator: Translator, tmp_path: Path) -> None:
    Image.fromarray(noise(16, 20)).save(tmp_path / "x.png")
    Image.fromarray(noise(24, 24, 1)).save(tmp_path / "like.png")
    answer = unitkit("translate", run, "ab", tmp_path / "x.png", tmp_path / "y.png", "--style", tmp_path / "like.png")
    assert answer.status == 0, answer.err
    with Image.open(tmp_path / "y.png") as found:
        assert same(found, translator.translate(noise(16, 20), "ab", style=noise(24, 24, 1)))


def test_what_is_refused_before_any_work(run: Path, trained: Path, tmp_path: Path) -> None:
    Image.fromarray(noise(16, 16)).save(tmp_path / "x.png")
    image, out = tmp_path / "x.png", tmp_path / "out.png"
    for model, options, words in (
        (trained, ["--samples", 2], "this model has no styles"),
        (trained, ["--style", image], "this model has no styles"),
        (run, ["--samples", 2, "--style", image], "give one of them"),
        (run, ["--seed", 2], "give --samples N with it"),
        (run, ["--style", tmp_path / "none.png"], "none.png"),
    ):
        answer = unitkit("translate", model, "ab", image, out, *options)
        assert answer.status == 2 and words in answer.err, answer.err
    with pytest.raises(UserError, match="no styles"):
        kit.load(trained).translate(noise(16, 16), "ab", seed=1)
    assert not list(tmp_path.glob("out*"))


def test_numbered_names_that_meet(tmp_path: Path) -> None:
    for name in "x.png", "x-1.png":
        Image.fromarray(noise(4, 4)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"x-1.png is the input .*x-1.png"):
        jobs(tmp_path / "x.png", tmp_path / "x.png", None, ["-1", "-2"]) and jobs(tmp_path, tmp_path, None, ["-1"])
    both = jobs(tmp_path / "x.png", tmp_path / "y.png", None, ["-1", "-2"])
    assert [after.name for _, after in both] == ["y-1.png", "y-2.png"]
    (tmp_path / "in").mkdir()
    for name in "z.png", "z-1.png":
        Image.fromarray(noise(4, 4)).save(tmp_path / "in" / name)
    assert len(jobs(tmp_path / "in", tmp_path / "to", None, ["-1", "-2"])) == 4
