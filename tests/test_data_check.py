"""`unitkit data check`: every kind of fault is found where there is one, and none where there is none."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Moment, one_line, run, unitkit
from PIL import Image

from unitkit import open_data
from unitkit.data.checking import findings, near, survey
from unitkit.data.checking import look as looks
from unitkit.data.checking.histogram import Histogram
from unitkit.data.checking.summary import rows

SIDE = 64
draw = np.random.default_rng(0)


def scene(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Soft blobs of colours, unlike those of any other seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two aligned domains without a fault: train/LABEL/00.png to 19.png, test/LABEL/00.png to 04.png."""
    root = tmp_path_factory.mktemp("whole")
    for place, (split, label) in enumerate((s, d) for s in ("train", "test") for d in ("ink", "oil")):
        folder = root / split / label
        folder.mkdir(parents=True)
        for i in range(20 if split == "train" else 5):
            scene(100 * place + i).save(folder / f"{i:02d}.png")
    return root


def check(root: object, folder: Path, *words: object) -> tuple[int, dict[str, Any], str]:
    """The exit status, the JSON, and what was printed."""
    answer = unitkit("data", "check", root, "--out", folder / "x.html", "--json", folder / "x.json", *words)
    assert answer.status in (0, 2) and not answer.err, answer
    return answer.status, json.loads((folder / "x.json").read_text()), answer.out


INK, OIL, TEST = Path("train/ink"), Path("train/oil"), Path("test/ink")


def jpeg(image: Image.Image, quality: int = 60) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def shifted(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(image), 1, axis=1))


def leak_of_a_file(root: Path) -> None:
    shutil.copy(root / INK / "03.png", root / TEST / "01.png")


def leak_of_pixels(root: Path) -> None:
    Image.open(root / INK / "03.png").save(root / TEST / "01.png", compress_level=1)


def leak_as_bmp(root: Path) -> None:
    (root / TEST / "01.png").unlink()
    Image.open(root / INK / "03.png").save(root / TEST / "01.bmp")


def leak_into_another_domain(root: Path) -> None:
    shutil.copy(root / OIL / "03.png", root / TEST / "01.png")


def truncated(root: Path) -> None:
    path = root / INK / "03.png"
    path.write_bytes(path.read_bytes()[:-400])


def no_header(root: Path) -> None:
    (root / INK / "03.png").write_bytes(b"")


def unreadable_in_test(root: Path) -> None:
    (root / TEST / "01.png").write_bytes(b"text")


def two_domains(root: Path) -> None:
    shutil.copy(root / INK / "03.png", root / OIL / "04.png")


def near_as(change: Callable[[Image.Image], Image.Image]) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        change(Image.open(root / INK / "03.png")).save(root / TEST / "01.png")

    return edit


def near_in_another_domain(root: Path) -> None:
    (root / OIL / "04.png").unlink()
    (root / OIL / "04.jpg").write_bytes(jpeg(Image.open(root / INK / "03.png")))


def near_in_the_split(root: Path) -> None:
    shifted(Image.open(root / INK / "03.png")).save(root / INK / "04.png")


def same_in_the_split(root: Path) -> None:
    shutil.copy(root / INK / "03.png", root / INK / "04.png")


def outsize(root: Path) -> None:
    scene(900, (8 * SIDE, 8 * SIDE)).save(root / INK / "03.png")


def tiny_one(root: Path) -> None:
    scene(900, (SIDE // 4, SIDE // 4)).save(root / TEST / "03.png")


def wide(root: Path) -> None:
    scene(900, (3 * SIDE, SIDE)).save(root / INK / "03.png")


def constant(root: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), "navy").save(root / INK / "03.png")


def misnamed(root: Path) -> None:
    (root / INK / "03.png").write_bytes(jpeg(scene(900), 95))


def grey(root: Path) -> None:
    scene(900).convert("L").save(root / INK / "03.png")


def short(root: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8))
    (root / INK / "03.png").unlink()
    (root / INK / "03.jpg").write_bytes(jpeg(noise, 90)[:-40])


def unpaired(root: Path) -> None:
    (root / OIL / "03.png").unlink()


def uneven(root: Path) -> None:
    for i in range(2, 20):
        (root / OIL / f"{i:02d}.png").unlink()


