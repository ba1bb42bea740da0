"""Data: where domains come from, what is refused, the order of samples, the cache, and the batches of a step."""

from __future__ import annotations

import gzip
import os
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unitkit.data import Data, open_data, registry
from unitkit.data.batches import Batches
from unitkit.data.cache import Decoded, memory_limit
from unitkit.data.domains import make_domains
from unitkit.data.files.bad import refuse_unreadable, unreadable
from unitkit.data.folders.held_out import hold_out
from unitkit.data.sampler import indices
from unitkit.data.sources import ImageArray
from unitkit.system import sizes
from unitkit.system.errors import UserError

SHARED = Path(os.environ.get("UNITKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pictures(folder: Path, count: int, *, first: int = 0, grey: bool = False, side: int = 8) -> None:
    """Images first, first + 1, ... of one flat colour, their number in the first channel."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        colour = np.full((side, side, 3), (i, 255 - i, 77), np.uint8)
        Image.fromarray(colour[..., 0] if grey else colour).save(folder / f"{i:03}.png")


def tree(root: Path, *labels: str, train: int = 3, test: int = 2, grey: bool = False) -> Path:
    for label in labels:
        pictures(root / "train" / label, train, grey=grey)
        pictures(root / "test" / label, test, first=100, grey=grey)
    return root


def counts(data: Data) -> dict[str, tuple[int, int]]:
    return {domain.label: (len(domain.train), len(domain.test)) for domain in data.domains.values()}


def refused(location: object, *words: str, **options: object) -> str:
    """Opening raises one line with these words in it."""
    with pytest.raises(UserError) as caught:
        open_data(str(location), **{"size": 8, **options})  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


# Folders


def test_train_and_test_folders(tmp_path: Path) -> None:
    data = open_data(str(tree(tmp_path, "smiling", "neutral")), size=(8, 6))
    assert data.labels == {"a": "neutral", "b": "smiling"}
    assert counts(data) == {"neutral": (3, 2), "smiling": (3, 2)}
    assert data.channels == {"a": 3, "b": 3} and data.size == (8, 6) and data.truth is None
    assert data.domains["b"].train.load(1).shape == (3, 8, 6)
    assert data.domains["b"].train.name(1) == str(tmp_path / "train" / "smiling" / "001.png")
    assert data.domains["b"].test.load(1)[0, 0, 0] == 101


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_of_the_test_split(tmp_path: Path, name: str) -> None:
    (tree(tmp_path, "x", "y") / "test").rename(tmp_path / name)
    assert counts(open_data(str(tmp_path), size=8)) == {"x": (3, 2), "y": (3, 2)}


def test_labels_choose_and_order(tmp_path: Path) -> None:
    tree(tmp_path, "p", "q", "r")
    assert open_data(str(tmp_path), size=8).labels == {"a": "p", "b": "q", "c": "r"}
    assert open_data(str(tmp_path), size=8, labels="r, p", domains=2).labels == {"a": "r", "b": "p"}
    refused(tmp_path, "'s'", "Choose from: p, q, r", labels="p,s")
    refused(tmp_path, "different labels", labels="p,p")
    refused(tmp_path, "two or more", labels="p")
    refused(tmp_path, "labels=p,q", domains=2)
    refused(tmp_path, "4 are needed", domains=4)
    refused(tmp_path, "3 are needed", domains=3, labels="p,q")


def test_channels_are_those_of_the_files(tmp_path: Path) -> None:
    tree(tmp_path, "grey", grey=True)
    tree(tmp_path, "rgb")
    assert open_data(str(tmp_path), size=8).channels == {"a": 1, "b": 3}
    forced = open_data(str(tmp_path), size=8, channels=1)
    assert forced.channels == {"a": 1, "b": 1} and forced.domains["b"].train.load(0).shape == (1, 8, 8)
    pictures(tmp_path / "test" / "grey", 1, first=150)
    assert open_data(str(tmp_path), size=8).channels == {"a": 3, "b": 3}
    refused(tmp_path, "channels=2", channels=2)


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, "x", "y")
    (tmp_path / "train" / "x" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "x" / "._000.png").write_text("no image")
    pictures(tmp_path / "train" / "x" / "deep" / "er", 2, first=50)
    pictures(tmp_path / "train" / "x" / ".thumbnails", 2)
    (tmp_path / "train" / ".git").mkdir()
    assert counts(open_data(str(tmp_path), size=8)) == {"x": (5, 2), "y": (3, 2)}


def test_label_folders_without_train(tmp_path: Path) -> None:
    pictures(tmp_path / "day", 60)
    pictures(tmp_path / "night", 60)
    data = open_data(str(tmp_path), size=8)
    for domain in data.domains.values():
        names = [[Path(split.name(i)).name for i in range(len(split))] for split in (domain.train, domain.test)]
        assert len(names[0]) + len(names[1]) == 60 and not set(names[0]) & set(names[1]) and 2 <= len(names[1]) <= 14
    a, b = data.domains.values()
    # Equal names are pairs in many sets: both of a pair are on one side.
    assert {Path(a.test.name(i)).name for i in range(len(a.test))} == {
        Path(b.test.name(i)).name for i in range(len(b.test))
    }


def test_train_without_test_holds_out(tmp_path: Path) -> None:
    pictures(tmp_path / "train" / "x", 2)
    pictures(tmp_path / "train" / "y", 2)
    assert counts(open_data(str(tmp_path), size=8)) == {"x": (1, 1), "y": (1, 1)}


def test_cyclegan_folders(tmp_path: Path) -> None:
    for name, count in {"trainA": 3, "trainB": 4, "testA": 1, "testB": 2}.items():
        pictures(tmp_path / name, count)
    assert counts(open_data(str(tmp_path), size=8)) == {"A": (3, 1), "B": (4, 2)}


def test_hold_out_is_stable_and_about_a_tenth() -> None:
    names = [f"image {i}" for i in range(5000)]
    held = hold_out(names)
    assert 0.08 < held.mean() < 0.12
    assert np.array_equal(hold_out(names[:3000]), held[:3000])
    for count in (2, 3, 5):
        for start in range(0, 300, count):
            some = hold_out(names[start : start + count])
            assert some.any() and not some.all()


# Several locations


def test_one_location_per_domain(tmp_path: Path) -> None:
    pictures(tmp_path / "day", 20)
    tree(tmp_path / "night", "street", "park")
    np.savez(tmp_path / "dusk.npz", images=np.zeros((20, 8, 8), np.uint8))
    where = f"{tmp_path / 'night'},{tmp_path / 'day'}, {tmp_path / 'dusk.npz'}"
    data = open_data(where, size=8)
    assert data.labels == {"a": "night", "b": "day", "c": "dusk"}
    assert counts(data)["night"] == (6, 4) and sum(counts(data)["dusk"]) == 20
    assert data.channels == {"a": 3, "b": 3, "c": 1}
    assert open_data(where, size=8, labels="dusk,night").labels == {"a": "dusk", "b": "night"}
    assert open_data(where, size=8, labels="night,day,dawn").labels["c"] == "dawn"
    refused(where, "'dawn'", labels="day,dawn,night")
    refused(f"{tmp_path / 'day'},{tmp_path / 'day'}", "twice")
    refused(f"{tmp_path / 'day'},", "between commas")


def test_two_locations_of_one_name(tmp_path: Path) -> None:
    pictures(tmp_path / "x" / "day", 3)
    pictures(tmp_path / "y" / "day", 3)
    places = [str(tmp_path / "x" / "day"), str(tmp_path / "y" / "day")]
    assert list(open_data(",".join(places), size=8).labels.values()) == places


def test_a_comma_in_a_path_that_exists(tmp_path: Path) -> None:
    tree(tmp_path / "me,you", "x", "y")
    assert open_data(str(tmp_path / "me,you"), size=8).labels == {"a": "x", "b": "y"}


# Lists


def test_list_files(tmp_path: Path) -> None:
    pictures(tmp_path / "pool", 30)
    lines = [f"pool/{i:03}.png\t{'odd' if i % 2 else 'even'}" for i in range(30)]
    (tmp_path / "all.txt").write_text("# a list\n\n" + "\n".join(lines))
    data = open_data(str(tmp_path / "all.txt"), size=8)
    assert data.labels == {"a": "even", "b": "odd"} and [sum(c) for c in counts(data).values()] == [15, 15]
    (tmp_path / "some.txt").write_text("pool/001.png\npool/002.png\n")
    pair = open_data(f"{tmp_path / 'some.txt'},{tmp_path / 'pool'}", size=8)
    assert pair.labels == {"a": "some", "b": "pool"} and counts(pair)["some"] == (1, 1)
    refused(tmp_path / "some.txt", "single domain")
    refused(f"{tmp_path / 'all.txt'},{tmp_path / 'pool'}", "several domains", "'even', 'odd'")


def test_bad_lists(tmp_path: Path) -> None:
    pictures(tmp_path, 2)
    path = tmp_path / "list.txt"
    path.write_text("000.png\tx\n# gone\n007.png\ty\n")
    refused(path, "line 3", "007.png")
    path.write_text("000.png\tx\n001.png\n")
    refused(path, "no label", "001.png")
    path.write_text("# nothing\n")
    refused(path, "names no image")
    path.write_bytes(b"\xff\xfe\x00")
    refused(path, "UTF-8")


# Arrays


def grey_stack(count: int, start: int = 0, side: int = 8) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.uint8)[:, None, None] * np.ones((side, side), np.uint8)


def test_npz_with_an_array_per_domain(tmp_path: Path) -> None:
    path = tmp_path / "both.npz"
    np.savez(
        path, x=grey_stack(20), y=grey_stack(9)[..., None].repeat(3, -1), y_test=grey_stack(4), classes=np.arange(20)
    )
    data = open_data(str(path), size=8)
    assert data.labels == {"a": "x", "b": "y"} and data.channels == {"a": 1, "b": 3}
    assert counts(data)["y"] == (9, 4) and sum(counts(data)["x"]) == 20
    assert data.domains["b"].test.load(3).tolist() == np.full((3, 8, 8), 3).tolist()
    rows = [int(data.domains["a"].test.name(i).split("[")[1][:-1]) for i in range(len(data.domains["a"].test))]
    assert [data.domains["a"].test.load(i)[0, 0, 0] for i in range(len(rows))] == rows
    refused(f"{path},{path}", "several domains")


@pytest.mark.parametrize("names", [("x_train", "x_test"), ("x_train",), ("images",), ("X",), ("x",)])
def test_npz_of_one_domain(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays = {name: grey_stack(10) for name in names}
    arrays["y"] = np.array([{}], dtype=object)  # classes, say: never read
    np.savez_compressed(tmp_path / "one.npz", **arrays)  # type: ignore[arg-type]
    tree(tmp_path / "other", "x")
    data = open_data(f"{tmp_path / 'one.npz'},{tmp_path / 'other'}", size=8)
    assert sum(counts(data)["one"]) == 10 * len(names)
    refused(tmp_path / "one.npz", "single domain")


def test_bad_npz(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros((3, 4)), b=np.zeros((2, 8, 8), np.uint8))
    refused(path, "a (3, 4), b (2, 8, 8)")
    np.savez(path, a=np.zeros((2, 8, 8), object), b=np.zeros((2, 8, 8), np.uint8))
    refused(path, "'a'", "allow_pickle")
    np.savez(path, a=grey_stack(9), b=np.zeros((9, 80, 80, 80), np.uint8))
    refused(path, "(9, 80, 80, 80)", "at most 64")
    np.savez(path, a=grey_stack(9), b=grey_stack(1))
    refused(path, "at least 2")
    np.savez(path, a=grey_stack(9), b=grey_stack(9))
    whole = path.read_bytes()
    for damaged in (b"", b"not a zip", whole[: len(whole) // 2], whole[:60] + b"\xff" * 200 + whole[260:]):
        path.write_bytes(damaged)
        refused(path, str(path))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
def test_array_layouts(channels: int) -> None:
    last = np.random.default_rng(0).integers(0, 256, (4, 15, 17, channels), dtype=np.uint8)
    first = last.transpose(0, 3, 1, 2)
    for array in (last, first, *([last[..., 0]] if channels == 1 else [])):
        images = ImageArray(array, "it")
        assert images.channels == channels and images.size == (15, 17) and np.array_equal(images.load(2), first[2])
    assert ImageArray(first[..., :13], "it").at((9, 9)).load(1).shape == (channels, 9, 9)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *((each, each) for each in ("uint8", "uint16", "float16", "float32")),
        *((each, "float32") for each in ("int8", "int16", "int32", "uint32", "int64", "float64", ">f8", ">i2")),
        *((">u2", "uint16"), (">f4", "float32"), ("bool", "uint8")),
    ],
)
def test_array_types(given: str, kept: str) -> None:
    array = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(given)
    images = ImageArray(array, "it")
    assert images.values.dtype == kept and images.load(1).dtype == kept
    assert np.array_equal(images.load(1)[0], array[1].astype(float) * (255 if given == "bool" else 1))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 4)),
        np.zeros((2, 4, 4), complex),
        np.zeros((2, 4, 4), object),
        np.full((2, 4, 4), "x"),
        np.zeros((2, 4, 4), [("x", float), ("y", float)]),
        np.zeros((2, 4, 4), "V8"),
        np.zeros((2, 4, 4), "datetime64[s]"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_of_no_images_are_named_as_what_they_are(bad: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"'it' (has shape|holds)"):
        ImageArray(bad, "it")


def idx(images: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{images.ndim}I", 0, kind, images.ndim, *images.shape) + images.tobytes()


def test_idx_files(tmp_path: Path) -> None:
    digits = tmp_path / "digits"
    digits.mkdir()
    (digits / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(grey_stack(12))))
    (digits / "t10k-images-idx3-ubyte").write_bytes(idx(grey_stack(5, 100)))
    (tmp_path / "other.idx").write_bytes(idx(grey_stack(10)))
    data = open_data(f"{digits},{tmp_path / 'other.idx'}", size=8)
    assert data.labels == {"a": "digits", "b": "other"} and data.channels == {"a": 1, "b": 1}
    assert counts(data)["digits"] == (12, 5) and sum(counts(data)["other"]) == 10
    assert data.domains["a"].test.load(0)[0, 0, 0] == 100
    refused(digits, "single domain", "'digits'")


def test_bad_idx(tmp_path: Path) -> None:
    tree(tmp_path / "other", "x")
    path = tmp_path / "x-ubyte"
    good = idx(grey_stack(10))
    for damaged, word in [
        (idx(np.arange(10, dtype=np.uint8)), "0x00000801"),
        (idx(grey_stack(10), kind=13), "2560 bytes, and holds 640"),
        (good[:-1], "639"),
        (good + b"x", "641"),
        (good[:7], "damaged"),
        (struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), "holds 0"),
    ]:
        path.write_bytes(damaged)
        refused(f"{path},{tmp_path / 'other'}", str(path), word)
    packed = tmp_path / "x-ubyte.gz"
    for damaged in (gzip.compress(good)[:-20], b"nothing", b"", gzip.compress(good)[:30] + b"\0" * 40):
        packed.write_bytes(damaged)
        refused(f"{packed},{tmp_path / 'other'}", str(packed))


# What is refused


def test_missing_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "faces", "x", "y")
    refused(tmp_path / "face", f"Did you mean '{tmp_path / 'faces'}'?")
    refused(tmp_path / "facess" / "train", f"Did you mean '{tmp_path / 'faces'}'?")
    refused(tmp_path / "0", "holds: faces")
    refused("", "does not exist")
    refused("portrait", "portraits", "Did you mean 'portraits'?")
    monkeypatch.chdir(tmp_path)
    refused("face", "Did you mean 'faces'?", "portraits")
    assert counts(open_data("faces", size=8)) == {"x": (3, 2), "y": (3, 2)}


def test_folders_that_hold_too_little(tmp_path: Path) -> None:
    refused(tmp_path, "no image", ".jpg")
    pictures(tmp_path / "x", 4)
    refused(tmp_path, "single domain", "'x'")
    refused(tmp_path / "x", "single domain")
    refused(tmp_path / "x" / "000.png", "one image")
    (tmp_path / "y").mkdir()
    refused(tmp_path, str(tmp_path / "y"), "no image", ".jpg, .jpeg, ")
    pictures(tmp_path / "y", 1)
    refused(tmp_path, str(tmp_path / "y"), "at least 2")
    tree(tmp_path / "z", "p", "q")
    for image in (tmp_path / "z" / "test" / "q").iterdir():
        image.unlink()
    refused(tmp_path / "z", str(tmp_path / "z" / "test" / "q"))
    (tmp_path / "z" / "test" / "q").rmdir()
    refused(tmp_path / "z", "no counterpart", "Choose from: p")
    assert open_data(str(tmp_path / "x") + "," + str(tmp_path / "z" / "train" / "q"), size=8).labels["b"] == "q"
    tree(tmp_path / "w", "p", "q")
    (tmp_path / "w" / "train").rename(tmp_path / "w" / "trian")
    refused(tmp_path / "w", "no 'train'")


def test_broken_headers_are_kept_in_their_places(tmp_path: Path) -> None:
    tree(tmp_path, "x", "y")
    (tmp_path / "train" / "x" / "001.png").write_bytes(b"")
    (tmp_path / "test" / "y" / "100.png").write_text("text")
    data = open_data(str(tmp_path), size=8)
    assert counts(data) == {"x": (3, 2), "y": (3, 2)} and data.channels == {"a": 3, "b": 3}
    assert [bad.place for bad in unreadable(data)] == [("a", "train", 1), ("b", "test", 0)]
    with pytest.raises(UserError, match=r"2 images cannot be decoded: .*001\.png.*; .*100\.png"):
        refuse_unreadable(data, "Mend them")
    for path in (tmp_path / "train" / "x").iterdir():
        path.write_bytes(b"\x89PNG")
    refused(tmp_path, "none of the 3 images of 'x' can be read", "000.png")


@pytest.mark.parametrize("size", [0, -8, (0, 8)])
def test_impossible_sizes(size: int) -> None:
    refused("portraits", "size=", size=size)


# Registered sources and fingerprints


def test_portraits() -> None:
    data = open_data("portraits", size=16)
    assert data.labels == {"a": "plain", "b": "glasses"} and len(set(counts(data).values())) == 1
    assert data.truth is not None
    image, worn = data.domains["a"].test.load(3), data.truth("ab", 3)
    assert image.shape == worn.shape == (3, 16, 16) and (image != worn).any() and (image == worn).mean() > 0.5
    assert np.array_equal(data.truth("aba", 3), image)
    shown = [split.load(0).tobytes() for d in data.domains.values() for split in (d.train, d.test)]
    assert len(set(shown)) == 4
    assert open_data("portraits", size=16, domains=3).labels["c"] == "hat"
    assert open_data("portraits", size=16, labels="hat,plain").labels == {"a": "hat", "b": "plain"}
    assert registry["portraits"](size=(16, 32), n=3, n_test=1).domains["b"].train.load(2).shape == (3, 16, 32)
    for options in (
        {"domains": 4},
        {"labels": "hat,hat"},
        {"labels": "hat,beard"},
        {"labels": "hat,plain", "domains": 3},
    ):
        refused("portraits", **options)
    refused("portraits", "'channels'", channels=1)
    refused("portraits", "16 or more", size=8)


def test_fingerprints(tmp_path: Path) -> None:
    tree(tmp_path, "x", "y")
    np.savez(tmp_path / "z.npz", p=grey_stack(9), q=grey_stack(9))
    before = open_data(str(tmp_path), size=8).fingerprint()
    assert open_data(str(tmp_path), size=8).fingerprint() == before
    assert open_data(str(tmp_path), size=8, labels="y,x").fingerprint() != before
    os.utime(tmp_path / "train" / "x" / "000.png", (1, 1))
    assert open_data(str(tmp_path), size=8).fingerprint() != before
    arrays = open_data(str(tmp_path / "z.npz"), size=8).fingerprint()
    np.savez(tmp_path / "z.npz", p=grey_stack(9, 1), q=grey_stack(9))
    assert open_data(str(tmp_path / "z.npz"), size=8).fingerprint() != arrays
    drawn = [registry["portraits"](size=16, seed=seed).fingerprint() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


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


# Real images


def shared(*names: str) -> str:
    missing = [name for name in names if not (SHARED / name).exists()]
    if missing:
        pytest.skip(f"needs {missing[0]} in {SHARED} (or UNITKIT_SHARED_DATA)")
    return ",".join(str(SHARED / name) for name in names)


def test_real_faces() -> None:
    data = open_data(shared("faces_smile64"), size=64, labels="neutral,smiling")
    assert counts(data) == {"neutral": (4000, 600), "smiling": (3312, 373)}
    assert data.channels == {"a": 1, "b": 1}
    assert Batches(data, 4, seed=0).batch(0)["b"].std() > 0.1


def test_real_digits() -> None:
    data = open_data(shared("mnist", "usps/usps.npz"), size=32)
    assert counts(data) == {"mnist": (60000, 10000), "usps": (7291, 2007)}
    assert data.domains["a"].train.load(0).shape == data.domains["b"].train.load(0).shape == (1, 32, 32)


def test_real_maps() -> None:
    data = open_data(shared("maps256"), size=256)
    assert counts(data) == {"map": (1096, 1098), "satellite": (1096, 1098)} and data.channels == {"a": 3, "b": 3}


def test_a_list_with_a_mark_of_order(tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (8, 8), (i,) * 3).save(tmp_path / f"{i}.png")
    lines = "\r\n".join(f"{i}.png\t{'xy'[i % 2]}" for i in range(4))
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert list(open_data(str(tmp_path / "list.txt"), size=8).labels.values()) == ["x", "y"]
