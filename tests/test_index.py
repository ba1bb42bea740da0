"""Large folders: headers at a glance and remembered, with the same result as without; lists of images."""

from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from unitkit import Data, UserError, open_data
from unitkit.data.batches import Batches
from unitkit.data.files import check, quick
from unitkit.data.files.decode import probe
from unitkit.data.files.quick import header_of
from unitkit.data.folders import index
from unitkit.data.folders.plain import plain_images
from unitkit.data.sources import ImageFiles

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Headers of any folder are remembered here, however young and few its files are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "LEAST", 1)
    monkeypatch.setattr(index, "SETTLED", -(10**12))
    return tmp_path / "cache/unitkit/headers"


def fill(root: Path, count: int = 8) -> Path:
    """Two domains, one of them with a grey image, one that is turned, and one that is none."""
    for label in ("x", "y"):
        (root / label / "deep").mkdir(parents=True)
        for i in range(count):
            path = root / label / ("deep" if i % 2 else ".") / f"{i:03}.{('jpg', 'png')[i % 2]}"
            exif = Image.Exif()
            exif[0x0112] = 6 if i == 2 else 1
            Image.new("L" if label == "y" else "RGB", (10 + i, 8), i).save(path, exif=exif)
    (root / "x/bad.jpg").write_bytes(b"no image")
    return root


def known(data: Data) -> list[Any]:
    """All that hangs on headers and listing."""
    return [
        (images.channels, list(images.paths), list(images.keys), {i: str(e) for i, e in images.broken.items()})
        for domain in data.domains.values()
        for images in (domain.train, domain.test)
        if isinstance(images, ImageFiles)
    ] + [data.fingerprint()]


def opened(root: Path) -> list[Any]:
    return known(open_data(str(root), size=8))


def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose headers are read from now on, by name."""
    names = list[str]()

    def look(path: str) -> Any:
        names.append(Path(path).name)
        return header_of(path)

    monkeypatch.setattr(index, "header_of", look)
    return names


def test_a_second_start_opens_no_image(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "data")
    first = opened(root)
    names = looked_at(monkeypatch)
    assert opened(root) == first and names == ["bad.jpg"]  # what is wrong is looked at anew: it may have been mended
    monkeypatch.setattr(index, "LEAST", 10**6)
    assert opened(root) == first and len(names) == 1 + 17


def test_what_has_changed_is_looked_at(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "data")
    (root / "x/bad.jpg").unlink()
    opened(root)
    names = looked_at(monkeypatch)
    Image.new("RGB", (10, 8), 0).save(root / "y/000.jpg")
    os.utime(root / "y/002.jpg", ns=(1, 1))
    Image.new("L", (10, 8), 0).save(root / "x/new.png")
    (root / "x/004.jpg").rename(root / "x/moved.jpg")
    (root / "x/006.jpg").unlink()
    data = open_data(str(root), size=8)
    assert data.channels == {"a": 3, "b": 3}
    assert sorted(names) == ["000.jpg", "002.jpg", "moved.jpg", "new.png"]
    names.clear()
    assert known(open_data(str(root), size=8)) == known(data) and not names


def test_a_file_that_changed_just_now_is_not_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the same tick of the clock it could change again without a trace."""
    monkeypatch.setattr(index, "SETTLED", 10**11)
    root = fill(tmp_path / "data")
    opened(root)
    names = looked_at(monkeypatch)
    opened(root)
    assert len(names) == 17


def flipped(at: int, data: bytes) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at:][1:]


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-5],
    "longer": lambda data: data + bytes(20),
    "another format": lambda data: data.replace(b"headers %d" % index.RULES, b"headers 999"),
    **{
        f"byte {at}": lambda data, at=at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(-160, 0, 9)
    },
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_index_is_read_anew(tmp_path: Path, cache: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "data")
    first = opened(root)
    for path in cache.iterdir():
        path.write_bytes(DAMAGE[how](path.read_bytes()))
    names = looked_at(monkeypatch)
    assert opened(root) == first and len(names) == 17
    names.clear()
    assert opened(root) == first and names == ["bad.jpg"]


