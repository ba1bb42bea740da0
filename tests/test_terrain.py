"""Rendered terrain: pure, the same land in both views and at every size, and not to be had by trivial translations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from unitkit.data.domains import Data, datasets
from unitkit.data.drawn import rendered
from unitkit.data.drawn.rendered import Rendered
from unitkit.data.drawn.shapes import Canvas
from unitkit.data.drawn.terrain import PALETTE, VIEWS, Aerial, draw_map, render
from unitkit.data.folders.layout import Layout
from unitkit.system.errors import UserError

SCENES = [(7, 0, 1, index) for index in range(24)]
COLOURS = np.array(PALETTE, np.float32) * 255


def terrain(**options: object) -> Data:
    made: Data = datasets["terrain"](**({"size": 16, "n": 4, "n_test": 3} | options))
    return made


def accuracy(made: NDArray[np.generic], true: NDArray[np.generic]) -> float:
    """The share of pixels whose largest channel is off by at most 16 of 255."""
    apart = np.abs(made.astype(np.float32) - true.astype(np.float32))
    return float((apart.max(axis=1) <= 16).mean())


def flat(maps: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the pixels of maps (n, 3, H, W) have a colour of the palette: (n, H, W)."""
    apart = np.abs(maps[:, None].astype(np.float32) - COLOURS[None, :, :, None, None])
    near: NDArray[np.bool_] = (apart.max(axis=2) <= 1).any(axis=1)
    return near


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_a_pure_function_of_its_scene(view: str) -> None:
    scenes = SCENES[:8]
    batch = render(scenes, view)
    assert batch.shape == (8, 3, 64, 64) and batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, render(scenes, view))
    np.testing.assert_array_equal(batch, np.concatenate([render([scene], view) for scene in scenes]))
    keys = [(7, 0, 1, 3), (8, 0, 1, 3), (7, 1, 1, 3), (7, 0, 2, 3), (7, 0, 1, 4)]
    assert len({image.tobytes() for image in render(keys, view)}) == len(keys)


def test_drawing_stays_in_float32_and_in_range() -> None:
    for key in SCENES:
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        layout = Layout.sample(rng)
        canvas = Canvas.blank(32, 48)
        x, y = canvas.x, canvas.y
        roofs, blocks = layout.roofs(x, y), layout.blocks(x, y)
        fields = (roofs.distance, roofs.ridge, blocks.p, blocks.q, blocks.street, layout.free(x, y))
        assert {field.dtype for field in fields} == {np.dtype(np.float32)}
        assert blocks.p.min() >= 0 and (blocks.p <= blocks.width).all() and (blocks.q <= blocks.length).all()
        draw_map(canvas, layout)
        assert canvas.rgb.dtype == np.float32 and canvas.rgb.min() >= 0 and canvas.rgb.max() <= 1 + 1e-6
        Aerial(canvas, layout, rng).draw()
        assert canvas.rgb.dtype == np.float32 and canvas.rgb.min() >= 0 and canvas.rgb.max() <= 1


