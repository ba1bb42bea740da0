"""DICOM and NIfTI: what files state of their values is heeded wherever it lies, and what they announce is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unitkit import UserError, open_data
from unitkit.data.files.decode import decode, probe
from unitkit.data.files.encode import write_image
from unitkit.data.formats import dicom as dicom_format
from unitkit.data.formats import nifti

pydicom: Any = pytest.importorskip("pydicom")


def dicom(path: Path, pixels: np.ndarray, *, frames: int = 1, bits: int = 12, syntax: str = "", **tags: Any) -> Path:
    """A file with pixels (H, W), or frames of them."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = syntax or pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    made = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = 8 * pixels.dtype.itemsize
    made.BitsStored, made.HighBit = bits, bits - 1
    made.PixelRepresentation, made.PixelData = int(pixels.dtype.kind == "i"), pixels.tobytes()
    if frames > 1:
        made.NumberOfFrames = frames
    for name, value in tags.items():
        setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    return path


def groups(
    slope: float | None = None, intercept: float | None = None, window: tuple[float, float] | None = None
) -> Any:
    """Functional groups of an enhanced image."""
    made = pydicom.Dataset()
    inner = pydicom.Dataset()
    inner.RescaleSlope, inner.RescaleIntercept = slope, intercept
    made.PixelValueTransformationSequence = pydicom.Sequence([inner])
    if window is not None:
        inner = pydicom.Dataset()
        inner.WindowCenter, inner.WindowWidth = window
        made.FrameVOILUTSequence = pydicom.Sequence([inner])
    return made


def pixels(*shape: int, low: int = 0, high: int = 4096, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (2, 100), (-0.5, 7)])
def test_a_window_is_turned_over_with_the_pixels(signed: bool, slope: float, intercept: float, tmp_path: Path) -> None:
    """Where white is the least stored value, what the window shows is the negative of what it shows elsewhere."""
    given = pixels(9, 11, low=-2048, high=2048, dtype="int16") if signed else pixels(9, 11)
    center = float(np.median(given)) * slope + intercept
    more = {"RescaleSlope": slope, "RescaleIntercept": intercept, "WindowCenter": center, "WindowWidth": 800}
    shown = []
    for kind in "MONOCHROME2", "MONOCHROME1":
        path = dicom(tmp_path / "x.dcm", given, PhotometricInterpretation=kind, **more)
        low, high = probe(path).window or (0, 0)
        assert high - low == 800
        shown.append((decode(path, 1)[0].astype(float).clip(low, high) - low) / 800)
    assert 0.1 < shown[0].mean() < 0.9
    np.testing.assert_allclose(shown[1], 1 - shown[0], atol=1e-6)


WHERE = {
    "top": lambda slope, intercept: {"RescaleSlope": slope, "RescaleIntercept": intercept},
    "shared": lambda slope, intercept: {"SharedFunctionalGroupsSequence": pydicom.Sequence([groups(slope, intercept)])},
    "each": lambda slope, intercept: {
        "PerFrameFunctionalGroupsSequence": pydicom.Sequence([groups(slope, intercept)] * 3)
    },
    "each, and the file another": lambda slope, intercept: {
        "RescaleSlope": 99,
        "RescaleIntercept": 99,
        "PerFrameFunctionalGroupsSequence": pydicom.Sequence([groups(slope, intercept)] * 3),
    },
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, 0), (0.5, 3)])
def test_slope_and_intercept_are_heeded_wherever_they_lie(
    where: str, slope: float, intercept: float, tmp_path: Path
) -> None:
    given = pixels(3, 9, 11)
    path = dicom(tmp_path / "x.dcm", given, frames=3, **WHERE[where](slope, intercept))
    assert probe(path)[:5] == (11, 9, 1, "float32", 3)
    for frame in range(3):
        assert np.array_equal(
            decode(path, 1, frame=frame)[0], (given[frame] * float(slope) + intercept).astype(np.float32)
        )


@pytest.mark.parametrize("same", [False, True])
def test_each_frame_has_its_own_slope_and_window(same: bool, tmp_path: Path) -> None:
    given = pixels(3, 9, 11)
    every = [groups(slope, 0, (100 if same else 100 * slope, 50)) for slope in (1, 2, 3)]
    path = dicom(tmp_path / "x.dcm", given, frames=3, PerFrameFunctionalGroupsSequence=pydicom.Sequence(every))
    assert probe(path) == (11, 9, 1, "float32", 3, (75.0, 125.0) if same else None)
    for frame in range(3):
        assert np.array_equal(decode(path, 1, frame=frame)[0], given[frame] * np.float32(frame + 1))


