"""Files of several images, and of pictures in windows, as data: what opening and loading them costs, and bad ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from unitkit import UserError, open_data
from unitkit.data.files.bad import BadImage, BadImages
from unitkit.data.files.decode import decode
from unitkit.data.folders import frames as folder_frames
from unitkit.data.folders import index
from unitkit.data.formats import dicom, header, pages, tiff_windows
from unitkit.data.formats.windows import windows_of


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 1000).astype(dtype)


STACKS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "pages": lambda path, given: tifffile.imwrite(path, given, photometric="minisblack", metadata=None),
    "packed": lambda path, given: tifffile.imwrite(path, given, photometric="minisblack", compression="zlib"),
    "imagej": lambda path, given: tifffile.imwrite(path, given, imagej=True, metadata={"axes": "TYX"}),
    "tiles": lambda path, given: tifffile.imwrite(path, given, photometric="minisblack", tile=(16, 16)),
}


@pytest.mark.parametrize("kind", STACKS)
def test_a_stack_costs_no_more_for_having_many_pages(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directories are walked as often for sixty pages as for six, and its header is read once."""
    walked, read = list[int](), list[str]()
    walk, look = pages.check_directories, index.header_of
    monkeypatch.setattr(pages, "check_directories", lambda *given: walked.append(1) or walk(*given))
    monkeypatch.setattr(index, "header_of", lambda name: read.append(name) or look(name))
    costs = []
    for count in 6, 60:
        given = noise(count, 20, 24)
        paths = [tmp_path / f"{place}{count}.tif" for place in "ab"]
        for path in paths:
            STACKS[kind](path, given)
        data = open_data(",".join(map(str, paths)), size=(20, 24))
        images = data.domains["a"].train
        assert all(np.array_equal(images.load(i)[0], given[frame]) for i, frame in enumerate(images.frames))
        costs.append((len(walked), len(read)))
        walked.clear(), read.clear()
    assert costs[0] == costs[1] and costs[0][0] <= 8 and costs[0][1] == 2


def test_one_frame_of_many_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pydicom = pytest.importorskip("pydicom")
    given = noise(5, 8, 12)
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    found = pydicom.dataset.FileDataset(str(tmp_path / "x.dcm"), {}, file_meta=meta, preamble=bytes(128))
    for name, value in {
        "Rows": 8,
        "Columns": 12,
        "NumberOfFrames": 5,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": given.tobytes(),
    }.items():
        setattr(found, name, value)
    found.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    decoded = []
    one = pydicom.pixels.pixel_array
    monkeypatch.setattr(
        dicom.pydicom.pixels.utils, "pixel_array", lambda *a, **k: decoded.append(one(*a, **k)) or decoded[-1]
    )
    for frame in range(5):
        assert np.array_equal(decode(tmp_path / "x.dcm", 1, frame=frame)[0], given[frame])
    assert [each.shape for each in decoded] == [(8, 12)] * 5


# Bad images


def folder_of_stacks(root: Path) -> str:
    for place in "ab":
        (root / place).mkdir()
        for name in "uvwxyz":
            tifffile.imwrite(root / place / f"{name}.tif", noise(3, 16, 16), photometric="minisblack")
        Image.new("L", (16, 16)).save(root / place / "single.png")
    return str(root)


def two_stacks(root: Path) -> str:
    for place in "ab":
        tifffile.imwrite(root / f"{place}.tif", noise(12, 16, 16), photometric="minisblack")
    return f"{root}/a.tif,{root}/b.tif"


