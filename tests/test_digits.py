"""Digits: every format reads back equal, the target shows no classes, images and classes stay together."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import h5py
import numpy as np
import pytest
import scipy.io

from unitkit.data import Data, digits, open_data, spec
from unitkit.data.drawn import numerals
from unitkit.data.folders.held_out import hold_out
from unitkit.data.sources import Images
from unitkit.system.errors import UserError

SHARED = Path(os.environ.get("UNITKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
SIDES = {"mnist": 28, "usps": 16, "svhn": 32}
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
USPS_TRAIN = [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
USPS_TEST = [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
SVHN_FIRST = [66, 227, 141, 134, 110, 112, 78, 70, 78, 67]

Split = tuple[np.ndarray, np.ndarray]  # images and classes


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of the machine's, and no network."""

    def refuse(*args: object, **options: object) -> None:
        raise URLError("no route\nto host")

    monkeypatch.delenv("UNITKIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)


def some(name: str, n: int, seed: int = 0) -> Split:
    """Images of noise, each with its row in the first pixel, and classes that are no function of the row."""
    rng = np.random.default_rng((seed, n))
    side = SIDES[name]
    images = rng.integers(0, 256, (n, side, side, 3) if name == "svhn" else (n, side, side), np.uint8)
    images[:, 0, 0] = (np.arange(n) % 256).reshape(-1, *[1] * (images.ndim - 3))
    return images, rng.integers(0, 10, n)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, train: Split, test: Split | None, pack: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, split in (("train", train), ("t10k", test)):
        if split:
            for kind, array in (("images-idx3", split[0]), ("labels-idx1", split[1])):
                content = gzip.compress(idx(array), 1) if pack else idx(array)
                (folder / f"{stem}-{kind}-ubyte{'.gz' if pack else ''}").write_bytes(content)


def write_plain_idx(folder: Path, train: Split, test: Split | None) -> None:
    write_idx(folder, train, test, pack=False)


def write_torchvision(folder: Path, train: Split, test: Split | None) -> None:
    write_idx(folder / "MNIST" / "raw", train, test)


def write_npz(name: str) -> Callable[[Path, Split, Split | None], None]:
    def write(folder: Path, train: Split, test: Split | None) -> None:
        rest = {"x_test": test[0], "y_test": test[1]} if test else {}
        np.savez(folder / f"{name}.npz", x_train=train[0], y_train=train[1].astype(np.uint8), **rest)

    return write


def write_h5(folder: Path, train: Split, test: Split | None) -> None:
    with h5py.File(folder / "usps.h5", "w") as file:
        for split, part in (("train", train), ("test", test)):
            if part:
                file[f"{split}/data"] = part[0].reshape(len(part[0]), 256).astype(np.float32) / 255
                file[f"{split}/target"] = part[1]


def libsvm(images: np.ndarray, labels: np.ndarray) -> bytes:
    """`labels` are the digits plus 1."""
    rows = zip(labels, images.reshape(len(images), -1) / 127.5 - 1, strict=True)
    lines = (f"{label} " + " ".join(f"{i}:{v:.4f}" for i, v in enumerate(row, 1)) + " \n" for label, row in rows)
    return bz2.compress("".join(lines).encode())


def write_bz2(folder: Path, train: Split, test: Split | None) -> None:
    for name, part in (("usps.bz2", train), ("usps.t.bz2", test)):
        if part:
            (folder / name).write_bytes(libsvm(part[0], part[1] + 1))


def write_mat(folder: Path, train: Split, test: Split | None) -> None:
    for name, part in (("train", train), ("test", test)):
        if part:
            labels = np.where(part[1] == 0, 10, part[1]).astype(np.uint8)[:, None]
            content = {"X": part[0].transpose(1, 2, 3, 0), "y": labels}
            scipy.io.savemat(folder / f"{name}_32x32.mat", content, do_compression=True)


def write_house_npz(folder: Path, train: Split, test: Split | None) -> None:
    np.savez(folder / "train_first.npz", X=train[0], y=train[1])
    if test:  # with the digit 0 as in the original
        np.savez(folder / "test.npz", X=test[0], y=np.where(test[1] == 0, 10, test[1]))


WRITERS: dict[str, tuple[str, Callable[[Path, Split, Split | None], None]]] = {
    "idx": ("mnist", write_plain_idx),
    "idx.gz": ("mnist", write_idx),
    "torchvision": ("mnist", write_torchvision),
    "keras": ("mnist", write_npz("mnist")),
    "usps.npz": ("usps", write_npz("usps")),
    "h5": ("usps", write_h5),
    "bz2": ("usps", write_bz2),
    "mat": ("svhn", write_mat),
    "X, y": ("svhn", write_house_npz),
    "svhn.npz": ("svhn", write_npz("svhn")),
}


def stack(images: Images) -> np.ndarray:
    """All images as in `some`: (N, H, W), or (N, H, W, 3) in colour."""
    found = np.stack([images.load(i) for i in range(len(images))])
    return found[:, 0] if found.shape[1] == 1 else found.transpose(0, 2, 3, 1)


def refused(*words: object, **options: Any) -> str:
    """Opening raises one line with these words in it."""
    with pytest.raises(UserError) as caught:
        digits(**options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message
    return message


def only(folder: Path, name: str, **options: Any) -> Data:
    """The dataset as the source and as the target, at its own size, pixel by pixel as in its files."""
    options = {"padding": False, "size": SIDES[name], **options}
    return digits(source=name, target=name, folder=str(folder), **options)  # type: ignore[arg-type]


def need(*folders: str) -> str:
    for folder in folders:
        if not (SHARED / folder).is_dir():
            pytest.skip(f"no folder {SHARED / folder}")
    return str(SHARED)


# Formats


@pytest.mark.parametrize("inner", [True, False], ids=["in a folder of its name", "in the folder itself"])
@pytest.mark.parametrize("layout", WRITERS)
def test_every_format_reads_back_equal(tmp_path: Path, layout: str, inner: bool) -> None:
    name, write = WRITERS[layout]
    place = tmp_path / name if inner else tmp_path
    place.mkdir(exist_ok=True)
    train, test = some(name, 40), some(name, 15)
    write(place, train, test)
    data = only(tmp_path, name)
    a, b = data.domains.values()
    assert data.labels == {"a": name, "b": f"{name} unlabelled"}
    assert data.channels == dict.fromkeys("ab", 3 if name == "svhn" else 1)
    for domain in (a, b):
        np.testing.assert_array_equal(stack(domain.train), train[0])
        np.testing.assert_array_equal(stack(domain.test), test[0])
        np.testing.assert_array_equal(domain.test_classes, test[1])
        assert domain.test_classes is not None and domain.test_classes.dtype == np.int64
    np.testing.assert_array_equal(a.train_classes, train[1])
    assert a.train_classes is not None and a.train_classes.dtype == np.int64 and b.train_classes is None
    facts = data.facts["domains"]
    assert facts["a"]["checksum"] == facts["b"]["checksum"] == "unverified"
    assert facts["a"]["training_images"] == 40 and facts["a"]["test_images"] == 15
    assert facts["a"]["test_split"] == "official" and not any("/" in file for file in facts["a"]["files"])


@pytest.mark.parametrize("layout", WRITERS)
def test_without_a_test_split_a_tenth_is_held_out(tmp_path: Path, layout: str) -> None:
    name, write = WRITERS[layout]
    images, classes = some(name, 60)
    write(tmp_path, (images, classes), None)
    data = only(tmp_path, name)
    held = hold_out([str(i) for i in range(60)])
    assert 1 <= held.sum() <= 14 and "one in ten" in data.facts["domains"]["b"]["test_split"]
    for domain in data.domains.values():
        np.testing.assert_array_equal(stack(domain.train), images[~held])
        np.testing.assert_array_equal(stack(domain.test), images[held])
        np.testing.assert_array_equal(domain.test_classes, classes[held])
    np.testing.assert_array_equal(data.domains["a"].train_classes, classes[~held])
    assert data.domains["b"].train_classes is None


@pytest.mark.parametrize("layout", WRITERS)
def test_damaged_files_are_named(tmp_path: Path, layout: str) -> None:
    name, write = WRITERS[layout]
    write(tmp_path, some(name, 30), some(name, 10))
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        good = path.read_bytes()
        for bad in (good[: len(good) // 2], good[:-1], good[:3], b"", b"nothing of the kind" * 20):
            if bad == good[:-1] and path.suffix == ".npz":
                continue  # the last byte of a zip is the end of a comment that may be cut
            path.write_bytes(bad)
            refused(path.name, source=name, target=name, folder=str(tmp_path))
        path.write_bytes(good)
    only(tmp_path, name)


@pytest.mark.parametrize("layout", WRITERS)
def test_labels_must_be_as_many_as_images_and_digits(tmp_path: Path, layout: str) -> None:
    name, write = WRITERS[layout]
    images, classes = some(name, 30)
    for wrong in (11, 13):
        strange = classes.copy()
        strange[7] = wrong
        write(tmp_path, (images, strange), some(name, 10))
        refused("row 7", "0 to 9", source=name, target=name, folder=str(tmp_path))
    if layout != "bz2":  # where each line has both
        write(tmp_path, (images, classes[:-2]), some(name, 10))
        refused("28 labels", "30 images", source=name, target=name, folder=str(tmp_path))


def test_labels_that_are_no_integers(tmp_path: Path) -> None:
    images, classes = some("usps", 30)
    for labels, word in [
        (classes + 0.5, "row 0"),
        (np.full(30, np.nan), "row 0"),
        (classes[:, None] == np.arange(10), "(30, 10)"),
        (np.array([str(c) for c in classes]), "<U1"),
    ]:
        np.savez(tmp_path / "usps.npz", x_train=images, y_train=labels)
        refused("usps.npz:y_train", word, source="usps", target="usps", folder=str(tmp_path))
    np.savez(tmp_path / "usps.npz", x_train=images, y_train=classes[:, None].astype(np.float64))
    assert len(only(tmp_path, "usps").domains) == 2


def test_mnist_files_of_the_wrong_kind(tmp_path: Path) -> None:
    train, test = some("mnist", 20), some("mnist", 10)
    write_plain_idx(tmp_path, train, test)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(train[0]))
    refused(labels, "0x00000803", "0x00000801", source="mnist", target="mnist", folder=str(tmp_path))
    images.write_bytes(idx(train[1]))
    refused(images, "0x00000801", "0x00000803", source="mnist", target="mnist", folder=str(tmp_path))
    images.write_bytes(idx(train[0]))
    labels.unlink()
    refused(images, f"'{labels.name}.gz'", source="mnist", target="mnist", folder=str(tmp_path))
    labels.write_bytes(idx(train[1]))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    refused("t10k-labels-idx1-ubyte.gz", source="mnist", target="printed", folder=str(tmp_path))


def test_other_content(tmp_path: Path) -> None:
    options: dict[str, Any] = {"source": "usps", "target": "usps", "folder": str(tmp_path)}
    images, classes = some("usps", 20)
    np.savez(tmp_path / "usps.npz", pictures=images)
    refused("usps.npz", "pictures (20, 16, 16)", "x_train", **options)
    np.savez(tmp_path / "usps.npz", x_train=images)
    refused("usps.npz", "y_train", **options)
    np.savez(tmp_path / "usps.npz", x_train=images[:, 0], y_train=classes)
    refused("usps.npz", "(20, 16)", **options)
    (tmp_path / "usps.npz").unlink()
    with h5py.File(tmp_path / "usps.h5", "w") as file:
        file["train/data"] = images.reshape(20, 256) / 255
    refused("usps.h5", "train/target", **options)
    (tmp_path / "usps.h5").unlink()
    for text in ("1 1:0 2:0\n", "1 " + " ".join(f"{i}:0" for i in range(256)) + "\n"):
        (tmp_path / "usps.bz2").write_bytes(bz2.compress(text.encode()))
        refused("usps.bz2", "256:VALUE", **options)
    (tmp_path / "usps.bz2").write_bytes(libsvm(images, classes))  # with a label 0, which is none there
    refused("usps.bz2", "label 0", **options)
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(("1 " + " ".join(f"{i}:2" for i in range(1, 257))).encode()))
    refused("usps.bz2", "expected -1 to 1", **options)


def test_other_content_of_svhn(tmp_path: Path) -> None:
    options: dict[str, Any] = {"source": "svhn", "target": "svhn", "folder": str(tmp_path)}
    images, classes = some("svhn", 12)
    path = tmp_path / "train_32x32.mat"
    scipy.io.savemat(path, {"y": classes})
    refused(path.name, "no array 'X'", **options)
    scipy.io.savemat(path, {"X": images, "y": classes})
    refused(path.name, "(12, 32, 32, 3)", "(32,32,3,N)", **options)
    scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0)})
    refused(path.name, "no array 'y'", **options)
    path.unlink()
    write_house_npz(tmp_path, (images, classes), None)
    write_house_npz(tmp_path, (images, classes), some("svhn", 5))
    np.savez(tmp_path / "train_more.npz", X=images, y=classes)
    refused("train_first.npz, train_more.npz", **options)


