"""The heat maps of an ablation's report: their means, their order, their shades, what has no result."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from ablations import Figure, ablation

import unitkit.templates
from unitkit.ablation.heatmaps import HeatMap, heat_maps
from unitkit.ablation.statistics import read_findings
from unitkit.templates import render

KNOBS: dict[str, Sequence[Any]] = {"shared": [4, 0, 2], "layers": [3, 10, 5, 4]}


def maps(
    out: Path, trained: Path, figure: Figure, swept: Mapping[str, Sequence[Any]] = KNOBS, **more: Any
) -> list[HeatMap]:
    more = {"seeds": 2, **more}
    return heat_maps(read_findings(ablation(out / "out", trained, swept, figure=figure, **more)))


def linear(setting: Mapping[str, Any], seed: int) -> float | None:
    if setting == {"shared": 2, "layers": 5} or (setting == {"shared": 0, "layers": 3} and seed == 1):
        return None
    return 0.1 + 0.05 * setting["shared"] + 0.01 * setting["layers"] + 0.02 * seed


@pytest.mark.parametrize("higher", [True, False])
def test_a_map_of_two_knobs(tmp_path: Path, trained: Path, higher: bool) -> None:
    (found,) = maps(tmp_path, trained, linear, higher=higher)
    assert (found.across, found.heads) == ("shared", ["0", "2", "4"])  # the shorter across, by size
    assert (found.down, [head for head, _ in found.rows]) == ("layers", ["3", "4", "5", "10"])
    first, last, none = found.rows[0][1][0], found.rows[3][1][2], found.rows[2][1][1]
    assert first == ("13.0 %", "1 seed", 0.0 if higher else 1.0)  # of seed 0 alone
    assert last == ("41.0 %", "2 seeds", 1.0 if higher else 0.0)
    assert none == ("no result", "failed", None)
    assert found.rows[0][1][2].share == pytest.approx((0.34 - 0.13) / 0.28 if higher else (0.41 - 0.34) / 0.28)
    assert found.ends == (("13.0 %", "41.0 %") if higher else ("41.0 %", "13.0 %"))
    assert found.caption.startswith("Higher" if higher else "Lower") and "Averaged" not in found.caption


def test_a_map_for_every_pair_averages_over_the_others(tmp_path: Path, trained: Path) -> None:
    def figure(setting: Mapping[str, Any], seed: int) -> float | None:
        lost = setting["shared"] == 2 and setting["line"] == "q" and seed == 1
        return None if lost else setting["shared"] + 10 * setting["rest"] + 0.25 * seed

    swept = {"shared": [0, 2], "line": ["z", "q"], "rest": [0, 1]}
    found = maps(tmp_path, trained, figure, swept)
    assert [{each.down, each.across} for each in found] == [set(pair) for pair in combinations(swept, 2)]
    first, second = found[0], found[1]
    assert [head for head, _ in first.rows] == ["z", "q"], "words stay in the order given"
    assert first.rows[1][1][1][:2] == ("700.0 %", "1 seed") and "Averaged over rest" in first.caption
    assert second.rows[0][1][1][:2] == ("200.0 %", "1 seed"), "a seed that one setting lacks is in no mean"


def test_no_map_of_one_knob_or_of_nothing(tmp_path: Path, trained: Path) -> None:
    assert not maps(tmp_path / "1", trained, lambda *_: 0.5, {"shared": [0, 1]})
    assert not maps(tmp_path / "2", trained, lambda *_: 0.5, {"shared": [0, 1], "rest": [3]})
    assert not maps(tmp_path / "3", trained, lambda *_: None)


def test_means_that_are_no_numbers_or_all_one(tmp_path: Path, trained: Path) -> None:
    strange = iter([math.inf, math.nan, -math.inf, 0.5])
    swept = {"shared": [0, 1], "rest": [0, 1]}
    (found,) = maps(tmp_path, trained, lambda *_: next(strange), swept, seeds=1)
    assert [[cell.share for cell in cells] for _, cells in found.rows] == [[1.0, 0.0], [None, 0.5]]
    assert found.ends is None


class Colours:
    """The page's colours under one scheme, and the contrast of two of them as WCAG 2 has it."""

    def __init__(self, block: str) -> None:
        self.said = dict(re.findall(r"--(\w+): ([^;]+);", block))

    def rgb(self, name: str) -> tuple[float, ...]:
        digits = self.said[name].removeprefix("#")
        digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
        return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))

    def shaded(self, share: float) -> tuple[float, ...]:
        part = int(self.said["shade"].removesuffix("%")) / 100 * (0.1 + 0.9 * share)
        return tuple(part * a + (1 - part) * b for a, b in zip(self.rgb("accent"), self.rgb("ground"), strict=True))


def contrast(*colours: tuple[float, ...]) -> float:
    linear = ([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour] for colour in colours)
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05 for r, g, b in linear)
    return high / low


def test_text_is_readable_on_every_shade() -> None:
    css = Path(unitkit.templates.__file__).with_name("page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(blocks) == 2, "light and dark"
    for colours in map(Colours, blocks):
        worst = min(contrast(colours.rgb("text"), colours.shaded(share / 20)) for share in range(21))
        assert worst >= 4.5 and contrast(colours.shaded(0), colours.shaded(1)) > 2.5


def test_what_the_page_shows(tmp_path: Path, trained: Path) -> None:
    found = maps(tmp_path, trained, linear)
    text = render(
        "ablation.html.jinja", title="t", plots=[], heat_maps=found, tables=[], strips=[], notes=[], protocol=[]
    )
    table = text[text.index('<table class="matrix') : text.index("</table>")]
    assert table.count("<small>2 seeds</small>") == 10 and table.count("<small>failed</small>") == 1
    assert 'style="--share:1.000"><span class="short">41.0 %' in table and "no result" in table
    assert "worst 13.0 %" in text and "best 41.0 %" in text
