"""What a training step is given: the order of samples, the cache of decoded images, the batches."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from trees import tree

from unitkit.data import Data, open_data
from unitkit.data.batches import Batches
from unitkit.data.cache import Decoded, memory_limit
from unitkit.data.domains import make_domains
from unitkit.data.sampler import indices
from unitkit.data.sources import ImageArray
from unitkit.system import sizes
from unitkit.system.errors import UserError

# The order of samples


@pytest.mark.parametrize(("n", "batch", "world"), [(10, 3, 1), (17, 4, 2), (5, 8, 3), (1, 4, 2), (12, 4, 3), (7, 1, 1)])
def test_every_image_once_an_epoch_over_all_ranks(n: int, batch: int, world: int) -> None:
    steps = 3 * n  # ends on the border of an epoch
    stream = np.concatenate(
        [
            indices(step, seed=5, domain=1, n=n, batch=batch, rank=rank, world=world)
            for step in range(steps)
            for rank in range(world)
        ]
    )
    assert stream.shape == (steps * batch * world,)
    for epoch in stream.reshape(-1, n):
        assert sorted(epoch) == list(range(n))


def test_order_depends_on_seed_domain_and_epoch_alone() -> None:
    def draw(**changed: int) -> list[int]:
        order: list[int] = indices(**{"step": 0, "seed": 0, "domain": 0, "n": 50, "batch": 50, **changed}).tolist()
        return order

    assert draw() == draw()
    assert len({tuple(draw(**change)) for change in ({}, {"seed": 1}, {"domain": 1}, {"step": 1})}) == 4
    # One rank of batch 8 sees what two ranks of batch 4 see between them.
    whole = indices(3, seed=0, domain=0, n=50, batch=8)
    halves = [indices(3, seed=0, domain=0, n=50, batch=4, rank=rank, world=2) for rank in (0, 1)]
    assert np.array_equal(whole, np.concatenate(halves))


# The cache


@dataclass
class Numbered:
    """Image i holds i everywhere; some cannot be decoded. Counts how often each is asked for."""

    count: int
    broken: set[int] = field(default_factory=set)
    channels: int = 1
    size: tuple[int, int] = (4, 4)
    asked: list[int] = field(default_factory=list)
    delay: float = 0.0

    def __len__(self) -> int:
        return self.count

    def name(self, i: int) -> str:
        return f"image {i}"

    def load(self, i: int) -> np.ndarray:
        self.asked.append(i)
        time.sleep(self.delay)
        if i in self.broken:
            raise UserError(f"'image {i}' is broken")
        return np.full((self.channels, *self.size), i, np.uint8)

    def fingerprint(self) -> str:
        return "numbered"

    def at(self, size: tuple[int, int]) -> Numbered:
        self.size = size
        return self


@pytest.mark.parametrize("limit", [10**9, 100])
def test_decoded_images_are_kept(limit: int) -> None:
    images = Numbered(20)
    decoded = Decoded(images, limit)
    assert decoded.mapped == (limit == 100)
    for chosen in ([3, 1, 3], [1, 19, 0], np.arange(20)):
        fetched = decoded.fetch(chosen)
        assert type(fetched) is np.ndarray and not np.shares_memory(fetched, decoded.buffer)
        assert fetched[:, 0, 2, 2].tolist() == list(chosen) and fetched.shape == (len(chosen), 1, 4, 4)
    assert sorted(images.asked) == list(range(20))


def test_prefetch_works_in_the_background() -> None:
    images = Numbered(8, delay=0.02)
    decoded = Decoded(images, 10**9)
    start = time.monotonic()
    decoded.prefetch(range(8))
    assert time.monotonic() - start < 0.02
    decoded.fetch(range(8))
    assert sorted(images.asked) == list(range(8))


def test_a_broken_image_is_named_and_tried_again() -> None:
    images = Numbered(8, broken={2, 5})
    decoded = Decoded(images, 10**9)
    decoded.prefetch([2, 5])
    for _ in range(2):
        with pytest.raises(UserError, match="image 5"):
            decoded.fetch([1, 5, 2])
    images.broken.clear()
    assert decoded.fetch([5, 2])[:, 0, 0, 0].tolist() == [5, 2]


def test_many_threads_decode_each_image_once() -> None:
    images = Numbered(60, delay=0.001)
    decoded = Decoded(images, 10**9)
    failures = []

    def work(seed: int) -> None:
        for chosen in np.random.default_rng(seed).integers(0, 60, (20, 6)):
            if decoded.fetch(chosen)[:, 0, 0, 0].tolist() != chosen.tolist():
                failures.append(chosen)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(images.asked) == len(set(images.asked))


def test_no_room_for_the_mapped_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="TMPDIR"):
        Decoded(Numbered(20), 0)


def test_memory_limit_is_shared_by_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = memory_limit()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert 0 < memory_limit() < alone / 4


@pytest.mark.parametrize(("lines", "expected"), [("MemAvailable:    8192 kB", 2 * 2**20), ("of another kernel", None)])
def test_memory_limit_counts_caches_that_give_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, expected: int | None
) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal:    65536 kB\nMemFree:    1024 kB\n{lines}\n")
    monkeypatch.setattr(sizes, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(sizes, "CGROUP_LIMIT", tmp_path / "none")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert memory_limit() == expected if expected else memory_limit() > 0


# Batches


def ramps(count: int = 11) -> Data:
    """Two domains; pixel (y, x) of image i is 16 y + x, so that a window and a mirror show. Third channel: i."""

    def images(side: int = 8) -> ImageArray:
        y, x = np.mgrid[0:side, 0:side]
        stack = np.empty((count, 3, side, side), np.uint8)
        stack[:, 0], stack[:, 1], stack[:, 2] = y, x, np.arange(count)[:, None, None]
        return ImageArray(stack, "ramps")

    return Data("ramps", (8, 8), make_domains((label, images(), images()) for label in ("one", "two")))


def pixels(batch: torch.Tensor) -> torch.Tensor:
    return ((batch + 1) * 127.5).round().long()


def test_batch_without_augmentation() -> None:
    data = ramps()
    batches = Batches(data, 4, seed=3, flip=False)
    batch = batches.batch(2)
    assert list(batch) == ["a", "b"]
    for place, (letter, images) in enumerate(batch.items()):
        assert images.shape == (4, 3, 8, 8) and images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.contiguous_format)
        chosen = indices(2, seed=3, domain=place, n=11, batch=4)
        expected = np.stack([data.domains[letter].train.load(i) for i in chosen])
        assert torch.equal(pixels(images), torch.from_numpy(expected).long())
        assert batches.names(2)[letter] == [f"ramps[{i}]" for i in chosen]


def test_range_of_values() -> None:
    ends = ImageArray(np.array([[[0, 255]]], np.uint8), "ends")
    data = Data("ends", (1, 2), make_domains([("x", ends, ends), ("y", ends, ends)]))
    batch = Batches(data, 1, seed=0, flip=False).batch(0)["a"]
    assert batch.flatten().tolist() == [-1.0, 1.0] and batch.shape == (1, 1, 1, 2)


def test_flip_mirrors_about_half() -> None:
    batches = Batches(ramps(), 100, seed=0)
    columns = pixels(batches.batch(0)["a"])[:, 1, 0]
    straight = (columns == torch.arange(8)).all(1)
    assert (straight | (columns == torch.arange(8).flip(0)).all(1)).all() and 30 < straight.sum() < 70


def test_crop_cuts_a_window_of_the_larger_picture(tmp_path: Path) -> None:
    @dataclass
    class Grid(Numbered):
        def load(self, i: int) -> np.ndarray:
            y, x = np.mgrid[0 : self.size[0], 0 : self.size[1]]
            return np.stack([y, x, np.full_like(x, i)]).astype(np.uint8)

    grids = [Grid(9, channels=3) for _ in range(4)]
    data = Data("grid", (6, 5), make_domains([("x", grids[0], grids[1]), ("y", grids[2], grids[3])]))
    batches = Batches(data, 200, seed=0, flip=True, crop=3)
    assert grids[0].size == (9, 8) and grids[1].size == (4, 4)
    batch = pixels(batches.batch(0)["b"])
    top, left = batch[:, 0, 0, 0], batch[:, 1, 0].min(1).values
    assert set(top.tolist()) == set(left.tolist()) == {0, 1, 2, 3}
    assert (batch[:, 0] == top[:, None, None] + torch.arange(6)[:, None]).all()
    assert (batch[:, 1].sort(-1).values == left[:, None, None] + torch.arange(5)).all()
    assert batch[:, 2, 0, 0].tolist() == indices(0, seed=0, domain=1, n=9, batch=200).tolist()


@pytest.mark.parametrize("options", [{}, {"crop": 2}, {"rank": 1, "world": 2}, {"limit_bytes": 0}])
def test_a_batch_is_a_function_of_the_step(options: dict[str, int]) -> None:
    def make() -> Batches:
        return Batches(ramps(), 4, 7, "cpu", True, **options)

    onwards = make()
    seen = [onwards.batch(step) for step in range(6)]
    resumed = make()
    for step in (5, 3):
        for letter, images in resumed.batch(step).items():
            assert torch.equal(images, seen[step][letter])
    assert not torch.equal(seen[0]["a"], seen[1]["a"])


def test_impossible_batches() -> None:
    for batch, crop in ((0, 0), (4, -1)):
        with pytest.raises(UserError, match="not possible"):
            Batches(ramps(), batch, seed=0, crop=crop)


def test_ranks_see_different_images() -> None:
    ranks = [Batches(ramps(), 5, seed=0, rank=rank, world=2) for rank in (0, 1)]
    assert not set(ranks[0].names(0)["a"]) & set(ranks[1].names(0)["a"])


def test_a_broken_file_in_training_is_named(tmp_path: Path) -> None:
    tree(tmp_path, "x", "y")
    broken = tmp_path / "train" / "y" / "001.png"
    broken.write_bytes(broken.read_bytes()[:-25])
    batches = Batches(open_data(str(tmp_path), size=8), 3, seed=0)
    with pytest.raises(UserError, match=r"001\.png"):
        batches.batch(0)


def test_domains_with_different_channels_and_three_of_them(tmp_path: Path) -> None:
    tree(tmp_path, "p", "q")
    tree(tmp_path, "r", grey=True)
    batch = Batches(open_data(str(tmp_path), size=(4, 12)), 2, seed=0).batch(0)
    assert {k: v.shape[1:] for k, v in batch.items()} == {"a": (3, 4, 12), "b": (3, 4, 12), "c": (1, 4, 12)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_on_cuda_equal_those_on_the_cpu() -> None:
    here, there = (Batches(ramps(), 6, seed=0, device=device, crop=2).batch(1) for device in ("cpu", "cuda"))
    for letter in here:
        assert there[letter].is_cuda and torch.allclose(here[letter], there[letter].cpu(), atol=1e-6)