# The target


def test_noise_in_the_targets_labels_changes_nothing(tmp_path: Path) -> None:
    train, test = some("mnist", 50), some("mnist", 20)
    write_idx(tmp_path, train, test)

    def open_target(**options: Any) -> Data:
        return digits(source="printed", target="mnist", folder=str(tmp_path), n=4, n_test=2, **options)

    for options in ({}, {"invert": True}):
        clean = open_target(**options)
        labels = tmp_path / "train-labels-idx1-ubyte.gz"
        good = labels.read_bytes()
        for noise in (gzip.compress(idx(9 - train[1])), b"noise", None):
            labels.unlink() if noise is None else labels.write_bytes(noise)
            noisy = open_target(**options)
            assert noisy.fingerprint() == clean.fingerprint() and noisy.facts == clean.facts
            np.testing.assert_array_equal(stack(noisy.domains["b"].train), stack(clean.domains["b"].train))
            assert noisy.domains["b"].train_classes is None
        labels.write_bytes(good)
        assert labels.name not in clean.facts["domains"]["b"]["files"]


@pytest.mark.parametrize("layout", ["usps.npz", "h5", "bz2"])
def test_a_permutation_of_the_targets_labels_changes_nothing(tmp_path: Path, layout: str) -> None:
    write = WRITERS[layout][1]
    train, test = some("usps", 50), some("usps", 20)

    def fingerprint(classes: np.ndarray, source: str) -> str:
        write(tmp_path, (train[0], classes), test)
        return digits(source=source, target="usps", folder=str(tmp_path), n=4, n_test=2).fingerprint()  # type: ignore[arg-type]

    assert fingerprint(train[1], "printed") == fingerprint(train[1][::-1], "printed")
    assert fingerprint(train[1], "usps") != fingerprint(train[1][::-1], "usps")  # classes of the source do count


