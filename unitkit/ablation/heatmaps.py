"""An ablation's heat maps: the main figure over every two knobs, shaded from the worst to the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from ..runs.report import shown
from .grid import in_words
from .plots import Point, averaged_over, lines_of, scale_of
from .statistics import Findings


class HeatCell(NamedTuple):
    """A cell: its mean, and over how many seeds; or that there is none, and why. `share` is 0 for the worst mean of the
    map and 1 for the best, None where there is no number."""

    text: str
    note: str
    share: float | None


class HeatMap(NamedTuple):
    """A table of means, its `heads` the values of the knob `across` and each row a value of the knob `down`.

    `ends` are the worst and the best mean; None where all are one.
    """

    title: str
    down: str
    across: str
    heads: list[str]
    rows: list[tuple[str, list[HeatCell]]]
    ends: tuple[str, str] | None
    caption: str


def heat_maps(findings: Findings) -> list[HeatMap]:
    """A map for every two knobs of several values, once there is a mean to show."""
    several = [knob for knob, values in findings.swept.items() if len(values) > 1]
    found = (_heat_map(findings, *pair) for pair in combinations(several, 2))
    return [each for each in found if each is not None]


def _heat_map(findings: Findings, one: str, other: str) -> HeatMap | None:
    # The shorter goes across, where a telephone has less room.
    across, down = sorted((one, other), key=lambda knob: len(findings.swept[knob]))
    unit, higher = findings.unit(findings.main), findings.higher
    lines = lines_of(findings, across, down)
    means = {(value, str(point.x)): point for value, points in lines.items() for point in points}
    if not means:
        return None
    finite = [point.mean for point in means.values() if math.isfinite(point.mean)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)

    def cell(y: Any, x: Any) -> HeatCell:
        point: Point | None = means.get((str(y), str(x)))
        if point is None:
            return HeatCell("no result", _why(findings, {down: y, across: x}), None)
        seeds = f"{point.n} seed{'s' * (point.n > 1)}"
        return HeatCell(shown(point.mean, unit), seeds, _share(point.mean, low, high, higher))

    columns = _ordered(findings.swept[across])
    rows = [(in_words(y), [cell(y, x) for x in columns]) for y in _ordered(findings.swept[down])]
    worst, best = (low, high) if higher else (high, low)
    words, better = findings.words(findings.main), "Higher" if higher else "Lower"
    return HeatMap(
        f"{words} by {down} and {across}",
        down,
        across,
        [in_words(x) for x in columns],
        rows,
        (shown(worst, unit), shown(best, unit)) if low < high else None,
        f"{better} is better. Each cell: the mean over its seeds that finished, and how many these are."
        + averaged_over(findings, down, across),
    )


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Numbers by size; others as they were given."""
    return list(values) if scale_of(values) == "category" else sorted(values)


def _share(mean: float, low: float, high: float, higher: bool) -> float | None:
    """Where a mean lies between the worst and the best that are finite; infinite ones lie at an end."""
    if math.isnan(mean):
        return None
    if math.isinf(mean):
        return float((mean > 0) == higher)
    if low == high:
        return 0.5
    share = (mean - low) / (high - low)
    return share if higher else 1 - share


def _why(findings: Findings, setting: dict[str, Any]) -> str:
    """Why no seed finished with these values: what state its trainings are in."""
    ours = [each for each in findings.cells if setting.items() <= each.cell.setting.items()]
    states = dict.fromkeys(each.state for each in ours if each.state != "done")
    return ", ".join(states) or "not measured"
