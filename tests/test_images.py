"""Image files: every format and mode decodes to the right bytes, and everything broken is refused by name."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unitkit.data.files.decode import decode, probe
from unitkit.data.files.scale import to_image
from unitkit.system.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # pytest drops the filter that decode.py sets
LOSSLESS = ("png", "bmp", "tiff", "webp")


def pattern(height: int = 12, width: int = 20, channels: int = 3) -> np.ndarray:
    """A smooth uint8 picture (H, W, C) with no symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(x * (9 - 3 * c) + y * (5 + 4 * c)) % 256 for c in range(channels)], -1).astype(np.uint8)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    if path.suffix == ".webp":
        options = {"lossless": True, "exact": True, **options}
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def refused(path: Path, *words: str, whole: bool = False) -> None:
    """The header check (or with `whole` the decode) raises one line that names the path and says these words."""
    with pytest.raises(UserError) as caught:
        decode(path, 3) if whole else probe(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_rgb_survives(tmp_path: Path, suffix: str) -> None:
    path = saved(Image.fromarray(pattern()), tmp_path / f"x.{suffix}")
    assert probe(path)[:3] == (20, 12, 3)
    assert np.array_equal(decode(path, 3), pattern().transpose(2, 0, 1))
    assert np.array_equal(np.asarray(to_image(decode(path, 3))), pattern())


@pytest.mark.parametrize("suffix", ("png", "bmp", "tiff"))
def test_grey_is_one_channel(tmp_path: Path, suffix: str) -> None:
    grey = pattern()[..., 0]
    path = saved(Image.fromarray(grey), tmp_path / f"x.{suffix}")
    assert probe(path).channels == 1
    assert np.array_equal(decode(path, 1)[0], grey)
    assert np.array_equal(decode(path, 3), np.stack([grey] * 3))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
def test_jpeg(tmp_path: Path, mode: str, channels: int) -> None:
    picture = Image.fromarray(np.full((32, 48, 3), (200, 90, 40), np.uint8)).convert(mode)
    path = saved(picture, tmp_path / "x.jpg", quality=95)
    assert probe(path)[:3] == (48, 32, channels)
    expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1).astype(int)
    assert np.abs(decode(path, 3).astype(int) - expected).max() <= 4


@pytest.mark.parametrize("suffix", ("png", "tiff"))
def test_one_bit(tmp_path: Path, suffix: str) -> None:
    path = saved(Image.fromarray(pattern()[..., 0] > 100), tmp_path / f"x.{suffix}")
    assert probe(path).channels == 1
    assert np.array_equal(decode(path, 1)[0], np.where(pattern()[..., 0] > 100, 255, 0))


@pytest.mark.parametrize("suffix", ("png", "tiff"))
def test_sixteen_bit_is_kept(tmp_path: Path, suffix: str) -> None:
    deep = np.linspace(0, 65535, 240).astype(np.uint16).reshape(12, 20)
    path = saved(Image.fromarray(deep), tmp_path / f"x.{suffix}")
    assert probe(path)[:4] == (20, 12, 1, "uint16")
    found = decode(path, 1)
    assert found.dtype == np.uint16 and np.array_equal(found[0], deep)
    assert np.array_equal(decode(path, 3), np.stack([deep] * 3))


@pytest.mark.parametrize(("order", "photometric"), [(">", 1), ("<", 1), ("<", 0)])
def test_sixteen_bit_tiff_of_either_order(tmp_path: Path, order: str, photometric: int) -> None:
    deep = np.linspace(0, 65535, 240).astype(np.uint16).reshape(12, 20)
    path = tmp_path / "x.tif"
    path.write_bytes(bare_tiff(deep.astype(f"{order}u2"), 20, order, 16, photometric))
    bright = deep if photometric == 1 else 65535 - deep
    assert np.array_equal(decode(path, 1)[0], bright)


