"""`unitkit compare`: what differs between runs, figures where they can be compared, the same images in a page."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import one_line, unitkit
from PIL import Image
from test_report import Reader

from unitkit.commands.runs.comparison import figures, names_of, read_compared, settings_that_differ, telling
from unitkit.runs.folder import RunFolder
from unitkit.runs.page import side_by_side as images
from unitkit.runs.page.curves import Curves, compared_charts
from unitkit.runs.samples import layout_of

METRIC = "psnr(aa, a)"


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs `one` and `two`, a copy with another learning rate in its record and another figure."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        shutil.copytree(trained, tmp_path / name)
    change(Path("two/run.json"), lambda record: record["knobs"].update(lr=0.5))
    change(Path("two/metrics.json"), lambda found: result(found)["figures"].update(psnr=33.25))
    return tmp_path


def change(path: Path, how: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    how(value)
    path.write_text(json.dumps(value))


def result(found: Any) -> Any:
    return found["evaluations"][0]["metrics"][METRIC]


def compare(*words: object, out: str = "page.html") -> tuple[str, str]:
    """What is printed, and the page."""
    answer = unitkit("compare", *words, "--out", out)
    assert answer.status == 0 and answer.err == "", answer
    assert answer.out.splitlines()[-1] == f"page: {out}"
    return answer.out, Path(out).read_text("utf-8")


def cells(text: str, kind: str) -> list[list[str]]:
    """The rows of a page's cells, "th" or "td"."""
    return [
        re.findall(rf"<{kind}[^>]*>(.*?)</{kind}>", row, re.DOTALL)
        for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL)
    ]


