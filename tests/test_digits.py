"""Digits: every format reads back equal, the target shows no classes, images and classes stay together."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from digit_files import (
    WRITERS,
    cut_off,
    idx,
    libsvm,
    only,
    refused,
    some,
    stack,
    write_house_npz,
    write_idx,
    write_mat,
    write_npz,
    write_plain_idx,
)

from unitkit.data import Data, digits, open_data, spec
from unitkit.data.drawn import numerals
from unitkit.data.folders.held_out import hold_out


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(tmp_path, monkeypatch)


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
