"""Metrics of pixels, of samples and of classifiers: their formulas, how they count and stream, how they are named."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sets import figures, images, near, pictures, save
from torch import Tensor

import unitkit as kit
from unitkit import UserError, load_recipe, metrics, open_data
from unitkit.data import Data
from unitkit.data.cache import Decoded
from unitkit.data.domains import make_domains
from unitkit.data.folders.plain import plain_images
from unitkit.data.tensors import at_once
from unitkit.metrics import Context, evaluate_with_protocol, parse_metrics
from unitkit.metrics.attribute import _moved, _rgb_batch, _seen, train_classifier

# Pixels


def test_pixel_accuracy_is_that_of_a_double_loop() -> None:
    one = pictures(3, 0, 8)
    two = near(one, 1)
    largest = euclidean = 0
    for i in range(3):
        for y in range(8):
            for x in range(8):
                difference = [int(one[i, c, y, x]) - int(two[i, c, y, x]) for c in range(3)]
                largest += max(map(abs, difference)) <= 16
                euclidean += math.sqrt(sum(d * d for d in difference)) <= 16
    found = figures(metrics.pixel_accuracy("ab", "b"), ab=one, b=two)
    assert found == {"largest_channel": largest / 192, "euclidean": euclidean / 192}
    assert 0 < euclidean < largest < 192


@pytest.mark.parametrize(("value", "tolerance", "within"), [(16, 16, 1), (17, 16, 0), (0, 0, 1), (1, 0, 0)])
def test_the_tolerance_itself_is_within(value: int, tolerance: int, within: float) -> None:
    zero = np.zeros((1, 1, 4, 4), np.uint8)
    for one, two in (zero, zero + np.uint8(value)), (zero + np.uint8(value), zero):  # bytes must not wrap around
        found = figures(metrics.pixel_accuracy("ab", "b", tolerance=tolerance), ab=one, b=two)
        assert found == {"largest_channel": within, "euclidean": within}


def test_psnr_and_l1() -> None:
    one, two = pictures(3, 0), pictures(3, 1)
    error = one.astype(float) - two
    decibels = 10 * math.log10(255**2 / (error**2).mean())
    assert figures(metrics.psnr("ab", "b"), ab=one, b=two)["psnr"] == pytest.approx(decibels, rel=1e-12)
    assert figures(metrics.l1("ab", "b"), ab=one, b=two)["l1"] == pytest.approx(np.abs(error).mean(), rel=1e-12)
    assert figures(metrics.l1("ab", "b"), ab=one, b=one)["l1"] == 0
    assert figures(metrics.psnr("ab", "b"), ab=one, b=one)["psnr"] > 100  # exact, and still a number


def test_ssim_is_torchmetrics() -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure as similarity

    one = pictures(3, 0)
    two = near(one, 1, most=60)
    expected = similarity(*(torch.from_numpy(each).double() / 255 for each in (one, two)), data_range=1.0)
    assert figures(metrics.ssim("ab", "b"), ab=one, b=two)["ssim"] == pytest.approx(float(expected), abs=1e-6)
    assert figures(metrics.ssim("ab", "b"), ab=one, b=one)["ssim"] == pytest.approx(1)
    with pytest.raises(UserError, match=r"at least 11 .*10x64"):
        metrics.ssim("ab", "b").check_size((10, 64))


def test_sets_are_streamed_to_the_figures_of_the_whole() -> None:
    one = pictures(at_once((32, 32)) * 2 + 5, 0)
    two = near(one, 1)
    error = one.astype(float) - two
    assert len(one) > 2 * at_once((32, 32))
    found = metrics.evaluate_images(
        [metrics.psnr("ab", "b"), metrics.l1("ab", "b"), metrics.pixel_accuracy("ab", "b")],
        {"ab": images(one), "b": images(two)},
    )
    whole = [10 * math.log10(255**2 / (error**2).mean()), np.abs(error).mean()]
    whole.append((np.abs(error).max(axis=1) <= 16).mean())
    for result, expected in zip(found.values(), whole, strict=True):
        assert next(iter(result["figures"].values())) == pytest.approx(expected, rel=1e-12)
        assert set(result["n"].values()) == {len(one)}


def test_counterpart_splits_what_must_change_from_the_rest() -> None:
    source, truth = np.zeros((2, 1, 1, 3, 4), np.uint8)
    truth[..., 2:] = 100  # half of the picture must change
    translation = truth.copy()
    translation[..., 3] = 80
    translation[..., 0] = 10
    accumulator = metrics.ground_truth("ab").begin(Context())
    accumulator.update({"a": source, "ab": translation, "truth:ab": truth})
    found = accumulator.result({"ab": 1}).figures
    assert found["changing.share"] == 0.5
    assert (found["changing.translation.l1"], found["rest.translation.l1"]) == (10, 5)
    assert (found["changing.input.l1"], found["rest.input.l1"], found["all.input.l1"]) == (100, 0, 50)
    assert (found["changing.translation.accuracy"], found["rest.translation.accuracy"]) == (0.5, 1)
    assert found["changing.translation.psnr"] == pytest.approx(10 * math.log10(255**2 / 200))


# Runs


class Model:
    """A translator that is known beforehand: every path's image is that of its first domain, through a function."""

    def __init__(self, along: Mapping[str, Any]) -> None:
        self.along, self.training = along, True

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def read(self, batch: Mapping[str, Tensor], paths: Iterable[str]) -> dict[str, Tensor]:
        assert not self.training
        return {path: self.along.get(path, lambda x: x)(batch[path[0]]) for path in paths}