def test_twelve_bit_tiff(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(bare_tiff(np.array([[0xFF, 0xF8, 0x00]], np.uint8), 2, "<", 12, 1))
    assert decode(path, 1).tolist() == [[[65535, 32776]]]  # shares of all of their range, as in 16 bits
    assert probe(path).window is None


def bare_tiff(rows: np.ndarray, width: int, order: str, bits: int, photometric: int) -> bytes:
    """An uncompressed TIFF of one channel; `photometric` 0 means that white is zero."""
    tags = {
        256: width,
        257: len(rows),
        258: bits,
        259: 1,
        262: photometric,
        273: 0,
        277: 1,
        278: len(rows),
        279: rows.nbytes,
    }
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    mark = b"MM" if order == ">" else b"II"
    head = mark + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + entries + struct.pack(f"{order}I", 0) + rows.tobytes()


def test_rgb_of_sixteen_bits_is_kept(tmp_path: Path) -> None:
    deep = (pattern() * np.uint16(256) + 7).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    path = tmp_path / "x.png"
    path.write_bytes(png(20, 12, depth=16, colour=2, data=rows))
    assert probe(path)[:4] == (20, 12, 3, "uint16")
    assert np.array_equal(decode(path, 3), deep.transpose(2, 0, 1))


def png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ("png", "bmp", "tiff"))
def test_palette(tmp_path: Path, suffix: str) -> None:
    path = saved(Image.fromarray(pattern()).quantize(16), tmp_path / f"x.{suffix}")
    with Image.open(path) as image:
        assert image.mode == "P"
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert probe(path).channels == 3
    assert np.array_equal(decode(path, 3), expected)


@pytest.mark.parametrize("clear", [0, bytes([0, 128, 255])])
def test_palette_with_transparency_lies_over_white(tmp_path: Path, clear: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    path = saved(image, tmp_path / "x.png", transparency=clear)
    green = [0, 255, 0] if clear == 0 else [127, 255, 127]
    assert decode(path, 3)[:, 0].T.tolist() == [[255, 255, 255], green, [0, 0, 255]]


@pytest.mark.parametrize("suffix", ("png", "webp", "tiff"))
def test_alpha_lies_over_white(tmp_path: Path, suffix: str) -> None:
    pixels = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    path = saved(Image.fromarray(pixels), tmp_path / f"x.{suffix}")
    assert probe(path).channels == 3
    assert decode(path, 3)[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255], [204, 204, 204]]


def test_grey_with_alpha(tmp_path: Path) -> None:
    path = saved(Image.merge("LA", [Image.new("L", (3, 2), 0), Image.new("L", (3, 2), 51)]), tmp_path / "x.png")
    assert probe(path)[:3] == (3, 2, 1)
    assert (decode(path, 1) == 204).all()


