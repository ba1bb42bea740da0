"""The report of an ablation: its statistics against hand and scipy, its order, its plots, its page, its pictures."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ablations import ACCURACY, ablation
from commands import unitkit
from PIL import Image
from scipy import stats

from unitkit.ablation import images as ablation_pictures
from unitkit.ablation.images import strips_of
from unitkit.ablation.plots import lines_of, pairs, scale_of
from unitkit.ablation.report import headlines, write_ablation_report
from unitkit.ablation.statistics import averaged, compare, mean_sd, quantile, read_findings
from unitkit.system.errors import UserError
from unitkit.templates.markdown import markdown_table

MAIN = f"{ACCURACY}.largest_channel"


@pytest.fixture(scope="module")
def cell(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, to be copied."""
    folder = tmp_path_factory.mktemp("cell") / "run"
    recipe, knobs = folder.with_name("tiny.py"), 'name: str = "", x: float = 0, line: str = "", rest: int = 0,'
    recipe.write_text(tiny.read_text().replace("    *,\n", f"    *,\n    {knobs}\n"))
    answer = unitkit("train", recipe, "steps=2", "--out", folder)
    assert answer.status == 0, answer.err
    return folder


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "ablation.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sections(out: Path) -> dict[str, list[list[str]]]:
    """The tables of ablation.md by title, heads first."""
    found: dict[str, list[list[str]]] = {}
    title = ""
    for line in (out / "ablation.md").read_text("utf-8").splitlines():
        if line.startswith("## "):
            title = line[3:]
        elif line.startswith("| ") and not line.startswith("| ---"):
            found.setdefault(title, []).append([each.strip() for each in line.strip("|").split(" | ")])
    return found


def test_the_standard_deviation_is_that_of_a_sample() -> None:
    assert mean_sd([2.0, 4.0, 9.0]) == (5.0, pytest.approx(math.sqrt((9 + 1 + 16) / 2)))
    assert mean_sd([3.0]) == (3.0, None) and mean_sd([]) == (None, None)


def test_the_paired_interval_is_students_t() -> None:
    setting, baseline = {0: 5.0, 1: 7.0, 2: 6.5, 3: 9.0}, {0: 4.0, 1: 5.5, 2: 6.0, 3: 7.5}
    found = compare(setting, baseline)
    # By hand: differences 1, 1.5, 0.5, 1.5: mean 1.125, sd sqrt(0.6875 / 3) = 0.478714, t(3) at 0.975 = 3.182446.
    half = 3.182446 * 0.478714 / 2
    assert found.interval == pytest.approx((1.125 - half, 1.125 + half), abs=1e-5)
    assert (found.difference, found.n, found.verdict) == (1.125, 4, "better")
    theirs = stats.ttest_rel([5.0, 7.0, 6.5, 9.0], [4.0, 5.5, 6.0, 7.5]).confidence_interval(1 - 0.05 / 7)
    assert compare(setting, baseline, comparisons=7).interval == pytest.approx(tuple(theirs), rel=1e-9)
    assert quantile(3, 7) > quantile(3, 1) == pytest.approx(3.182446, abs=1e-6)


def test_verdicts() -> None:
    up, flat = {0: 1.0, 1: 1.1, 2: 1.05}, {0: 0.0, 1: 0.1, 2: 0.0}
    assert compare(up, flat).verdict == "better" and compare(up, flat, higher=False).verdict == "worse"
    assert compare(flat, up).verdict == "worse" and compare(flat, up, higher=False).verdict == "better"
    assert compare(flat, {0: 0.1, 1: 0.0, 2: 0.0}).verdict == "cannot tell"
    assert compare(up, {**flat, 1: math.nan}).verdict == "cannot tell"
    one = compare(up, {2: 0.0, 7: 0.0})
    assert (one.n, one.difference, one.interval, one.verdict) == (1, 1.05, None, "one seed: no interval")
    assert compare(up, {7: 0.0}).verdict == "no seed in common"


