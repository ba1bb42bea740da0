"""TIFF and deep PNG as viewers show them, in stacks and by windows as single pages; and what a translation keeps."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from test_formats import noise
from test_formats import translate as translate  # a fixture

from unitkit import UserError, open_data
from unitkit.data.files.decode import alpha_of, decode, probe
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


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("premultiplied", [False, True])
def test_transparent_images_lie_over_white(
    windows: bool, photometric: str, dtype: str, premultiplied: bool, tmp_path: Path
) -> None:
    """Opacity is opacity where white is zero too, and colours are multiplied by it once."""
    top = np.iinfo(dtype).max
    alpha = np.tile(np.linspace(0, top, 28), (20, 1))
    colours = noise(dtype, (20, 28, 3 if photometric == "rgb" else 1)).astype(float)
    shown = top - colours if photometric == "miniswhite" else colours
    expected = shown * alpha[..., None] / top + (top - alpha[..., None])
    if premultiplied:
        shown = shown * alpha[..., None] / top
        colours = top - shown if photometric == "miniswhite" else shown
    stored = np.rint(np.concatenate([colours, alpha[..., None]], -1)).astype(dtype)
    kind = "assocalpha" if premultiplied else "unassalpha"
    tifffile.imwrite(
        tmp_path / "x.tif", stored, photometric=photometric, extrasamples=[kind], planarconfig="contig", metadata=None
    )
    if windows:
        found = windows_of(tmp_path / "x.tif").read(range(0, 20), range(0, 28))
    else:
        found = decode(tmp_path / "x.tif", colours.shape[-1])
    assert np.abs(found - expected.transpose(2, 0, 1)).max() <= 2


GEO: dict[int, Any] = {
    33550: ("d", 3, (0.5, 0.5, 0.0)),
    33922: ("d", 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0)),
    34735: ("H", 4, (1, 1, 0, 0)),
    34737: ("s", 8, "WGS 84|\0"),
    42113: ("s", 2, "0"),
}


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_map_keeps_its_place_and_resolution(
    windows: bool, dtype: str, channels: int, translate: Translate, tmp_path: Path
) -> None:
    given = noise(dtype, (20, 28, channels))
    rgb = channels == 3 and dtype != "float32"
    tifffile.imwrite(
        tmp_path / "in.tif",
        given if channels > 1 else given[..., 0],
        photometric="rgb" if rgb else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extratags=[(code, *content, True) for code, content in GEO.items()],
        resolution=(300, 200),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    translate(tmp_path / "in.tif", tmp_path / "out.tif", channels, dtype, windows)
    with tifffile.TiffFile(tmp_path / "in.tif") as before, tifffile.TiffFile(tmp_path / "out.tif") as after:
        for code in (*GEO, 282, 283, 296):
            assert after.pages[0].tags[code].value == before.pages[0].tags[code].value, code
    assert probe(tmp_path / "out.tif") == probe(tmp_path / "in.tif")


@cache  # it has the second in it at which it was made
def swapped() -> bytes:
    """A profile whose red is green to the eye, under no name that is believed."""
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = (made.index(tag, 128) for tag in (b"rXYZ", b"gXYZ"))
    made[red : red + 4], made[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(made).replace("sRGB".encode("utf-16-be"), "none".encode("utf-16-be")).replace(b"sRGB", b"none")


def profiled(how: str, folder: Path, profile: bytes) -> Path:
    """A picture in red, with a profile, in a file of some kind."""
    deep = "deep" in how
    given = np.zeros((20, 28, 3), np.uint16 if deep else np.uint8)
    given[..., 0] = 200 * (257 if deep else 1)
    path = folder / ("x.png" if "png" in how else "x.tif")
    if how == "png deep":
        with_chunk(path, given, b"iCCP", b"x\0\0" + zlib.compress(profile))
    elif how == "tiff stack":
        tifffile.imwrite(path, np.stack([given, given]), photometric="rgb", iccprofile=profile, metadata=None)
    elif how in ("tiff deep", "windows"):
        tifffile.imwrite(path, given, photometric="rgb", iccprofile=profile, metadata=None)
    else:
        image = Image.fromarray(given)
        (image.quantize(4) if "palette" in how else image).save(path, icc_profile=profile)
    return path


@pytest.mark.parametrize("how", ["png", "tiff", "png palette", "tiff palette", "tiff stack", "windows"])
def test_profiles_are_honoured_in_eight_bits(how: str, translate: Translate, tmp_path: Path) -> None:
    path = profiled(how, tmp_path, swapped())
    found = windows_of(path).read(range(0, 20), range(0, 28)) if how == "windows" else decode(path, 3)
    assert found[1, 0, 0] > found[0, 0, 0] + 50  # green
    translate(path, tmp_path / f"out{path.suffix}", 3, windows=how == "windows")
    with Image.open(tmp_path / f"out{path.suffix}") as image:  # which is in sRGB, and says so
        said = image.info["icc_profile"]
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(to_file(said)))
    assert struct.unpack(">6H", said[24:36]) == (2000, 1, 1, 0, 0, 0)  # not now: the same input gives the same file


def to_file(data: bytes) -> Any:
    from io import BytesIO

    return BytesIO(data)


@pytest.mark.parametrize("how", ["png deep", "tiff deep"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_colours_keep_their_profile(
    how: str, suffix: str, channels: int, translate: Translate, tmp_path: Path
) -> None:
    """It is not applied to them: the output says in what they are, where it is in colours too."""
    path = profiled(how, tmp_path, swapped())
    assert decode(path, 3)[:, 0, 0].tolist() == [51400, 0, 0]
    translate(path, tmp_path / f"out{suffix}", (3, channels), "uint16")
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert image.info.get("icc_profile") == (swapped() if channels == 3 else None)


@pytest.mark.parametrize("how", ["png deep", "tiff deep", "png", "tiff"])
def test_an_opening_tells_of_profiles_that_are_not_applied(how: str, tmp_path: Path) -> None:
    for place in "ab":
        (tmp_path / place).mkdir()
        path = profiled(how, tmp_path / place, swapped())
        for i in range(6):
            path.with_stem(str(i)).write_bytes(path.read_bytes())
    notes = [note for note in open_data(str(tmp_path), size=8).notes if "colour profile" in note]
    assert len(notes) == (2 if "deep" in how else 0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("into", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_kept(
    dtype: str, suffix: str, into: str, channels: int, translate: Translate, tmp_path: Path
) -> None:
    given = noise(dtype, (20, 28, channels + 1))
    if suffix == ".png":
        (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(given))
    else:
        photometric = "rgb" if channels == 3 else "minisblack"
        more: dict[str, Any] = {"planarconfig": "contig", "extrasamples": ["unassalpha"]}
        tifffile.imwrite(tmp_path / "in.tif", given, photometric=photometric, **more)
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{into}"
    assert np.array_equal(alpha_of(source), given[..., -1])
    translate(source, target, channels, dtype, alpha="keep")
    assert np.array_equal(alpha_of(target), given[..., -1])
    translate(source, target, channels, dtype, alpha="white")
    assert alpha_of(target) is None


def test_transparency_of_a_stack_is_kept(translate: Translate, tmp_path: Path) -> None:
    given = noise("uint16", (3, 20, 28, 4))
    given[1, ..., 3] = 65535
    tifffile.imwrite(tmp_path / "in.tif", given, photometric="rgb", extrasamples=["unassalpha"])
    translate(tmp_path / "in.tif", tmp_path / "out.tif", 3, "uint16", alpha="keep")
    assert np.array_equal(tifffile.imread(tmp_path / "out.tif")[..., 3], given[..., 3])


def test_a_picture_by_windows_tells_of_lost_transparency(
    translate: Translate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, samples in ("clear", 4), ("opaque", 3):
        more: dict[str, Any] = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
        tifffile.imwrite(tmp_path / f"{name}.tif", noise("uint8", (20, 28, samples)), photometric="rgb", **more)
        translate(tmp_path / f"{name}.tif", tmp_path / "out.tif", 3, windows=True, alpha="keep")
        told = " ".join("".join(capsys.readouterr()).split())
        assert ("clear.tif is larger" in told and "without its transparency" in told) == (samples == 4)


@pytest.mark.parametrize(
    ("name", "channels", "dtype"),
    [
        ("x.jpg", 3, "uint8"),
        ("x.npy", 3, "uint8"),
        ("x.nii.gz", 3, "uint8"),
        ("x.tif", 5, "uint8"),
        ("x.tif", 3, "float32"),
    ],
)
def test_transparency_that_cannot_be_kept_is_refused(
    name: str, channels: int, dtype: str, translate: Translate, tmp_path: Path
) -> None:
    source = tmp_path / "in.tif"
    given = noise(dtype, (20, 28, 4 if dtype == "uint8" else 3))
    more: dict[str, Any] = {"extrasamples": ["unassalpha"]} if dtype == "uint8" else {}
    tifffile.imwrite(source, given, photometric="rgb", planarconfig="contig", **more)
    with pytest.raises(UserError, match=r"--alpha keep (needs|is of)"):
        translate(source, tmp_path / name, (3, channels), dtype, alpha="keep")
    assert not (tmp_path / name).exists()


LYING = (0, 1, 2, 3, 7, 24, 255, 65535)
STRIPS, TILES = {"rowsperstrip": 8}, {"tile": (16, 16)}


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("layout", [STRIPS, TILES, {**STRIPS, "planarconfig": "separate"}, {**TILES, "compression": 8}])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_tag_that_lies_is_refused_or_read_at_one_size(layout: dict[str, Any], channels: int, tmp_path: Path) -> None:
    """Every number of the directory in turn."""
    shape = (20, 24) if channels == 1 else (3, 20, 24) if "planarconfig" in layout else (20, 24, 3)
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "whole.tif", noise("uint16", shape), photometric=photometric, **layout)
    data = (tmp_path / "whole.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "whole.tif") as file:
        tags = [(tag.code, tag.offset + 8, tag.dtype) for tag in file.pages[0].tags if tag.dtype in (3, 4)]
    assert len(tags) > 9
    for (code, offset, kind), value in product(tags, LYING):
        path, size = tmp_path / f"{code}-{value}.tif", {3: 2, 4: 4}[kind]
        path.write_bytes(data[:offset] + value.to_bytes(size, "little") + data[offset + size :])
        for read in (_by_windows, lambda path: decode(path, probe(path).channels)):
            try:
                assert read(path).shape == (probe(path).channels, probe(path).height, probe(path).width), path
            except UserError as error:
                assert "\n" not in str(error), path


def _by_windows(path: Path) -> np.ndarray:
    windows = windows_of(path)
    return windows.read(range(windows.shape[1]), range(windows.shape[2]))
