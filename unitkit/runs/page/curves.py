"""Curves of what a training logged and watched, as charts: axes with ticks, and lines in parts of a chart's box."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from ...system.output import printable
from ..report import EXACT

POINTS = 300  # of a curve: each is the mean of the rows that fall on it
SPAN = 30.0  # between the medians of a chart's curves: from there on its axis is logarithmic at first
SMOOTHING = 0.1  # share of a curve's points over which the smooth one is averaged, on both sides
HUGE = 1e100  # from which on a value counts as none
WIDTH, HEIGHT = 1000, 400  # of a chart's coordinates, which are stretched to its box

Rows = Sequence[Mapping[str, Any]]
Points = list[tuple[float, float | None]]  # (step, value); None where there is no finite one


@dataclass(frozen=True)
class Axis:
    """A vertical axis: ticks as (share of the height from the top, text), and each curve's lines, plain and smooth."""

    kind: str  # "linear" or "log"
    ticks: list[tuple[float, str]]
    lines: list[tuple[list[str], list[str]]]


@dataclass(frozen=True)
class Chart:
    """A chart: curves by name over the steps; `unit` is what the vertical axis counts, `colours` are by number."""

    title: str
    unit: str
    names: list[str]
    points: list[Points]
    ticks: list[tuple[float, str]]  # of the steps: share of the width, text
    axes: list[Axis]
    log: bool  # whether the logarithmic axis is the one to begin with
    colours: Sequence[int]

    @property
    def summary(self) -> str:
        """What a chart shows, in words."""
        last = ", ".join(f"{name} {values[-1]}" for name, values in zip(self.names, self.data["values"], strict=True))
        return f"{self.title}, {self.unit}, over steps. At the last one: {last}."

    @cached_property
    def data(self) -> dict[str, Any]:
        """What a script needs to say which value is where, as texts: at each step a curve's last one until then."""
        steps = sorted({step for points in self.points for step, _ in points})
        values = []
        for points in self.points:
            known, at = {step: figure(value) for step, value in points}, ""
            values.append([at := known.get(step, at) for step in steps])
        return {"steps": steps, "last": steps[-1], "values": values}


class Curves(NamedTuple):
    """What a chart shows: curves by name; `unit` is what the vertical axis counts."""

    title: str
    unit: str
    lines: dict[str, Points]


def loss_charts(rows: Rows) -> list[Chart]:
    """A chart for each player, with a curve for each of its terms, unweighted."""
    return [_chart(each) for each in loss_curves(rows)]


def watched_charts(rows: Rows, watched: Mapping[str, Mapping[str, Any]]) -> list[Chart]:
    """A chart for each watched metric and each unit of its figures."""
    return [_chart(each) for each in watched_curves(rows, watched)]


def compared_charts(runs: Sequence[Sequence[Curves]], names: Sequence[str]) -> list[Chart]:
    """Curves of several runs over each other: a chart for each curve, with that of every run that has it.

    A run, `names` saying what it is called, has one colour in all of them.
    """
    found: dict[tuple[str, str], dict[int, Points]] = {}
    for number, curves in enumerate(runs):
        for title, unit, lines in curves:
            for name, points in lines.items():
                heading = title if name in title else f"{title}: {name}"
                found.setdefault((heading, unit), {})[number] = points
    return [
        _chart(Curves(title, unit, {names[number]: points for number, points in lines.items()}), list(lines))
        for (title, unit), lines in found.items()
    ]


def loss_curves(rows: Rows) -> list[Curves]:
    """What `loss_charts` shows."""
    # Over all rows: a player may rest in the last ones, or in the first.
    names = dict.fromkeys(name for row in rows for name in row if name not in ("step", "seconds"))
    players: dict[str, dict[str, Points]] = {}
    for name in names:
        player, _, term = name.partition("/")
        values = [(row["step"], row[name]) for row in rows if name in row]
        players.setdefault(player, {})[term or name] = _points(values)
    return [Curves(player, "loss, unweighted", lines) for player, lines in players.items()]


def watched_curves(rows: Rows, watched: Mapping[str, Mapping[str, Any]]) -> list[Curves]:
    """What `watched_charts` shows."""
    found = []
    for metric, how in watched.items():
        units: dict[str, dict[str, Points]] = {}
        for name in dict.fromkeys(name for row in rows for name in row.get(metric, {})):
            unit = how["units"].get(name, "")
            times = 100 if unit == "%" else 1
            values = [(row["step"], row[metric][name] * times) for row in rows if name in row.get(metric, {})]
            if unit != "dB" or min(value for _, value in values) <= EXACT:  # or no other curve could be told apart
                units.setdefault(unit, {})[name] = _points(values)
        better = f"{'higher' if how['higher'] else 'lower'} is better"  # of the first figure, and those like it
        for unit, lines in units.items():
            what = next(iter(lines)) if len(lines) == 1 else "figures"
            counted = unit if unit.startswith("of ") else unit and f"in {unit}"
            found.append(Curves(how["title"], ", ".join(filter(None, (what, counted, better))), lines))
            better = ""
    return found


