"""Borders, textures, blur and drifting colours, each made on purpose and found, and nothing else with it."""

from __future__ import annotations

import colorsys
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, laplace, sobel
from scipy.signal import windows
from sets import figures, images, near, pictures
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from unitkit import UserError, metrics, open_data
from unitkit.metrics import Context, attribute, evaluate
from unitkit.metrics.attribute import classifier


def smooth(seed: int, n: int = 4, size: int = 64) -> np.ndarray:
    """Photographs, nearly: blurred noise with a little grain, (n, 3, size, size)."""
    draw = np.random.default_rng(seed)
    waves = gaussian_filter(draw.normal(size=(n, 3, size, size)), (0, 0, 6, 6)) * 800 + 128
    return np.clip(waves + draw.normal(size=waves.shape), 5, 250).astype(np.uint8)


def test_a_border_is_that_of_a_loop() -> None:
    one, two = smooth(0, size=32), near(smooth(0, size=32), 1)
    off: dict[bool, list[int]] = {True: [], False: []}
    for n, c, y, x in np.ndindex(*one.shape):
        off[min(y, x, 31 - y, 31 - x) < 2].append(int(one[n, c, y, x]) - int(two[n, c, y, x]))
    found = figures(metrics.border("aa", "a"), aa=one, a=two)
    frame, inside = (np.array(off[part]) for part in (True, False))
    assert found["border"] == pytest.approx(np.abs(frame).mean() / np.abs(inside).mean(), rel=1e-12)
    assert found["darkening"] == pytest.approx(inside.mean() - frame.mean(), rel=1e-12)


def test_a_darkened_frame_is_a_border() -> None:
    one = smooth(0)
    dark = near(one, 1, most=2)
    dark[:, :, :4] = np.maximum(dark[:, :, :4].astype(int) - 20, 0)
    found = figures(metrics.border("aa", "a"), aa=dark, a=one)
    assert found["border"] > 3 and found["darkening"] > 3
    plain = figures(metrics.border("aa", "a"), aa=near(one, 1, most=2), a=one)
    assert plain["border"] == pytest.approx(1, abs=0.05) and abs(plain["darkening"]) < 0.1


def texture(image: np.ndarray, of: np.ndarray) -> float:
    return figures(metrics.texture("ab", "a"), ab=np.clip(image, 0, 255).round().astype(np.uint8), a=of)["texture"]


def test_texture_is_that_of_a_loop() -> None:
    one, two = smooth(0, n=1, size=37)[0], near(smooth(0, n=1, size=37)[0], 3)
    window = windows.hann(16, sym=False)

    def energy(patch: np.ndarray, u: int, v: int) -> float:
        total = 0.0
        for plane in patch.astype(float):
            waves = [np.exp(-2j * np.pi * k * np.arange(16) / 16) * window for k in (u, v)]
            total += abs(waves[0] @ (plane - plane.mean()) @ waves[1]) ** 2
        return float(np.log2(total + 3 * (window**2).sum() ** 2))

    def peak(image: np.ndarray) -> float:
        higher = []
        for top, left in itertools.product((0, 8, 16, 21), (0, 8, 16, 21)):
            patch = image[:, top : top + 16, left : left + 16]
            for u, v in itertools.product((0, 4, 8, 12), (0, 4, 8, 12)):
                near_by = [(u + 2, v), (u - 2, v), (u, v + 2), (u, v - 2)]
                if (u, v) != (0, 0):
                    higher.append(energy(patch, u, v) - np.mean([energy(patch, *other) for other in near_by]))
        return float(np.mean(higher))

    assert texture(two[None], one[None]) == pytest.approx(peak(two) - peak(one), rel=1e-9)


