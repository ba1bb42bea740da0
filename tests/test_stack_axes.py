"""Stacks keep their axes and the size of their voxels; and headers announce no more than files hold."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from test_formats import noise
from test_formats import translate as translate  # a fixture

from unitkit import UserError, open_data
from unitkit.data.files.decode import decode, probe
from unitkit.data.files.encode import write_image

Translate = Callable[..., None]
IMAGEJ = {"spacing": 2.5, "unit": "um", "finterval": 3.0}
OME = {
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.5,
    "PhysicalSizeYUnit": "µm",
    "PhysicalSizeZ": 2.0,
    "PhysicalSizeZUnit": "µm",
}
AXES = {"TYX": (4,), "ZYX": (3,), "CYX": (2,), "ZCYX": (3, 2), "TZCYX": (2, 3, 2), "TZYX": (2, 3), "CZYX": (2, 3)}


def stack(path: Path, kind: str, axes: str, dtype: str = "uint16") -> np.ndarray:
    given = noise(dtype, (*AXES[axes], 20, 28))
    metadata: dict[str, Any] = {"axes": axes, **(IMAGEJ if kind == "imagej" else OME)}
    options: dict[str, Any] = {kind: True, "photometric": "minisblack", "metadata": metadata}
    if kind == "imagej":
        options["resolution"] = (5, 4)
    tifffile.imwrite(path, given, **options)
    return given


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_stack_keeps_its_axes(kind: str, axes: str, dtype: str, tmp_path: Path) -> None:
    """Written back with no change, it is what it was."""
    if kind == "imagej" and axes == "CZYX":
        return  # which ImageJ does not have
    source, target = tmp_path / "in.ome.tif", tmp_path / "out.ome.tif"
    given = stack(source, kind, axes, dtype)
    channels = AXES[axes][axes.index("C")] if "C" in axes else 1
    frames = [decode(source, channels, frame=n) for n in range(probe(source).frames)]
    write_image(frames, target, source)
    assert probe(target) == probe(source)
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(target) as after:
        assert after.series[0].axes == before.series[0].axes and len(after.series) == 1
        assert np.array_equal(after.asarray(), given)
        if kind == "imagej":
            assert after.is_imagej and after.pages[0].resolution == before.pages[0].resolution == (5, 4)
            known: Any = after.imagej_metadata
            assert {key: known[key] for key in IMAGEJ} == IMAGEJ
        else:
            pixels = tifffile.xml2dict(after.ome_metadata or "")["OME"]["Image"]["Pixels"]
            assert {key: pixels[key] for key in OME} == OME


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("windows", [False, True])
def test_a_translation_to_other_channels_keeps_the_other_axes(
    kind: str, channels: int, windows: bool, translate: Translate, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    stack(source, kind, "TZCYX")
    translate(source, target, (2, channels), "uint16")
    assert probe(target)[:5] == (28, 20, channels, "uint16", 6)
    with tifffile.TiffFile(target) as after:
        axes = after.series[0].axes
        assert axes == ("TZYX" if channels == 1 else "TZYXS" if channels == 3 and kind == "ome" else "TZCYX")


HUGE = [(2**32 - 1, 2**32 - 1), (3_000_000_000, 3_000_000_000), (200_000, 200_000), (2**31, 1), (2**30, 1), (0, 5)]


def huge_tiff(path: Path, width: int, height: int, samples: int = 1) -> None:
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, samples)]
    entries += [(278, 4, max(height, 1)), (279, 4, 16)]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    path.write_bytes(b"II*\0" + struct.pack("<I", 24) + bytes(16) + struct.pack("<H", len(entries)) + table + bytes(4))


def huge_png(path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("make", [huge_tiff, huge_png])
@pytest.mark.parametrize("size", [*HUGE, (46_341, 46_341), (9000, 9000)])
def test_a_picture_of_more_pixels_than_its_file_holds(
    make: Callable[..., None], size: tuple[int, int], tmp_path: Path
) -> None:
    """Is refused by its header or its pixels, in a line, and is no training image; its folder opens without it."""
    for place in "train/a", "train/b", "test/a", "test/b":
        (tmp_path / place).mkdir(parents=True)
        for i in range(2):
            write_image([noise("uint8", (3, 20, 28))], tmp_path / place / f"{i}.png")
    path = tmp_path / "train" / "a" / ("x.tif" if make is huge_tiff else "x.png")
    make(path, *size)
    with pytest.raises(UserError, match=r"x\.(tif|png)'"):
        probe(path)
        decode(path, 3)
    train = open_data(str(tmp_path), size=8).domains["a"].train
    assert len(train) == 3
    for i in range(3):
        if i not in train.broken and "x." not in train.name(i):  # type: ignore[attr-defined]
            train.load(i)
