"""Pictures that are read window by window: which are, what is refused, and that it is the whole that comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from unitkit import UserError, discriminators, encoders, generators, models, open_data, sharing
from unitkit.commands import translate as command
from unitkit.data.batches import Batches
from unitkit.data.files.decode import decode, probe
from unitkit.data.formats import header
from unitkit.data.values import BYTES, Values
from unitkit.translate import Translator

FLOATS = Values("float32", (0.0,), (1.0,), 0.5)


def ours(monkeypatch: pytest.MonkeyPatch, values: Values = BYTES, channels: int = 1) -> Translator:
    """A small model that the command is given."""
    torch.manual_seed(0)
    model = models.spec(
        "unit",
        channels={"a": channels, "b": channels},
        encoder=encoders.spec("residual", width=4, blocks=1),
        generator=generators.spec("residual", width=4, blocks=1),
        discriminator=discriminators.spec("strided", width=4, layers=2),
        sharing=sharing.spec("tie", encoder=1, generator=1),
        noise=1.0,
    ).build()
    translator = Translator(model, {"a": "one", "b": "other"}, values={"a": values, "b": values})
    monkeypatch.setattr(command, "load", lambda *_, **__: translator)
    return translator


def translated(source: Path, target: Path) -> Path:
    command.translate_images(Path("run"), "ab", source, target)
    return target


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


def in_bytes(*shape: int) -> np.ndarray:
    return (noise(*shape) * 255).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    """An array of one image (H, W, C), of grey images (N, H, W), or of one (H, W)."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="rgb" if array.shape[-1] == 3 else "minisblack", metadata=None)
    else:
        Image.fromarray(array).save(path)
    return path