@pytest.mark.parametrize("slopes", [(1, 0.5, 2, 3), (1, 1, 1, 2), (2, 1, 1, 1)])
def test_files_of_one_series_may_differ_in_their_slopes(slopes: tuple[float, ...], tmp_path: Path) -> None:
    """Though one of them changes nothing, and alone would be of whole numbers."""
    given = pixels(9, 11)
    for place in "ab":
        (tmp_path / place).mkdir()
        for i in range(12):
            dicom(tmp_path / place / f"{i:02}.dcm", given, RescaleSlope=slopes[i % 4], RescaleIntercept=0)
    images = open_data(str(tmp_path), size=(9, 11)).domains["a"].train
    assert images.values.dtype == "float32"
    for i in range(len(images)):
        slope = slopes[int(Path(images.name(i)).stem) % 4]
        assert np.array_equal(images.load(i)[0], given * np.float32(slope))


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([(500, 400)] * 4, (300, 700)),
        ([(500, 400)] * 3 + [(500, 300)], None),
        ([(500, 400)] * 3 + [None], None),
        ([None] * 4, None),
    ],
)
def test_a_window_is_the_range_where_all_files_state_it(
    windows: list[tuple[float, float] | None], expected: tuple[float, float] | None, tmp_path: Path
) -> None:
    given = pixels(30, 30, low=100)
    for place in "ab":
        (tmp_path / place).mkdir()
        for i in range(12):
            center, width = windows[i % 4] or (None, None)
            tags = {"WindowCenter": center, "WindowWidth": width} if width else {}
            dicom(tmp_path / place / f"{i:02}.dcm", given, **tags)
    values = open_data(str(tmp_path), size=30).values["a"]
    assert (values.low, values.high) == tuple((each,) for each in expected or (given.min(), given.max()))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_in_colours(bits: int, tmp_path: Path) -> None:
    table = np.random.default_rng(1).integers(0, 2**bits, (3, 256)).astype(f"uint{bits}")
    tags: dict[str, Any] = {}
    for colour, entries in zip(("Red", "Green", "Blue"), table, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tags[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    given = pixels(2, 9, 11, high=256, dtype="uint8")
    path = dicom(tmp_path / "x.dcm", given, frames=2, bits=8, PhotometricInterpretation="PALETTE COLOR", **tags)
    assert probe(path) == (11, 9, 3, "uint16", 2, None)
    for frame in range(2):
        assert np.array_equal(decode(path, 3, frame=frame), table[:, given[frame]] * np.uint16(257 if bits == 8 else 1))


@pytest.mark.parametrize("count", [300, 2100])
def test_a_deflated_file_unpacks_to_no_more_than_it_may(count: int, tmp_path: Path) -> None:
    """With the sizes in its header as they are, or small: what is deflated is all that lies behind the first group."""
    given = np.zeros((count, 256, 256), np.uint16)
    path = dicom(tmp_path / "x.dcm", given, frames=count, syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)
    if count < 2000:
        assert probe(path).frames == count and decode(path, 1, frame=5).shape == (1, 256, 256)
        return
    assert path.stat().st_size < 2**20
    with pytest.raises(UserError, match="more than 100 times as much"):
        probe(path)


@pytest.mark.parametrize(
    "sizes", [{"Rows": 9000, "Columns": 11_000, "NumberOfFrames": 3}, {"NumberOfFrames": 90_000, "Rows": 10_000}]
)
def test_a_file_of_fewer_bytes_than_it_announces(sizes: dict[str, int], tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", pixels(9, 11), **sizes)
    with pytest.raises(UserError, match=r"announces .* times as much"):
        probe(path)


needs_nifti = pytest.mark.skipif(nifti.nibabel is None, reason="nibabel is not installed")


def volume(path: Path, given: np.ndarray, slope: float = 1, intercept: float = 0) -> Path:
    made = nifti.nibabel.Nifti1Image(given, np.eye(4))
    made.header.set_slope_inter(slope, intercept)
    made.to_filename(path)
    return path


@needs_nifti
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">u2", "float32", "float64"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.5, -3), (1, -1024)])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4), (6, 5, 4, 3), (6, 5, 4, 1, 3), (6, 5, 4, 2, 3)])
def test_a_slice_is_that_of_the_whole_volume(
    suffix: str, dtype: str, slope: float, intercept: float, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = volume(tmp_path / f"x{suffix}", pixels(*shape, high=200, dtype=dtype), slope, intercept)
    whole = np.asarray(nifti.nibabel.load(path).dataobj).reshape(*(*shape, 1)[:3], -1)
    header = probe(path)
    for frame in range(header.frames):
        found = decode(path, header.channels, frame=frame)
        assert found.dtype == header.dtype
        assert np.array_equal(found, whole[:, :, frame].transpose(2, 1, 0).astype(header.dtype))


@needs_nifti
def test_one_slice_of_a_plain_volume_reads_no_other(tmp_path: Path) -> None:
    path = volume(tmp_path / "x.nii", pixels(60, 50, 40), 0.5, 0)
    kept, *_ = nifti._volume(path, path.stat().st_mtime_ns)
    assert isinstance(kept, np.memmap)  # as it lies on the disk, not scaled


@needs_nifti
def test_a_volume_of_fewer_bytes_than_it_announces(tmp_path: Path) -> None:
    path = volume(tmp_path / "bomb.nii.gz", np.zeros((1000, 1000, 290), np.uint8), 0.5, 0)
    with pytest.raises(UserError, match=r"announces .* more than 100 times as much"):
        probe(path)
    short = volume(tmp_path / "short.nii", pixels(6, 5, 4))
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged or truncated"):
        probe(short)


@needs_nifti
def test_a_slice_too_large_to_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its header, as these formats have no windows."""
    for module in dicom_format, nifti:
        monkeypatch.setattr(module, "MAX_PIXELS", 98)
    with pytest.raises(UserError, match="states 1 images of 11x9"):
        probe(dicom(tmp_path / "x.dcm", pixels(9, 11)))
    with pytest.raises(UserError, match="slices of at most"):
        probe(volume(tmp_path / "x.nii", pixels(9, 11, 2)))


@needs_nifti
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 4), (6, 5, 4, 3), (6, 5, 4, 1, 3), (6, 5, 4, 2, 3)])
def test_a_volume_keeps_its_axes(shape: tuple[int, ...], tmp_path: Path) -> None:
    given = pixels(*shape, dtype="uint16")
    source = volume(tmp_path / "in.nii", given)
    header = probe(source)
    frames = [decode(source, header.channels, frame=n) for n in range(header.frames)]
    write_image(frames, tmp_path / "out.nii", source)
    assert np.array_equal(np.asarray(nifti.nibabel.load(tmp_path / "out.nii").dataobj), given)
