"""A run's page: live, one offline file of bounded size, every grid and curve in it, readable values, old runs too."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import unitkit
from PIL import Image

import unitkit as kit
from unitkit.metrics import Context, fid, l1, psnr, ssim
from unitkit.recipe import Hook
from unitkit.runs.folder import RunFolder
from unitkit.runs.options import RunOptions
from unitkit.runs.page import write_report
from unitkit.runs.page.curves import POINTS, loss_charts, watched_charts
from unitkit.runs.page.extremes import Extremes, chosen
from unitkit.runs.page.facts import knobs_of
from unitkit.runs.page.grids import (
    LARGEST,
    MOST,
    SMALL,
    WHOLE,
    Grid,
    encode,
    grid_of,
    grids_of,
    shown_rows,
    spread,
    wiped,
)
from unitkit.runs.samples import BEST_AND_WORST, LAYOUT, Layout, layout_of, name_of, save_sheet, sentence_of, sheet_of
from unitkit.trainer import Trainer

ROWS = ("a", "aa", "ab", "aba", "b", "bb", "ba", "bab")
LABELS = {"a": "smiling", "b": "neutral"}


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def page(folder: Path, **options: Any) -> str:
    write_report(RunFolder(folder), **options)
    return (folder / "report.html").read_text("utf-8")


def images(side: int = 8, count: int = 4) -> dict[str, list[np.ndarray]]:
    """Noise, which no file makes smaller."""
    random = np.random.default_rng(0)
    return {row: list(random.integers(0, 256, (count, 3, side, side), np.uint8)) for row in ROWS}


class Reader(HTMLParser):
    """What a page has of each tag, as attributes; what it would load; its scripts of JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, list[dict[str, str]]] = {}
        self.loads: list[str] = []
        self.json: list[Any] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.setdefault(tag, []).append(found)
        self.inside = found.get("type", "") if tag == "script" else ""
        self.loads += [found[name] for name in ("src", "href", "srcset", "action", "data", "poster") if name in found]
        self.loads += re.findall(r"url\(\s*[\"']?(.{5})", found.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.inside == "application/json" and data.strip():
            self.json.append(json.loads(data))
        if self.lasttag == "style":
            self.loads += re.findall(r"(?:url\(|@import)\s*[\"']?(.{5})", data)


# Live


def test_the_page_is_there_with_every_grid_and_says_how_far_the_training_is(tmp_path: Path, tiny: Path) -> None:
    seen: list[str] = []

    class Look(Hook):
        last = True

        def after_step(self, trainer: Any, losses: Mapping[str, Any]) -> None:
            path = trainer.run.path / "report.html"
            seen.append(path.read_text() if path.exists() else "")

    recipe = kit.load_recipe(tiny, steps=6)
    trainer = Trainer(recipe, RunOptions(tmp_path / "run", device="cpu", sample_every=2))
    trainer.hooks.append(Look())
    assert trainer.fit()
    assert seen[0] == "" and seen[2] == seen[1] and seen[3] != seen[1]
    assert "Training: step 1 of 6 (17%)" in seen[1], "the log has the first step and the last"
    assert all('http-equiv="refresh"' in text and 'id="follow"' in text for text in seen[1:])
    assert re.findall(r'"step": (\d+)', seen[5]) == ["2", "4", "6"]
    text = (tmp_path / "run" / "report.html").read_text()
    assert "All 6 steps are done." in text and "refresh" not in text.split("<script>")[0] and 'id="follow"' not in text
    assert trainer.run.record["peak_memory"] > 0


def test_a_page_that_cannot_be_written_ends_no_training(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "run").mkdir()
    told: list[str] = []
    trainer = Trainer(kit.load_recipe(tiny, steps=2), RunOptions(tmp_path / "run", device="cpu"), warn=told.append)
    (tmp_path / "run" / "report.html").mkdir()
    assert trainer.fit() and len(told) == 2 and "report.html: it is a folder" in told[0]


def test_a_training_that_was_stopped_says_so(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "steps": 48}))
    assert "It ended, or was stopped, at step 12 of 48 (25%)." in page(folder)
    assert re.search(r"Training: step 12 of 48 \(25%\), about \d+ s of steps left\.", page(folder, training=True))


# One offline file