def both(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, stack: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Translations of a file, first of the images read whole, then as the command does where these are large."""
    reached = []
    file = Translator.translate_file
    monkeypatch.setattr(Translator, "translate_file", lambda *given: reached.append(given) or file(*given))
    found = []
    for large in 2**26, 100:
        monkeypatch.setattr(command, "LARGE", large)
        translated(source, target)
        channels = 1 if stack else 3
        frames = range(probe(target, channels).frames)
        found.append(np.stack([decode(target, channels, frame=i) for i in frames]).astype(float))
    assert len(reached) == (
        source.suffix in (".tif", ".npy") and target.suffix in (".tif", ".npy") and len(found[0]) == 1
    )
    return found[0], found[1]


FILES = [
    (".tif", ".npy"),
    (".npy", ".tif"),
    (".npy", ".npy"),
    (".tif", ".png"),
    (".png", ".png"),
    (".jpg", ".tif"),
    (".webp", ".webp"),
]
KINDS = {
    "a stack": (4, 1, 1),
    "grey": (1, 1, 1),
    "RGB": (1, 3, 3),
    "grey for RGB": (1, 1, 3),
    "RGB for grey": (1, 3, 1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("suffix", "into"), FILES)
def test_what_large_files_hold_is_translated_as_when_read_whole(
    suffix: str, into: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images of a stack, and files that no windows are read of."""
    count, channels, wanted = KINDS[kind]
    if (count > 1 and (suffix not in (".tif", ".npy") or into == ".png")) or (suffix == ".npy" and wanted < channels):
        pytest.skip("no such file")
    ours(monkeypatch, BYTES, wanted)
    given = in_bytes(40, 56, 3) if channels == 3 else in_bytes(40, 56) if count == 1 else in_bytes(count, 40, 56)
    whole, parts = both(save(tmp_path / f"in{suffix}", given), tmp_path / f"out{into}", monkeypatch, count > 1)
    assert len(parts) == count and np.abs(whole - parts).max() <= 2


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_replaced_or_refused_in_windows(
    value: float, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = noise(40, 56)
    given[30, 41] = value
    source = save(tmp_path / f"in{suffix}", given)
    ours(monkeypatch, FLOATS)
    whole, parts = both(source, tmp_path / "out.npy", monkeypatch)
    assert np.isfinite(parts).all() and np.abs(whole - parts).max() < 1e-3
    ours(monkeypatch, Values("float32", (0.0,), (1.0,)))
    for large in 2**26, 100:
        monkeypatch.setattr(command, "LARGE", large)
        with pytest.raises(UserError, match="holds 1 values that are no numbers"):
            translated(source, tmp_path / "none.npy")
    assert not (tmp_path / "none.npy").exists()


@pytest.mark.parametrize("large", [2**26, 100])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_values_that_no_image_had_are_refused_in_windows(
    suffix: str, large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours(monkeypatch)
    monkeypatch.setattr(command, "LARGE", large)
    given = noise(40, 56)
    given[39, 55] = 2000
    with pytest.raises(UserError, match=r"holds float32 values .*\.\.2000, and this model was trained on uint8"):
        translated(save(tmp_path / f"in{suffix}", given), tmp_path / "out.npy")


def fixed(translator: Translator) -> None:
    translator.model.size = (40, 56)


TOO_LARGE: dict[str, tuple[str, tuple[int, ...], str, Callable[[Translator], None], str]] = {
    "a stack": (
        "in.npy",
        (4, 40, 56),
        "out.npy",
        lambda _: None,
        "the file holds 4 images: save each in one of its own",
    ),
    "a target": ("in.tif", (40, 56), "out.png", lambda _: None, r"a picture of 40x56 is written as \.tif or \.npy"),
    "a model": ("in.tif", (40, 56), "out.tif", fixed, "this model translates no picture that is larger than memory"),
    "a volume": ("in.nii", (40, 56), "out.npy", lambda _: None, r"save it as a \.tif in tiles, or as \.npy"),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_is_too_large_is_refused_before_the_first_image(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, shape, target, change, message = TOO_LARGE[case]
    change(ours(monkeypatch))
    if name.endswith(".nii"):
        nifti = pytest.importorskip("unitkit.data.formats.nifti")
        if nifti.nibabel is None:
            pytest.skip("nibabel is not installed")
        nifti.write(tmp_path / name, [in_bytes(*shape)[None]])
    else:
        save(tmp_path / name, in_bytes(*shape))
    (tmp_path / "folder").mkdir()
    (tmp_path / name).rename(tmp_path / "folder" / f"z{name}")
    save(tmp_path / "folder/a.png", in_bytes(8, 8))
    monkeypatch.setattr(header, "MAX_PIXELS", 1000)
    monkeypatch.setattr(Translator, "stream", lambda *_: pytest.fail("an image was translated"))
    work = [(tmp_path / "folder/a.png", tmp_path / "a.png"), (tmp_path / "folder" / f"z{name}", tmp_path / target)]
    monkeypatch.setattr(command, "jobs", lambda *_: work)
    with pytest.raises(UserError, match=message):
        translated(tmp_path / "folder", tmp_path)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.tif", "x.a.PNG", "X.NII.GZ"])
def test_the_numbers_of_samples_stand_before_the_whole_suffix(name: str, tmp_path: Path) -> None:
    save(tmp_path / "in.png", in_bytes(8, 8))
    found = [after.name for _, after in command.jobs(tmp_path / "in.png", tmp_path / name, None, ["-1", "-2"])]
    stem, suffix = name[: -len(header.suffix_of(name))], name[-len(header.suffix_of(name)) :]
    assert found == [f"{stem}-1{suffix}", f"{stem}-2{suffix}"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("crop", [0, 3, 16])
def test_no_training_image_holds_a_held_out_pixel(
    crop: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the larger images that `crop` cuts from, too: all held-out pixels are marked, and none is to be seen."""
    monkeypatch.setattr(header, "MAX_PIXELS", 10_000)
    paths = [save(tmp_path / f"{place}.tif", np.ones((170, 165), dtype)) for place in "ab"]
    source = ",".join(map(str, paths))
    held = open_data(source, size=16).domains["a"].test
    marked = np.ones((170, 165), dtype)
    for top, left in held.frames:
        marked[top : top + 16, left : left + 16] = 100
    assert (marked == 100).sum() == len(held) * 16 * 16 > 0
    for path in paths:
        save(path, marked)
    data = open_data(source, size=16, range="0,100" if dtype != "uint8" else "auto")
    assert all((data.domains["a"].test.load(i) == 100).all() for i in range(len(held)))
    images = Batches(data, 2, seed=0, crop=crop).train["a"].images
    assert images.size == (16 + crop, 16 + crop) and len(images) == 100 - len(held)
    assert all((images.load(i) == 1).all() for i in range(len(images)))


def test_windows_are_as_large_as_the_picture_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MAX_PIXELS", 1000)
    paths = [save(tmp_path / f"{place}.tif", in_bytes(8, 400)) for place in "ab"]
    data = open_data(",".join(map(str, paths)), size=16)
    with pytest.raises(UserError, match="of 8x400 has no windows of 16x16"):
        data.domains["a"].train.load(0)


@pytest.mark.parametrize("shape", [(40, 56), (40, 56, 1), (3, 40, 56), (40, 56, 3), (1, 3, 40, 56), (1, 40, 56, 3)])
def test_an_array_in_windows_is_laid_as_when_written_whole(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours(monkeypatch, channels=3 if 3 in shape else 1)
    source = save(tmp_path / "in.npy", in_bytes(*shape))
    found = []
    for large in 2**26, 100:
        monkeypatch.setattr(command, "LARGE", large)
        found.append(np.load(translated(source, tmp_path / "out.npy")).astype(int))
    assert found[0].shape == found[1].shape and np.abs(found[0] - found[1]).max() <= 2


def test_what_windows_cannot_read_is_read_whole_while_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unitkit.data.formats.tiff_windows.TILE", 1000)
    monkeypatch.setattr(command, "LARGE", 100)
    ours(monkeypatch)
    tifffile.imwrite(tmp_path / "in.tif", in_bytes(40, 56), metadata=None, compression="zlib")
    monkeypatch.setattr(Translator, "translate_file", lambda *_: pytest.fail("windows of it were read"))
    translated(tmp_path / "in.tif", tmp_path / "out.tif")
    monkeypatch.setattr(header, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="save it in tiles"):
        translated(tmp_path / "in.tif", tmp_path / "out.tif")