def test_colour_key_is_transparent(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.array([[7, 9]], np.uint8)), tmp_path / "x.png", transparency=7)
    assert decode(path, 1).tolist() == [[[255, 9]]]
    deep = Image.fromarray(np.array([[514, 771]], np.uint16))
    assert decode(saved(deep, tmp_path / "y.png", transparency=514), 1).tolist() == [[[65535, 771]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ("jpg", "png", "tiff", "webp"))
def test_exif_turned(tmp_path: Path, suffix: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.fromarray(
        np.kron([[[255], [80], [160]], [[30], [200], [0]]], np.ones((16, 16, 3))).astype(np.uint8)
    )
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(stored, tmp_path / f"x.{suffix}", exif=exif)
    assert probe(path)[:2] == (48, 32)
    difference = decode(path, 3).astype(int) - np.asarray(upright).transpose(2, 0, 1)
    assert np.abs(difference).max() <= 6
    assert decode(path, 1, (16, 24)).shape == (1, 16, 24)


@pytest.mark.parametrize("orientation", [0, 9, 99, 65535])
@pytest.mark.parametrize("suffix", ("jpg", "png", "tiff", "webp"))
def test_an_orientation_that_means_nothing_turns_nothing(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(pattern()), tmp_path / f"x.{suffix}", exif=exif)
    assert probe(path)[:2] == (20, 12)
    assert decode(path, 3).shape == (3, 12, 20)
    assert decode(path, 3, (6, 10)).shape == (3, 6, 10)


@pytest.mark.parametrize("value", [b"6", b"\6", "6", 6.5, float("nan"), (6, 1), -6, None])
def test_an_orientation_of_another_type_is_one_truth_for_header_and_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    path = saved(Image.fromarray(pattern()), tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "getexif", lambda image: {0x0112: value})
    assert probe(path)[:2] == (20, 12) and decode(path, 3).shape == (3, 12, 20)


def test_an_orientation_behind_the_pixels_of_a_png_is_seen_by_neither(tmp_path: Path) -> None:
    """Or by both: the header alone must not tell another size than the decoded picture has."""
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = saved(Image.fromarray(pattern()), tmp_path / "x.png", exif=exif).read_bytes()
    at = whole.index(b"eXIf") - 4
    chunk = whole[at : at + 12 + int.from_bytes(whole[at : at + 4])]
    (tmp_path / "x.png").write_bytes(whole.replace(chunk, b"").replace(whole[-12:], chunk + whole[-12:]))
    header = probe(tmp_path / "x.png")
    assert decode(tmp_path / "x.png", 3).shape == (3, header.height, header.width)


def test_broken_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = saved(Image.fromarray(pattern()), tmp_path / "x.png", exif=b"Exif\0\0nonsense")
    assert probe(path)[:3] == (20, 12, 3)
    assert np.array_equal(decode(path, 3), pattern().transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(12, 20), (5, 5), (24, 40), (7, 3), (3, 17)])
def test_size_covers_and_cuts_the_centre(tmp_path: Path, size: tuple[int, int]) -> None:
    path = saved(Image.fromarray(pattern()), tmp_path / "x.png")
    assert decode(path, 3, size).shape == (3, *size)
    if size == (12, 20):
        assert np.array_equal(decode(path, 3, size), decode(path, 3))


def test_centre_and_proportions(tmp_path: Path) -> None:
    wide = np.zeros((32, 96), np.uint8)
    wide[:, 32:64] = 255
    path = saved(Image.fromarray(wide), tmp_path / "x.png")
    assert (decode(path, 1, (16, 16))[0, :, 2:-2] > 240).all()


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    checks = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    for suffix in ("png", "jpg"):
        small = decode(saved(Image.fromarray(checks), tmp_path / f"x.{suffix}"), 1, (16, 16))
        assert np.abs(small.astype(int) - 127).max() < 16


def test_extreme_proportions(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (3000, 1), "red"), tmp_path / "x.png")
    assert decode(path, 3, (8, 8)).shape == (3, 8, 8)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    refused(tmp_path / "x.jpg", "0 bytes")


def test_huge_header(tmp_path: Path) -> None:
    for side in (60000, 10001):
        (tmp_path / "x.png").write_bytes(png(side, side, depth=8, colour=0, data=b"\0"))
        refused(tmp_path / "x.png", "100 million pixels")


def test_text_with_an_image_name(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("<html>404</html>" * 40)
    refused(tmp_path / "x.png", "is not an image")


def test_missing_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.png", "No such file")
    refused(tmp_path, "a folder")


def test_postscript_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    refused(tmp_path / "x.png", "is not an image")


def test_float_and_wide_integers(tmp_path: Path) -> None:
    for value, kind in (1.5, np.float32), (70000, np.int32):
        path = saved(Image.fromarray(np.full((4, 4), value, kind)), tmp_path / "x.tiff")
        assert probe(path)[:4] == (4, 4, 1, "float32")
        assert decode(path, 1).tolist() == [[[value] * 4] * 4]


@pytest.mark.parametrize("suffix", ("jpg", "png", "webp", "bmp", "tiff"))
@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.95])
def test_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    options = {"compression": "tiff_deflate"} if suffix == "tiff" else {}
    path = saved(Image.fromarray(noise), tmp_path / f"x.{suffix}", **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, whole=True)


