"""Folders of images: what counts as a split, what pairs with what, links, and what is passed over."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from commands import TINY, one_line, unitkit
from PIL import Image

from unitkit import UserError, open_data
from unitkit.commands.translate import jobs
from unitkit.data import Data
from unitkit.data.folders.listing import passed_over, read_folder
from unitkit.data.folders.plain import plain_images
from unitkit.data.folders.splits import refuse_splits, split_of


def image(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {".jfif": "JPEG", ".jpe": "JPEG"}
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path, format=kinds.get(path.suffix.lower()))
    return path


def fill(folder: Path, count: int = 3, first: int = 0) -> Path:
    for i in range(first, first + count):
        image(folder / f"{i:03}.png", i)
    return folder


def counts(data: Data) -> dict[str, tuple[int, int]]:
    return {domain.label: (len(domain.train), len(domain.test)) for domain in data.domains.values()}


def refused(location: object, *words: str, **options: object) -> None:
    with pytest.raises(UserError) as caught:
        open_data(str(location), **{"size": 8, **options})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


# Splits


@pytest.mark.parametrize(
    ("name", "kind", "label"),
    [
        *((name, "train", "") for name in ("train", "Train", "TRAIN", "training", "Training", "trn", "train_set")),
        *((name, "train", "") for name in ("TrainingSet", "train-images", "trainval", "training_data")),
        *((name, "test", "") for name in ("test", "Test", "testing", "TESTING", "tst", "test_set", "Test Images")),
        *((name, "val", "") for name in ("val", "Val", "VALID", "validation", "Validation", "eval", "dev", "held-out")),
        *((name, "train", label) for name, label in (("trainA", "A"), ("train_a", "a"), ("Training-cats", "cats"))),
        *((name, "train", label) for name, label in (("TRAINA", "A"), ("traina", "a"), ("trainCats", "Cats"))),
        *((name, "train", label) for name, label in (("train1", "1"), ("train 2", "2"), ("train.x", "x"))),
        *((name, "test", label) for name, label in (("testB", "B"), ("Test_dogs", "dogs"), ("TEST-B", "B"))),
        *((name, "val", label) for name, label in (("valA", "A"), ("validation_a", "a"), ("val2017", "2017"))),
    ],
)
def test_names_of_splits(name: str, kind: str, label: str) -> None:
    split = split_of(name)
    assert split and (split.kind, split.label) == (kind, label)


@pytest.mark.parametrize("name", ["trainers", "Trainers", "TRAINERS", "valley", "Valley", "testimony", "contest", "a"])
def test_names_of_other_things(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize("train", ["Train", "TRAIN", "training", "Training", "trn", "train_set"])
@pytest.mark.parametrize("test", ["Test", "TEST", "testing", "Val", "VALIDATION", "valid", "test_set"])
def test_splits_however_they_are_spelt(tmp_path: Path, train: str, test: str) -> None:
    for label in "cat", "dog":
        fill(tmp_path / train / label)
        fill(tmp_path / test / label, 2, 50)
    assert counts(open_data(str(tmp_path), size=8)) == {"cat": (3, 2), "dog": (3, 2)}
    # The same in each label's own folder, and as one of several locations.
    for label in "cat", "dog":
        fill(tmp_path / "other" / label / train)
        fill(tmp_path / "other" / label / test, 2, 50)
    assert counts(open_data(str(tmp_path / "other"), size=8)) == {"cat": (3, 2), "dog": (3, 2)}
    both = f"{tmp_path / 'other' / 'cat'},{tmp_path / 'other' / 'dog'}"
    assert counts(open_data(both, size=8)) == {"cat": (3, 2), "dog": (3, 2)}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("trainA trainB", "testA testB"),
        ("train_a train_b", "test_a test_b"),
        ("Training-cats Training-dogs", "Val-Cats"),
        ("TRAINA TRAINB", "TESTA TESTB"),
        ("traina trainb", "testa testb"),
        ("trainA trainB", "test_a Test-B"),
    ],
)
def test_splits_with_the_label_behind(tmp_path: Path, train: str, test: str) -> None:
    for name in train.split():
        fill(tmp_path / name, 20)
    for name in test.split():
        fill(tmp_path / name, 2, 50)
    found = counts(open_data(str(tmp_path), size=8))
    assert next(iter(found.values())) == (20, 2) and len(found) == 2
    assert all(len(label) == 1 or label in ("cats", "dogs") for label in found)


@pytest.mark.parametrize(
    "folders",
    [
        ("Train", "Test"),
        ("training", "testing"),
        ("TRAIN", "val"),
        ("train2017", "val2017"),
        ("trainA", "testA"),
        ("train_cats", "val_dogs"),
        ("testA", "testB"),
        ("Testing", "cats"),
        ("train", "Train", "test"),
        ("train", "training"),
        ("train/x", "train/y", "test/x", "test/y", "Test/x"),
        ("trainA", "train_a", "trainB"),
        ("train/Training", "train/Test"),
        ("valid/cat", "valid/dog"),
        ("train/x", "train/y", "val/x", "val/y", "validation/x"),
    ],
)
def test_splits_never_become_domains(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for name in folders:
        fill(tmp_path / name, 4)
    if len(list(tmp_path.iterdir())) < len({name.partition("/")[0] for name in folders}):
        pytest.skip("this file system takes names of different case for one")
    refused(tmp_path, str(tmp_path))


def test_splits_given_as_locations_lists_or_arrays_are_no_domains(tmp_path: Path) -> None:
    for name in "Train", "test":
        fill(tmp_path / name, 4)
    refused(f"{tmp_path / 'Train'},{tmp_path / 'test'}", "'Train' and 'test'", "splits of one domain")
    lines = [f"{split}/{i:03}.png\t{split}" for split in ("Train", "test") for i in range(4)]
    (tmp_path / "all.txt").write_text("\n".join(lines))
    refused(tmp_path / "all.txt", "splits of one domain")
    stack = np.zeros((4, 8, 8), np.uint8)
    for names in ("train", "test"), ("Training", "Val"), ("cat_train", "cat_test"), ("images_TRAIN", "images_test"):
        np.savez(tmp_path / "all.npz", **dict.fromkeys(names, stack))
        refused(tmp_path / "all.npz", f"'{names[0]}' and '{names[1]}'", "LABEL_test")
    refuse_splits(["summer", "winter", "train", "trains"], "here")


def test_a_folder_called_as_a_split_begins(tmp_path: Path) -> None:
    for name in "trains", "planes", "valley", "train_station":
        fill(tmp_path / name, 20)
    assert set(counts(open_data(str(tmp_path), size=8))) == {"trains", "planes", "valley", "train_station"}


def test_two_folders_for_the_held_out_images(tmp_path: Path) -> None:
    for split, count in ("train", 3), ("val", 2), ("Test", 1):
        for label in "cat", "dog":
            fill(tmp_path / split / label, count)
    fill(tmp_path / "extra")
    data = open_data(str(tmp_path), size=8)
    assert counts(data) == {"cat": (3, 1), "dog": (3, 1)}
    assert data.notes == (f"not used in {tmp_path}, beside train, Test: extra, val",)


def test_one_folder_under_two_names_is_one_split(tmp_path: Path) -> None:
    for label in "cat", "dog":
        fill(tmp_path / "training" / label)
        fill(tmp_path / "test" / label, 2)
    (tmp_path / "train").symlink_to("training")
    assert counts(open_data(str(tmp_path), size=8)) == {"cat": (3, 2), "dog": (3, 2)}


def test_labels_pair_whatever_their_case(tmp_path: Path) -> None:
    for label, other in ("Cat", "cat"), ("caf\u00e9", unicodedata.normalize("NFD", "Caf\u00e9")):
        fill(tmp_path / "Train" / label)
        fill(tmp_path / "test" / other, 2)
    assert counts(open_data(str(tmp_path), size=8)) == {"Cat": (3, 2), "caf\u00e9": (3, 2)}
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "cats")
    refused(tmp_path, "Train/Cat", "no counterpart", "Did you mean 'cats'?")
    fill(tmp_path / "test" / "CAT")
    fill(tmp_path / "test" / "cAt")
    refused(tmp_path, "'CAT' and 'cAt'", "case")


# Pairs


def test_aligned_images_pair_by_the_path_below_the_label(tmp_path: Path) -> None:
    """Two drives have frames of the same names."""
    for label, suffix in ("sat", "png"), ("map", "bmp"):
        fill(tmp_path / "train" / label)
        for drive in 1, 2:
            for frame in 1, 2:
                image(tmp_path / f"val/{label}/drive{drive}/{frame:04}.{suffix}", 10 * drive + frame)
    data = open_data(str(tmp_path), size=8, labels="sat,map", aligned=True)
    assert data.truth
    for i in range(4):
        assert np.array_equal(data.truth("ab", i), data.domains["a"].test.load(i))
    (tmp_path / "val/map/drive2").rename(tmp_path / "val/map/drive3")
    refused(tmp_path, "not aligned", "drive2/0001", "2 of 4", labels="sat,map", aligned=True)


def test_pairs_in_other_layouts(tmp_path: Path) -> None:
    lines = []
    for label, suffix in ("sat", "png"), ("map", "bmp"):
        for drive in range(5):
            for frame in range(5):
                path = image(tmp_path / f"{label}/drive{drive}/{frame:04}.{suffix}", 10 * drive + frame)
                lines.append(f"{path.relative_to(tmp_path)}\t{label}")
                image(tmp_path / f"inner/drive{drive}/{label}/{frame:04}.{suffix}", 10 * drive + frame)
    (tmp_path / "all.txt").write_text("\n".join(lines))
    inner = [f"inner/drive{line.split('/')[1][5:]}/{line.split('/')[0]}/{line.split('/')[2]}" for line in lines]
    (tmp_path / "inner.txt").write_text("\n".join(inner))
    for label in "sat", "map":
        ours = [line.partition("\t")[0] for line in lines if line.endswith(label)]
        (tmp_path / "lists").mkdir(exist_ok=True)
        (tmp_path / "lists" / f"{label}.txt").write_text("\n".join(f"../{line}" for line in ours))
    lists = f"{tmp_path}/lists/sat.txt,{tmp_path}/lists/map.txt"
    for where in (
        f"{tmp_path / 'sat'},{tmp_path / 'map'}",
        str(tmp_path / "all.txt"),
        str(tmp_path / "inner.txt"),
        lists,
    ):
        data = open_data(where, size=8, aligned=True)
        assert data.truth
        for i in range(len(data.domains["a"].test)):
            assert np.array_equal(data.truth("ab", i), data.domains["a"].test.load(i))


def test_two_images_of_one_key_are_refused(tmp_path: Path) -> None:
    for label in "sat", "map":
        fill(tmp_path / "train" / label)
        image(tmp_path / f"val/{label}/a/0001.png")
    image(tmp_path / "val/sat/a/0001.jpg")
    refused(tmp_path, "0001.jpg", "0001.png", "of sat", aligned=True)
    assert counts(open_data(str(tmp_path), size=8))["sat"] == (3, 2)


def test_sets_of_images_pair_by_the_path_below_their_folders(tmp_path: Path) -> None:
    for name, suffix in ("ab", "png"), ("b", "bmp"):
        for drive in 1, 2:
            image(tmp_path / name / f"drive{drive}" / f"0001.{suffix}", drive)
    words = (
        "evaluate",
        "--metrics",
        "l1(ab, b)",
        "--images",
        f"ab={tmp_path / 'ab'}",
        "--images",
        f"b={tmp_path / 'b'}",
    )
    answer = unitkit(*words)
    assert answer.status == 0, answer.err
    (tmp_path / "b/drive2").rename(tmp_path / "b/drive3")
    one_line(unitkit(*words), "ab/drive2/0001.png", "b/drive3/0001.bmp")
    (tmp_path / "b/drive3").rename(tmp_path / "b/drive2")
    image(tmp_path / "ab/drive1/0001.jpg")
    image(tmp_path / "b/drive1/0002.bmp")
    one_line(unitkit(*words), "drive1/0001.jpg", "drive1/0001.png", "suffix")


def test_the_order_is_that_of_the_keys(tmp_path: Path) -> None:
    for name, suffixes in ("one", ("png", "jpg", "bmp")), ("two", ("JPG", "tif", "png")):
        for key, suffix in zip(("a", "a.b", "c/a"), suffixes, strict=True):
            image(tmp_path / name / f"{key}.{suffix}")
    assert read_folder(tmp_path / "one").keys == read_folder(tmp_path / "two").keys == ["a", "a.b", "c/a"]


# Links, and what is passed over


def test_linked_folders_are_followed_and_cycles_end(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere/cats", 6)
    fill(tmp_path / "data/train/cat", 6, 10)
    fill(tmp_path / "data/train/dog", 6)
    cat = tmp_path / "data/train/cat"
    (cat / "more").symlink_to(tmp_path / "elsewhere/cats")
    (cat / "again").symlink_to(tmp_path / "elsewhere")  # around a folder that is read already
    (cat / "self").symlink_to(cat)
    (cat / "up").symlink_to("..")  # the labels' folder: its dogs are no cats
    (tmp_path / "elsewhere/cats/back").symlink_to(cat)
    (cat / "loop").symlink_to("loop")
    (cat / "one.png").symlink_to(tmp_path / "data/train/dog/000.png")
    found = read_folder(cat)
    assert len(found) == len(set(found.paths)) == 13
    assert found.passed["broken link"] == 1 and found.passed["linked folder that is read elsewhere"] >= 3
    (tmp_path / "data/train/fox").symlink_to(tmp_path / "elsewhere/cats")
    data = open_data(str(tmp_path / "data"), size=8)
    assert sum(counts(data)["fox"]) == 13  # through `back` those of cat, too
    assert len({after for _, after in jobs(cat, tmp_path / "out")}) == 13


def test_a_real_folder_is_read_where_it_lies(tmp_path: Path) -> None:
    fill(tmp_path / "set/deep/z")
    (tmp_path / "set/a").symlink_to("deep/z")
    found = read_folder(tmp_path / "set")
    assert found.keys == ["deep/z/000", "deep/z/001", "deep/z/002"]
    assert passed_over(found.passed, "set") == ["passed over in set: 1 linked folder that is read elsewhere"]


SUFFIXES = (".jpg", ".JPG", ".jpeg", ".jpe", ".jfif", ".JFIF", ".png", ".webp", ".bmp", ".tif", ".TIFF")


def mixed(root: Path) -> int:
    """A folder of images of every suffix, and of much else; how many images."""
    for i, suffix in enumerate(SUFFIXES):
        image(root / f"{i}{suffix}")
    for name in "a.heic", "b.HEIC", "c.gif", "notes.txt", "README", ".hidden.png":
        (root / name).write_text("nothing")
    (root / "gone.png").symlink_to("nowhere.png")
    fill(root / ".thumbnails")
    os.mkfifo(root / "pipe.png")
    return len(SUFFIXES)


def test_what_is_passed_over_is_counted_in_one_line(tmp_path: Path, trained: Path) -> None:
    count = mixed(tmp_path / "set")
    (tmp_path / "set/pipe.png").unlink()
    line = f"passed over in {tmp_path / 'set'}: 2 .heic, 2 hidden, 1 .gif, 1 .txt, 1 broken link, 1 without suffix"
    notes: list[str] = []
    assert len(plain_images(str(tmp_path / "set"), 8, notes)) == count and notes == [line]
    answer = unitkit("translate", trained, "ab", tmp_path / "set", tmp_path / "out")
    assert answer.status == 0, answer.err
    assert answer.out.splitlines() == [f"note: {line}", f"{count} images in {tmp_path / 'out'}"]
    assert len([path for path in (tmp_path / "out").iterdir() if path.suffix != ".jsonl"]) == count
    for label in "cat", "dog":
        mixed(tmp_path / "data" / label)
    words = ("steps=1", "--out", tmp_path / "run")
    answer = unitkit("train", Path(__file__).with_name("tiny.py"), f"data={tmp_path / 'data'}", *words)
    assert answer.status == 0, answer.err
    said = [each for each in answer.out.splitlines() if "passed over" in each]
    assert said == [
        f"note: passed over in {tmp_path / 'data'}: 4 .heic, 4 hidden, 2 .gif, 2 .txt, 2 broken link, "
        f"2 no ordinary file, 2 without suffix"
    ]
    assert "4 .heic" in unitkit("evaluate", tmp_path / "run").out
    for path in (tmp_path / "set").iterdir():
        if path.suffix in SUFFIXES and path.is_file():
            path.unlink()
    one_line(unitkit("translate", trained, "ab", tmp_path / "set", tmp_path / "out"), "holds no image", "2 .heic")
    with pytest.raises(UserError, match=r"no image.*2 \.heic"):
        plain_images(str(tmp_path / "set"), 8)


def test_many_kinds_are_still_one_short_line(tmp_path: Path) -> None:
    image(tmp_path / "x.png")
    for i in range(30):
        (tmp_path / f"x.{i:02}").touch()
    (line,) = passed_over(read_folder(tmp_path).passed, "here")
    assert line.endswith("1 .07, and 22 other kinds") and passed_over(read_folder(tmp_path / "..").passed, "x")


def test_images_beside_the_labels_are_told(tmp_path: Path) -> None:
    for label in "cat", "dog":
        fill(tmp_path / "train" / label)
    fill(tmp_path / "train", 2)
    image(tmp_path / "stray.JPG")
    notes = open_data(str(tmp_path), size=8).notes
    assert any("2 images that lie in no label's folder" in note for note in notes)
    assert any(f"not used in {tmp_path}: 1 images" in note for note in notes)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "set/deep")

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("unitkit.data.folders.listing.os.scandir", refuse)
    with pytest.raises(UserError, match=r"cannot read the folder .*set.*Permission denied"):
        read_folder(tmp_path / "set")


# What runs leave within the data


def test_runs_within_the_data_are_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`data=.` in the folder of the images, where runs go by default: resumed, evaluated, and begun again."""
    fill(tmp_path / "neutral", 6)
    fill(tmp_path / "smiling", 6)
    monkeypatch.chdir(tmp_path)
    words = ("train", TINY, "@quick", "size=8", "data=.")
    (tmp_path / "neutral/bad.png").write_text("no image")
    one_line(unitkit(*words), "bad.png")
    assert not (tmp_path / "runs").exists()  # nothing is left of the attempt
    (tmp_path / "neutral/bad.png").unlink()
    assert unitkit(*words).status == 0
    (folder,) = (tmp_path / "runs/tiny").iterdir()
    for again in ("train", "--resume", "--out", folder, "steps=3"), ("evaluate", folder), words:
        answer = unitkit(*again)
        assert answer.status == 0 and "differ" not in answer.out, answer
    folder.rename(tmp_path / "elsewhere")
    assert unitkit("evaluate", tmp_path / "elsewhere").status == 0


