"""Images of more than 8 bits and other channels than grey and RGB: read, trained on, translated, written back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tiny import recipe as tiny_recipe
from typer.testing import CliRunner

from unitkit import RunOptions, Trainer, UserError, load, open_data
from unitkit.cli import app
from unitkit.commands import translate as command
from unitkit.data.bands import Bands, read_bands
from unitkit.data.domains import with_values
from unitkit.data.files.decode import decode, probe
from unitkit.data.files.encode import write_image
from unitkit.data.formats import header, nifti
from unitkit.data.formats.windows import windows_of
from unitkit.data.values import BYTES, DTYPES, TOP, Values, robust_values
from unitkit.networks import maps
from unitkit.networks.maps import Limits

CHANNELS = (1, 2, 3, 5)
needs_nifti = pytest.mark.skipif(nifti.nibabel is None, reason="nibabel is not installed")
SUFFIXES = (".tif", ".npy", pytest.param(".nii.gz", marks=needs_nifti))


def images(dtype: str, channels: int, count: int = 1, size: tuple[int, int] = (12, 18)) -> np.ndarray:
    """Noise (N, C, H, W) over much of a type's range."""
    random = np.random.default_rng(0)
    shape = (count, channels, *size)
    if dtype in TOP:
        return random.integers(0, int(TOP[dtype]) + 1, shape).astype(dtype)
    return (random.normal(size=shape) * 300).astype(dtype)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("count", [1, 4])
def test_what_is_written_is_read(suffix: str, dtype: str, channels: int, count: int, tmp_path: Path) -> None:
    """To the bit, but for half precision, which NIfTI has not."""
    path, given = tmp_path / f"x{suffix}", images(dtype, channels, count)
    write_image(list(given), path, values=Values(dtype))
    kept = "float32" if dtype == "float16" and suffix == ".nii.gz" else dtype
    assert probe(path)[:5] == (18, 12, channels, kept, count)
    for frame in range(count):
        found = decode(path, channels, frame=frame)
        assert found.dtype == kept and np.array_equal(found, given[frame].astype(kept))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(("dtype", "samples"), [("uint8", 5), ("uint16", 3), ("uint16", 4), ("float32", 3), (">u2", 6)])
def test_tiff_of_others(
    compression: str | None, planar: str, tiled: bool, dtype: str, samples: int, tmp_path: Path
) -> None:
    given = images(np.dtype(dtype).name, samples, size=(40, 33))[0]
    laid = given if planar == "separate" else given.transpose(1, 2, 0)
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": planar, "compression": compression}
    tifffile.imwrite(
        tmp_path / "x.tif",
        laid.astype(dtype),
        tile=(16, 16) if tiled else None,
        extrasamples=[0] * (samples - 1),
        **options,
    )
    assert np.array_equal(decode(tmp_path / "x.tif", samples), given)