def test_pairs_are_made_by_seed_and_not_by_place() -> None:
    assert compare({0: 1.0, 2: 30.0, 3: 40.0}, {3: 39.0, 1: 500.0, 2: 29.0}).difference == 1.0


@pytest.mark.parametrize(("comparisons", "least", "most"), [(1, 0.03, 0.07), (8, 0.01, 0.06)])
def test_a_grid_of_noise_gives_findings_at_the_nominal_rate(comparisons: int, least: float, most: float) -> None:
    """Of grids where no setting differs, at most 5 % have any finding; fewer with a common baseline."""
    noise = np.random.default_rng(0).normal(0.6, 0.02, (600, comparisons + 1, 4))
    wrong = 0
    for baseline, *others in noise.tolist():
        found = [compare(dict(enumerate(s)), dict(enumerate(baseline)), comparisons=comparisons) for s in others]
        wrong += any(each.verdict != "cannot tell" for each in found)
    assert least < wrong / len(noise) < most


def test_a_seed_that_one_setting_lacks_is_in_no_average() -> None:
    assert averaged([{0: 1.0, 1: 2.0, 2: 3.0}, {1: 4.0, 2: 6.0}]) == {1: 3.0, 2: 4.5}
    assert averaged([{0: 1.0}, {}]) == {} == averaged([])


def test_the_scale_of_a_knob() -> None:
    assert scale_of([0.1, 1, 10]) == "log" and scale_of([0, 1, 1000]) == "linear" and scale_of([1, 2, 99]) == "linear"
    assert scale_of(["both", "none"]) == scale_of([True, False]) == scale_of([1, None]) == "category"
    assert pairs(["x"]) == [("x", None)] and pairs([]) == []
    assert pairs(["x", "y", "z"]) == [("x", "y"), ("x", "z"), ("y", "z")]