def test_a_run_among_the_images_of_a_domain(tmp_path: Path) -> None:
    fill(tmp_path / "a", 6)
    fill(tmp_path / "b", 6)
    words = ("train", TINY, "@quick", "size=8", f"data={tmp_path / 'a'},{tmp_path / 'b'}", "--out", tmp_path / "a/run")
    assert unitkit(*words).status == 0
    answer = unitkit("train", "--resume", "--out", tmp_path / "a/run", "steps=3")
    assert answer.status == 0 and "1 folder of a run" in answer.out and "differ" not in answer.out, answer


def test_folders_that_are_no_runs_are_read(tmp_path: Path) -> None:
    for label in "runs", "walks":
        fill(tmp_path / "data" / label / "deep/er", 5)
    assert counts(open_data(str(tmp_path / "data"), size=8)).keys() == {"runs", "walks"}
    (tmp_path / "data/walks/notes.txt").touch()
    assert counts(open_data(str(tmp_path / "data"), size=8)).keys() == {"runs", "walks"}


@pytest.mark.parametrize(
    "labels",
    [
        *(
            "mnist_train_images mnist_test_images",
            "imagesTr imagesTs",
            "Xtrain Xtest",
            "Xtr Xte",
            "horseTrain horseTest",
        ),
        *("01_train 02_test", "train_ test_", "_train _test", "cats cats_test", "cats cats_test dogs dogs_test"),
        *("photos photos_Test", "cat cat_val dog dog_val", "A_train A_test", "img_tr img_te", "data.train data.test"),
        *(
            "TRAIN TEST",
            "xTRAIN xTEST",
            "\uff54\uff52\uff41\uff49\uff4e \uff54\uff45\uff53\uff54",
            "day1train day1test",
            "holdout train",
        ),
    ],
)
def test_names_that_are_splits_of_one_domain(labels: str) -> None:
    with pytest.raises(UserError, match="named as splits of one domain"):
        refuse_splits(labels.split(), "x")


@pytest.mark.parametrize(
    "labels",
    [
        *("station train_station", "beach train_station", "contest protest", "trainA trainB", "test_tube test_pattern"),
        *("latest oldest", "valley train", "development production", "tr te", "tr ts", "summer winter", "train bus"),
        *("trainers shoes", "drive test_track", "mother other", "dev boy", "1 2"),
    ],
)
def test_names_that_are_domains(labels: str) -> None:
    refuse_splits(labels.split(), "x")
