"""What the values of images mean from the file to the network and back: what is no number, other types, idx files."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from unitkit import UserError, open_data
from unitkit.cli import app
from unitkit.data.batches import Batches
from unitkit.data.folders.hub import HubImages
from unitkit.data.formats import nifti
from unitkit.data.values import BYTES, DTYPES, TOP, Values
from unitkit.models import ImagePaths
from unitkit.translate import Translator


def as_tif(path: Path, array: np.ndarray) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), array, photometric="minisblack")


def as_npy(path: Path, array: np.ndarray) -> None:
    np.save(path.with_suffix(".npy"), array)


def as_volume(path: Path, array: np.ndarray) -> None:
    nifti.write(path.with_suffix(".nii.gz"), [array[None]])


def folders(save: Callable[[Path, np.ndarray], None]) -> Callable[[Path, np.ndarray], str]:
    """How many images (N, H, W) of one domain become the data of two."""

    def made(root: Path, images: np.ndarray) -> str:
        for place in "ab":
            (root / place).mkdir()
            for i, each in enumerate(images):
                save(root / place / f"{i:02}", each)
        return str(root)

    return made


def stacks(root: Path, images: np.ndarray) -> str:
    for place in "ab":
        as_tif(root / place, images)
    return f"{root}/a.tif,{root}/b.tif"


def archive(root: Path, images: np.ndarray) -> str:
    np.savez(root / "x.npz", a=images, b=images)
    return str(root / "x.npz")


class Unchanged(ImagePaths):
    """A model that changes nothing."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__({"a": channels, "b": channels})
        self.weight = nn.Parameter(torch.zeros(1))

    def check(self, path: str) -> None: ...

    def forward(self, x: Tensor, path: str) -> Tensor:
        return x