def test_inverted_images_follow_the_others(tmp_path: Path) -> None:
    train, test = some("mnist", 30), some("mnist", 10)
    write_idx(tmp_path, train, test)
    plain, both = only(tmp_path, "mnist"), only(tmp_path, "mnist", invert=True)
    target = both.domains["b"]
    assert len(target.train) == 60 and len(target.test) == 10 and len(both.domains["a"].train) == 30
    np.testing.assert_array_equal(stack(target.train), np.concatenate([train[0], 255 - train[0]]))
    np.testing.assert_array_equal(stack(target.test), test[0])
    np.testing.assert_array_equal(target.test_classes, test[1])
    assert target.train_classes is None and target.train.name(33) == f"{target.train.name(3)} (inverted)"
    assert target.train.at((9, 7)).load(40).shape == (1, 9, 7) and both.fingerprint() != plain.fingerprint()
    assert both.facts["domains"]["b"]["inverted"] and both.facts["domains"]["b"]["training_images"] == 60
    assert both.name == "digits mnist -> mnist, full, with inverse"
    with pytest.raises(IndexError):
        target.train.load(60)


def test_images_of_usps_get_the_margin_of_mnist(tmp_path: Path) -> None:
    train, test = some("usps", 30), some("usps", 10)
    write_npz("usps")(tmp_path, train, test)
    framed = digits(source="usps", target="usps", folder=str(tmp_path), size=22)
    for domain in framed.domains.values():
        for images, split in (domain.train, train), (domain.test, test):
            np.testing.assert_array_equal(stack(images), np.pad(split[0], ((0, 0), (3, 3), (3, 3))))
    assert framed.domains["a"].train.name(3) == only(tmp_path, "usps").domains["a"].train.name(3)
    assert framed.name == "digits usps -> usps, full, usps with padding"
    assert (
        framed.facts["domains"]["b"]["padding"]
        and framed.fingerprint() != only(tmp_path, "usps", size=22).fingerprint()
    )


