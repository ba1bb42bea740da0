"""What the values of images mean from the file to the network and back: what is no number, other types, idx files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unitkit import UserError, open_data
from unitkit.data.folders.hub import HubImages
from unitkit.data.formats import nifti
from unitkit.data.values import Values


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
