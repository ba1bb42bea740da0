"""Maps by class: the nearest colour of each pixel, recall and IoU as a reference package counts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sets import figures, save
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from unitkit import UserError, load_recipe, metrics, open_data
from unitkit.check import check
from unitkit.data.sources import ImageArray
from unitkit.metrics import Context
from unitkit.metrics.palette import PALETTES, classified, clustered, colours

COLOURS = np.array(list(PALETTES["maps"].values()))


def maps(seed: int, n: int = 4, without: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, 3, 12, 9) in the palette's colours, off by a little, and their classes."""
    draw = np.random.default_rng(seed)
    classes = draw.choice([i for i in range(5) if i != without], (n, 12, 9))
    off = draw.integers(-5, 6, (n, 12, 9, 3))
    return np.clip(COLOURS[classes] + off, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2), classes


@pytest.mark.parametrize("without", [-1, 3])
def test_the_reference_package_counts_the_same(without: int) -> None:
    """Classes that no true map has are left out of the mean, whatever is drawn."""
    (true, actual), (drawn, predicted) = maps(0, without=without), maps(1)
    drawn[:, :, :6], predicted[:, :6] = true[:, :, :6], actual[:, :6]  # so that some are right
    found = figures(metrics.class_accuracy("ab", "b", palette="maps"), ab=drawn, b=true)
    one, two = torch.from_numpy(predicted), torch.from_numpy(actual)
    there = [i for i in range(5) if i != without]
    recall = MulticlassAccuracy(5, average=None)(one, two)[there]
    iou = MulticlassJaccardIndex(5, average=None)(one, two)[there]
    assert found["mean_recall"] == pytest.approx(float(recall.mean()), abs=1e-6)
    assert found["mean_iou"] == pytest.approx(float(iou.mean()), abs=1e-6)
    assert found["accuracy"] == pytest.approx(float((one == two).float().mean()), abs=1e-6)
    names = list(PALETTES["maps"])
    for name, each, other in zip((names[i] for i in there), recall, iou, strict=True):
        assert found[f"recall.{name}"] == pytest.approx(float(each), abs=1e-6)
        assert found[f"iou.{name}"] == pytest.approx(float(other), abs=1e-6)
    assert ("recall.water" in found) == (without == -1)


def test_the_constant_is_what_the_metric_gives_for_one() -> None:
    true, actual = maps(3, n=9)
    commonest = COLOURS[np.bincount(actual.ravel()).argmax()]
    constant = np.broadcast_to(commonest.astype(np.uint8)[:, None, None], true.shape)
    metric = metrics.class_accuracy("ab", "b", palette="maps")
    found = figures(metric, ab=constant, b=true)
    for name in ("mean_recall", "mean_iou", "accuracy"):
        assert found[f"constant.{name}"] == found[name] == figures(metric, ab=true, b=true)[f"constant.{name}"]
    assert figures(metric, ab=true, b=true)["mean_recall"] == 1


def test_a_pixel_is_of_the_nearest_colour() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7)).astype(np.uint8)
    distances = np.linalg.norm(pixels[:, None].astype(float) - COLOURS[None, :, :, None, None], axis=2)
    assert (classified(pixels, COLOURS) == distances.argmin(axis=1)).all()


def test_training_maps_show_their_colours() -> None:
    true, _ = maps(5, n=30)
    found = list(clustered(ImageArray(true, "maps"), 5).values())
    assert list(clustered(ImageArray(true, "maps"), 5)) == ["1", "2", "3", "4", "5"]
    for colour in COLOURS:
        assert np.abs(np.array(found) - colour).max(axis=1).min() <= 3
    flat = ImageArray(np.full((2, 3, 4, 4), 7, np.uint8), "flat")
    assert clustered(flat, 5) == {"1": (7, 7, 7)}


def test_of_a_training_the_last_domain_shows_the_palette() -> None:
    data = open_data("terrain", size=16)
    metric = metrics.class_accuracy("ab", "b", classes=3)
    accumulator = metric.begin(Context(data=data))
    true = np.stack([data.domains["b"].test.load(i) for i in range(8)])
    accumulator.update(dict.fromkeys(metric.reads, true))
    result = accumulator.result(dict.fromkeys(metric.reads, len(true)))
    assert result.figures["mean_recall"] == 1 and len(result.details["palette"]) == 3
    assert result.details["palette"] == {k: list(v) for k, v in clustered(data.domains["b"].train, 3).items()}


def test_training_maps_of_one_colour_are_no_palette(tmp_path: Path) -> None:
    for name in ("train/one", "train/two", "test/one", "test/two"):
        save(tmp_path / name, np.full((2, 3, 8, 8), 90, np.uint8))
    data = open_data(str(tmp_path), size=8)
    with pytest.raises(UserError, match="finds one colour in the training images of 'two'"):
        metrics.class_accuracy("ab", "b").begin(Context(data=data))


def test_palettes_as_text() -> None:
    assert colours("maps") == PALETTES["maps"]
    assert colours("water=aacdf5 cde1aa") == {"water": (170, 205, 245), "cde1aa": (205, 225, 170)}
    assert colours("dark=00; light=ff") == {"dark": (0,), "light": (255,)}


@pytest.mark.parametrize(
    ("palette", "words"),
    [
        ("map", "'map' of the palette 'map' is no colour: expected the name of a palette (maps)"),
        ("water=blue sea=aacdf5", "'water=blue'"),
        ("a=aacdf5", "two or more"),
        ("a=aacdf5 a=aacdf4", "two or more"),
        ("a=aacdf5 b=aacdf5", "two or more"),
        ("a=aacdf5 b=aa", "different numbers of channels"),
    ],
)
def test_impossible_palettes(palette: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        metrics.class_accuracy("ab", "b", palette=palette)
    assert words in str(caught.value)


def test_a_palette_is_given_or_looked_for() -> None:
    with pytest.raises(UserError, match="classes=7 is of one that is looked for"):
        metrics.class_accuracy("ab", "b", palette="maps", classes=7)


def test_a_palette_of_other_channels() -> None:
    with pytest.raises(UserError, match="have 1 channels and the images 3"):
        classified(maps(0)[0], np.array(list(colours("00 ff").values())))
    grey = load_recipe("unit_maps", palette="00 ff")
    with pytest.raises(UserError, match="have 1 channels and the images 3"):
        check(grey)


def test_sets_alone_show_no_palette() -> None:
    with pytest.raises(UserError, match=r"class_accuracy\(ab, b\) needs a palette"):
        metrics.class_accuracy("ab", "b").begin(Context())