# Channels and drawn looks


def test_grey_and_colour_meet_in_colour(tmp_path: Path) -> None:
    grey, colour = some("mnist", 20), some("svhn", 20)
    write_idx(tmp_path, grey, some("mnist", 5))
    write_mat(tmp_path, colour, some("svhn", 5))
    data = digits(source="svhn", target="mnist", folder=str(tmp_path), size=(20, 24))
    assert data.channels == {"a": 3, "b": 3} and data.size == (20, 24)
    assert {d.train.load(3).shape for d in data.domains.values()} == {(3, 20, 24)}
    assert np.ptp(data.domains["b"].train.load(3), axis=0).max() == 0
    forced = digits(source="svhn", target="mnist", folder=str(tmp_path), channels=1)
    assert forced.domains["a"].train.load(3).shape == (1, 32, 32)
    mixed = digits(source="mnist", target="printed", folder=str(tmp_path), n=5, n_test=3)
    assert mixed.channels == {"a": 1, "b": 1} and mixed.domains["b"].test.load(2).shape == (1, 32, 32)
    wide = digits(source="mnist", target="printed", folder=str(tmp_path), n=5, n_test=3, channels=3)
    assert wide.channels == {"a": 3, "b": 3}
    np.testing.assert_array_equal(wide.domains["b"].test.load(2)[:1], mixed.domains["b"].test.load(2))


