"""Drawn digits: pure, balanced, readable by simple means, and as their looks promise; the fonts draw ten digits."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from unitkit.data.drawn.numerals import FONTS, LOOKS, UPRIGHT, classes, glyph, render
from unitkit.system.errors import UserError

KEYS = [(7, 0, 1, index) for index in range(24)]
SHARED = Path(os.environ.get("UNITKIT_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def grey(keys: Sequence[tuple[int, ...]], look: str) -> NDArray[np.float32]:
    """Images of 32x32 as vectors in [0, 1] of their mean over the channels: (n, 1024)."""
    images = render(keys, look, size=(32, 32)).astype(np.float32)
    rows: NDArray[np.float32] = images.mean(axis=1).reshape(len(keys), -1) / np.float32(255)
    return rows


def nearest_mean(train: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32]) -> NDArray[np.int64]:
    """The class whose mean has the highest correlation with each of `test`."""
    means = np.stack([train[labels == digit].mean(axis=0) for digit in range(10)])
    means, test = (rows - rows.mean(axis=1, keepdims=True) for rows in (means, test))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    best: NDArray[np.int64] = (test @ means.T).argmax(axis=1)
    return best


@pytest.mark.parametrize("look", LOOKS)
def test_an_image_is_a_pure_function_of_its_key(look: str) -> None:
    batch = render(KEYS, look, size=(32, 32))
    assert batch.shape == (24, 3, 32, 32) and batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, render(KEYS, look, size=(32, 32)))
    np.testing.assert_array_equal(batch[::-1], render(KEYS[::-1], look, size=(32, 32)))
    np.testing.assert_array_equal(batch, np.concatenate([render([key], look, size=(32, 32)) for key in KEYS]))
    assert render([], look, size=(32, 32)).shape == (0, 3, 32, 32)


def test_nothing_hangs_on_the_process() -> None:
    code = (
        "import sys, unitkit.data.drawn.numerals as n; assert 'matplotlib' not in sys.modules;"
        "print(n.render([(7, 0, 1, 2)], 'rendered', size=(9, 12)).tobytes().hex(), n.classes([(7, 0, 1, 2)])[0]);"
        "assert 'matplotlib.font_manager' not in sys.modules"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert bytes.fromhex(answer[0]) == render([(7, 0, 1, 2)], "rendered", size=(9, 12)).tobytes()
    assert int(answer[1]) == classes([(7, 0, 1, 2)])[0]


def test_classes_are_balanced_and_belong_to_the_key() -> None:
    keys = [
        (seed, split, place, index) for seed in (0, 1) for split in (0, 1) for place in (0, 1) for index in range(625)
    ]
    labels = classes(keys)
    assert labels.shape == (5000,) and labels.dtype == np.int64
    np.testing.assert_array_equal(labels[::-1], classes(keys[::-1]))
    counts = np.bincount(labels, minlength=10)
    # Chi-square of 9 degrees of freedom: above 27.9 in one of a thousand draws.
    assert counts.shape == (10,) and ((counts - 500) ** 2 / 500).sum() < 27.9
    # Neighbours, and the same index in another place, tell nothing of each other.
    for first, second in ((labels[:-1], labels[1:]), (labels[:625], labels[625:1250])):
        assert abs((first == second).mean() - 0.1) < 0.05
    assert classes([]).shape == (0,)


@pytest.mark.parametrize("look", LOOKS)
def test_seeds_splits_and_places_share_no_image(look: str) -> None:
    keys = [
        (seed, split, place, index) for seed in (0, 9) for split in (0, 1) for place in (0, 1) for index in range(40)
    ]
    images = render(keys, look, size=(16, 16))
    assert len({image.tobytes() for image in images}) == len(keys)


@pytest.mark.parametrize("look", LOOKS)
def test_sizes_show_the_same_digit(look: str) -> None:
    small, large = (render(KEYS, look, size=(side, side)).astype(np.float32) for side in (24, 96))
    shrunk = large.reshape(24, 3, 24, 4, 24, 4).mean(axis=(3, 5))
    assert np.abs(shrunk - small).mean() < 0.25 * np.abs(shrunk - small[::-1]).mean()
    for height, width in ((24, 40), (40, 24)):
        other = render(KEYS, look, size=(height, width)).astype(np.float32)
        assert other.shape == (24, 3, height, width)
        top, left = (height - 24) // 2, (width - 24) // 2
        middle = other[:, :, top : top + 24, left : left + 24]
        # All but the sensor's noise, which is drawn for every pixel of a picture.
        assert np.abs(middle - small).mean() < (8 if look == "rendered" else 0.01)
    assert render(KEYS[:2], look, size=(8, 8)).std() > 5


def test_printed_is_white_on_black() -> None:
    images = render(KEYS, "printed", size=(32, 32))
    assert (images == images[:, :1]).all()
    image = images[:, 0]
    assert ((image == 0).mean(axis=(1, 2)) > 0.5).all() and (image.max(axis=(1, 2)) > 200).all()
    assert 0.03 < (image > 127).mean() < 0.3
    border = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    assert (border == 0).mean() > 0.98
    # Centred, with a small jitter.
    rows, columns = np.indices((32, 32))
    for axis in (rows, columns):
        middle = (image * axis).sum(axis=(1, 2)) / image.sum(axis=(1, 2)) - 15.5
        assert abs(middle.mean()) < 1.5 and np.abs(middle).max() < 6


def test_rendered_is_coloured_with_a_digit_of_either_polarity() -> None:
    keys = [(3, 0, 0, index) for index in range(200)]
    images = render(keys, "rendered", size=(32, 32)).astype(np.float32)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert (np.abs(images[:, first] - images[:, second]).mean(axis=(1, 2)) > 1).all()
    light = images.mean(axis=1).reshape(200, -1)
    assert (np.ptp(light, axis=1) > 40).all()
    # With the digit itself, as the other look draws it, about as many correlate one way as the other.
    means = np.stack([grey(keys, "printed")[classes(keys) == digit].mean(axis=0) for digit in range(10)])
    against = np.array([np.corrcoef(means[digit], row)[0, 1] for digit, row in zip(classes(keys), light, strict=True)])
    assert 0.35 < (against > 0).mean() < 0.65 and np.abs(against).mean() > 0.25


def test_simple_means_read_the_digits() -> None:
    """The label is what the image shows: means of 1000 images tell it far above chance, 0.1."""
    train, test = ([(0, split, 0, index) for index in range(count)] for split, count in ((0, 1000), (1, 500)))
    found = nearest_mean(grey(train, "printed"), classes(train), grey(test, "printed"))
    assert (found == classes(test)).mean() > 0.6


@pytest.mark.parametrize("font", FONTS)
def test_a_font_draws_ten_different_digits(font: str) -> None:
    y, x = (axis.astype(np.float32) for axis in np.mgrid[-0.6:0.6:0.025, -0.6:0.6:0.025])
    drawn = [glyph(font, digit).at(x, y) < 0 for digit in range(10)]
    for digit, ink in enumerate(drawn):
        assert 0.03 < ink.mean() < 0.5
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        assert abs((np.ptp(rows) + 1) * 0.025 - 1) < 0.06  # one unit high
        assert abs((np.ptp(columns) + 1) * 0.025 - 2 * glyph(font, digit).half) < 0.06
        assert abs(rows.mean() - 23.5) < 2 and abs(columns.mean() - 23.5) < 2
    # What no character of a font, drawn as the same box ten times, would pass.
    for first in range(10):
        for second in range(first):
            assert (drawn[first] ^ drawn[second]).sum() > 0.15 * (drawn[first] | drawn[second]).sum()


@pytest.mark.parametrize("font", ["DejaVuSans.ttf", "cmr10.ttf"])
def test_fonts_agree_on_the_digits(font: str) -> None:
    """A digit looks more like the same digit of a bold font than like most others."""
    y, x = (axis.astype(np.float32) for axis in np.mgrid[-0.6:0.6:0.05, -0.6:0.6:0.05])
    ours, theirs = (
        np.stack([glyph(name, digit).at(x, y).ravel() for digit in range(10)]) for name in (font, "DejaVuSans-Bold.ttf")
    )
    apart = np.abs(ours[:, None] - theirs[None]).mean(axis=2)
    assert (apart.argmin(axis=1) == np.arange(10)).sum() >= 8


def test_distances_are_distances() -> None:
    """The distance to an outline changes by at most as much as the point moves, and mostly by that much."""
    y, x = (axis.astype(np.float32) for axis in np.mgrid[-0.8:0.8:0.01, -0.6:0.6:0.01])
    away = glyph("DejaVuSans.ttf", 8).at(x, y)
    slope = np.hypot(*np.gradient(away, 0.01))
    assert away.dtype == np.float32 and slope.max() < 1.1 and 0.97 < np.median(slope) < 1.03
    assert not {font for font in UPRIGHT if "Ita" in font or "Oblique" in font} and set(UPRIGHT) < set(FONTS)


def test_a_printed_digit_passes_for_a_scanned_one() -> None:
    """Means of printed digits read MNIST's test images far above chance."""
    folder = SHARED / "mnist"
    if not (folder / "t10k-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"MNIST is not in {folder}")
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        scans = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)[:1000]
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:1000]
    keys = [(0, 0, 0, index) for index in range(1000)]
    drawn = render(keys, "printed", size=(28, 28))[:, 0].reshape(1000, -1).astype(np.float32)
    found = nearest_mean(drawn, classes(keys), scans.reshape(1000, -1).astype(np.float32))
    assert (found == labels).mean() > 0.35


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for message, keys, look, size in (
        (r"'pritned'.*'printed'", KEYS, "pritned", (32, 32)),
        (r"7x32.*8", KEYS, "printed", (7, 32)),
        (r"32x7.*8", KEYS, "rendered", (32, 7)),
        (r"\(-1, 0, 0, 0\).*>= 0", [(-1, 0, 0, 0)], "printed", (32, 32)),
    ):
        with pytest.raises(UserError, match=message):
            render(keys, look, size=size)
    with pytest.raises(UserError, match=">= 0"):
        classes([(0, -1, 0, 0)])
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"cmr10\.ttf.*matplotlib") as caught:
        glyph.__wrapped__("cmr10.ttf", 3)
    assert "\n" not in str(caught.value)