@pytest.mark.parametrize("what", ["file", "pipe", "link", "folder"])
def test_a_cache_that_cannot_be_used_is_none(
    tmp_path: Path, cache: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "data")
    first = opened(root)
    if what == "file":
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "x/bad.jpg"))
    for path in list(cache.iterdir()):
        path.unlink()
        if what == "pipe":
            os.mkfifo(path)
        elif what == "link":
            path.symlink_to("/dev/zero")
        elif what == "folder":
            path.mkdir()
    assert opened(root) == first == opened(root)


def test_what_is_remembered_has_a_limit(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(fill(tmp_path / "one"))
    size = sum(path.stat().st_size for path in cache.iterdir())
    for path in cache.iterdir():
        os.utime(path, (1, 1))
    monkeypatch.setattr(index, "MOST", size)
    before = {path.name for path in cache.iterdir()}
    opened(fill(tmp_path / "two"))
    after = {path.name for path in cache.iterdir()}
    assert len(after) == 2 and not before & after


def test_plain_images_use_it_too(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "data")
    with pytest.raises(UserError, match="differ in size"):
        plain_images(str(root / "y"))
    names = looked_at(monkeypatch)
    with pytest.raises(UserError, match="differ in size"):
        plain_images(str(root / "y"))
    assert not names
    with pytest.raises(UserError, match=r"bad\.jpg"):
        plain_images(str(root / "x"), 8)


# Headers at a glance


def pictures(folder: Path) -> list[Path]:
    """Images of every mode, orientation and metadata that a JPEG or a PNG may have."""
    rgb = Image.effect_noise((20, 12), 60).convert("RGB")
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "paint")
    turned = PngImagePlugin.PngInfo()
    turned.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    made = list[Path]()

    def save(image: Image.Image, suffix: str, **options: Any) -> None:
        made.append(folder / f"{len(made):03}.{suffix}")
        image.save(made[-1], **options)

    for mode in ("L", "RGB", "CMYK"):
        for options in ({}, {"progressive": True}, {"icc_profile": b"p" * 70_000}, {"comment": b"c", "dpi": (72, 72)}):
            save(rgb.convert(mode), "jpg", **options)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = Image.fromarray(np.full((12, 20), 999, np.uint16)) if mode == "I;16" else rgb.convert(mode)
        for options in ({}, {"pnginfo": text}, {"pnginfo": turned}, {"dpi": (72, 72)}, {"icc_profile": b"p" * 40}):
            save(image, "png", **options)
    for suffix in ("jpg", "png"):
        for value in (0, 1, 2, 5, 6, 8, 9, 65535):
            exif = Image.Exif()
            exif[0x010F], exif[0x0112] = "camera", value
            save(rgb, suffix, exif=exif)
        for kind, values in itertools.product(range(15), (0, 1, 2)):
            entry = struct.pack("<HHHII", 1, 0x0112, kind, values, 6)
            save(rgb, suffix, exif=b"Exif\0\0II*\0\x08\0\0\0" + entry + bytes(4))
    save(rgb, "jpg", exif=exif, xmp=b'<x tiff:Orientation="8"/>')
    save(rgb, "jpg", xmp=b'<x tiff:Orientation="8"/>')
    save(rgb, "jpg", format="MPO", save_all=True, append_images=[rgb])
    for suffix in ("webp", "bmp", "tiff"):
        save(rgb, suffix)
    return made


def same(path: Path) -> bool:
    try:
        expected: Any = probe(path)
    except UserError as error:
        expected = error
    return str(header_of(str(path))) == str(expected)


def test_a_quick_look_sees_what_pillow_sees(tmp_path: Path) -> None:
    found = pictures(tmp_path)
    assert all(same(path) for path in found)
    at_once = [path for path in found if quick._quick(str(path))]
    assert {path.suffix for path in at_once} == {".jpg", ".png"} and len(at_once) >= 30