def test_a_folder_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    refused("rendered and printed are drawn", "mnist, usps, svhn", "leave data out", folder=str(tmp_path))


def test_drawn_looks() -> None:
    data = open_data("digits", size=16, seed=3)
    assert data.labels == {"a": "rendered", "b": "printed"} and data.channels == {"a": 3, "b": 3}
    assert {k: (len(d.train), len(d.test)) for k, d in data.domains.items()} == dict.fromkeys("ab", (4096, 1024))
    small = spec("digits", size=16, seed=3, n=40, n_test=20).build()
    for place, domain in enumerate(small.domains.values()):
        for split, images in enumerate((domain.train, domain.test)):
            keys = [(3, split, place, i) for i in range(len(images))]
            drawn = numerals.render(keys, domain.label, size=(16, 16))
            np.testing.assert_array_equal(np.stack([images.load(i) for i in range(len(images))]), drawn)
            classes = domain.test_classes if split else domain.train_classes
            if place == 0 or split:
                np.testing.assert_array_equal(classes, numerals.classes(keys))
            else:
                assert classes is None
    grey = spec("digits", size=16, seed=3, n=40, n_test=20, source="printed", channels=1).build()
    same = digits(size=16, seed=3, n=40, n_test=20, source="printed")
    assert grey.channels == same.channels == {"a": 1, "b": 1} and grey.fingerprint() == same.fingerprint()
    assert same.labels == {"a": "printed", "b": "printed unlabelled"}
    assert same.fingerprint() != digits(size=16, seed=4, n=40, n_test=20, source="printed").fingerprint()
    first, second = ({domain.train.load(i).tobytes() for i in range(40)} for domain in same.domains.values())
    assert not first & second
    assert same.domains["b"].train.at((20, 12)).load(0).shape == (1, 20, 12)
    assert same.facts["domains"]["b"]["checksum"] == "drawn" and same.facts["domains"]["b"]["files"] == []
    assert json.loads(json.dumps(same.facts)) == same.facts