def test_the_page_asks_no_server_and_needs_no_script(trained: Path) -> None:
    text = (trained / "report.html").read_text("utf-8")
    found = Reader(text)
    assert found.loads and all(each.startswith("data:"[: len(each)]) for each in found.loads)
    assert not found.tags.keys() & {"link", "iframe", "object", "embed", "base", "form"}
    assert not re.findall(r"\bfetch\(|XMLHttp|import\(|WebSocket|https?://", text)
    assert "default-src 'none'; img-src data:" in text and "viewport" in text and "prefers-color-scheme" in text
    assert all("d" not in each or each["points"] for each in found.tags["polyline"]), "drawn before any script runs"
    labelled = [each for each in found.tags["span"] if each.get("role") == "img"]
    assert labelled and all(each["aria-label"] for each in labelled)
    assert all(each["type"] == "button" for each in found.tags["button"])


def test_the_policy_knows_the_page_s_own_script_alone(trained: Path) -> None:
    import hashlib

    text = (trained / "report.html").read_text("utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text.replace("&#39;", "'") and len(script.splitlines()) < 200


def test_what_a_script_is_given_is_harmless(folder: Path) -> None:
    bad = "</script><script>alert(1)</script>\x1b\u202e\u2028"
    rows = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    named = [{**row, f"{bad}/{bad}": 1.0} for row in rows]
    (folder / "stats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "labels": {"a": bad, "b": bad}}))
    before, after = Reader((folder / "report.html").read_text("utf-8")), Reader(text := page(folder))
    assert len(after.tags["script"]) == len(before.tags["script"]) + 1, "the JSON of one more chart"
    assert len(after.json) == len(after.tags["script"]) - 1 and not {"\x1b", "\u202e", "\u2028"} & {*text}


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_runs_the_script_and_complains_of_nothing(trained: Path, tmp_path: Path) -> None:
    assert BROWSER
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--enable-logging=stderr"]
    place = (trained / "report.html").as_uri()
    done = subprocess.run(
        [BROWSER, *words, "--window-size=390,844", "--dump-dom", place], capture_output=True, text=True, timeout=60
    )
    assert '<html lang="en" class="scripted">' in done.stdout, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr


# Grids


@pytest.mark.parametrize("count", [0, 1, 2, 39, 40, 41, 100, 1000, 4097])
def test_grids_are_spread_evenly_and_end_with_the_last(count: int) -> None:
    paths = [Path(f"step-{n:08d}.png") for n in range(count)]
    found = spread(paths)
    assert len(found) == count if count <= MOST else MOST / 2 <= len(found) <= MOST
    places = [paths.index(each) for each in found]
    assert not count or (places[-1] == count - 1 and places[0] == 0)
    gaps = np.diff(places[:-1])
    assert len(set(gaps)) <= 1, "between all but the last"
    more = spread([*paths, Path("step-99999999.png")])
    assert set(more[:-1]) - {*found} <= {*paths[-1:]}, "what was shown small before is shown again, or goes"


def test_the_cells_of_a_grid_are_its_images(tmp_path: Path) -> None:
    drawn = images()
    drawn["b"] = drawn["b"][:2]
    save_sheet(sheet_of(drawn, (8, 8), 4), tmp_path / "step-00000007.png")
    grid = grid_of(tmp_path / "step-00000007.png", whole=True)
    assert grid and grid.step == 7 and grid.layout and grid.uri.startswith("data:image/png;base64,")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(grid.uri.partition(",")[2]))))
    assert shown.shape == (64, 32, 3)
    for y, row in enumerate(shown_rows(grid.layout, LABELS)):
        assert row.path == ROWS[y] and len(row.tiles) == len(drawn[row.path])
        for x, (left, top) in enumerate(row.tiles):
            # As CSS has it: a share of what the sheet is larger than a cell.
            at_x, at_y = (round(float(each[:-1]) / 100 * room) for each, room in ((left, 32 - 8), (top, 64 - 8)))
            assert np.array_equal(shown[at_y : at_y + 8, at_x : at_x + 8], drawn[row.path][x].transpose(1, 2, 0))


def test_a_grid_keeps_within_its_bytes() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), np.uint8))
    for most in SMALL, WHOLE:
        assert len(encode(noise, 256, most)[1]) <= most
    plain = Image.new("RGB", (64, 64), "red")
    assert encode(plain, 8, SMALL)[0] == "png"
    assert SMALL * 4 / 3 * MOST + WHOLE * 4 / 3 <= LARGEST * 1.1


