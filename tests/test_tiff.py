"""TIFF and deep PNG as viewers show them, in stacks and by windows as single pages; and what a translation keeps."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from test_formats import noise
from test_formats import translate as translate  # a fixture

from unitkit import open_data
from unitkit.data.files.decode import decode, probe
from unitkit.data.files.encode import write_image
from unitkit.data.formats.windows import windows_of

Translate = Callable[..., None]


def palette(path: Path, pages: int) -> None:
    random = np.random.default_rng(0)
    with tifffile.TiffWriter(path) as file:
        for _ in range(pages):
            colours = random.integers(0, 65536, (3, 256)).astype(np.uint16)
            image = random.integers(0, 256, (20, 28)).astype(np.uint8)
            file.write(image, photometric="palette", colormap=colours, metadata=None)


def pages_of(kind: str, path: Path, pages: int, **options: Any) -> None:
    """A TIFF of so many pages of a kind."""
    if kind == "palette":
        palette(path, pages)
        return
    more: dict[str, Any] = options | {"metadata": None}
    if kind.startswith("bilevel"):
        given = noise("uint8", (pages, 20, 28)) > 127
        more["photometric"] = "miniswhite" if kind.endswith("white") else "minisblack"
    elif kind == "cmyk":
        given, more["photometric"] = noise("uint8", (pages, 20, 28, 4)), "separated"
    elif kind == "grey white":
        given, more["photometric"] = noise("uint8", (pages, 20, 28)), "miniswhite"
    elif kind == "rgb":
        given, more["photometric"] = noise("uint8", (pages, 20, 28, 3)), "rgb"
    elif kind == "rgba":
        given, more["photometric"] = noise("uint8", (pages, 20, 28, 4)), "rgb"
        more["extrasamples"] = ["unassalpha"]
    else:
        colours = noise("uint8", (pages, 20, 28, 4))
        given = np.minimum(colours, colours[..., 3:])
        more |= {"photometric": "rgb", "extrasamples": ["assocalpha"]}
    tifffile.imwrite(path, given, **more)


KINDS = ("palette", "bilevel", "bilevel white", "cmyk", "grey white", "rgb", "rgba", "premultiplied")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_page_of_a_stack_looks_as_it_does_alone(kind: str, channels: int, tmp_path: Path) -> None:
    """Alone Pillow reads it. Through float arithmetic transparent colours may come out one off."""
    pages_of(kind, tmp_path / "stack.tif", 3)
    assert probe(tmp_path / "stack.tif").frames == 3
    with Image.open(tmp_path / "stack.tif") as file:
        for page in range(3):
            file.seek(page)
            file.copy().save(tmp_path / "one.tif")
            if kind == "premultiplied":
                with tifffile.TiffFile(tmp_path / "stack.tif") as whole:
                    tifffile.imwrite(
                        tmp_path / "one.tif",
                        whole.pages[page].asarray(),
                        photometric="rgb",
                        extrasamples=["assocalpha"],
                    )
            alone = decode(tmp_path / "one.tif", channels).astype(int)
            found = decode(tmp_path / "stack.tif", channels, frame=page)
            assert found.dtype == np.uint8 and np.abs(found - alone).max() <= ("alpha" in kind or kind[0] in "rp")
            assert probe(tmp_path / "stack.tif").channels == probe(tmp_path / "one.tif").channels


@pytest.mark.parametrize("kind", KINDS)
def test_windows_look_as_the_whole(kind: str, tmp_path: Path) -> None:
    pages_of(kind, tmp_path / "x.tif", 1)
    found = windows_of(tmp_path / "x.tif")
    whole = decode(tmp_path / "x.tif", found.shape[0]).astype(int)
    assert found.shape == whole.shape and found.dtype == "uint8"
    assert np.abs(found.read(range(3, 17), range(5, 28)) - whole[:, 3:17, 5:28]).max() <= 1


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}
HOW = ("tiff grey", "tiff deep grey", "tiff deep", "tiff stack", "tiff float", "png deep", "windows", "windows deep")


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("how", HOW)
def test_an_image_is_upright(orientation: int, how: str, tmp_path: Path) -> None:
    """However it is read, an image is seen as its orientation says (H, W, C)."""
    dtype = "uint16" if "deep" in how else "float32" if "float" in how else "uint8"
    channels = 1 if "grey" in how else 3
    given = noise(dtype, (20, 28, channels))
    expected = TURNS[orientation](given).transpose(2, 0, 1)
    if how == "png deep":
        path = tmp_path / "x.png"
        exif = Image.Exif()
        exif[0x0112] = orientation
        with_chunk(path, given, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    else:
        path = tmp_path / "x.tif"
        laid = given[..., 0] if channels == 1 else given
        laid = np.stack([laid, laid]) if "stack" in how else laid
        photometric = "minisblack" if channels == 1 or dtype == "float32" else "rgb"
        planar = {"planarconfig": "contig"} if channels == 3 else {}
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, laid, photometric=photometric, extratags=tags, metadata=None, **planar)
    if "windows" in how:
        picture = windows_of(path)
        assert picture.shape == expected.shape
        for rows, columns in (range(0, 20), range(0, 20)), (range(3, 9), range(11, 20)), (range(19, 20), range(1, 2)):
            window = picture.read(rows, columns)
            assert np.array_equal(window, expected[:, rows.start : rows.stop, columns.start : columns.stop])
        return
    assert probe(path)[:3] == (expected.shape[2], expected.shape[1], channels)
    assert np.array_equal(decode(path, channels), expected)


@pytest.mark.parametrize("windows", [False, True])
def test_a_translation_is_upright_and_says_so(windows: bool, translate: Translate, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", noise("uint16", (20, 28)), extratags=[(274, "H", 1, 6, True)], metadata=None)
    translate(tmp_path / "in.tif", tmp_path / "out.tif", 1, "uint16", windows)
    assert probe(tmp_path / "out.tif") == probe(tmp_path / "in.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].shape == (28, 20) and 274 not in file.pages[0].tags


def with_chunk(path: Path, given: np.ndarray, kind: bytes, content: bytes) -> None:
    """A deep PNG of an image (H, W, C) with one more chunk in its header."""
    data = imagecodecs.png_encode(np.ascontiguousarray(given))
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(data[:33] + chunk + data[33:])


@pytest.mark.parametrize("pages", [1, 3])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_twelve_bits_are_shares_of_their_range(pages: int, photometric: str, tmp_path: Path) -> None:
    """By Pillow, which reads single pages, as in stacks and by windows."""
    given = noise("uint16", (pages, 20, 28), 4095)
    given[:, 0, :2] = 0, 4095
    tags = {256: (4, 28), 257: (4, 20), 258: (3, 12), 259: (3, 1), 262: (3, int(photometric == "minisblack"))}
    twelve_bits(tmp_path / "x.tif", given, tags)
    bright = np.rint((given if photometric == "minisblack" else 4095 - given) * (65535 / 4095)).astype(np.uint16)
    for page in range(pages):
        assert np.abs(decode(tmp_path / "x.tif", 1, frame=page)[0].astype(int) - bright[page]).max() <= 1
    if pages == 1:
        window = windows_of(tmp_path / "x.tif").read(range(0, 20), range(0, 28))
        assert np.array_equal(window, decode(tmp_path / "x.tif", 1))


def twelve_bits(path: Path, given: np.ndarray, tags: dict[int, tuple[int, int]]) -> None:
    """Pages (H, W) in 12 bits a pixel, W even."""
    data, nexts = b"II*\0\0\0\0\0", 4
    for page in given:
        even, odd = page[:, ::2].astype(int), page[:, 1::2].astype(int)
        packed = np.stack([even >> 4, ((even & 15) << 4) | (odd >> 8), odd & 255], -1).astype(np.uint8).tobytes()
        entries = tags | {273: (4, len(data)), 277: (3, 1), 278: (4, page.shape[0]), 279: (4, len(packed))}
        data += packed
        data = data[:nexts] + struct.pack("<I", len(data)) + data[nexts + 4 :]
        data += struct.pack("<H", len(entries))
        for tag, (kind, value) in sorted(entries.items()):
            data += struct.pack("<HHII", tag, kind, 1, value)
        nexts = len(data)
        data += bytes(4)
    path.write_bytes(data)


@pytest.mark.parametrize("other", ["uint8", "uint16"])
def test_twelve_bits_beside_others_are_as_bright(other: str, tmp_path: Path) -> None:
    tags = {256: (4, 28), 257: (4, 20), 258: (3, 12), 259: (3, 1), 262: (3, 1)}
    for place in "ab":
        (tmp_path / place).mkdir()
        for i in range(12):
            if i % 2:
                twelve_bits(tmp_path / place / f"{i:02}.tif", noise("uint16", (1, 20, 28), 4095), tags)
            else:
                write_image([noise(other, (1, 20, 28))], tmp_path / place / f"{i:02}.png")
    images = open_data(str(tmp_path), size=(20, 28)).domains["a"].train
    assert (images.values.low, images.values.high) == ((0,), (65535,))
    assert all(abs(images.load(i).mean() - 32768) < 4000 for i in range(len(images)))