@pytest.mark.parametrize(("axes", "shape"), [("TYX", (4,)), ("ZCYX", (2, 5)), ("TZCYX", (2, 3, 2)), ("CYX", (5,))])
@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_axes_of_a_stack(axes: str, shape: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    """Channels are channels, and every other axis counts images."""
    given = np.random.default_rng(0).integers(0, 4096, (*shape, 9, 11)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", given, **{kind: True}, metadata={"axes": axes}, photometric="minisblack")
    channels = shape[axes.index("C")] if "C" in axes else 1
    found = np.stack([decode(tmp_path / "x.tif", channels, frame=i) for i in range(probe(tmp_path / "x.tif").frames)])
    assert np.array_equal(found.reshape(given.shape), given)


def test_a_transparent_tiff_lies_over_white(tmp_path: Path) -> None:
    given = np.zeros((4, 4, 4), np.uint16)
    given[..., 0], given[:2, :, 3] = 1000, 65535
    tifffile.imwrite(tmp_path / "x.tif", given, photometric="rgb", extrasamples=["unassalpha"])
    found = decode(tmp_path / "x.tif", 3)
    assert probe(tmp_path / "x.tif").channels == 3
    assert found[:, 0, 0].tolist() == [1000, 0, 0] and (found[:, 2:] == 65535).all()


@needs_nifti
def test_a_volume_keeps_its_place(tmp_path: Path) -> None:
    import nibabel

    affine = np.array([[0.7, 0.1, 0, -30], [0, 0.8, 0, 12], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
    volume = nibabel.Nifti1Image(np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4), affine)
    volume.header.set_slope_inter(2, -1024)
    nibabel.save(volume, tmp_path / "ct.nii.gz")
    assert probe(tmp_path / "ct.nii.gz")[:5] == (6, 5, 1, "float32", 4)
    slices = [decode(tmp_path / "ct.nii.gz", 1, frame=i) for i in range(4)]
    assert np.array_equal(
        np.stack(slices)[:, 0].transpose(2, 1, 0), np.asarray(nibabel.load(tmp_path / "ct.nii.gz").dataobj)
    )
    write_image(slices, tmp_path / "out.nii", tmp_path / "ct.nii.gz")
    found = nibabel.load(tmp_path / "out.nii")
    assert np.allclose(found.affine, affine, rtol=1e-6) and found.header.get_zooms() == volume.header.get_zooms()
    assert np.array_equal(found.get_fdata(), nibabel.load(tmp_path / "ct.nii.gz").get_fdata())


def dicom(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    made = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = *pixels.shape, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelRepresentation, made.PixelData = int(pixels.dtype.kind == "i"), pixels.tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    made.save_as(path)
    return path


def test_dicom_is_in_the_units_it_states(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (7, 9)).astype(np.uint16)
    plain = dicom(tmp_path / "x.dcm", pixels)
    assert probe(plain) == (9, 7, 1, "uint16", 1, None) and np.array_equal(decode(plain, 1)[0], pixels)
    inverse = dicom(tmp_path / "i.dcm", pixels, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(decode(inverse, 1)[0], 4095 - pixels)
    ct = dicom(
        tmp_path / "ct.dcm", pixels, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=[40, 90], WindowWidth=[400, 9]
    )
    assert probe(ct) == (9, 7, 1, "float32", 1, (-160.0, 240.0))
    assert np.array_equal(decode(ct, 1)[0], pixels * 2.0 - 1024)
    with pytest.raises(UserError, match=r"DICOM is read alone; name a \.tif"):
        write_image([pixels[None]], tmp_path / "out.dcm")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("each", [False, True])
def test_values_go_there_and_back(dtype: str, each: bool) -> None:
    given = images(dtype, 3)
    low, high = (given.min((0, 2, 3)), given.max((0, 2, 3))) if each else ([given.min()], [given.max()])
    values = Values(dtype, tuple(map(float, low)), tuple(map(float, high)))
    seen = values.normalised(torch.from_numpy(given))
    assert seen.dtype == torch.float32 and seen.min() == -1 and seen.max() == 1
    found = values.restored(seen)
    assert found.dtype == dtype
    if dtype in TOP:
        assert np.array_equal(found, given)
    else:
        np.testing.assert_allclose(found, given, rtol=2e-3 if dtype == "float16" else 1e-6, atol=1e-3)
    assert Values.from_json(json.loads(json.dumps(values.to_json()))) == values


def test_bytes_are_as_they_ever_were() -> None:
    given = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(BYTES.normalised(torch.from_numpy(given)), torch.from_numpy(given).float() / 127.5 - 1)
    assert np.array_equal(BYTES.restored(BYTES.normalised(torch.from_numpy(given))), given)


NORMAL = np.random.default_rng(0).normal(size=(2, 5000)) * 100


@pytest.mark.parametrize(
    ("dtype", "sample", "expected"),
    [
        ("uint8", np.full((1, 9), 3), (0, 255)),
        ("uint16", np.arange(0, 4096)[None], (0, 4095)),
        ("uint16", np.arange(0, 60000, 7)[None], (0, 65535)),
        ("uint16", np.append(np.arange(0, 4096), 32000)[None], (0, 4091)),  # one hot pixel
        ("float32", np.linspace(0, 1, 99)[None], (0, 1)),
        ("float32", np.linspace(-1, 1, 99)[None], (-1, 1)),
        ("float32", np.linspace(0, 0.01, 99)[None], (0, 0.01)),
        ("float32", np.linspace(-1000, 3000, 99)[None], (-1000, 3000)),
        ("float32", np.append(np.linspace(-1000, 3000, 9999), [np.nan, np.inf, 1e30])[None], (-1000, 3000)),
        ("float32", np.full((1, 9), 5.0), (5, 6)),
    ],
)
def test_a_range_is_found(dtype: str, sample: np.ndarray, expected: tuple[float, float]) -> None:
    found = robust_values(dtype, [sample], each=False, window=None)
    assert (found.low[0], found.high[0]) == pytest.approx(expected, rel=2e-3)
    stated = robust_values(dtype, [sample], each=False, window=(1, 2))
    assert stated == BYTES if dtype == "uint8" else (stated.low, stated.high) == ((1,), (2,))


def test_each_channel_has_a_range_of_its_own_where_they_are_no_colours(tmp_path: Path) -> None:
    given = images("float32", 5, 12, (8, 8)) * np.array([1, 10, 100, 1000, 1e4], np.float32).reshape(5, 1, 1)
    np.savez(tmp_path / "x.npz", a=given, b=given)
    values = open_data(str(tmp_path / "x.npz"), size=8).values["a"]
    assert len(values.low) == 5 and all(np.diff(values.high) > 0)


REFUSED = {
    "range=1": "expected auto, LOW,HIGH",
    "range=5,5": "5 is not below 5",
    "range=0,1_0": "expected auto",
    "range=nan,1": "expected auto",
    "range=0,1e999": "is not below inf",
    "range=0,1;0,2": "has 2 pairs, and the images of 'a' 5 channels",
    "bands=6": "each from 1 to 5",
    "bands=1,2": "expected one channel, or three",
    "bands=1,2,3:viridis": "or a colour map for one",
    "bands=2viridis": "such as viridis or 2:viridis",
    "bands=viridi": "Did you mean 'viridis'",
    "bands=0": "each from 1 to 5",
    "bands=\u0661": "each from 1 to 5",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_cannot_be_meant_is_refused(word: str, tmp_path: Path) -> None:
    given = images("float32", 5, 12, (8, 8))
    np.savez(tmp_path / "x.npz", a=given, b=given)
    name, _, value = word.partition("=")
    with pytest.raises(UserError, match=REFUSED[word]):
        open_data(str(tmp_path / "x.npz"), size=8, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused_or_filled(value: float, tmp_path: Path) -> None:
    given = images("float32", 2, 12, (8, 8))
    given[:, 0, 3, 3] = value
    np.savez(tmp_path / "x.npz", a=given, b=given)
    with pytest.raises(UserError, match=r"holds 1 values that are no numbers.*such as nan=0"):
        open_data(str(tmp_path / "x.npz"), size=8).domains["a"].train.load(0)
    filled = open_data(str(tmp_path / "x.npz"), size=8, nan=-7.5)
    assert filled.domains["a"].train.load(0)[0, 3, 3] == -7.5 and abs(filled.values["a"].high[0]) < 2000


@pytest.mark.parametrize("kinds", [("uint8", "uint16"), ("uint16", "uint8"), ("float16", "float32")])
def test_files_of_two_types_take_the_larger(kinds: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for place in "ab":
        for i in range(12):
            given = images(kinds[i % 2], 1)[0]
            write_image([given], tmp_path / place / f"{i:02}.tif")
    data = open_data(str(tmp_path), size=(12, 18))
    larger = max(kinds, key=DTYPES.index)
    assert data.values["a"].dtype == larger
    rows = {Path(data.domains["a"].train.name(i)).name: data.domains["a"].train.load(i) for i in range(9)}
    assert {each.dtype.name for each in rows.values()} == {larger}
    share = TOP[larger] / TOP["uint8"] if larger in TOP else 1
    first, given = next(iter(rows.items()))
    kind = kinds[int(first[:2]) % 2]
    assert np.array_equal(given, images(kind, 1)[0] * (share if kind == "uint8" else 1))


def test_files_that_have_nothing_in_common_are_named(tmp_path: Path) -> None:
    for place in "ab":
        (tmp_path / place).mkdir()
        for i in range(12):
            write_image([images("uint16", 2 + (i == 7))[0]], tmp_path / place / f"{i:02}.tif")
    with pytest.raises(UserError, match=r"differ in their channels: '.*' has 2 and '.*07.tif' 3"):
        open_data(str(tmp_path), size=8)
    for place in "ab":
        for i in range(12):
            write_image([images("uint16" if i < 7 else "float32", 2)[0]], tmp_path / place / f"{i:02}.tif")
    with pytest.raises(UserError, match=r"holds uint16 and '.*' float32 values.*one type"):
        open_data(str(tmp_path), size=8)


def stacks(folder: Path, suffix: str, dtype: str = "uint16", channels: int = 1) -> str:
    """Two domains of twelve images, each in one file; of 12 bits where they are whole."""
    for place in "ab":
        given = images(dtype, channels, 12, (16, 16))
        given = given // 16 if dtype == "uint16" else given
        write_image(list(given + (place == "b")), folder / f"{place}{suffix}", values=Values(dtype))
    return ",".join(str(folder / f"{place}{suffix}") for place in "ab")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("dtype", "channels"), [("uint16", 1), ("float32", 5)])
def test_there_and_back(suffix: str, dtype: str, channels: int, tmp_path: Path) -> None:
    """A training on stacks, resumed and evaluated; then translations of a stack in its own format, type and shape."""
    ours = tiny_recipe(data=stacks(tmp_path, suffix, dtype, channels), steps=2)
    assert ours.data.channels == {"a": channels, "b": channels} and len(ours.data.domains["a"].train) >= 8
    trainer = Trainer(ours, RunOptions(tmp_path / "run"))
    assert trainer.fit()
    found = trainer.evaluate()["metrics"]
    assert found and not any("failed" in each for each in found.values())
    translator = load(tmp_path / "run")
    values = ours.data.values
    assert translator.values == values and values["a"] != values["b"]
    source, target = tmp_path / f"a{suffix}", tmp_path / f"out{suffix}"
    told = CliRunner().invoke(app, ["translate", str(tmp_path / "run"), "ab", str(source), str(target)])
    assert told.exit_code == 0, told.output
    assert probe(target) == probe(source)
    for frame in (0, 11):
        given = decode(source, channels, frame=frame)
        seen = values["a"].normalised(torch.from_numpy(given)[None])
        with torch.no_grad():
            expected = values["b"].restored(translator.model(seen, "ab"))[0]
        wrong = np.abs(decode(target, channels, frame=frame).astype(float) - expected)
        assert wrong.max() <= (1 if dtype == "uint16" else 1e-3 * (values["b"].high[0] - values["b"].low[0]))


def test_a_range_is_kept_by_the_run(tmp_path: Path) -> None:
    """Though images have come since that have another."""
    place = stacks(tmp_path, ".npy")
    ours = tiny_recipe(data=place, steps=1)
    Trainer(ours, RunOptions(tmp_path / "run")).fit()
    more = np.load(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.concatenate([more, more * 2]))
    grown = tiny_recipe(data=place, steps=2)
    assert grown.data.values["a"] != ours.data.values["a"]
    resumed = Trainer(grown, RunOptions(tmp_path / "run", resume=True))
    assert resumed.recipe.data.values == ours.data.values
    assert with_values(grown.data, ours.data.values).domains["a"].train.load(0).dtype == np.uint16


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trained", DTYPES)
def test_an_image_of_another_type_than_in_training(trained: str, dtype: str) -> None:
    """Whole numbers are shares of their types, pictures in [0, 1] are shares, and other floats mean what they are."""
    whole = trained in TOP
    values = Values(trained, (0.0,), (TOP.get(trained, 50.0),)).of_type(dtype)
    middle = TOP.get(dtype, 1.0) / 2 if whole else 25.0
    assert float(values.normalised(torch.full((1, 1, 1), middle))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("channels", "bands", "expected"),
    [
        (1, (), [0]),
        (2, (), [0, 1, 1]),
        (3, (), [0, 1, 2]),
        (5, (), [0, 1, 2]),
        (5, (5, 4, 1), [4, 3, 0]),
        (5, (2,), [1]),
    ],
)
def test_grids_show_three_channels_or_the_chosen(channels: int, bands: tuple[int, ...], expected: list[int]) -> None:
    given = images("uint16", channels)[0]
    found = Bands(bands).shown(given, Values("uint16", (0.0,), (65535.0,)))
    assert found.dtype == np.uint8 and np.array_equal(found, np.rint(given[expected] / 257).astype(np.uint8))


@pytest.mark.parametrize(("text", "channel"), [("viridis", 0), ("4:viridis", 3)])
def test_grids_show_one_channel_in_the_colours_of_a_map(text: str, channel: int) -> None:
    given = np.zeros((5, 1, 2), np.float32)
    given[channel, 0, 1] = 9
    found = read_bands(text, 5).shown(given, Values("float32", (0.0,), (9.0,)))
    assert found[:, 0].T.tolist() == [[68, 1, 84], [253, 231, 36]]  # the ends of viridis, as its authors give them


CANNOT: dict[str, tuple[Callable[[], list[np.ndarray]], str]] = {
    "x.png": (lambda: list(images("float32", 5)), "5 channels, which .*x.png does not hold: name a .tif"),
    "x.jpg": (lambda: list(images("uint16", 1, 3)), "3 images, of which .*x.jpg holds one"),
    "x.dcm": (lambda: list(images("uint16", 1)), "DICOM is read alone"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_a_format_that_cannot_hold_it_is_refused_before_the_work(name: str, tmp_path: Path) -> None:
    make, message = CANNOT[name]
    given = make()
    dtype, channels = given[0].dtype.name, len(given[0])
    data = stacks(tmp_path, ".npy" if channels > 1 else ".tif", dtype, channels)
    Trainer(tiny_recipe(data=data, steps=1), RunOptions(tmp_path / "run")).fit()
    write_image(given, tmp_path / "in.tif")
    told = CliRunner().invoke(
        app, ["translate", str(tmp_path / "run"), "ab", str(tmp_path / "in.tif"), str(tmp_path / name)]
    )
    assert isinstance(told.exception, UserError) and not (tmp_path / name).exists()
    assert re.search(message, str(told.exception))


def test_sixteen_bits_to_a_picture(tmp_path: Path) -> None:
    """PNG keeps them; what cannot is told of."""
    Trainer(tiny_recipe(data=stacks(tmp_path, ".tif"), steps=1), RunOptions(tmp_path / "run")).fit()
    write_image([images("uint16", 1)[0] // 16], tmp_path / "in.tif")
    for name, mode in ("out.png", "I;16"), ("out.jpg", "L"):
        told = CliRunner().invoke(
            app, ["translate", str(tmp_path / "run"), "ab", str(tmp_path / "in.tif"), str(tmp_path / name)]
        )
        assert told.exit_code == 0 and ("out.jpg holds 8 bits" in told.output) == (mode == "L")
        with Image.open(tmp_path / name) as found:
            assert found.mode == mode and found.size == (18, 12)


def slide(path: Path, dtype: str, channels: int, **options: Any) -> np.ndarray:
    """A picture (C, H, W) in a file, in tiles of 64 or as `options` say."""
    smooth = np.add.outer(np.arange(700), np.arange(531)) % 251
    given = (smooth + 3 * np.arange(channels)[:, None, None]).astype(dtype)
    if path.suffix == ".npy":
        np.save(path, given)
    else:
        laid, planar = (given.transpose(1, 2, 0), "contig") if channels > 1 else (given[0], None)
        tifffile.imwrite(path, laid, photometric="minisblack", planarconfig=planar, **options)
    return given


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.npy", {}),
        ("x.tif", {"tile": (64, 64)}),
        ("x.tif", {"tile": (48, 80), "compression": "zlib"}),
        ("x.tif", {"rowsperstrip": 13}),
        ("x.tif", {"compression": "lzw"}),
    ],
)
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 3), ("float32", 5)])
def test_windows_are_those_of_the_whole(
    name: str, options: dict[str, Any], dtype: str, channels: int, tmp_path: Path
) -> None:
    given = slide(tmp_path / name, dtype, channels, **options)
    found = windows_of(tmp_path / name)
    assert found.shape == given.shape and found.dtype == dtype
    for rows, columns in ((0, 700), (0, 531)), ((5, 6), (530, 531)), ((63, 65), (40, 200)), ((300, 700), (0, 1)):
        window = found.read(range(*rows), range(*columns))
        assert np.array_equal(window, given[:, slice(*rows), slice(*columns)])


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("kept", [0, 2**33])
def test_a_picture_in_windows_is_translated_as_the_whole(
    suffix: str, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether maps are kept or computed again; with a size that strides do not divide, read and written in windows."""
    monkeypatch.setattr(command, "LARGE", 1000)
    Trainer(tiny_recipe(data=stacks(tmp_path, ".npy", "uint16", 3), steps=1), RunOptions(tmp_path / "run")).fit()
    slide(tmp_path / f"in{suffix}", "uint16", 3, **({"tile": (64, 64)} if suffix == ".tif" else {}))
    translator = load(tmp_path / "run")
    source, target = translator.meanings("ab", "uint16")
    pixels = decode(tmp_path / f"in{suffix}", 3)
    with torch.no_grad():
        padded = np.pad(pixels, ((0, 0), (0, -700 % 4), (0, -531 % 4)), mode="edge")
        seen = source.normalised(torch.from_numpy(padded)[None])
        whole = target.restored(translator.model(seen, "ab"))[0][:, :700, :531]
    limits = Limits(tile=2**18, stored=2**16, kept=kept)
    monkeypatch.setattr(maps, "SHALLOW", 1000)
    monkeypatch.setattr("unitkit.models.inference.Limits", lambda **_: limits)
    told = CliRunner().invoke(
        app, ["translate", str(tmp_path / "run"), "ab", str(tmp_path / f"in{suffix}"), str(tmp_path / f"out{suffix}")]
    )
    assert told.exit_code == 0, told.output
    found = decode(tmp_path / f"out{suffix}", 3)
    assert found.shape == pixels.shape and np.abs(found.astype(int) - whole).max() <= 2
    with pytest.raises(UserError, match=r"is written as \.tif or \.npy"):
        translator.translate_file(tmp_path / f"in{suffix}", tmp_path / "out.png", "ab")


@pytest.mark.parametrize("crop", [0, 9])
def test_a_training_draws_windows_of_a_picture_too_large_to_be_read(
    crop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header, "MAX_PIXELS", 100_000)
    given = {place: slide(tmp_path / f"{place}.tif", "uint16", 3, tile=(64, 64)) for place in "ab"}
    monkeypatch.setattr("unitkit.data.formats.tiff.read", lambda *_: pytest.fail("the picture was read whole"))
    data = open_data(f"{tmp_path}/a.tif,{tmp_path}/b.tif", size=(50, 40))
    train, test = data.domains["a"].train, data.domains["a"].test
    assert len(train) + len(test) == (700 // 50) * (531 // 40) and len(test) > 5
    names = {images.name(i) for images in (train, test) for i in range(len(images))}
    assert len(names) == len(train) + len(test)  # none is in both
    corner = tuple(int(n) for n in train.name(3).rpartition("[")[2].strip("]").split(","))
    assert np.array_equal(train.load(3), given["a"][:, corner[0] : corner[0] + 50, corner[1] : corner[1] + 40])
    larger = train.at((50 + crop, 40 + crop))
    assert all(larger.load(i).shape == (3, 50 + crop, 40 + crop) for i in (0, len(larger) - 1))
