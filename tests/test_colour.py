"""Colour profiles are honoured, transparency is kept where that is asked for, and outputs have the format asked for."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from tiny import recipe
from typer.testing import CliRunner

from unitkit import RunOptions, Trainer, UserError
from unitkit.cli import app
from unitkit.data.files.decode import alpha_of, decode
from unitkit.data.files.encode import write_image


def profile(kind: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


def picture(mode: str = "RGB", size: tuple[int, int] = (17, 12)) -> Image.Image:
    """Colours that slowly change (W, H)."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_colours_are_those_of_the_profile(suffix: str, tmp_path: Path) -> None:
    """Whose primaries are swapped: red in the file is green to the eye."""
    options = {"quality": 100} if suffix in ("jpg", "webp") else {}
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    swapped = bytearray(profile("sRGB"))
    red, green = (swapped.index(tag, 128) for tag in (b"rXYZ", b"gXYZ"))
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    picture().save(tmp_path / f"x.{suffix}", icc_profile=bytes(swapped), **options)
    assert ImageCms.getProfileDescription(lab)  # the library works
    plain = tmp_path / f"plain.{suffix}"
    picture().save(plain, **options)
    found, given = decode(tmp_path / f"x.{suffix}", 3).astype(int), decode(plain, 3).astype(int)
    assert np.array_equal(found, given)  # its name says sRGB, which is believed
    named = bytes(swapped).replace("sRGB".encode("utf-16-be"), "none".encode("utf-16-be")).replace(b"sRGB", b"none")
    picture().save(tmp_path / f"y.{suffix}", icc_profile=named, **options)
    other = decode(tmp_path / f"y.{suffix}", 3).astype(int)
    assert np.abs(other[[1, 0, 2]] - given).mean() < 3 < 30 < np.abs(other - given).mean()


@pytest.mark.parametrize("name", ["Linear sRGB", "sRGB linear", "LinearsRGB"])
def test_linear_light_is_not_taken_for_srgb(name: str, tmp_path: Path) -> None:
    """A profile of sRGB's primaries whose name says so of them, and of whose curve it says another thing."""
    made = profile("sRGB")
    old = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(made))).strip()
    new = (name + " " * len(old))[: len(old)]
    made = made.replace(old.encode("utf-16-be"), new.encode("utf-16-be")).replace(old.encode(), new.encode())
    assert name in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(made)))
    red, green = (made.index(tag, 128) for tag in (b"rXYZ", b"gXYZ"))
    swapped = bytearray(made)
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    picture().save(tmp_path / "x.png", icc_profile=bytes(swapped))
    assert np.abs(decode(tmp_path / "x.png", 3).astype(int) - np.asarray(picture()).transpose(2, 0, 1)).mean() > 30


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\0" * 200])
def test_a_profile_that_cannot_be_read_changes_nothing(damage: bytes, tmp_path: Path) -> None:
    picture().save(tmp_path / "x.png", icc_profile=damage)
    assert np.array_equal(decode(tmp_path / "x.png", 3), np.asarray(picture()).transpose(2, 0, 1))


def test_an_output_says_in_what_colours_it_is(tmp_path: Path) -> None:
    pixels = np.asarray(picture()).transpose(2, 0, 1)
    picture().save(tmp_path / "with.png", icc_profile=profile("sRGB"))
    picture().save(tmp_path / "without.png")
    for name, expected in ("with", True), ("without", False):
        write_image([pixels], tmp_path / "out.png", tmp_path / f"{name}.png")
        with Image.open(tmp_path / "out.png") as found:
            assert bool(found.info.get("icc_profile")) == expected
    write_image([pixels[:1]], tmp_path / "grey.png", tmp_path / "with.png")
    with Image.open(tmp_path / "grey.png") as found:
        assert "icc_profile" not in found.info


def transparent(size: tuple[int, int] = (17, 12)) -> Image.Image:
    image = picture("RGBA", size)
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, size[0]).astype(np.uint8), (size[1], 1))))
    return image


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run") / "run"
    Trainer(recipe(steps=1), RunOptions(place)).fit()
    return place


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_transparency_is_kept_or_white(suffix: str, run: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    transparent().save(tmp_path / "in.png", exif=exif)
    alpha = alpha_of(tmp_path / "in.png")
    assert alpha is not None and alpha.shape == (17, 12)  # upright
    for how in "keep", "white":
        out = tmp_path / f"{how}.{suffix}"
        told = CliRunner().invoke(
            app, ["translate", str(run), "ab", str(tmp_path / "in.png"), str(out), "--alpha", how]
        )
        assert told.exit_code == 0, told.output
        with Image.open(out) as found:
            assert found.size == (12, 17) and (found.mode == "RGBA") == (how == "keep")
            if how == "keep":
                assert np.abs(np.asarray(found)[..., 3].astype(int) - alpha).max() <= (0 if suffix != "webp" else 2)


def test_an_opaque_picture_stays_opaque(run: Path, tmp_path: Path) -> None:
    picture().save(tmp_path / "in.png")
    assert alpha_of(tmp_path / "in.png") is None
    CliRunner().invoke(
        app, ["translate", str(run), "ab", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--alpha", "keep"]
    )
    with Image.open(tmp_path / "out.png") as found:
        assert found.mode == "RGB"


REFUSED = {
    "--alpha keep out.jpg": "needs a format with transparency",
    "--alpha kep out.png": "Did you mean 'keep'",
    "--format png out.png": "--format is of a folder's outputs",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_kept_is_refused_before_the_work(words: str, run: Path, tmp_path: Path) -> None:
    transparent().save(tmp_path / "in.png")
    *options, name = words.split()
    told = CliRunner().invoke(
        app, ["translate", str(run), "ab", str(tmp_path / "in.png"), str(tmp_path / name), *options]
    )
    assert isinstance(told.exception, UserError) and REFUSED[words] in str(told.exception)
    assert not (tmp_path / name).exists()


def test_a_folder_in_another_format(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in" / "x.bmp")
    picture().save(tmp_path / "in" / "y.z.jpeg")
    call = ["translate", str(run), "ab", str(tmp_path / "in"), str(tmp_path / "out"), "--format"]
    assert CliRunner().invoke(app, [*call, "webp"]).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.webp")) == ["x.webp", "y.z.webp"]
    told = CliRunner().invoke(app, [*call, "gif"])
    assert isinstance(told.exception, UserError) and "--format 'gif' is not known" in str(told.exception)
    picture().save(tmp_path / "in" / "x.png")
    told = CliRunner().invoke(app, [*call, "png"])
    assert isinstance(told.exception, UserError) and "would both become" in str(told.exception)
