"""Batches: each rank's own, mirrored where that is asked for, decoded ahead."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from test_effects import recipe

from unitkit.data.batches import Batches
from unitkit.data.cache import Decoded


def test_each_rank_draws_its_own_slice_augmentation_and_noise() -> None:
    """Of one global batch: the images of two ranks are those of one with twice the batch, each moved in its own way."""
    data = recipe().data
    ranks = [Batches(data, 2, 7, flip=True, crop=4, rank=rank, world=2) for rank in (0, 1)]
    whole = Batches(data, 4, 7)
    for step in (0, 3):
        assert ranks[0].names(step)["a"] + ranks[1].names(step)["a"] == whole.names(step)["a"]
    # One image over and over, so that what differs is the augmentation: by the rank, the step and the seed.
    image = torch.from_numpy(data.domains["a"].train.at((20, 20)).load(0))
    for each in (*ranks, other := Batches(data, 2, 8, flip=True, crop=4)):
        for decoded in each.train.values():
            decoded.fetch = lambda chosen: np.stack([image.numpy()] * len(chosen))  # type: ignore[method-assign]
    drawn = [each.batch(step)["a"] for each, step in ((ranks[0], 0), (ranks[1], 0), (ranks[0], 1), (other, 0))]
    assert not any(torch.equal(one, two) for one, two in itertools.combinations(drawn, 2))
    assert torch.equal(drawn[0], ranks[0].batch(0)["a"])


def test_without_flips_no_image_is_mirrored_and_with_them_half_are() -> None:
    """Every image is the window at some place of its larger original: itself, or with flips its mirror."""
    data, kinds = recipe().data, {}
    for flip in (False, True):
        batches, kinds[flip] = Batches(data, 8, 1, flip=flip, crop=2), []
        larger = batches.train["a"].images  # decoded two pixels wider and higher
        for step in range(4):
            chosen = batches._chosen(step)[0][1]
            for image, place in zip(batches.batch(step)["a"], chosen, strict=True):
                whole = torch.from_numpy(larger.load(int(place))).float() / 127.5 - 1
                windows = [whole[:, y : y + 16, x : x + 16] for y in range(3) for x in range(3)]
                straight, mirrored = (
                    any(torch.allclose(each, image, atol=1e-5) for each in (windows, [w.flip(2) for w in windows])[way])
                    for way in (0, 1)
                )
                assert straight or mirrored
                kinds[flip].append(straight)
    assert all(kinds[False]) and 8 < sum(kinds[True]) < 24  # of 32


def test_batches_decode_ahead_and_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    prefetch = Decoded.prefetch
    monkeypatch.setattr(Decoded, "prefetch", lambda *given: asked.append(list(given[1])) or prefetch(*given))
    batches = Batches(recipe().data, 2, 1, limit_bytes=1000)
    assert batches.share == 500  # of each of two domains
    batches.batch(3)
    steps = [list(chosen) for step in range(3, 8) for _, chosen in batches._chosen(step)]
    assert {tuple(each) for each in asked} == {tuple(each) for each in steps}  # its own, and the next four
    assert asked[:2] == steps[:2]  # all domains of this step before the first is waited for
