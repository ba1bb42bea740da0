"""Data: where domains come from, what is refused, and fingerprints."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import counts, grey_stack, pictures, refused, tree

from unitkit.data import open_data, registry
from unitkit.data.batches import Batches
from unitkit.data.files.bad import refuse_unreadable, unreadable
from unitkit.data.folders.held_out import hold_out
from unitkit.system.errors import UserError

SHARED = Path(os.environ.get("UNITKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


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