@pytest.fixture(scope="module")
def grid(cell: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of 3 x 2 settings and 3 seeds with one failed cell, whose values are not in alphabetical order."""

    def figure(setting: Mapping[str, Any], seed: int) -> float | None:
        if setting == {"shared": 0, "name": "a|<i>b"} and seed == 1:
            return None
        return 0.5 + 0.1 * setting["shared"] + 0.02 * seed + 0.001 * seed * setting["shared"]

    swept = {"shared": [2, 0, 1], "name": ["zebra", "a|<i>b"]}
    out = ablation(tmp_path_factory.mktemp("grid") / "out", cell, swept, 3, figure)
    write_ablation_report(out)
    return out


def test_rows_and_settings_keep_the_order_of_the_grid(grid: Path) -> None:
    found = [(row["shared"], row["name"], row["seed"]) for row in rows(grid)]
    assert found == list(itertools.product("201", ["zebra", "a|<i>b"], "012"))
    labels = [row[0] for row in sections(grid)["Settings"][1:]]
    assert labels[0] == "shared=2, name=zebra (baseline)" and labels[1] == "shared=2, name=a\\|&lt;i>b"
    assert [each[7] for each in labels] == list("220011")


def test_the_csv_holds_every_figure_and_state(grid: Path) -> None:
    first, failed = rows(grid)[0], rows(grid)[10]
    assert list(first) == ["shared", "name", "seed", "state", "step", "psnr(aa, a).psnr", MAIN, f"{ACCURACY}.euclidean"]
    assert (first["state"], first["step"], float(first[MAIN])) == ("done", "2", 0.7)
    assert (failed["state"], failed["step"], failed[MAIN]) == ("failed", "", "")


def test_the_tables_say_what_was_found(grid: Path) -> None:
    tables = sections(grid)
    full, short = tables["Settings"][3], tables["Settings"][4]
    assert full[1:4] == ["3 of 3", "52.0 %", "2.0 %"]
    assert short[1:4] == ["2 of 3", "52.0 %", "2.8 %"]  # seeds 0 and 2: sd 0.04 / sqrt(2)
    compared = next(table for title, table in tables.items() if title.startswith("Compared with the baseline"))
    assert [row[-2:] for row in compared[1:]] == [
        ["3", "cannot tell"],  # the same figures: a difference of 0 without any spread
        ["3", "worse"],
        ["2", "worse"],  # -0.2 and -0.204
        ["3", "worse"],
        ["3", "worse"],
    ]
    assert tables["Cells that are not in these figures"][1][1:] == ["1", "failed", "it &lt;b>broke&lt;/b>"]
    text = (grid / "ablation.md").read_text()
    for fact in (
        "Bonferroni",
        "sha256 0123456789ab",
        "steps: 2",
        "4 of truth:ab",
        "torch=",
        "unitkit ablate tests/tiny.py",
    ):
        assert fact in text


def test_lower_is_better_where_the_metric_says_so(cell: Path, tmp_path: Path) -> None:
    out = ablation(
        tmp_path / "out", cell, {"shared": [0, 1]}, 2, lambda s, seed: s["shared"] + seed * 1e-6, higher=False
    )
    write_ablation_report(out)
    compared = sections(out)["Compared with the baseline, shared=0"]
    assert compared[1][-1] == "worse" and "Lower pixel_accuracy" in (out / "ablation.md").read_text()


def test_plots_average_only_whole_seeds(cell: Path, tmp_path: Path) -> None:
    """With a third knob, a point is the mean over its values, for the seeds that finished with each of them."""
    swept = {"x": [1, 10, 100], "line": ["p", "q"], "rest": [0, 1]}

    def figure(setting: Mapping[str, Any], seed: int) -> float | None:
        if setting == {"x": 10, "line": "p", "rest": 1} and seed == 2:
            return None
        return setting["x"] + 10 * setting["rest"] + seed

    out = ablation(tmp_path / "out", cell, swept, 3, figure)
    points = lines_of(read_findings(out), "x", "line")
    assert list(points) == ["p", "q"] and [each.n for each in points["p"]] == [3, 2, 3]
    assert [each.mean for each in points["p"]] == pytest.approx([7, 15.5, 106])
    assert [each.sd for each in points["q"]] == pytest.approx([1, 1, 1])


def test_a_plot_for_every_pair_with_its_marks_inside(grid: Path) -> None:
    stem = "pixel_accuracy_ab_b.largest_channel--shared--name"
    assert sorted(p.name for p in (grid / "plots").iterdir()) == [f"{stem}.png", f"{stem}.svg"]
    with Image.open(grid / "plots" / f"{stem}.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for colour in (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00):
        rows, columns = np.nonzero((np.abs(pixels - colour) < 8).all(axis=2))
        assert np.ptp(columns) > 300 and np.ptp(rows) > 200  # a line over the axes, not its mark in the legend alone


class Page(HTMLParser):
    """What a page would load, and its pictures' number in each row."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.rows: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append(0)
        for name, value in attrs:
            if name in ("src", "href", "xweights:href") and not (value or "").startswith(("data:", "#")):
                self.loads.append(value or "")
        if tag == "img" and self.rows:  # plots come before the tables
            self.rows[-1] += 1


def test_the_page_is_one_file_and_escapes_labels(grid: Path) -> None:
    text = (grid / "ablation.html").read_text("utf-8")
    page = Page()
    page.feed(text)
    assert not page.loads and not page.tags & {"weights", "iframe", "i", "b"} and text.count("<script") == 1
    assert text.count("data:image/svg+xml") == 1 and "name=a|&lt;i&gt;b" in text and "it &lt;b&gt;broke" in text
    assert [count for count in page.rows if count] == [8, 8, 8]  # input, ground_truth, six settings; three pictures


def test_pictures_are_of_the_first_seed_that_is_done(grid: Path) -> None:
    (strip,), _ = strips_of(read_findings(grid))
    heads = [head for head, _ in strip.columns]
    assert heads[:2] == ["input", "ground truth"] and heads[2] == "shared=2, name=zebra (seed 0)" and len(heads) == 8


def test_a_model_that_cannot_be_loaded_leaves_a_note(cell: Path, tmp_path: Path) -> None:
    out = ablation(tmp_path / "out", cell, {"shared": [0, 1]}, 1, lambda setting, seed: 0.5)
    (out / "shared=0" / "seed-0" / "checkpoints" / "step-00000002" / "model.safetensors").write_bytes(b"rubbish")
    write_ablation_report(out)
    (strip,), notes = strips_of(read_findings(out))
    assert [head for head, _ in strip.columns] == ["input", "ground truth", "shared=1 (seed 0)"]
    assert len(notes) == 1 and notes[0].startswith("shared=0 (seed 0) is left out of the images: cannot")
    assert "left out of the images" in (out / "ablation.html").read_text()


def test_the_pictures_are_capped_and_say_so(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation_pictures, "MOST", 2)
    (strip,), notes = strips_of(read_findings(grid))
    assert len(strip.columns) == 4 and notes == ["The first 2 of 6 settings are shown."]


def test_a_report_before_anything_is_done(cell: Path, tmp_path: Path) -> None:
    out = ablation(tmp_path / "out", cell, {"shared": [0, 1]}, 2, lambda setting, seed: None)
    record = json.loads((out / "ablation.json").read_text())
    for each in record["cells"]:
        each["failed"] = None
    record["metric"] = [ACCURACY, ""]  # as it is before the first cell names its figures
    (out / "ablation.json").write_text(json.dumps(record))
    begun = out / record["cells"][0]["folder"]
    begun.mkdir(parents=True)
    (begun / "run.json").write_text("{}")
    write_ablation_report(out)
    assert [row["state"] for row in rows(out)] == ["begun", "waiting", "waiting", "waiting"]
    assert not (out / "plots").exists()


def test_the_main_figure_is_completed_by_the_metric_s_first(cell: Path, tmp_path: Path) -> None:
    out = ablation(tmp_path / "out", cell, {"shared": [0, 1]}, 1, lambda setting, seed: 0.5)
    record = json.loads((out / "ablation.json").read_text())
    (out / "ablation.json").write_text(json.dumps({**record, "metric": [ACCURACY, ""]}))
    findings = read_findings(out)
    assert str(findings.main) == MAIN
    assert list(map(str, headlines(findings))) == [f"{ACCURACY}.euclidean", "psnr(aa, a).psnr"]


def test_a_folder_without_an_ablation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not an ablation"):
        write_ablation_report(tmp_path)
    (tmp_path / "ablation.json").write_text('{"format": 1, "swept": {}}')
    with pytest.raises(UserError, match=r"ablation\.json: Object missing required field 'recipe'"):
        write_ablation_report(tmp_path)


def test_markdown_keeps_its_columns() -> None:
    text = markdown_table(["a_b", "x"], [["p|q\nr", "*s*"], ["_u_", "`v`"]])
    assert text.splitlines() == ["| a_b | x |", "| --- | ---: |", r"| p\|q r | \*s\* |", r"| \_u\_ | \`v\` |"]


def test_figures_that_are_no_numbers_are_reported(cell: Path, tmp_path: Path) -> None:
    strange = iter([math.inf, 1.0, math.nan, 0.2, -math.inf, math.inf, 0.1, 0.3])
    out = ablation(tmp_path / "out", cell, {"x": [1, 2, 3, 4]}, 2, lambda setting, seed: next(strange))
    write_ablation_report(out)
    settings, compared = sections(out)["Settings"], sections(out)["Compared with the baseline, x=1"]
    assert [row[2] for row in settings[1:]] == ["nan %", "inf %", "nan %", "25.0 %"]
    assert all(row[-1] == "cannot tell" for row in compared[1:])
    assert (out / "ablation.html").read_text().count("data:image/svg+xml") == 1