needs_nifti = pytest.mark.skipif(nifti.nibabel is None, reason="nibabel is not installed")
SOURCES = {"tif": folders(as_tif), "npy": folders(as_npy), "stack": stacks, "npz": archive}
KINDS = [*SOURCES, pytest.param("nifti", marks=needs_nifti)]


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("share", [1 / 1024, 0.2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_stands_for_itself_alone(
    kind: str, value: float, share: float, size: int, tmp_path: Path
) -> None:
    """Every image holds some. What stands for it takes their places before images are scaled, and no range is of it."""
    given = np.random.default_rng(0).uniform(200, 5000, (12, 32, 32)).astype(np.float32)
    given.reshape(12, -1)[:, : int(1024 * share)] = value
    source = SOURCES.get(kind, folders(as_volume))(tmp_path, given)
    data = open_data(source, size=size, nan=1000.0)
    values = data.values["a"]
    assert 190 < values.low[0] < 260 and 4900 < values.high[0] < 5010
    images = data.domains["a"].train
    loaded = np.stack([images.load(i) for i in range(len(images))])
    mended = np.where(np.isfinite(given), given, 1000)
    assert loaded.mean() == pytest.approx(mended.mean(), rel=0.02) and loaded.std() > 0.3 * mended.std()
    with pytest.raises(UserError, match="values that are no numbers"):
        open_data(source, size=size).domains["a"].train.load(0)


def test_what_is_no_number_in_a_hub_s_files(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    given = np.full((32, 32), 5, np.float32)
    given[0, 0] = np.nan
    np.save(tmp_path / "x.npy", given)
    table = datasets.Dataset.from_dict({"x": [str(tmp_path / "x.npy")]}, datasets.Features({"x": datasets.Image()}))
    images = HubImages(table, "x", np.arange(1), "x").at((16, 16), values=Values("float32", nan=5.0))
    assert (images.load(0) == 5).all()


RANGES = {
    "uint8": [(0, 255), (10, 90)],
    "uint16": [(0, 65535), (0, 4095)],
    "float16": [(0, 1), (-1, 1), (0.1, 0.4), (-0.3, 0.9), (-1000, 400), (0, 50)],
    "float32": [(0, 1), (-1, 1), (0.1, 0.4), (-0.3, 0.9), (-1000, 400), (0, 1e6)],
}
MEANT = [Values(dtype, (float(low),), (float(high),)) for dtype, pairs in RANGES.items() for low, high in pairs]


def pictures(values: Values, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Values from the least to the largest of a picture of a type, and what they are of `values`' own type, both as
    they are defined: shares of 0..255, 0..65535, [0, 1] or, of a range that begins below 0, [-1, 1]."""
    given = (np.linspace(0, 0.9, 256) * TOP.get(dtype, 1)).reshape(1, 16, 16).astype(dtype)  # within half precision
    share = given / TOP.get(dtype, 1)
    return given, share * TOP[values.dtype] if values.whole else share * 2 - 1 if values.low[0] < 0 else share


def seen(values: Values, array: np.ndarray) -> np.ndarray:
    return values.normalised(torch.from_numpy(array)).numpy()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("values", MEANT, ids=str)
def test_a_picture_means_the_same_in_every_type(values: Values, dtype: str) -> None:
    """By `of_type` and by `stored`; but floats of other ranges than a picture's mean what they are."""
    given, own = pictures(values, dtype)
    if not values.whole and (dtype not in TOP or max(abs(values.low[0]), values.high[0]) > 1):
        own = given
    expected = seen(values, own.astype("float32"))
    assert np.abs(seen(values.of_type(dtype), given) - expected).max() < 1e-3
    if dtype in TOP:  # what is stored is of the type itself, and rounded
        assert values.stored(given, "x").dtype == values.dtype
        step = 2 / (values.high[0] - values.low[0]) if values.whole else 0.01
        assert np.abs(seen(values, values.stored(given, "x")) - expected).max() < step


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", MEANT, ids=str)
def test_the_type_of_a_translation_holds_its_values(values: Values, dtype: str) -> None:
    """As `unitkit translate` chooses it for an input of a type, whatever the domain's own."""
    chosen = values.for_output(dtype)
    made = torch.linspace(-1, 1, 512).view(1, 16, 32)
    assert np.abs(seen(chosen, chosen.restored(made)) - made.numpy()).max() < 0.05
    assert chosen.dtype in (dtype, values.dtype)
    if values.low[0] in (0, -1) and values.high[0] in (255, 65535, 1):  # a picture's whole range
        assert chosen.dtype == dtype


def test_a_picture_of_bytes_through_a_model_of_floats() -> None:
    """Through the whole: a model that changes nothing gives back what came, for each way that floats are pictures."""
    given = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
    for low in 0.0, -1.0:
        values = Values("float32", (low,), (1.0,))
        translator = Translator(Unchanged(), {"a": "a", "b": "b"}, values={"a": values, "b": values})
        assert np.array_equal(np.asarray(translator.translate(given, "ab")), given)
    degrees = {"a": BYTES, "b": Values("float32", (-1000.0,), (400.0,))}
    for dtype in "uint8", "uint16":
        made = Translator(Unchanged(), {"a": "a", "b": "b"}, values=degrees).translate(given.astype(dtype), "ab")
        assert isinstance(made, np.ndarray) and made.dtype == np.float32 and made.min() == -1000


IDX = {0x08: "uint8", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@pytest.mark.parametrize("kind", [*IDX, 0x0A])
@pytest.mark.parametrize("suffix", [".idx", ".idx.gz"])
@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 5, 3)])
def test_idx_files_of_all_types(shape: tuple[int, ...], suffix: str, kind: int, tmp_path: Path) -> None:
    given = (np.random.default_rng(0).normal(size=shape) * 50).clip(-120 if kind != 8 else 0, 120)
    given = given.astype(IDX.get(kind, "int8"))
    data = struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + given.tobytes()
    for place in "ab":
        (tmp_path / f"{place}{suffix}").write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    source = f"{tmp_path}/a{suffix},{tmp_path}/b{suffix}"
    if kind not in IDX:
        with pytest.raises(UserError, match="its magic number is 0x00000a"):
            open_data(source, size=(6, 5))
        return
    domain = open_data(source, size=(6, 5)).domains["a"]
    images = [each.load(i) for each in (domain.train, domain.test) for i in range(len(each))]
    assert {each.dtype.name for each in images} == {"uint8" if kind == 8 else "float32"}
    expected = given[:, None] if given.ndim == 3 else given.transpose(0, 3, 1, 2)
    assert sorted(each.sum() for each in images) == pytest.approx(sorted(each.sum() for each in expected), rel=1e-4)
    for place in "ab":
        (tmp_path / f"{place}.idx").write_bytes(data[:-1])
    with pytest.raises(UserError, match=f"announces .*, {given.nbytes} bytes, and holds {given.nbytes - 1}"):
        open_data(f"{tmp_path}/a.idx,{tmp_path}/b.idx", size=(6, 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_check_takes_what_stands_for_no_number(kind: str, value: float, tmp_path: Path) -> None:
    given = np.random.default_rng(0).random((6, 8, 8)).astype(np.float32)
    given[:, 0, 0] = value
    source = SOURCES.get(kind, folders(as_volume))(tmp_path, given)
    words = ["data", "check", source, "--out", str(tmp_path / "x.html"), "--json", str(tmp_path / "x.json")]
    CliRunner().invoke(app, words)
    found = {each["kind"]: each for each in json.loads((tmp_path / "x.json").read_text())["findings"]}
    assert found["unreadable"]["count"] == 12 and "--nan 0" in found["unreadable"]["way_out"]
    CliRunner().invoke(app, [*words, "--nan", "0.5"])
    assert not any(each["kind"] == "unreadable" for each in json.loads((tmp_path / "x.json").read_text())["findings"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_stands_for_no_number(value: float, tmp_path: Path) -> None:
    source = archive(tmp_path, np.ones((4, 8, 8), np.float32))
    with pytest.raises(UserError, match="expected the number that stands for those that are none"):
        open_data(source, size=8, nan=value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_operation_of_a_step_is_on_uint16(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU has not all of them: what images go through is of another type, and gives the same."""
    given = (np.random.default_rng(0).random((12, 8, 8)) * (60000 if dtype == "uint16" else 200)).astype(dtype)
    data = open_data(archive(tmp_path, given), size=8)
    batches = Batches(data, 12, seed=0, crop=2)
    operations = list[str]()

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(isinstance(each, Tensor) and each.dtype == torch.uint16 for each in args):
                operations.append(func.overloadpacket._qualified_op_name)
            return func(*args, **(kwargs or {}))

    with Seen():
        found = batches.batch(0)["a"]
        seen = data.values["a"].normalised(torch.from_numpy(given[:, None]))
    assert {each.removeprefix("aten::") for each in operations} <= {"view", "lift_fresh", "detach", "alias"}
    expected = (given.astype(np.float64) - data.values["a"].low[0]) / (
        data.values["a"].high[0] - data.values["a"].low[0]
    )
    assert np.abs(seen[:, 0].numpy() - (expected.clip(0, 1) * 2 - 1)).max() < 1e-2 and found.shape == (12, 1, 8, 8)
