"""Arrays as domains: `.npz` and idx files, their layouts and types, and what is refused of them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from trees import counts, grey_stack, refused, tree

from unitkit.data import open_data
from unitkit.data.sources import ImageArray
from unitkit.system.errors import UserError


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