def photo(side: int) -> Image.Image:
    """Smooth colours, as compressible as a photo."""
    knots = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(knots).resize((side + 5, side), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}], ids=str)
@pytest.mark.parametrize(("side", "cuts"), [(64, (1, 2)), (256, (1, 2, 3, 4, 6, 10)), (700, (1, 2, 6, 20))])
def test_a_jpeg_without_its_last_bytes_is_shown_as_viewers_do(
    tmp_path: Path, side: int, cuts: tuple[int, ...], options: dict[str, object]
) -> None:
    path = saved(photo(side), tmp_path / "x.jpg", quality=90, **options)
    raw, whole = path.read_bytes(), decode(path, 3)
    for cut in cuts:
        path.write_bytes(raw[:-cut])
        short: list[Path] = []
        found = decode(path, 3, None, short)
        assert short == [path]
        assert (found != whole).any(axis=0).mean() < 0.01
        assert decode(path, 3, (32, 32)).shape == (3, 32, 32)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}], ids=str)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.95])
def test_a_jpeg_that_lacks_more_is_refused(tmp_path: Path, share: float, options: dict[str, object]) -> None:
    path = saved(photo(256), tmp_path / "x.jpg", quality=90, **options)
    raw = path.read_bytes()
    cut = raw[: int(len(raw) * share)]
    for data in (cut, cut + bytes(len(raw) - len(cut)), cut + b"\xff"):  # the second as a download reserves its room
        path.write_bytes(data)
        refused(path, "damaged or truncated", whole=True)
        with pytest.raises(UserError, match="damaged or truncated"):
            decode(path, 3, (32, 32))


def test_scans_of_a_progressive_jpeg_that_are_missing_as_a_whole_are_missing(tmp_path: Path) -> None:
    path = saved(photo(256), tmp_path / "x.jpg", quality=90, progressive=True)
    raw = path.read_bytes()
    scans = [i for i in range(len(raw)) if raw.startswith(b"\xff\xda", i)]
    assert len(scans) > 5
    for start in scans[1:]:
        path.write_bytes(raw[:start])
        refused(path, "damaged or truncated", whole=True)


def test_a_short_jpeg_is_turned_and_reduced_like_a_whole_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(photo(256), tmp_path / "x.jpg", quality=90, exif=exif)
    raw, whole = path.read_bytes(), decode(path, 3, (40, 40))
    path.write_bytes(raw[:-2])
    assert np.array_equal(decode(path, 3, (40, 40)), whole)
    assert decode(path, 3).shape == (3, 261, 256)


@pytest.mark.parametrize("suffix", ("jpg", "png", "webp", "bmp", "tiff"))
def test_damage_anywhere_gives_an_image_or_a_user_error(tmp_path: Path, suffix: str) -> None:
    options = {"compression": "tiff_lzw"} if suffix == "tiff" else {}
    whole = saved(Image.fromarray(pattern(40, 40)), tmp_path / f"x.{suffix}", **options).read_bytes()
    draw = np.random.default_rng(1)
    path = tmp_path / f"y.{suffix}"
    for _ in range(150):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole), 4):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged)
        try:
            assert decode(path, 3, (16, 16)).shape == (3, 16, 16)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_warnings_of_the_decoder_stay_unseen(tmp_path: Path) -> None:
    """In a process of its own: pytest resets the warning filters."""
    cut = saved(Image.fromarray(pattern()), tmp_path / "x.tiff", compression="tiff_deflate")
    cut.write_bytes(cut.read_bytes()[:-6])
    (tmp_path / "y.png").write_bytes(png(9500, 9500, depth=8, colour=0, data=b"\0"))
    look = "import sys; from unitkit.data.files.decode import probe; [print(probe(path)) for path in sys.argv[1:]]"
    command = [sys.executable, "-c", look, str(tmp_path / "y.png"), str(cut)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "width=9500" in done.stdout
    assert "Warning" not in done.stderr