# The sampled protocol


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST with 2600 training images and USPS with 2100; class and row stand in an image's first pixels."""
    folder = tmp_path_factory.mktemp("numbered")
    splits = {}
    for name, n in (("mnist", 2600), ("usps", 2100)):
        images, classes = some(name, n)
        images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = classes, np.arange(n) // 256, np.arange(n) % 256
        splits[name] = images, classes
    write_plain_idx(folder, splits["mnist"], some("mnist", 30))
    write_npz("usps")(folder, splits["usps"], some("usps", 20))
    return folder


def rows(images: Images) -> list[int]:
    heads = np.stack([images.load(i)[0, 0, :3] for i in range(len(images))]).astype(int)
    return [int(row) for row in heads[:, 1] * 256 + heads[:, 2]]


def test_sampled_counts_and_draws(numbered: Path) -> None:
    drawn = {}
    for seed in (0, 0, 1):
        data = only(numbered, "mnist", protocol="sampled", seed=seed)
        a, b = data.domains.values()
        found = rows(a.train)
        assert len(set(found)) == len(found) == 2000 and len(a.test) == len(b.test) == 30
        # Source and target are the same draw: an oracle sees what the other sees, with its classes.
        assert rows(b.train) == found and b.train_classes is None
        assert drawn.setdefault(seed, found) == found
        heads = [a.train.load(i)[0, 0, 0] for i in range(2000)]
        np.testing.assert_array_equal(a.train_classes, heads)
        assert data.name == "digits mnist -> mnist, sampled" and data.facts["protocol"] == "sampled"
        assert data.facts["domains"]["a"]["training_images"] == 2000
    assert drawn[0] != drawn[1] and 1450 < len(set(drawn[0]) & set(drawn[1])) < 1630  # 2000 * 2000 / 2600 = 1538
    # From the whole split, not its start: 2000 of 2600 rows have a mean of 1299.5 +- 8.
    assert abs(np.mean(drawn[0]) - 1299.5) < 40


def test_sampled_draws_hang_on_the_dataset_and_not_on_its_role(numbered: Path) -> None:
    options: dict[str, Any] = {"folder": str(numbered), "size": 28, "protocol": "sampled", "channels": 1}
    there = digits(source="mnist", target="usps", **options).domains
    back = digits(source="usps", target="mnist", **options).domains
    assert len(there["b"].train) == 1800 and len(there["b"].test) == 20
    assert there["a"].train.fingerprint() == back["b"].train.fingerprint()
    assert there["b"].train.fingerprint() == back["a"].train.fingerprint()
    assert there["b"].train_classes is None and back["b"].train_classes is None
    assert back["a"].train_classes is not None and len(back["a"].train_classes) == 1800