def test_a_page_of_very_many_grids_is_bounded_and_says_so(folder: Path) -> None:
    first = folder / "samples" / "step-00000001.png"
    (folder / "samples" / "step-00000012.png").unlink()
    save_sheet(sheet_of(images(48, 8), (48, 48), 8), first)
    for step in range(2, 100):
        os.link(first, folder / "samples" / f"step-{step:08d}.png")
    text = page(folder)
    shown = re.search(r"(\d+) of 99 grids are in this page", text)
    assert shown and 20 <= int(shown[1]) <= MOST and len(text) < 8_000_000
    (grids,) = (each for each in Reader(text).json if isinstance(each, list))
    assert len(grids) == int(shown[1]) and grids[-1] == {"step": 99, "uri": None}, "the last one is in the style"


def test_too_many_bytes_leave_grids_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"step-{n:08d}.png" for n in range(1, 10)]
    made = {path: Grid(n, None, (1, 1), "x" * (LARGEST // 4)) for n, path in enumerate(paths, 1)}
    monkeypatch.setattr("unitkit.runs.page.grids.grid_of", lambda path, **_: made[path])
    assert [grid.step for grid in grids_of(paths)] == [1, 5, 9]


@pytest.mark.parametrize("kind", ["old", "mixed", "rubbish", "cut", "pipe", "lies", "none"])
def test_other_grids_give_a_page_too(folder: Path, kind: str) -> None:
    (there,) = (folder / "samples").glob("step-*.png")
    new = folder / "samples" / "step-00000099.png"
    if kind in ("old", "mixed"):
        Image.open(there).convert("RGB").save(there if kind == "old" else new)  # says nothing of its images
    elif kind == "rubbish":
        new.write_bytes(b"rubbish")
    elif kind == "cut":
        new.write_bytes(there.read_bytes()[:900])
    elif kind == "pipe":
        os.mkfifo(new)
        (folder / "samples" / BEST_AND_WORST).unlink()
        os.mkfifo(folder / "samples" / BEST_AND_WORST)
    elif kind == "lies":
        sheet = sheet_of(images(), (8, 8), 4)
        sheet.info[LAYOUT] = sheet.info[LAYOUT].replace('"columns":4', '"columns":5')
        save_sheet(sheet, new)
    else:
        there.unlink()
    text = page(folder)
    whole = "Each row is the path that stands before it." in text
    assert whole == (kind in ("old", "mixed", "lies"))
    assert ("Held-out images" in text) == (kind != "none")
    assert ('id="wipe"' in text) == (kind in ("rubbish", "cut", "pipe"))


def test_what_a_layout_says_is_checked() -> None:
    image = Image.new("RGB", (49, 10))
    good = {"rows": [["a", 1]], "columns": 1, "size": [4, 4], "scale": 2, "margin": 39}
    image.text = {LAYOUT: json.dumps(good)}  # type: ignore[attr-defined]
    assert layout_of(image) == Layout((("a", 1),), 1, (4, 4), 2, 39)
    bad: list[dict[str, Any]] = [{"rows": []}, {"rows": [["", 1]]}, {"rows": [["a<", 1]]}, {"rows": [["a", 2]]}]
    bad += [{"columns": 0}, {"scale": 0}, {"scale": 1}, {"margin": -1}, {"size": [4]}, {"captions": ["x", "y"]}]
    for change in bad:
        image.text = {LAYOUT: json.dumps({**good, **change})}  # type: ignore[attr-defined]
        assert layout_of(image) is None, change


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("a", "smiling"),
        ("aa", "smiling reconstructed"),
        ("ba", "neutral to smiling"),
        ("aba", "smiling to neutral and back"),
        ("zb", "neutral from noise"),
        ("truth:ab", "neutral, the ground truth"),
        ("cd", "c to d"),
    ],
)
def test_rows_are_named_by_label(row: str, name: str) -> None:
    assert name_of(row, LABELS) == name and sentence_of(row, LABELS).endswith(".")


def test_translations_lie_over_their_inputs() -> None:
    layout = Layout(tuple((row, 1) for row in ROWS), 1, (4, 4), 1, 0)
    assert [(one.path, two.path) for one, two in wiped(shown_rows(layout, LABELS))] == [("a", "ab"), ("b", "ba")]


# Curves


def values(value: Any) -> list[dict[str, Any]]:
    return [{"step": step, "seconds": 0.1, "g/x": value(step)} for step in range(1, 5001)]


@pytest.mark.parametrize(
    ("kind", "value", "log"),
    [
        ("falling", lambda step: 1 / step, True),
        ("constant", lambda step: 3.0, True),
        ("zero", lambda step: 0.0, False),
        ("signed", lambda step: math.sin(step), False),
        ("tiny", lambda step: 1e-300 * step, True),
        ("nearly equal", lambda step: 1 + 1e-15 * (step % 2), True),
        ("huge", lambda step: 1e99 * (-1) ** (step // 100), False),
        ("largest", lambda step: 1.7e308, False),
        ("no number", lambda step: math.nan, False),
        ("some no number", lambda step: math.inf if step % 1000 < 100 else 2.0 + step, True),
    ],
)
def test_curves_of_any_values_lie_in_their_box(kind: str, value: Any, log: bool) -> None:
    (chart,) = loss_charts(values(value))
    assert [axis.kind for axis in chart.axes] == (["linear", "log"] if log else ["linear"])
    assert (chart.title, chart.names) == ("g", ["x"]) and len(chart.points[0]) <= POINTS
    for axis in chart.axes:
        assert axis.ticks and all(-1e-6 <= at <= 1 + 1e-6 for at, _ in axis.ticks), axis.ticks
        for lines in axis.lines:
            for line in [*lines[0], *lines[1]]:
                for x, y in (map(float, point.split(",")) for point in line.split()):
                    assert 0 <= x <= 1000 and -0.1 <= y <= 400.1, kind
    json.dumps(chart.data, allow_nan=False)
    if kind == "some no number":
        assert len(chart.axes[0].lines[0][0]) > 2, "broken where there is no value"


def test_a_player_has_one_chart_with_all_its_terms() -> None:
    rows = [{"step": step, "seconds": 0.1, "d/gan": 1.0, "g/gan": 0.5} for step in (1, 10)]
    rows += [{"step": 20, "seconds": 0.1, "g/gan": 0.25, "g/kl(a)": 70.0}]
    discriminator, generator = loss_charts(rows)
    assert (discriminator.names, generator.names) == (["gan"], ["gan", "kl(a)"])
    assert generator.data == {"steps": [1, 10, 20], "last": 20, "values": [["0.5", "0.5", "0.25"], ["", "", "70"]]}
    assert generator.log and not discriminator.log, "70 beside 0.25"
    assert "gan 0.25, kl(a) 70" in generator.summary


def test_watched_metrics_are_curves_in_their_units() -> None:
    how = {"m": {"title": "Metric", "higher": True, "units": {"x": "%", "y": "dB", "same": "dB"}}}
    rows = [{"step": 5, "m": {"x": 0.5, "y": 20.0, "same": 148.1}}, {"step": 10}, {"step": 15, "m": {"x": 0.75}}]
    share, decibels = watched_charts(rows, how)
    assert (share.unit, share.points) == ("x, in %, higher is better", [[(5, 50.0), (15, 75.0)]])
    assert (decibels.unit, decibels.names) == ("y, in dB", ["y"]), "equal images would hide the others"


def test_the_page_has_charts_of_losses_and_metrics(tiny: Path, tmp_path: Path) -> None:
    words = ("--watch", "psnr(aba, a)", "--watch-every", 2, "--out", tmp_path / "run")
    assert unitkit("train", tiny, "steps=4", *words).status == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert re.findall(r"<h3>(.*?)</h3>\n<div><label>", text) == ["psnr of cycle aba", "discriminator", "generator"]
    assert "watched on held-out images" in text and "psnr, in dB, higher is better, over steps" in text


# Values


def test_knobs_that_differ_are_marked(tiny: Path, tmp_path: Path) -> None:
    assert unitkit("train", tiny, "@quick", "width=3", "--out", tmp_path / "run").status == 0
    record = RunFolder(tmp_path / "run").record
    assert {name for name, _, changed, _ in knobs_of(record) if changed} == {"steps", "width"}
    text = (tmp_path / "run" / "report.html").read_text()
    assert re.findall(r'class="changed"><th scope="row">(\w+)</th><td>(\d+)</td><td>(\d+)', text) == [
        ("width", "3", "4"),
        ("steps", "2", "12"),
    ]
    assert not any(each.changed for each in knobs_of({"knobs": {"width": 3}})), "of a run that knows no defaults"
    old = {name: value for name, value in record.items() if name != "defaults"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(old))
    assert unitkit("train", "--resume", "--out", tmp_path / "run", "steps=3").status == 0
    assert RunFolder(tmp_path / "run").record["defaults"] == record["defaults"]


def test_no_value_is_shown_as_python_writes_it(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    record["note"] = {"deep": [{"x": [1, 2]}, {"y": None}], "empty": [], "yes": True, "text": "plain"}
    (folder / "run.json").write_text(json.dumps(record))
    text = re.sub(r"<(script|style).*?</\1>", "", page(folder), flags=re.DOTALL)
    plain = re.sub(r"<[^>]+>", " ", text)
    assert not re.findall(r"[{}]|\[\d|&#39;\w+&#39;:|\bNone\b|\bTrue\b|\bFalse\b", plain)
    assert "<dt>x</dt><dd>1, 2</dd>" in text and "<dt>yes</dt><dd>" in text


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([[3, 1], [0, 4]], True),
        ([[0, 0], [0, 0]], True),
        ([[1, 2]], False),
        ([[1, "x"], [1, 2]], False),
        ([], False),
        ("text", False),
        ([[1.5, 0], [0, 1]], False),
    ],
)
def test_a_confusion_matrix_is_shaded_by_the_share_of_its_row(folder: Path, counts: Any, shown: bool) -> None:
    path = folder / "metrics.json"
    found = json.loads(path.read_text())
    next(iter(found["evaluations"][0]["metrics"].values()))["details"] = {"confusion": counts}
    path.write_text(json.dumps(found))
    shares = re.findall(r'style="--share:([\d.]+)">(\d+)', page(folder))
    if not shown:
        assert not shares
    elif counts[0][0]:
        assert shares == [("0.750", "3"), ("0.250", "1"), ("0.000", "0"), ("1.000", "4")]


# The best and the worst


def test_the_best_and_the_worst_are_those_of_the_metric() -> None:
    for metric, better in (psnr("aba", "a"), 1), (l1("aba", "a"), -1):
        found = Extremes(metric, Context())
        source = np.full((12, 3, 16, 16), 100, np.uint8)
        off = np.array([5, 1, 9, 3, 12, 7, 2, 11, 4, 10, 6, 8], np.uint8)
        for part in slice(0, 7), slice(7, 12):
            found.update({"a": source[part], "aba": source[part] + off[part, None, None, None]})
        assert [int(images["aba"][0, 0, 0]) - 100 for _, images in found.best] == [1, 2, 3, 4]
        assert [int(images["aba"][0, 0, 0]) - 100 for _, images in found.worst] == [12, 11, 10, 9]
        assert better * found.best[0][0] > better * found.worst[0][0] and found.looked_at == 12


def test_a_translation_is_chosen_before_a_reconstruction() -> None:
    none, back, first, second = fid("ab", "b"), psnr("aba", "a"), ssim("ab", "b"), l1("ab", "b")
    all_of_them = [none, back, first, second]
    entry: dict[str, Any] = {"metrics": {each.name: {"figures": {"x": 1.0}} for each in all_of_them}}
    assert chosen(all_of_them, entry) is first
    assert chosen([none, back], entry) is back and chosen([none], entry) is None
    entry["metrics"][first.name]["figures"] = {}  # it failed
    assert chosen(all_of_them, entry) is second


def test_a_run_keeps_its_best_and_worst_images(trained: Path) -> None:
    path = trained / "samples" / BEST_AND_WORST
    with Image.open(path) as image:
        layout = layout_of(image)
        assert layout
        cells = np.asarray(layout.cells(image)).astype(np.float64)
    assert [row for row, _ in layout.rows] == ["a", "aa"] and layout.columns == 4
    assert "psnr of reconstruction aa: 4 held-out images after step 12" in layout.title
    size = layout.size[1]
    for place, caption in enumerate(layout.captions):
        one, two = (cells[y * size : (y + 1) * size, place * size : (place + 1) * size] for y in range(2))
        figure = 10 * math.log10(255**2 / ((one - two) ** 2).mean())
        assert caption.partition(": ")[2] == f"{figure:.2f} dB"
    figures = [float(caption.split()[-2]) for caption in layout.captions]
    assert figures == sorted(figures, reverse=True) and layout.captions[0].startswith("best 1")
    text = (trained / "report.html").read_text()
    assert "The best and the worst held-out images" in text and layout.captions[-1] in text


def test_the_best_and_worst_of_an_earlier_step_are_taken_away(trained: Path, tmp_path: Path) -> None:
    from unitkit.runs.page.extremes import save_best_and_worst

    path = Path(shutil.copy(trained / "samples" / BEST_AND_WORST, tmp_path))
    data = kit.load_recipe(Path(__file__).with_name("tiny.py")).data
    save_best_and_worst(torch.nn.Identity(), data, [], path, entry={}, device=torch.device("cpu"))  # type: ignore[arg-type]
    assert not path.exists()