def passed_over(root: Path) -> None:
    (root / INK / "read.me").write_text("x")


# What is done to the whole data; severity, kind and number of what is found, and a name among its images.
FAULTS: list[tuple[Callable[[Path], None], str, str, int, str]] = [
    (leak_of_a_file, "error", "leak", 1, "test/ink/01.png' (the same file)"),
    (leak_of_pixels, "error", "leak", 1, "test/ink/01.png' (the same pixels)"),
    (leak_as_bmp, "error", "leak", 1, "test/ink/01.bmp' (the same pixels)"),
    (leak_into_another_domain, "error", "leak", 1, "train/oil/03.png"),
    (truncated, "error", "unreadable", 1, "train/ink/03.png"),
    (no_header, "error", "unreadable", 1, "train/ink/03.png"),
    (unreadable_in_test, "error", "unreadable", 1, "test/ink/01.png"),
    (two_domains, "warning", "two-domains", 1, "train/oil/04.png"),
    (near_as(lambda image: Image.open(io.BytesIO(jpeg(image)))), "warning", "near-leak", 1, "test/ink/01.png"),
    (near_as(lambda image: image.resize((50, 50))), "warning", "near-leak", 1, "test/ink/01.png"),
    (near_as(lambda image: image.point(lambda v: v * 0.8 + 20)), "warning", "near-leak", 1, "train/ink/03.png"),
    (near_as(shifted), "warning", "near-leak", 1, "train/ink/03.png"),
    (near_in_another_domain, "warning", "near-two-domains", 1, "train/oil/04.jpg"),
    (near_in_the_split, "note", "near-duplicates", 1, "train/ink/04.png"),
    (same_in_the_split, "note", "duplicates", 1, "train/ink/04.png"),
    (outsize, "warning", "size", 1, "train/ink/03.png' (512x512)"),
    (tiny_one, "warning", "size", 1, "test/ink/03.png' (16x16)"),
    (wide, "warning", "aspect", 1, "train/ink/03.png' (192x64)"),
    (constant, "warning", "constant", 1, "train/ink/03.png"),
    (misnamed, "warning", "suffix", 1, "train/ink/03.png' (JPEG)"),
    (grey, "warning", "channels", 1, "train/ink/03.png' (L)"),
    (short, "warning", "short", 1, "train/ink/03.jpg"),
    (unpaired, "warning", "unpaired", 1, "train/ink/03.png"),
    (uneven, "warning", "imbalance", 2, ""),
    (passed_over, "note", "skipped", 0, ""),
]


def test_nothing_is_wrong_with_data_without_a_fault(whole: Path, tmp_path: Path) -> None:
    status, found, out = check(whole, tmp_path)
    assert (status, found["findings"]) == (0, [])
    assert "nothing is wrong; the report is" in out.replace("\n", " ") and "a ink" in out
    first = found["splits"][0]
    assert (first["letter"], first["label"], first["split"], first["images"]) == ("a", "ink", "train", 20)
    assert first["smallest"] == first["median"] == first["largest"] == [SIDE, SIDE]
    assert first["modes"] == {"RGB": 20} and 0 <= first["low"] < 20 and 235 < first["high"] <= 255