def night_and_day(n: int, n_test: int) -> Data:
    """Two domains of 16x16, dark and bright; the test image of day is that of night, 128 brighter."""
    night, day = (pictures(n + n_test, 0, 16) // 2 + np.uint8(offset) for offset in (0, 128))
    splits = [
        ("night", images(night[:n]), images(night[n:])),
        ("day", images(day[:n]), images(day[n:])),
    ]
    return Data(
        "night and day", (16, 16), make_domains(splits), lambda path, i: (day if path[-1] == "b" else night)[n + i]
    )


def test_a_run_is_measured_as_its_pictures_are() -> None:
    data = night_and_day(3, 11)
    model = Model({"ab": lambda x: x + 1, "aba": lambda x: x + 20 / 127.5, "ba": lambda x: x - 2})
    wanted = parse_metrics("l1(aba, a), pixel_accuracy(ab, b), l1(ab, b), l1(ba, a)", "ab")
    found = {name: result["figures"] for name, result in metrics.evaluate(model, data, wanted, batch=4).items()}
    assert found["l1(aba, a)"]["l1"] == pytest.approx(20, abs=1e-6)
    assert found["pixel_accuracy(ab, b)"] == {"largest_channel": 1, "euclidean": 1}
    assert found["l1(ab, b)"]["l1"] <= 1  # 127.5 rounds to 127 or 128
    black = np.stack([data.domains["a"].test.load(i) for i in range(11)]).mean()
    assert found["l1(ba, a)"]["l1"] == pytest.approx(black)  # everything is clipped to 0
    assert model.training  # as it was


def test_a_part_of_the_split_is_spread_over_it_and_always_the_same() -> None:
    data, seen = night_and_day(2, 10), []

    class Accumulator:
        def update(self, images: Mapping[str, np.ndarray]) -> None:
            seen.append(images["a"])

        def result(self, n: Mapping[str, int]) -> metrics.Result:
            return metrics.Result({"seen": float(n["a"])})

    metric = metrics.Metric("seen(a)", ("a",), lambda context: Accumulator(), True)
    for _ in range(2):
        found = metrics.evaluate(Model({}), data, [metric], max_images=4, batch=2)
        assert found["seen(a)"]["n"] == {"a": 4}
    expected = np.stack([data.domains["a"].test.load(i) for i in (0, 2, 5, 7)])
    assert np.array_equal(np.concatenate(seen), np.concatenate([expected, expected]))
    assert metrics.evaluate(Model({}), data, [metric], max_images=99)["seen(a)"]["n"] == {"a": 10}


def test_measuring_in_batches_is_measuring_at_once(trained: Path) -> None:
    recipe = load_recipe(trained / "recipe.py")
    model = kit.load(trained, device="cpu").model
    wanted = parse_metrics("psnr, ssim(aa,a), pixel_accuracy(ab,b), ground_truth(ba), l1(bab,b)", "ab")
    one, all_at_once = (metrics.evaluate(model, recipe.data, wanted, batch=batch) for batch in (1, 4))
    for name, result in one.items():
        assert result["n"] == all_at_once[name]["n"]
        for figure, value in result["figures"].items():
            assert value == pytest.approx(all_at_once[name]["figures"][figure], rel=2e-3, abs=1e-3), (name, figure)


def test_an_evaluation_carries_its_protocol_and_is_the_same_again(trained: Path) -> None:
    recipe, model = load_recipe(trained / "recipe.py"), kit.load(trained, device="cpu").model
    wanted = parse_metrics("psnr(aa, a), diversity(ab)", "ab")
    state = torch.get_rng_state()
    one, two = (
        evaluate_with_protocol(model, recipe.data, wanted, checkpoint="step-00000012", step=12, seed=3)
        for _ in range(2)
    )
    assert torch.equal(state, torch.get_rng_state())  # a training that measures itself goes on undisturbed
    assert one["metrics"] == two["metrics"]
    assert json.loads(json.dumps(one)) == one
    facts = {key: one[key] for key in ("checkpoint", "step", "weights", "seed", "split", "images", "size")}
    assert facts == {
        "checkpoint": "step-00000012",
        "step": 12,
        "weights": "last",
        "seed": 3,
        "split": "test",
        "images": "all",
        "size": [16, 16],
    }
    assert one["data"] == {"name": recipe.data.name, "fingerprint": recipe.data.fingerprint()}
    assert "antialias" in one["resampling"] and one["versions"]["torch"] == version("torch")
    assert set(one["versions"]) >= {"unitkit", "torchmetrics", "torch-fidelity", "lpips", "timm", "numpy"}
    result = one["metrics"]["psnr(aa, a)"]
    assert result["n"] == {"aa": 4, "a": 4} and result["higher"] == {"psnr": True}
    assert one["metrics"]["diversity(ab)"]["protocol"]["sample_seed"] == 3


def test_diversity_wants_samples_that_differ(trained: Path) -> None:
    recipe, model = load_recipe(trained / "recipe.py"), kit.load(trained, device="cpu").model
    metric = metrics.diversity("ab", samples=2)
    one, two, other = (
        metrics.evaluate(model, recipe.data, [metric], seed=seed)[metric.name]["figures"]["diversity"]
        for seed in (0, 0, 1)
    )
    assert one == two != other and one > 0
    assert not model.sampling
    model.noise = 0.0
    assert metrics.evaluate(model, recipe.data, [metric])[metric.name]["figures"]["diversity"] == 0


def test_diversity_is_the_mean_over_pairs_of_samples() -> None:
    flat = {f"sample{k}:ab": np.full((2, 3, 4, 4), value, np.uint8) for k, value in enumerate((0, 10, 40))}
    accumulator = metrics.diversity("ab", samples=3).begin(Context())
    accumulator.update(flat)
    assert accumulator.result({}).figures == {"diversity": pytest.approx((10 + 40 + 30) / 3)}


# Classifiers


def test_attribute_success_counts_what_the_classifier_finds_and_says_how_good_it_is() -> None:
    data = night_and_day(24, 11)
    for translate, success in ((lambda x: x + 1), 1.0), ((lambda x: x), 0.0):
        metric = metrics.attribute_success("ab", steps=60)
        found = metrics.evaluate(Model({"ab": translate}), data, [metric])[metric.name]
        assert found["figures"] == {"success": success, "untranslated": 0.0, "classifier": 1.0}
        assert found["warnings"] == [] and found["n"] == {"ab": 11, "a": 11}
        assert "60 steps" in found["protocol"]["classifier"] and found["protocol"]["classifier_n"] == 11


def test_a_classifier_tells_of_its_steps_once_as_both_directions_share_it() -> None:
    told: list[str] = []

    @contextmanager
    def counting(what: str, steps: int) -> Iterator[Callable[[], None]]:
        told.append(f"{what}: {steps}")
        yield lambda: told.append("step")

    both = [metrics.attribute_success(path, steps=3) for path in ("ab", "ba")]
    metrics.evaluate(Model({}), night_and_day(5, 2), both, counting=counting)
    assert told == ["training the classifier of night and day on batches of 32: 3", *["step"] * 3]


def test_a_classifier_that_knows_little_is_not_to_be_trusted() -> None:
    same = images(pictures(12, 0, 16))  # nothing tells one domain from the other
    data = Data("twins", (16, 16), make_domains([(label, same, same) for label in ("one", "other")]))
    both = [metrics.attribute_success(path, steps=5) for path in ("ab", "ba")]
    found = metrics.evaluate(Model({}), data, both)
    assert any("trust it little" in text for result in found.values() for text in result["warnings"])
    assert sum(result["figures"]["classifier"] for result in found.values()) == 1


def test_a_classifier_learns_the_training_split_alone_and_the_same_again() -> None:
    data = night_and_day(12, 7)
    fewer = {letter: replace(domain, test=domain.test.pick(np.arange(2))) for letter, domain in data.domains.items()}  # type: ignore[attr-defined]
    other = replace(data, domains=fewer)
    assert data.fingerprint() != other.fingerprint()
    one, two, third = (train_classifier(each, steps=8, batch=4) for each in (data, data, other))
    for p, q, r in zip(one.parameters(), two.parameters(), third.parameters(), strict=True):
        assert torch.equal(p, q) and torch.equal(p, r)
    with pytest.raises(UserError, match="data of a run"):
        figures(metrics.attribute_success("ab"), ab=pictures(2, 0), a=pictures(2, 0))


# Names


def test_a_name_alone_means_every_translation_or_cycle() -> None:
    def names(text: str, letters: str = "ab") -> list[str]:
        return [metric.name for metric in parse_metrics(text, letters)]

    assert names("psnr") == ["psnr(aba, a)", "psnr(bab, b)"]
    assert names("fid") == ["fid(ab, b)", "fid(ba, a)"]
    assert names("diversity") == ["diversity(ab)", "diversity(ba)"]
    assert len(names("fid", "abc")) == 6
    assert names("l1( aa ,a ) kid(ab,b),ssim(aba, a)") == ["l1(aa, a)", "kid(ab, b)", "ssim(aba, a)"]
    assert names("lpips(aba, a, net=vgg), diversity(ab, samples=3)") == [
        "lpips(aba, a, net=vgg)",
        "diversity(ab, samples=3)",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("psmr", "'psnr'"),
        ("psnr(aba)", "2 paths"),
        ("psnr(aba, a, b)", "2 paths"),
        ("fid(ab, b, layer=100)", "'layer'"),
        ("lpips(aba, a, net=alexnet)", "'net'"),
        ("diversity(ab, samples=1)", "at least 2"),
        ("pixel_accuracy(ab, b, tolerance=-1)", "at least 0"),
        ("kid(ab, b, subset=3)", "'subset'"),
        ("psnr(ab, c)", "'c'"),
        ("psnr(ab, aba", "is no metric"),
        ("psnr('', a)", "''"),
        ("  ", "no metric is named"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_metrics(text, "ab")
    assert says in str(caught.value) and "\n" not in str(caught.value)


# Plain sets


def test_plain_images_come_in_the_order_of_their_names_and_at_one_size(tmp_path: Path) -> None:
    array = pictures(3, 0, 16)
    found = plain_images(str(save(tmp_path / "set", array)))
    assert found.size == (16, 16) and found.channels == 3
    assert np.array_equal(np.stack([found.load(i) for i in range(3)]), array)
    assert plain_images(str(tmp_path / "set"), 8).load(0).shape == (3, 8, 8)
    save(tmp_path / "set" / "more", pictures(1, 1, 20))
    with pytest.raises(UserError, match=r"differ in size, 16x16, 20x20.*--size"):
        plain_images(str(tmp_path / "set"))
    assert len(plain_images(str(tmp_path / "set"), (8, 12))) == 4
    np.savez(tmp_path / "set.npz", x=array.transpose(0, 2, 3, 1))
    packed = plain_images(str(tmp_path / "set.npz"))
    assert np.array_equal(np.stack([packed.load(i) for i in range(3)]), array)


def test_sets_of_different_length_or_name_are_not_compared_one_by_one() -> None:
    with pytest.raises(UserError, match="ab 3, b 2"):
        figures(metrics.l1("ab", "b"), ab=pictures(3, 0), b=pictures(2, 0))
    with pytest.raises(UserError, match="ab 8x8, b 16x16"):
        figures(metrics.l1("ab", "b"), ab=pictures(2, 0, 8), b=pictures(2, 0, 16))
    with pytest.raises(UserError, match=r"diversity\(ab\) .*measure a run"):
        figures(metrics.diversity("ab"), ab=pictures(2, 0))
    with pytest.raises(UserError, match="no images are given for 'b'"):
        figures(metrics.l1("ab", "b"), ab=pictures(3, 0))


@pytest.mark.parametrize(
    ("size", "seen"), [((64, 64), (64, 64)), ((128, 100), (128, 100)), ((480, 640), (96, 128)), ((300, 1), (128, 1))]
)
def test_a_classifier_sees_large_images_smaller(size: tuple[int, int], seen: tuple[int, int]) -> None:
    image = torch.full((2, 1, *size), 0.25)
    assert torch.allclose(_seen(image), torch.full((2, 3, *seen), 0.25))


def test_a_classifier_sees_images_moved_by_a_sixteenth_in_every_direction() -> None:
    image, draw, found = torch.arange(32 * 48.0).view(1, 1, 32, 48), np.random.default_rng(0), set()
    for _ in range(300):
        moved = _moved(image, draw)
        assert moved.shape == image.shape
        y, x = divmod(int(moved[0, 0, 8, 8]), 48)
        found.add((y - 8, x - 8))
        assert torch.equal(moved[..., 8:24, 8:40], image[..., y : y + 16, x : x + 32])
        edges = (8 - y, x - 8)  # what has come in from above and from the right
        assert edges[0] <= 0 or torch.equal(moved[0, 0, 0], moved[0, 0, 2 * edges[0]])
        assert edges[1] <= 0 or torch.equal(moved[..., -1], moved[..., -1 - 2 * edges[1]])
    assert found == {(y, x) for y in range(-2, 3) for x in range(-3, 4)}
    narrow = torch.ones(1, 3, 128, 1)
    assert torch.equal(_moved(narrow, draw), narrow)


def test_a_classifier_learns_from_images_moved_and_mirrored() -> None:
    domains = [Decoded(images(pictures(1, 3, 32)), 2**20)]
    batch = _rgb_batch(domains, np.zeros(40, int), np.random.default_rng(0))
    assert len(batch.flatten(1).unique(dim=0)) > 20  # of 2 x 5 x 5


def test_rows_of_an_array_are_not_paired_with_files(tmp_path: Path) -> None:
    """0.png, 1.png, 10.png, ...: the third file is not the third row."""
    array = pictures(12, 0, 16)
    np.savez(tmp_path / "set.npz", x=array)
    for i, picture in enumerate(array):
        (tmp_path / "files").mkdir(exist_ok=True)
        Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / "files" / f"{i}.png")
    sets = {"ab": plain_images(str(tmp_path / "set.npz")), "b": plain_images(str(tmp_path / "files"))}
    for order in sets, dict(reversed(sets.items())):
        with pytest.raises(UserError, match=r"psnr\(ab, b\) compares images one by one, and the rows of an array, ab"):
            metrics.evaluate_images([metrics.psnr("ab", "b")], order)


def test_rows_of_aligned_arrays_pair_by_their_number(tmp_path: Path) -> None:
    """Of arrays that differ in length, which rows are held out differs too: their places there say nothing."""
    paired = 0
    for one, two in itertools.product(range(2, 14), repeat=2):
        rows = {name: np.arange(n, dtype=np.uint8).repeat(64).reshape(n, 8, 8) for name, n in (("x", one), ("y", two))}
        np.savez(tmp_path / "both.npz", **rows)
        try:
            data = open_data(str(tmp_path / "both.npz"), size=8, aligned=True)
        except UserError as error:
            assert "not aligned" in str(error) and one != two
            continue
        assert data.truth
        for i in range(len(data.domains["a"].test)):
            assert np.array_equal(data.truth("ab", i), data.domains["a"].test.load(i))
            paired += 1
    assert paired > 12