def test_a_quick_look_at_damage_sees_what_pillow_sees(tmp_path: Path) -> None:
    """Each byte of the headers of one image of each kind, and each place where it may be cut."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "camera", 6
    path = tmp_path / "x"
    for kind, options in (("JPEG", {"exif": exif}), ("PNG", {"transparency": 3, "dpi": (72, 72)})):
        Image.new("L", (20, 12), 9).save(path, kind, **options)
        data = path.read_bytes()
        for at in range(0, min(len(data), 260), 2):
            for changed in (data[: 3 * at], data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]):
                path.write_bytes(changed)
                assert same(path), (kind, at)
    assert isinstance(header_of("\0"), UserError) and isinstance(header_of(str(tmp_path / "none")), UserError)


# What is decoded before a training


def test_of_many_images_a_sample_is_decoded_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "data", 40)
    monkeypatch.setattr(check, "SAMPLE", 5)
    for whole, decoded, notes in ((81, 80, 0), (80, 20, 2)):
        monkeypatch.setattr(check, "WHOLE", whole)
        batches, totals = Batches(open_data(str(root), size=8), 2, 0), set[int]()
        (bad,) = check.bad_images(batches, progress=lambda _, total, totals=totals: totals.add(total))
        assert bad.name == str(root / "x/bad.jpg") and abs(totals.pop() - decoded) <= 4 and not totals
        assert sum("are many" in note for note in check.sampled(batches)) == notes


# Lists


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "  \r\n", "\t\n"])
@pytest.mark.parametrize("quote", ["", '"', "'"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lists_as_editors_and_spreadsheets_write_them(tmp_path: Path, end: str, quote: str, mark: str) -> None:
    folder = tmp_path / "my folder"
    folder.mkdir()
    names = [f"my folder/{i} x.png" for i in range(4)]
    for name in names:
        Image.new("L", (8, 8)).save(tmp_path / name)
    lines = [
        mark + "# a list",
        "",
        *(f"{quote}{name}{quote}\t{quote}cat {i // 2}{quote}" for i, name in enumerate(names)),
    ]
    path = tmp_path / "a.txt"
    path.write_bytes(end.join([*lines, ""]).encode())
    data = open_data(str(path), size=8)
    assert list(data.labels.values()) == ["cat 0", "cat 1"]
    images = [domain.train.name(0) for domain in data.domains.values()]
    assert all(name.startswith(f"{folder}/") for name in images)


def test_a_name_that_has_quotes_is_taken_by_its_letters(tmp_path: Path) -> None:
    for name in ('"q".png', '"1.png"', "2.png"):
        Image.new("L", (8, 8)).save(tmp_path / name, "PNG")
    (tmp_path / "a.txt").write_text('"q".png\n"1.png"\n"2.png"\n')
    other = tmp_path / "b.txt"
    other.write_text('2.png\n2.png\n"1.png"\n')
    a, _ = open_data(f"{tmp_path / 'a.txt'},{other}", size=8).domains.values()
    names = {Path(images.name(i)).name for images in (a.train, a.test) for i in range(len(images))}
    assert names == {'"q".png', '"1.png"', "2.png"}


@pytest.mark.parametrize("line", ["none.png", "~nobody-of-that-name/x.png", "a\0b.png", "n" * 5000, '"', '""', "."])
def test_lines_that_name_no_file(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"{line}\n")
    with pytest.raises(UserError, match="line 1: there is no file") as caught:
        open_data(str(tmp_path / "a.txt"), size=8)
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


def test_the_same_list_and_folder_are_one_to_fingerprints(tmp_path: Path) -> None:
    """What was computed of paths and a status for each file before is computed of the listing now."""
    root = fill(tmp_path / "data")
    for domain in open_data(str(root), size=8).domains.values():
        assert isinstance(domain.train, ImageFiles)
        bare = ImageFiles(list(domain.train.paths), 3, (8, 8))
        assert bare.marks is None and bare.fingerprint() == domain.train.fingerprint()
        some = domain.train.pick([2, 0])
        assert some.fingerprint() == bare.pick([2, 0]).fingerprint() != bare.fingerprint()