def test_sampled_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    refused("mnist and usps", "target is svhn", source="mnist", target="svhn", protocol="sampled")
    refused("mnist and usps", "source is rendered", target="usps", protocol="sampled")
    write_idx(tmp_path, some("mnist", 30), some("mnist", 10))
    refused("2000", "30", source="mnist", target="mnist", protocol="sampled", folder=str(tmp_path))


# Where files are looked for


def test_arguments_that_cannot_be() -> None:
    refused("'minst'", "Did you mean 'mnist'?", source="minst")
    refused("target 'minst'", target="minst")
    refused("protocol 'sample'", "sampled", protocol="sample")
    refused("domains", "3 are needed", domains=3)
    refused("channels=2", channels=2)
    refused("0x8", size=(0, 8))
    refused("seed=-1", seed=-1)
    refused("n=0", n=0)
    refused("4x4", "8 or more", size=4)
    with pytest.raises(UserError, match="source to be"):
        spec("digits", source="minst")


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    refused("no folder", "mnist", "train-images-idx3-ubyte", source="mnist", folder=str(tmp_path / "none"))
    (tmp_path / "notes.txt").write_text("")
    message = refused("notes.txt", "usps.npz", "usps.h5", "usps.bz2", source="usps", folder=str(tmp_path))
    assert str(tmp_path / "usps") in message and "download" not in message
    (tmp_path / "usps").mkdir()
    (tmp_path / "usps" / "usps.zip").write_text("")
    refused("usps.zip", "notes.txt", source="usps", folder=str(tmp_path))
    (tmp_path / "svhn").mkdir()
    write_mat(tmp_path / "svhn", some("svhn", 3), some("svhn", 3))
    (tmp_path / "svhn" / "train_32x32.mat").unlink()
    refused("train_32x32.mat", "holds: test_32x32.mat", source="svhn", folder=str(tmp_path))


@pytest.mark.parametrize("name", SIDES)
def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("UNITKIT_DATA", str(tmp_path / "mine"))
    cache = tmp_path / "cache" / "unitkit" / "digits"
    places = [tmp_path / "mine" / name, tmp_path / "mine", cache / name, cache]
    refused(*(f"'{place}'" for place in places), "no route to host", "data=FOLDER", "npz", source=name)
    assert list(cache.iterdir()) == []  # what failed leaves nothing


def test_the_variable_comes_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, cache, given = (tmp_path / part for part in ("mine", "cache/unitkit/digits/usps", "given"))
    for folder, n in ((mine, 10), (cache, 20), (given, 30)):
        folder.mkdir(parents=True)
        write_npz("usps")(folder, some("usps", n), some("usps", 5))
    assert len(digits(source="usps").domains["a"].train) == 20
    monkeypatch.setenv("UNITKIT_DATA", str(mine))
    assert len(digits(source="usps").domains["a"].train) == 10
    assert len(digits(source="usps", folder=str(given)).domains["a"].train) == 30


class Answer(io.BytesIO):
    """What a server sends."""

    def __init__(self, url: str, content: bytes) -> None:
        super().__init__(content)
        self.url, self.length = url, len(content)


