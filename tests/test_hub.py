"""Datasets of the Hugging Face library as data: made here, so that nothing is fetched."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unitkit import open_data
from unitkit.data.batches import Batches
from unitkit.data.domains import in_channels
from unitkit.data.folders.hub import HubImages
from unitkit.data.folders.locations import from_here
from unitkit.system.errors import UserError

datasets = pytest.importorskip("datasets", reason="needs the extra hf: pip install 'unitkit[hf]'")

NAMES = ["cat", "dog", "never"]


def encoded(value: int, mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> dict[str, Any]:
    """A PNG of one value, which tells an image from the others."""
    file = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def table(columns: dict[str, list[Any]]) -> Any:
    """A dataset whose columns `label...` are classes and `image...` images."""
    features = {
        name: datasets.Image()
        if name.startswith("image")
        else datasets.ClassLabel(names=NAMES)
        if name.startswith("label")
        else datasets.Value("string")
        for name in columns
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def labelled(values: range, **more: list[Any]) -> Any:
    """Even values are cats, odd ones dogs."""
    return table({"image": [encoded(v) for v in values], "label": [v % 2 for v in values], **more})


def saved(folder: Path, **splits: Any) -> str:
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return f"hf:{folder}"


def values(images: Any) -> list[int]:
    return [int(images.load(i)[0, 0, 0]) for i in range(len(images))]


def test_classes_are_the_domains_and_splits_the_splits(tmp_path: Path) -> None:
    place = saved(tmp_path / "set", train=labelled(range(20)), test=labelled(range(100, 106)))
    data = open_data(place, size=8)
    assert data.labels == {"a": "cat", "b": "dog"} and data.channels == {"a": 3, "b": 3}
    assert values(data.domains["a"].train) == list(range(0, 20, 2))
    assert values(data.domains["b"].train) == list(range(1, 20, 2))
    assert values(data.domains["a"].test) == [100, 102, 104]
    images = data.domains["b"].train
    assert isinstance(images, HubImages) and images.load(0).shape == (3, 8, 8)
    assert images.name(1) == f"{tmp_path / 'set'}:dog[3]"
    assert set(Batches(data, 4, seed=0).batch(0)) == {"a", "b"}
    grey = in_channels(data, {"a": 1, "b": 1})
    assert grey.domains["a"].train.load(0).shape == (1, 8, 8)


def parquet(folder: Path) -> str:
    folder.mkdir()
    labelled(range(20)).to_parquet(str(folder / "train-00000.parquet"))
    labelled(range(100, 106)).to_parquet(str(folder / "test-00000.parquet"))
    return f"hf:{folder}"


def one_table(folder: Path) -> str:
    labelled(range(20)).save_to_disk(str(folder))
    return f"hf:{folder}"


@pytest.mark.parametrize(("write", "held"), [(parquet, 3), (one_table, None)])
def test_what_may_lie_in_a_folder(
    write: Callable[[Path], str], held: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = open_data(write(tmp_path / "set"), size=8)
    one = data.domains["a"]
    if held:
        assert len(one.train), len(one.test) == (10, held)
    else:  # a tenth is held out, by the rows' numbers
        assert len(one.test) >= 1 and sorted(values(one.train) + values(one.test)) == list(range(0, 20, 2))


def test_without_classes_columns_of_images_are_the_domains_whose_rows_are_scenes(tmp_path: Path) -> None:
    pairs = table({"imageA": [encoded(v) for v in range(9)], "imageB": [encoded(v + 50) for v in range(9)]})
    data = open_data(saved(tmp_path / "set", train=pairs, validation=pairs), size=8, aligned=True)
    assert data.labels == {"a": "imageA", "b": "imageB"} and data.truth is not None
    assert data.truth("ab", 3)[0, 0, 0] == 53


@pytest.mark.parametrize(
    ("splits", "labels"),
    [
        (("horse", "zebra"), ["horse", "zebra"]),
        (("trainA", "trainB", "testA", "testB"), ["A", "B"]),
        (("train", "test", "extra"), None),
    ],
)
def test_without_classes_splits_may_be_the_domains(
    splits: tuple[str, ...], labels: list[str] | None, tmp_path: Path
) -> None:
    tables = {name: table({"image": [encoded(10 * k + i) for i in range(8)]}) for k, name in enumerate(splits)}
    place = saved(tmp_path / "set", **tables)
    if labels is None:
        with pytest.raises(UserError, match=r"holds 1 domains .*, and 2 are needed"):
            open_data(place, size=8)
        data = open_data(place, size=8, least=1)
        assert data.notes == ("not used: the splits extra",)
        return
    data = open_data(place, size=8)
    assert list(data.labels.values()) == labels
    assert values(data.domains["b"].train)[0] // 10 == 1


def test_what_is_not_used_is_said_and_rows_without_a_class_are_not(tmp_path: Path) -> None:
    train = labelled(range(20), label_too=[0] * 20, image_too=[encoded(0)] * 20)
    test = table(
        {"image": [encoded(7)], "label": [-1], "label_too": [0], "image_too": [encoded(0)]}
    )  # as hubs hide the classes of a test split
    data = open_data(saved(tmp_path / "set", train=train, test=test, validation=test), size=8)
    assert any("label_too" in note and "image_too" in note for note in data.notes)
    assert any("the splits validation" in note for note in data.notes)
    assert len(data.domains["a"].train) + len(data.domains["a"].test) == 10


def test_images_are_decoded_by_our_own_decoder_when_they_are_asked_for(tmp_path: Path) -> None:
    broken = {"bytes": b"no image", "path": None}
    images = [encoded(0), encoded(1), broken, encoded(3), None, encoded(5)]
    place = saved(tmp_path / "set", train=table({"image": images, "label": [0, 1] * 3}), test=labelled(range(4)))
    cats = open_data(place, size=8).domains["a"].train
    assert int(cats.load(0)[0, 0, 0]) == 0
    with pytest.raises(UserError, match=r"set:cat\[2\]' is not an image that can be read"):
        cats.load(1)
    with pytest.raises(UserError, match=r"set:cat\[4\]' has no image in column 'image'"):
        cats.load(2)


def test_the_channels_are_those_of_the_images(tmp_path: Path) -> None:
    grey = table({"image": [encoded(v, "L") for v in range(8)], "label": [0, 1] * 4})
    assert open_data(saved(tmp_path / "grey", train=grey), size=8).channels == {"a": 1, "b": 1}


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    one, again = (open_data(saved(tmp_path / name, train=labelled(range(20))), size=8) for name in "xy")
    other = open_data(saved(tmp_path / "z", train=labelled(range(2, 22))), size=8)
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()


def test_no_code_of_a_dataset_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    place = parquet(tmp_path / "set")
    (tmp_path / "set" / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(UserError, match="cannot be had"):
        open_data(place, size=8)
    assert not (tmp_path / "ran").exists()


def refused(place: str, *words: str) -> None:
    with pytest.raises(UserError) as error:
        open_data(place, size=8)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words), error.value


def test_what_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    refused("hf:someone/faces:small", "someone/faces:small", "no route to the hub", "NAME:CONFIG")
    (tmp_path / "file").write_text("x")
    refused(f"hf:{tmp_path / 'file'}", "no folder of a dataset")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "state.json").write_text("{")
    refused(f"hf:{tmp_path / 'damaged'}", "cannot be had")
    refused(saved(tmp_path / "text", train=table({"words": ["a", "b"]})), "no column of images", "words (Value)")
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused("hf:mnist", "pip install 'unitkit[hf]'")


def test_name_and_config_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*words: Any) -> Any:
        asked.append(words)
        return {"train": labelled(range(20))}

    monkeypatch.setattr(datasets, "load_dataset", load)
    for place in "hf:someone/faces", "hf:someone/faces:small":
        open_data(place, size=8)
    assert asked == [("someone/faces", None), ("someone/faces", "small")]


def test_a_folder_is_called_as_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    assert from_here("hf:set") == f"hf:{tmp_path / 'set'}" and from_here("hf:a/b") == "hf:a/b"


@pytest.mark.parametrize("names", [("test",), ("validation",), ("test", "validation"), ("test_photo", "val_photo")])
def test_splits_for_testing_alone_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    """As of folders."""
    place = saved(tmp_path / "set", **{name: labelled(range(20)) for name in names})
    with pytest.raises(UserError, match=f"has the splits {', '.join(names)} and none to train on"):
        open_data(place, size=8)


def test_a_dataset_stands_among_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one domain of several, however many of them are datasets; each is found from another folder too."""
    for name in "ab":
        saved(tmp_path / name, train=table({"image": [encoded(v) for v in range(10)]}))
    (tmp_path / "c").mkdir()
    for v in range(10):
        Image.new("RGB", (8, 8), (v, v, v)).save(tmp_path / "c" / f"{v}.png")
    monkeypatch.chdir(tmp_path)
    for location in "hf:a,c", "c,hf:a", "hf:a,hf:b":
        here = open_data(location, size=8)
        places = from_here(location)
        assert sorted(places.count(f"{tmp_path}/{name}") for name in "abc") == [0, 1, 1]
        monkeypatch.chdir("/")
        assert len(open_data(places, size=8).domains["a"].train) == len(here.domains["a"].train)
        monkeypatch.chdir(tmp_path)
        for domain in here.domains.values():
            assert sorted(values(domain.train) + values(domain.test)) == list(range(10))
    saved(tmp_path / "two", train=labelled(range(20)))
    with pytest.raises(UserError, match="holds several domains, 'cat', 'dog'"):
        open_data("hf:two,c", size=8)