@pytest.mark.parametrize(("fault", "severity", "kind", "count", "name"), FAULTS)
def test_each_kind_of_fault(
    fault: Callable[[Path], None], severity: str, kind: str, count: int, name: str, whole: Path, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    shutil.copytree(whole, root)
    fault(root)
    status, found, out = check(root, tmp_path)
    assert [(each["severity"], each["kind"], each["count"]) for each in found["findings"]] == [(severity, kind, count)]
    assert status == (2 if severity == "error" else 0)
    only = found["findings"][0]
    assert any(name in image for image in only["images"]) or not name
    assert f"{severity} {only['text']}\n" in out and only["way_out"] in out
    assert f"1 {severity}; the report is" in out


def test_the_worst_comes_first(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(whole, root)
    passed_over(root)
    shutil.copy(root / INK / "07.png", root / INK / "08.png")
    grey(root)  # and a copy of it in three equal channels, which is a leak all the same
    Image.open(root / INK / "03.png").convert("RGB").save(root / TEST / "01.png")
    found = [(each["severity"], each["kind"]) for each in check(root, tmp_path)[1]["findings"]]
    assert found == [("error", "leak"), ("warning", "channels"), ("note", "duplicates"), ("note", "skipped")]


@pytest.mark.parametrize(("most", "kinds"), [(0, set()), (0.01, set()), (0.15, {"near-leak"})])
def test_near_is_as_far_as_the_user_says(most: float, kinds: set[str], whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(whole, root)
    near_as(shifted)(root)
    assert {each["kind"] for each in check(root, tmp_path, "--near", most)[1]["findings"]} == kinds


def test_sources_of_every_kind(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = np.stack([np.asarray(scene(i)) for i in range(20)])
    np.savez(tmp_path / "set.npz", ink=array[:10], oil=array[10:])
    paths = [f"{path}\t{path.parent.name}" for path in sorted((whole / "train").rglob("*.png"))]
    (tmp_path / "set.txt").write_text("\n".join(paths))
    places = (f"{whole / 'train' / 'ink'},{whole / 'train' / 'oil'}", "set.npz", "set.txt", whole / "train" / "ink")
    for place, domains in zip(places, (2, 2, 2, 1), strict=True):
        found = check(place, tmp_path)[1]
        assert found["findings"] == [] and len(found["splits"]) == 2 * domains, place
    assert found["splits"][0]["images"] + found["splits"][1]["images"] == 20
    assert [s["label"] for s in check(whole, tmp_path, "--labels", "oil")[1]["splits"]] == ["oil", "oil"]


def test_arrays_keep_their_size_and_classes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "set.npz", ink=draw.integers(0, 256, (9, 20, 30), np.uint8), oil=np.ones((9, 8, 8), np.uint8))
    small = check(tmp_path / "set.npz", tmp_path)[1]["splits"]
    assert small[0]["median"] == [20, 30] and small[2]["median"] == [8, 8] and small[0]["modes"].keys() == {"1 x uint8"}
    data = open_data(str(tmp_path / "set.npz"), size=8)
    count = len(data.domains["a"].train)
    classes = np.array([0] * (count - 1) + [1])
    known = replace(data, domains={**data.domains, "a": replace(data.domains["a"], train_classes=classes)})
    seen = survey.survey(known)
    assert rows(seen)[0].classes == {0: count - 1, 1: 1} and rows(seen)[0].classes_in_short == f"2 of 1 to {count - 1}"
    monkeypatch.setattr(findings, "UNEVEN", count - 1)
    uneven = [each.text for each in findings.findings(seen, near=0) if each.kind == "imbalance"]
    assert uneven == [f"uneven classes of 'ink' (train): '0' has {count - 1} images, '1' 1"]


@pytest.mark.parametrize("words", [["--out", "{}"], ["--json", "{}"], ["--labels", "cat"]])
def test_mistakes_are_said_before_the_images_are_looked_at(
    words: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(survey, "look", None)
    answer = unitkit("data", "check", whole, *(word.format(tmp_path) for word in words))
    one_line(answer, "cat" if words[1] == "cat" else str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_page_needs_nothing_else_and_escapes_names(whole: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "<script>"
    shutil.copytree(whole, root)
    (root / INK / "03.png").rename(root / INK / "<b>&'.png")
    shutil.copy(root / INK / "<b>&'.png", root / TEST / "<i>\udcff.png")
    assert unitkit("data", "check", root).status == 2
    (file,) = tmp_path.glob("data-check-*script.html")
    text = file.read_bytes().decode("utf-8")
    assert "<script" not in text and "<b>" not in text and "<i>" not in text and "&lt;script&gt;" in text
    assert not re.search(r"https?:|url\(|@import|<link|src=\"(?!data:image/jpeg;base64,)", text)
    assert text.count('<img class="sheet"') == text.count("<svg") == 4 and text.count('class="pair"') == 1
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def test_the_page_replaces_that_of_an_earlier_check_alone(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("set").symlink_to(whole)
    for _ in range(2):
        assert "the report is data-check-set.html" in unitkit("data", "check", "set").out
    Path("mine.html").write_text("<title>mine</title>")
    one_line(unitkit("data", "check", "set", "--out", "mine.html"), "mine.html is there, and no page of data check")
    assert Path("mine.html").read_text() == "<title>mine</title>"


def test_an_interrupt_ends_it_and_writes_nothing(whole: Path, tmp_path: Path) -> None:
    words = ("data", "check", whole, "--out", tmp_path / "x.html")
    moment = Moment("unitkit.data.checking.survey:look", 5, (signal.SIGINT,))
    answer = run(tmp_path / "log", *words, moments=[moment])
    assert answer.status not in (0, 2) and "Traceback" not in answer.err, answer
    assert not (tmp_path / "x.html").exists()


def test_no_more_images_are_under_way_than_a_few(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, most = Counter[str](), 0

    class Counted(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            count["open"] -= 1
            return super().result(timeout)

    def later(work: Callable[..., Any], *words: Any) -> Future[Any]:
        nonlocal most
        count["open"] += 1
        most = max(most, count["open"])
        future = Counted()
        future.set_result(work(*words))
        return future

    monkeypatch.setattr(survey, "in_background", later)
    monkeypatch.setattr(survey, "AHEAD", 4)
    told: list[tuple[int, int]] = []
    found = survey.survey(open_data(str(whole), size=8), lambda *each: told.append(each))
    assert most == 4 and told[-1] == (50, 50) and len(told) == 50
    assert all(found.pixels) and [len(split.thumbnails) for split in found.splits] == [20, 5, 20, 5]


# Near duplicates


def small(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((looks.SMALL, looks.SMALL), Image.Resampling.BOX))


def test_the_search_finds_what_comparing_all_finds() -> None:
    images = [scene(i) for i in range(150)]
    copies = np.stack([small(image) for image in images] + [small(shifted(image)) for image in images[:50]])
    every = np.stack(np.triu_indices(len(copies), 1), axis=1)
    away = np.concatenate([near._distances(copies, part) for part in np.array_split(every, 20)])
    pairs, distances = near.near_pairs(copies, 0.25)
    assert {tuple(pair) for pair in pairs.tolist()} == {tuple(pair) for pair in every[away <= 0.25].tolist()}
    assert len(pairs) == 50 and (np.diff(distances) >= 0).all() and distances.max() <= 0.25
    assert (pairs[:, 1] == pairs[:, 0] + 150).all()


def test_images_that_show_nothing_are_near_to_none() -> None:
    flat = np.repeat(np.uint8(128) + draw.integers(0, 4, (1, 32, 32), np.uint8), 50, axis=0)
    flat[:, 0, 0] += np.arange(50, dtype=np.uint8) % 3
    for count in 0, 1, 50:
        assert len(near.near_pairs(flat[:count])[0]) == 0


# The histogram


@pytest.mark.parametrize(
    ("images", "low", "high"),
    [
        ([np.uint8([[0, 255, 7]])], 0, 256),
        ([np.uint16([[0, 65535, 7]])], 0, 65536),
        ([np.float32([[0.25, 1.0]])], 0, 1),
        ([np.float32([[0.25, 0.5]]), np.float32([[3.5, -2.0]])], -4, 4),
        ([np.uint8([[9, 9]]), np.uint8([[1], [2], [3]])], 0, 256),
    ],
)
def test_a_histogram_counts_every_value_where_it_lies(images: list[np.ndarray], low: float, high: float) -> None:
    histogram = Histogram()
    for image in images:
        histogram.add(image)
    assert (histogram.low, histogram.high) == (low, high)
    for channel, counts in enumerate(histogram.counts):
        values = np.concatenate([image[min(channel, len(image) - 1)] for image in images]).astype(float)
        expected = np.histogram(values, bins=256, range=(low, high))[0]
        assert (counts == expected).all()


# Real data


SHARED = Path(os.environ.get("UNITKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.mark.skipif(not SHARED.joinpath("day_night").is_dir(), reason="needs the shared images of day and night")
def test_cameras_that_recur_are_found(tmp_path: Path) -> None:
    found = {each["kind"]: each["count"] for each in check(SHARED / "day_night", tmp_path)[1]["findings"]}
    assert found["near-leak"] > 30 and "leak" not in found and "near-two-domains" not in found