def pixels(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def test_what_differs_and_the_figures_stand_beside_each_other(here: Path) -> None:
    out, page = compare("one", "two")
    assert "lr=0.001" in out and "lr=0.5" in out and "width" not in out and "33.25 dB" in out and "note:" not in out
    rows = {row[0]: row[1:] for row in cells(page, "td") if row}
    assert rows["recipe"] == ["tiny", "tiny"] and rows["lr"] == ["0.001", "0.5"] and rows["steps"] == ["12", "12"]
    assert "width" not in rows and "seed" not in rows and rows["state"] == ["done", "done"]
    better, first, second = rows["psnr of reconstruction aa"]
    assert (better, second) == ("higher", "33.25 dB") and first.endswith(" dB") and first != second


def test_images_are_those_of_the_runs_own_grids(here: Path) -> None:
    """The inputs, and the translations as the training drew them, in every column and of every path."""
    _, page = compare("one", "two", "--max-images", 3)
    found = Reader(page)
    assert all(each.startswith("data:"[: len(each)]) for each in found.loads) and len(found.tags["script"]) > 1
    assert not found.tags.keys() & {"link", "iframe", "object"} and "default-src 'none'" in page
    with Image.open("one/samples/step-00000012.png") as sheet:
        layout = layout_of(sheet)
        assert layout
        drawn = np.asarray(layout.cells(sheet))
    height, width = layout.size
    order = [name for name, _ in layout.rows]

    def cell(path: str, place: int) -> np.ndarray:
        y = order.index(path)
        return drawn[y * height : (y + 1) * height, place * width : (place + 1) * width]

    heads = [row for row in cells(page, "th") if "input" in row]
    assert heads == [["input", "ground truth", "one", "two"]] * 2
    rows = [re.findall(r'src="([^"]+)"', row) for row in re.findall(r'<tr class="beside">(.*?)</tr>', page, re.DOTALL)]
    assert len(rows) == 6
    for number, row in enumerate(rows):
        path, place = ("ab", "ba")[number // 3], number % 3
        shown = list(map(pixels, row))
        assert np.array_equal(shown[0], cell(path[0], place))
        assert np.abs(shown[2].astype(int) - cell(path, place)).max() <= 1, "one at a time sums otherwise"
        assert np.array_equal(shown[2], shown[3]), "a copy of the run"
        assert not np.array_equal(shown[0], shown[1])


def test_figures_of_other_protocols_never_stand_side_by_side(here: Path) -> None:
    shutil.copytree("one", "three")
    change(Path("three/metrics.json"), lambda found: found["evaluations"][0].update(size=[32, 32]))
    change(Path("two/metrics.json"), lambda found: result(found)["protocol"].update(features="ours"))
    out, page = compare("one", "two", "three")
    rows = [row for row in cells(page, "td") if row and row[0] == "psnr of reconstruction aa"]
    assert [row[2] for row in rows] == ["size 16x16", "size 16x16, features ours", "size 32x32"]
    assert [[text != "-" for text in row[3:]] for row in rows] == np.eye(3, dtype=bool).tolist()
    assert "not to be compared from row to row" in out and "not to be compared from row to row" in page
    assert "features ours" in out


def test_runs_of_other_data_have_tables_of_their_own(here: Path) -> None:
    for name in "one", "two":
        change(Path(name, "metrics.json"), lambda found: again(found, "ssim(aa, a)"))
    change(Path("two/metrics.json"), lambda found: found["evaluations"][0]["data"].update(name="terrain"))
    out, page = compare("one", "two")
    tables = out[out.index("figures, data portraits") :]
    first, second = tables[: tables.index("figures, data terrain")], tables[tables.index("figures, data terrain") :]
    for table, name in (first, "one"), (second, "two"):
        head, *rows = [line.split("│") for line in table.replace("┃", "│").splitlines() if line[:1] in "│┃"]
        assert [each.strip() for each in head[1:-1]] == ["figure", name]
        assert [row[1].strip() for row in rows] == [
            "psnr of reconstruction aa, higher is better",
            "ssim of reconstruction aa, psnr, higher is better",
        ]
    rows = [row[2] for row in cells(page, "td") if row and "of reconstruction aa" in row[0]]
    assert rows == ["data portraits"] * 2 + ["data terrain"] * 2


def again(found: Any, name: str) -> None:
    """The figures once more, as those of another metric."""
    title = f"{name.partition('(')[0]} of reconstruction aa"
    found["evaluations"][0]["metrics"][name] = {**result(found), "title": title}


def test_the_same_protocol_with_other_versions_or_devices_is_the_same(here: Path) -> None:
    change(Path("two/metrics.json"), lambda found: found["evaluations"][0].update(device="cuda:0", versions={}))
    change(Path("two/run.json"), lambda record: record["versions"].update(torch="1.0"))
    runs = [read_compared(Path(name), name) for name in ("one", "two")]
    (row,) = figures(runs)
    assert row.protocol == "" and all(row.texts)
    assert "version of torch" in compare("one", "two")[1], "which is said all the same"


def test_other_data_stand_apart_with_their_own_inputs(here: Path) -> None:
    recipe = Path("two/recipe.py")
    recipe.write_text(recipe.read_text().replace("import portraits", "import terrain as portraits"))
    change(Path("two/run.json"), lambda record: record["data"].update(name="terrain", fingerprint="0"))
    change(
        Path("two/metrics.json"), lambda found: found["evaluations"][0]["data"].update(name="terrain", fingerprint="0")
    )
    out, page = compare("one", "two", "--paths", "ab", "--max-images", 1)
    assert [row for row in cells(page, "th") if "input" in row] == [
        ["input", "ground truth", "one"],
        ["input", "ground truth", "two"],
    ]
    assert "two was given other images than the first" in out and "two was given other images" in page
    assert "data portraits" in page and "data terrain" in page
    charts = re.findall(r'<figure class="chart">.*?</figure>', page, re.DOTALL)
    assert charts and all(chart.count("<li ") == 1 for chart in charts), "nor are their losses over each other"


def test_damaged_and_unfinished_runs_have_a_line_and_the_rest_is_shown(here: Path) -> None:
    for name in ("damaged", "young", "lost", "stopped"):
        shutil.copytree("one", name)
    Path("damaged/run.json").write_text("{")
    shutil.rmtree("young/checkpoints")
    Path("lost/checkpoints/step-00000012/model.safetensors").write_bytes(b"x")
    shutil.rmtree("stopped/checkpoints/step-00000012")
    out, page = compare("one", "damaged", "young", "lost", "stopped", "two")
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    for words in (
        "damaged is left out: cannot use damaged/run.json",
        "young has no checkpoint yet",
        "stopped has no figures at this step",
        "lost is left out of the images: cannot use",
    ):
        assert sum(words in line for line in notes) == 1 and words in page, words
    assert len(notes) == 4 and "9 of 12" in out
    assert ["input", "ground truth", "one", "stopped", "two"] in cells(page, "th")


def test_best_is_a_run_of_its_own_whose_curves_are_drawn_once(here: Path) -> None:
    shutil.copytree("one/checkpoints/step-00000009", "one/best/step-00000009")
    out, page = compare("one", "one/best", "two")
    assert "9 of 12, best" in out and "one/best has no figures at this step" in out
    charts = re.findall(r'<figure class="chart">.*?</figure>', page, re.DOTALL)
    names = {tuple(re.findall(r"<span>(.*?)</span><output>", chart)) for chart in charts}
    assert names == {("one", "two")}
    assert all('<g class="c0">' in chart and '<g class="c2">' in chart for chart in charts), "a colour for each run"
    losses = [name for name in RunFolder("one").stats()[0] if "/" in name]
    assert len(charts) == len(losses)


def test_a_page_overwrites_nothing_that_nobody_named(here: Path) -> None:
    said = [unitkit("compare", "one", "two", "--paths", "aa").out.splitlines()[-1] for _ in range(2)]
    pages = sorted(Path("runs").glob("compare-*.html"))
    assert len(pages) == 2 and sorted(said) == sorted(f"page: {page}" for page in pages)
    one_line(unitkit("compare", "one", "two", "--out", "one/report.html"), "the run's own report.html")
    one_line(unitkit("compare", "one", "two", "--out", "thesis.tex"), "thesis.tex is no page")
    Path("taken").write_text("")
    answer = unitkit("compare", "one", "two", "--out", "taken/page.html")
    assert answer.status == 2 and answer.out == "", "before anything is done"


def test_what_cannot_be_is_refused_before_any_work(here: Path) -> None:
    one_line(unitkit("compare", "one"), "1 different run", "2 to 12")
    one_line(unitkit("compare", "one", "./one"), "1 different run")
    one_line(unitkit("compare", "one", "tow"), "tow is not a run folder", "Did you mean 'two'?")
    one_line(unitkit("compare", "one", "two", "--paths", "ac"), "'ac'")
    one_line(unitkit("compare", "one", "two", "--paths", "za"), "'za'")
    for number in range(12):
        shutil.copytree("one", f"more/{number}", ignore=shutil.ignore_patterns("samples"))
    one_line(unitkit("compare", "one", *sorted(Path("more").iterdir())), "13 different runs", "2 to 12")
    assert not Path("runs").exists()


def test_tables_fit_eighty_columns(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for number in range(7):
        shutil.copytree("one", f"run-{number}", ignore=shutil.ignore_patterns("samples", "checkpoints"))
    out, _ = compare("one", "two", *(f"run-{number}" for number in range(7)), "--paths", "aa")
    lines = [line for line in out.splitlines() if line[:1] in "┏┃┡│└"]
    assert max(map(len, lines)) <= 80 and sum(line.startswith("┏") for line in lines) == 4, "one table more for each 4"


def test_knobs_of_other_recipes_are_shown_where_they_were_changed(here: Path) -> None:
    change(Path("two/run.json"), lambda r: (r["knobs"].update(new=1, more=2), r["defaults"].update(new=1, more=1)))
    runs = [read_compared(Path(name), name) for name in ("one", "two")]
    assert settings_that_differ(runs) == {"lr": ["0.001", "0.5"], "more": ["-", "2"]}


def test_names_are_without_the_folders_that_all_runs_lie_in(here: Path) -> None:
    assert names_of([Path("runs/a/x"), Path("runs/b/x")]) == ["a/x", "b/x"]
    assert names_of([Path("runs/a"), Path("runs/a/best")]) == ["a", "a/best"]
    assert names_of([Path("runs/latest"), Path("runs/tiny/first")]) == ["latest", "tiny/first"]


def test_a_fingerprint_is_told_where_nothing_else_tells_apart() -> None:
    one, two = {"size": "8x8", "fingerprint": "1"}, {"size": "9x9", "fingerprint": "2"}
    assert telling([one, two]) == ["size 8x8", "size 9x9"] and telling([one, one]) == ["", ""]
    assert telling([one, {**one, "fingerprint": "2"}]) == ["fingerprint 1", "fingerprint 2"]


def test_images_of_a_page_keep_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8))
    strips = [images.Strip("noise", [("one", noise), ("two", noise)])]
    (whole,) = images.drawn(strips)
    assert whole.small and all(
        np.array_equal(pixels(uri), noise[n].transpose(1, 2, 0)) for n in (0, 1) for uri in whole.rows[n]
    )
    size = sum(len(uri) for row in whole.rows for uri in row)
    monkeypatch.setattr(images, "LARGEST", size // 3)
    (less,) = images.drawn(strips)
    assert sum(len(uri) for row in less.rows for uri in row) <= size // 3
    assert {uri[:15] for row in less.rows for uri in row} == {"data:image/jpeg"}, "all alike"


def test_curves_of_several_runs_are_one_chart_each() -> None:
    one, two = [Curves("g", "loss", {"l1": [(1, 2.0)], "kl": [(1, 3.0)]})], [Curves("g", "loss", {"kl": [(2, 4.0)]})]
    first, second = compared_charts([one, two], ["x", "y"])
    assert (first.title, first.names, list(first.colours)) == ("g: l1", ["x"], [0])
    assert (second.title, second.names, list(second.colours)) == ("g: kl", ["x", "y"], [0, 1])
    assert second.data == {"steps": [1, 2], "last": 2, "values": [["3", "3"], ["", "4"]]}