def two_pictures(root: Path) -> str:
    for place in "ab":
        tifffile.imwrite(root / f"{place}.tif", noise(70, 70), photometric="minisblack")
    return f"{root}/a.tif,{root}/b.tif"


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("made", [folder_of_stacks, two_stacks, two_pictures])
def test_bad_images_of_a_file_are_known_again(
    made: Callable[[Path], str], split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by its file and its place in it, wherever the data have moved to."""
    monkeypatch.setattr(header, "MAX_PIXELS", 1000)
    places = [tmp_path / "one", tmp_path / "other"]
    opened = []
    for place in places:
        place.mkdir()
        opened.append(open_data(made(place), size=16))
    before, after = (getattr(data.domains["a"], split) for data in opened)
    assert len(before) > 0
    for i in range(len(before)):
        bad = BadImage("a", split, i, before.name(i), "reason", 3)
        for data, images in zip(opened, (before, after), strict=True):
            (found,) = BadImages(data, [bad]).found.values()
            assert images.frames[found.index] == before.frames[i] and images.keys[found.index] == before.keys[i]
        if (name := bad.name).endswith("[0]"):  # as it was called before another file held several
            assert BadImages(opened[0], [replace(bad, name=name.removesuffix("[0]"))]).found.keys() == {bad.place}
    gone = BadImage("a", split, 0, before.name(0).replace("[", "[9"), "reason")
    assert not BadImages(opened[0], [gone])


# Windows


def test_a_page_for_each_channel(tmp_path: Path) -> None:
    given = noise(4, 70, 90)
    tifffile.imwrite(tmp_path / "x.ome.tif", given, metadata={"axes": "CYX"}, tile=(32, 32), photometric="minisblack")
    found = windows_of(tmp_path / "x.ome.tif")
    assert found.shape == given.shape and np.array_equal(found.read(range(30, 70), range(5, 90)), given[:, 30:, 5:])


@pytest.mark.parametrize("nodata", [None, "7"])
@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_parts_that_a_file_leaves_out_hold_no_data(
    compression: str | None, tiled: bool, nodata: str | None, tmp_path: Path
) -> None:
    given, path = noise(64, 64) + 1, tmp_path / "x.tif"
    shape: dict[str, Any] = {"tile": (32, 32)} if tiled else {"rowsperstrip": 32}
    tags = [(42113, "s", 0, nodata, True)] if nodata else []
    tifffile.imwrite(path, given, metadata=None, compression=compression, extratags=tags, **shape)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages.first.tags[325 if tiled else 279]
        tag.overwrite([0, *tag.value[1:]])
    given[:32, : 32 if tiled else 64] = int(nodata or 0)
    whole = tifffile.imread(path)
    assert np.array_equal(whole, given) and np.array_equal(windows_of(path).read(range(64), range(64))[0], given)


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32"])
@pytest.mark.parametrize(("channels", "planar"), [(1, None), (3, "contig"), (3, "separate")])
@pytest.mark.parametrize("rows", [100, 37])
def test_of_a_strip_without_compression_only_rows_are_read(
    rows: int, channels: int, planar: str | None, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_windows, "ROWS", 2000)
    given = noise(100, 80, channels, dtype=dtype)
    laid = given[..., 0] if channels == 1 else given.transpose(2, 0, 1) if planar == "separate" else given
    order = ">" if dtype.startswith(">") else "<"
    tifffile.imwrite(
        tmp_path / "x.tif",
        laid,
        rowsperstrip=rows,
        photometric="rgb" if channels == 3 else "minisblack",
        planarconfig=planar,
        byteorder=order,
        metadata=None,
    )
    found = windows_of(tmp_path / "x.tif")
    read = list[int]()
    bytes_of = tiff_windows.TiffWindows._bytes
    monkeypatch.setattr(tiff_windows.TiffWindows, "_bytes", lambda self, at, n: read.append(n) or bytes_of(self, at, n))
    assert np.array_equal(found.read(range(60, 62), range(3, 9)), given[60:62, 3:9].transpose(2, 0, 1))
    assert sum(read) <= 4000 * channels
    assert np.array_equal(found.read(range(100), range(80)), given.transpose(2, 0, 1))
    (tmp_path / "cut.tif").write_bytes((tmp_path / "x.tif").read_bytes()[:-200])
    with pytest.raises(UserError, match="damaged or truncated"):
        windows_of(tmp_path / "cut.tif").read(range(100), range(80))


def test_a_large_strip_that_is_packed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_windows, "TILE", 1000)
    for compression, rows in ("zlib", 40), (None, 40), ("zlib", 10):
        path = tmp_path / f"{compression}{rows}.tif"
        tifffile.imwrite(path, noise(40, 50), rowsperstrip=rows, compression=compression)
        if compression and rows == 40:
            with pytest.raises(UserError, match=r"is packed in strips of 50x40 pixels.*save it in tiles"):
                windows_of(path)
        else:
            windows_of(path)


def png(width: int, height: int) -> bytes:
    """Its header and hardly any data, of 16 bits."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(10)))]
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(width: int, height: int) -> bytes:
    """Its directory and 16 bytes of data."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 16)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 24) + bytes(16) + struct.pack("<H", len(tags)) + entries + bytes(4)


HOSTILE = {
    "x.png": (png(40_000, 40_000), "expected 1 to 100 million, scale it down"),
    "wide.png": (png(2**31 - 1, 2**31 - 1), "pixels"),
    "x.tif": (tiff(200_000, 200_000), "announces 200000x200000 values in a file"),
    "wide.tif": (tiff(3_000_000_000, 3_000_000_000), "as damaged or malicious files do: remove it"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_header_alone_makes_large_is_no_picture(name: str, tmp_path: Path) -> None:
    """Neither in a folder, where it is told of as a bad image, nor by itself."""
    for place in "ab":
        (tmp_path / place).mkdir()
        for i in range(20):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / place / f"{i}.png")
    (tmp_path / "a" / name).write_bytes(HOSTILE[name][0])
    data = open_data(str(tmp_path), size=8)
    domain = data.domains["a"]
    broken = {**domain.train.broken, **domain.test.broken}
    assert len(domain.train) + len(domain.test) == 21 and len(broken) == 1
    with pytest.raises(UserError, match=HOSTILE[name][1]):
        raise next(iter(broken.values()))
    with pytest.raises(UserError, match=HOSTILE[name][1]):
        open_data(f"{tmp_path}/a/{name},{tmp_path}/b", size=8)


def test_of_very_many_windows_some_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MAX_PIXELS", 1000)
    monkeypatch.setattr(folder_frames, "WINDOWS", 50)
    data = open_data(two_pictures(tmp_path), size=2)
    images = [data.domains["a"].train, data.domains["a"].test]
    tops, lefts = np.array([frame for each in images for frame in each.frames]).T
    assert (
        sum(map(len, images)) == 50
        and tops.max() >= 64
        and lefts.max() >= 60
        and len(np.unique(tops * 100 + lefts)) == 50
    )