@pytest.mark.parametrize("period", [2, 4])
@pytest.mark.parametrize("axes", ["rows", "columns", "both"])
def test_grids_are_a_texture(period: int, axes: str) -> None:
    one = smooth(0)
    wave = 3.0 * np.where(np.arange(64) % period < period / 2, 1, -1)
    grid = {"rows": wave[:, None], "columns": wave[None], "both": wave[:, None] * wave / 3}[axes]
    grid = np.broadcast_to(grid, (64, 64))
    whole = texture(one + grid, one)
    assert whole > 0.3
    corner = grid * (np.indices((64, 64)) < 32).all(0)
    assert whole / 8 < texture(one + corner, one) < whole / 2, "in a quarter of every image"
    one_of_four = np.array([1, 0, 0, 0])[:, None, None, None]
    assert whole / 8 < texture(one + one_of_four * grid, one) < whole / 2, "in one of four"
    assert texture(one + np.array([1, -1, 0])[:, None, None] * grid, one) > 0.3, "in colours of one brightness"
    half = np.where(np.arange(64) < 32, gaussian_filter(one.astype(float), (0, 0, 2, 2)), one + grid)
    assert whole / 4 < texture(half, one) < whole, "where the rest is blurred"
    busy = near(one, 1, most=60)
    assert texture(busy + np.where(np.arange(64) < 32, 0, grid), busy) < 0.1, "where nobody sees it"


def test_what_changes_neighbouring_frequencies_alike_is_no_texture() -> None:
    one, places = smooth(0), np.arange(64)
    draw, flat = np.random.default_rng(1), np.full((4, 3, 64, 64), 128, np.uint8)
    changed = {
        "blur": gaussian_filter(one.astype(float), (0, 0, 0.7, 0.7)),
        "much blur": gaussian_filter(one.astype(float), (0, 0, 2, 2)),
        "noise": one + draw.normal(0, 4, one.shape),
        "contrast": one * 0.6 + 40.0,
        "sharper": 2.0 * one - gaussian_filter(one.astype(float), (0, 0, 1, 1)),
        "period 8": one + 3.0 * np.sin(2 * np.pi * places / 8),
        "period 3": one + 3.0 * np.sin(2 * np.pi * places / 3),
    }
    assert {name: texture(image, one) for name, image in changed.items()} == pytest.approx(
        dict.fromkeys(changed, 0), abs=0.15
    )
    of_flat = {
        "noise": flat + draw.normal(0, 4, flat.shape),
        "grey noise": flat + draw.normal(0, 4, (4, 1, 64, 64)),
        "a ramp of quarters": flat + places / 4,
        "a diagonal ramp of halves": flat + (places / 2 + places[:, None] / 2),
    }
    assert {name: texture(image, flat) for name, image in of_flat.items()} == pytest.approx(
        dict.fromkeys(of_flat, 0), abs=0.3
    )


def test_blur_is_not_sharp() -> None:
    one = smooth(0)
    blurred = gaussian_filter(one.astype(float), (0, 0, 1, 1)).round().astype(np.uint8)
    found = figures(metrics.sharpness("ab", "a"), ab=blurred, a=one)["ratio"]

    def energy(images: np.ndarray) -> float:
        each = [laplace(plane.astype(float))[1:-1, 1:-1] for image in images for plane in image]
        return float((np.array(each) ** 2).sum() + 20 / 12 * np.array(each).size)

    assert found == pytest.approx(energy(blurred) / energy(one), rel=1e-9) and found < 0.6
    metric, flat = metrics.sharpness("ab", "a"), np.full_like(one, 7)
    assert list(figures(metric, ab=one, a=one).values()) == [0, 1]
    assert list(figures(metric, ab=flat, a=flat).values()) == [0, 1]
    assert 5 < figures(metric, ab=one, a=flat)["ratio"] < 1e5, "no more than against what rounding makes"
    assert texture(one, one) == texture(flat, flat) == 0


def test_structure_is_the_ssim_of_sobels_edges() -> None:
    one, two = smooth(0)[:2], near(smooth(0)[:2], 1)

    def slopes(images: np.ndarray) -> Tensor:
        grey = images.astype(float).mean(axis=1)
        found = [np.hypot(*(sobel(each, axis) / 4 for axis in (0, 1)))[1:-1, 1:-1] for each in grey]
        return torch.from_numpy(np.stack(found))[:, None]

    wanted = structural_similarity_index_measure(slopes(one), slopes(two), data_range=255.0)
    assert figures(metrics.structure("ab", "a"), ab=one, a=two)["structure"] == pytest.approx(float(wanted), rel=1e-9)
    darker = (one * 0.5 + 20).astype(np.uint8)
    assert figures(metrics.structure("ab", "a"), ab=one, a=one)["structure"] == 1
    assert figures(metrics.structure("ab", "a"), ab=darker, a=one)["structure"] > float(wanted)