def test_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    server, asked = tmp_path / "server", []
    server.mkdir()
    splits = {name: (some(name, 12), some(name, 6)) for name in SIDES}
    write_idx(server, *splits["mnist"])
    write_bz2(server, *splits["usps"])
    write_mat(server, *splits["svhn"])

    def urlopen(request: Request, *args: object) -> Answer:
        asked.append(request.full_url)
        if "ossci" in request.full_url:  # the first of two mirrors
            raise URLError("down")
        return Answer(request.full_url, (server / request.full_url.rpartition("/")[2]).read_bytes())

    def md5(name: str) -> str:
        return hashlib.md5((server / name).read_bytes()).hexdigest()

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    cache = tmp_path / "cache" / "unitkit" / "digits"
    # These are not the published files: the download is refused.
    refused("the download failed", "usps.t.bz2", "data=FOLDER", source="usps")
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(datasets.MNIST, "resources", [(name, md5(name)) for name, _ in datasets.MNIST.resources])
    for dataset in (datasets.USPS, datasets.SVHN):
        listed = {
            split: [url, file, md5(file)] for split, (url, file, _) in dataset.split_list.items() if split != "extra"
        }
        monkeypatch.setattr(dataset, "split_list", listed)
    for name, (train, test) in splits.items():
        data = digits(source=name, target=name, size=SIDES[name], padding=False)  # type: ignore[arg-type]
        np.testing.assert_array_equal(stack(data.domains["a"].train), train[0])
        np.testing.assert_array_equal(data.domains["b"].test_classes, test[1])
    assert sorted(path.name for path in cache.iterdir()) == sorted(SIDES)
    before = len(asked)
    digits(source="usps", target="svhn")
    assert len(asked) == before  # once there, the network is left alone


# The real files


def histogram(classes: np.ndarray | None) -> list[int]:
    assert classes is not None and classes.dtype == np.int64
    return np.bincount(classes, minlength=10).tolist()


def test_real_counts_classes_and_checksums() -> None:
    folder = need("mnist", "usps")
    began = time.process_time()  # others may be using the machine
    data = digits(source="mnist", target="usps", folder=folder)
    assert time.process_time() - began < 2
    a, b = data.domains.values()
    assert [len(split) for split in (a.train, a.test, b.train, b.test)] == [60000, 10000, 7291, 2007]
    assert histogram(a.train_classes) == MNIST_TRAIN and histogram(a.test_classes) == MNIST_TEST
    assert histogram(b.test_classes) == USPS_TEST and b.train_classes is None
    assert data.name == "digits mnist -> usps, full, usps with padding" and data.channels == {"a": 1, "b": 1}
    facts = data.facts["domains"]
    assert facts["a"]["checksum"] == "published" and facts["b"]["checksum"] == "unverified"
    assert len(facts["a"]["files"]) == 4 and facts["b"]["files"] == ["usps.npz"]
    assert data.domains["a"].train.load(59999).shape == (1, 32, 32)
    back = digits(source="usps", target="mnist", folder=folder, protocol="sampled")
    assert [len(d.train) for d in back.domains.values()] == [1800, 2000]
    assert [len(d.test) for d in back.domains.values()] == [2007, 10000]
    assert histogram(digits(source="usps", folder=folder).domains["a"].train_classes) == USPS_TRAIN
    assert back.facts["domains"]["b"]["checksum"] == "published" and len(back.facts["domains"]["b"]["files"]) == 3


def test_real_house_numbers() -> None:
    folder = need("svhn", "mnist")
    data = digits(source="svhn", target="svhn", folder=folder)
    a, b = data.domains.values()
    assert len(a.train) + len(a.test) == len(b.train) + len(b.test) == 1083 and data.channels == {"a": 3, "b": 3}
    assert a.train_classes is not None and a.test_classes is not None
    assert histogram(np.concatenate([a.train_classes, a.test_classes])) == SVHN_FIRST


def test_the_unpacked_files_of_mnist_are_the_published_ones(tmp_path: Path) -> None:
    folder = Path(need("mnist"))
    for path in (folder / "mnist").glob("*.gz"):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    packed, plain = (digits(source="mnist", folder=str(place), n=4, n_test=4) for place in (folder, tmp_path))
    assert plain.facts["domains"]["a"]["checksum"] == "published"
    assert plain.fingerprint() == packed.fingerprint()
    labels = tmp_path / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[8] = 0  # relabelled: a 5 becomes a 0
    labels.write_bytes(content)
    noisy = digits(source="mnist", folder=str(tmp_path), n=4, n_test=4)
    assert noisy.facts["domains"]["a"]["checksum"] == "unverified" and noisy.fingerprint() != plain.fingerprint()