def _points(values: Sequence[tuple[float, float]]) -> Points:
    """At most `POINTS` of a curve, each the mean of its part: the last step, and the finite values' mean."""
    size = max(1, math.ceil(len(values) / POINTS))
    found: Points = []
    for start in range(0, len(values), size):
        part = values[start : start + size]
        finite = [value for _, value in part if abs(value) < HUGE]
        found.append((part[-1][0], math.fsum(finite) / len(finite) if finite else None))
    return found


def _chart(curves: Curves, colours: Sequence[int] = ()) -> Chart:
    points = list(curves.lines.values())
    last = max((step for each in points for step, _ in each), default=1) or 1
    positive = all(value is None or value > 0 for each in points for _, value in each)
    medians = [sorted(finite)[len(finite) // 2] for each in points if (finite := [v for _, v in each if v is not None])]
    kinds = ["linear", *(["log"] if positive and medians else [])]
    return Chart(
        printable(curves.title),
        printable(curves.unit),
        [printable(name) for name in curves.lines],
        points,
        [(tick / last, f"{tick:,.0f}") for tick in _nice(0, last, 5)],
        [_axis(kind, points, last) for kind in kinds],
        positive and len(medians) > 1 and max(medians) >= SPAN * min(medians),
        colours or range(len(points)),
    )


def _axis(kind: str, curves: Sequence[Points], last: float) -> Axis:
    values = [value for points in curves for _, value in points if value is not None] or [0.0]
    if kind == "log":
        low, high = (math.log10(each) for each in (min(values), max(values)))
        low, high = (low - 0.1, high + 0.1) if high - low < 0.2 else (low, high)
        ticks = [(at, figure(10**at)) for at in _decades(low, high)]
    else:
        low, high = min(0.0, *values) if min(values) < 0.6 * max(values) else min(values), max(values)
        low, high = (low - abs(low) / 2 - 0.5, high + abs(high) / 2 + 0.5) if low == high else (low, high)
        ticks = [(at, figure(at)) for at in _nice(low, high, 5)]

    def height(value: float) -> float:
        return 1 - ((math.log10(value) if kind == "log" else value) - low) / (high - low)

    lines = [tuple(_lines(each, last, height) for each in (points, _smooth(points))) for points in curves]
    return Axis(kind, [(1 - (at - low) / (high - low), text) for at, text in ticks], [(one, two) for one, two in lines])


def _lines(points: Points, last: float, height: Any) -> list[str]:
    """The points of polylines, broken where there is no value."""
    found: list[list[str]] = [[]]
    for step, value in points:
        if value is None:
            found.append([])
        else:
            found[-1].append(f"{step / last * WIDTH:.0f},{height(value) * HEIGHT:.1f}")
    return [" ".join(part if len(part) > 1 else part * 2) for part in found if part]


def _smooth(points: Points) -> Points:
    """Each point as the mean of its neighbours on both sides, as many of the one as of the other."""
    reach = max(1, int(len(points) * SMOOTHING / 2))
    found: Points = []
    for place, (step, value) in enumerate(points):
        near = min(reach, place, len(points) - 1 - place)
        around = [each for _, each in points[place - near : place + near + 1] if each is not None]
        found.append((step, value if value is None else math.fsum(around) / len(around)))
    return found


def _nice(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two, about so many."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(times for times in (1, 2, 5, 10) if times * step * count >= (high - low) * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> Iterator[float]:
    """Logarithms of round numbers between two logarithms: powers of ten, or parts of them where these are few."""
    stride = max(1, math.ceil((high - low) / 6))
    parts: tuple[int, ...] = (1,) if high - low > 3 else (1, 3) if high - low > 1.2 else (1, 2, 3, 5, 7)
    for power in range(math.floor(low), math.ceil(high) + 1):
        for part in parts if power % stride == 0 else ():
            if low <= (at := power + math.log10(part)) <= high:
                yield at


def figure(value: float | None) -> str:
    """A value as a chart says it."""
    return "no number" if value is None else f"{value:.4g}"


def steps_per_second(rows: Rows) -> float | None:
    """The pace of the middle one of the steps that were logged; None where none was."""
    seconds = sorted(row["seconds"] for row in rows if row.get("seconds", 0) > 0)
    return 1 / seconds[len(seconds) // 2] if seconds else None