def test_hues_are_those_of_colorsys() -> None:
    one, two = pictures(2, 0, size=8), pictures(2, 1, size=8)

    def histogram(images: np.ndarray) -> np.ndarray:
        found = np.zeros(36)
        for image in images:
            for red, green, blue in image.reshape(3, -1).T / 255.0:
                x, y = red - (green + blue) / 2, (green - blue) * np.sqrt(3) / 2
                hue = np.angle(x + 1j * y) / (2 * np.pi) % 1
                assert abs(hue - colorsys.rgb_to_hsv(red, green, blue)[0]) < 0.02  # theirs is of a hexagon
                found[int(hue * 36) % 36] += np.hypot(x, y)
        return found

    first, second = histogram(one), histogram(two)
    found = figures(metrics.colour("ab", "b"), ab=one, b=two)
    apart = np.abs(first / first.sum() - second / second.sum()).sum() / 2
    assert found["colour"] == pytest.approx(apart, rel=1e-9) and found["chroma"] == pytest.approx(
        first.sum() / second.sum(), rel=1e-9
    )


def test_a_swap_and_a_loss_of_colours() -> None:
    one = pictures(6, 0)
    assert figures(metrics.colour("ab", "b"), ab=one, b=one) == {"colour": 0, "chroma": 1}
    red, blue = np.zeros((2, 3, 8, 8), np.uint8), np.zeros((2, 3, 8, 8), np.uint8)
    red[:, 0], blue[:, 2] = 200, 100
    assert figures(metrics.colour("ab", "b"), ab=red, b=blue) == {"colour": 1, "chroma": 2}
    grey = np.repeat(one[:, :1], 3, axis=1)
    assert figures(metrics.colour("ab", "b"), ab=grey, b=grey) == {"colour": 0, "chroma": 1}
    assert figures(metrics.colour("ab", "b"), ab=grey, b=one) == {"colour": 1, "chroma": 0}


def test_of_some_figures_neither_more_nor_less_is_better() -> None:
    sets = {"ab": images(smooth(0, size=32)), "b": images(smooth(1, size=32))}
    wanted = [metrics.border("ab", "b"), metrics.colour("ab", "b"), metrics.class_accuracy("ab", "b", palette="maps")]
    border, colour, classes = (each["higher"] for each in metrics.evaluate_images(wanted, sets).values())
    assert border == {"border": False} and colour == {"colour": False}
    assert classes.keys() >= {"mean_recall", "mean_iou", "accuracy"} and all(classes.values())
    assert not [name for name in classes if name.startswith(("share", "constant"))]


def test_distances_in_the_features_of_the_domains_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its last layer reads: domains are apart there, and a set is at distance 0 from itself."""

    class Same:
        """A model whose translation is the image."""

        training = False

        def train(self, mode: bool = True) -> None:
            """Nothing changes."""

        def read(self, batch: dict[str, torch.Tensor], readings: object) -> dict[str, torch.Tensor]:
            return {path: batch[path[0]] for path in readings}  # type: ignore[attr-defined]

    monkeypatch.setattr(attribute, "classifier", partial(classifier, steps=15))
    data = open_data("portraits", size=16)
    measured = [metrics.frechet("ab", "b", model="classifier"), metrics.frechet("ab", "a", model="classifier")]
    found = evaluate(Same(), data, measured, max_images=64)  # type: ignore[arg-type]
    apart, same = (found[metric.name]["figures"]["frechet"] for metric in measured)
    assert apart > 100 * abs(same) and abs(same) < 1e-6
    assert "classifier of the domains" in found[measured[0].name]["protocol"]["features"]
    features = metrics.distances.classifier_features(Context(data=data), "frechet")
    images = np.stack([data.domains["a"].test.load(i) for i in range(4)])
    network = classifier(data, steps=15)
    shown = torch.from_numpy(images).float() / 127.5 - 1
    torch.testing.assert_close(network[-1](features(images, "cpu").float()), network(shown), rtol=1e-4, atol=1e-4)


def test_where_there_is_no_classifier() -> None:
    with pytest.raises(UserError, match="leave weights out"):
        metrics.kernel("ab", "b", model="classifier", weights="x.pth")
    with pytest.raises(UserError, match="kernel in the features of a classifier needs the data of a run"):
        metrics.kernel("ab", "b", model="classifier").begin(Context())