def test_maps_are_flat_up_to_their_edges() -> None:
    maps = render(SCENES, "map", size=128)
    plain = flat(maps)
    assert plain.mean() > 0.8
    # What is not of the palette lies on an edge: a flat pixel is at most two pixels away.
    reached = np.pad(plain, ((0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(reached, (5, 5), axis=(1, 2))
    assert windows.any(axis=(3, 4)).mean() > 0.999
    assert flat(render(SCENES, "satellite", size=128)).mean() < 0.01
    # Every colour is somewhere, and no colour passes for two of them by the measure.
    used = (np.abs(maps[:, None].astype(np.float32) - COLOURS[None, :, :, None, None]).max(axis=2) <= 1).mean((0, 2, 3))
    assert used.min() > 0.02
    apart = np.abs(COLOURS[:, None] - COLOURS[None]).max(axis=-1)
    assert apart[~np.eye(len(COLOURS), dtype=bool)].min() > 32


def test_both_views_show_the_same_plan() -> None:
    """Water is dark and even on the picture where the map has it, and only there."""
    pictures, maps = (render(SCENES, view).astype(np.float32) for view in VIEWS)
    wet = np.abs(maps - COLOURS[-1][None, :, None, None]).max(axis=1) <= 1
    for picture, where in zip(pictures.mean(axis=1), wet, strict=True):
        if 0.02 < where.mean() < 0.9:
            assert picture[where].std() < 0.7 * picture[~where].std()
            assert picture[where].mean() < picture[~where].mean()
    assert (wet.mean(axis=(1, 2)) > 0.02).sum() >= 6


def test_trivial_translations_are_bad() -> None:
    train = render([(0, 0, 1, index) for index in range(96)], "map")
    scenes = [(0, 1, 0, index) for index in range(48)]
    pictures, maps = (render(scenes, view) for view in VIEWS)
    assert accuracy(pictures, maps) < 0.03
    seen, counts = np.unique(train.transpose(0, 2, 3, 1).reshape(-1, 3), axis=0, return_counts=True)
    candidates = [colour.reshape(1, 3, 1, 1) for colour in seen[np.argsort(counts)[-40:]]]
    constant = max(candidates, key=lambda colour: accuracy(colour, train[:16]))
    assert 0.2 < accuracy(constant, maps) < 0.42
    assert accuracy(train.mean(axis=0, keepdims=True), maps) < 0.3
    # Not a matter of colours alone: the best map colour for each colour of a pixel, known from the pairs themselves.
    nearest = np.abs(maps[:, None].astype(np.float32) - COLOURS[None, :, :, None, None]).max(axis=2).argmin(axis=1)
    bins = np.einsum("c,nchw->nhw", (256, 16, 1), pictures // 16)
    votes = np.zeros((4096, len(COLOURS)))
    np.add.at(votes, (bins, nearest), 1)
    assert accuracy(COLOURS[votes.argmax(axis=1)[bins]].transpose(0, 3, 1, 2), maps) < 0.65


@pytest.mark.parametrize(("view", "most"), [("satellite", 6), ("map", 4)])
def test_sizes_show_the_same_land(view: str, most: float) -> None:
    small, large = (render(SCENES[:8], view, size=size).astype(np.float32) for size in (32, 128))
    shrunk = large.reshape(8, 3, 32, 4, 32, 4).mean(axis=(3, 5))
    others = np.abs(shrunk - small[::-1]).mean()
    assert np.abs(shrunk - small).mean() < most < 0.4 * others


def test_other_shapes_extend_the_square() -> None:
    square = render(SCENES[:4], "map", size=48).astype(np.float32)
    wide = render(SCENES[:4], "map", size=(48, 80))
    assert wide.shape == (4, 3, 48, 80)
    assert np.abs(wide[..., 16:64].astype(np.float32) - square).max() <= 1
    for view in VIEWS:
        assert render(SCENES[:2], view, size=16).shape == (2, 3, 16, 16)
        assert render(SCENES[:2], view, size=(80, 17)).std() > 10
    assert render([], "map", size=16).shape == (0, 3, 16, 16)


def test_truth_is_the_other_view_of_the_same_scene() -> None:
    for labels in (None, "map,satellite"):
        data = terrain(size=(48, 80), labels=labels)
        assert data.labels == dict(zip("ab", labels.split(",") if labels else VIEWS, strict=True))
        assert data.truth is not None
        for path in ("ab", "ba", "aba"):
            shown = data.domains[path[0]].test
            assert isinstance(shown, Rendered)
            expected = render([(*shown.key, 2)], data.labels[path[-1]], size=(48, 80))[0]
            np.testing.assert_array_equal(data.truth(path, 2), expected)
        assert np.array_equal(data.truth("aba", 1), data.domains["a"].test.load(1))


def test_no_scene_is_in_two_places() -> None:
    data = terrain()
    splits = [split for domain in data.domains.values() for split in (domain.train, domain.test)]
    keys = [(*split.key, i) for split in splits if isinstance(split, Rendered) for i in range(len(split))]
    assert len(set(keys)) == len(keys) == 2 * (4 + 3)


def test_blocks_are_drawn_as_single_images_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered, "BLOCK", 3 * 16 * 16)
    train = terrain(n=8, seed=5).domains["b"].train
    assert isinstance(train, Rendered) and train.at_once == 3 and train.at((999, 999)).at_once == 1
    for i in (2, 3, 7):
        np.testing.assert_array_equal(train.load(i), render([(*train.key, i)], "map", size=16)[0])
    with pytest.raises(IndexError):
        train.load(8)
    prints = [
        terrain(seed=seed, labels=labels).fingerprint() for seed, labels in ((5, None), (6, None), (5, "map,satellite"))
    ]
    assert len({*prints, terrain(seed=5).fingerprint()}) == 3


def test_mistakes_are_named() -> None:
    for message, options in (
        ("'sattelite'.*'satellite'", {"labels": "sattelite,map"}),
        ("map,map.*satellite, map", {"labels": "map,map"}),
        ("'terrain' has 2 domains, and 3", {"domains": 3}),
        ("n=0", {"n": 0}),
        ("8x8.*16", {"size": 8}),
        (r"\(-1, 0, 0, 0\).*>= 0", {"seed": -1}),
    ):
        with pytest.raises(UserError, match=message):
            terrain(**options)
    with pytest.raises(UserError, match=r"'mpa'.*'map'"):
        render(SCENES[:1], "mpa")
