"""An ablation's plots: the main figure over one knob, a line for each value of another, error bars over seeds."""

from __future__ import annotations

import hashlib
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from ..system.files import replacing
from .statistics import Findings, averaged, mean_sd

LONGEST = 60  # characters of a word in a plot's file name
LOG_FROM = 100  # x values that span this factor, all positive, get a logarithmic axis
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito: told apart
MARKERS = "osD^vPX"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "text.parse_math": False,  # a knob's text may hold a dollar
    "svg.fonttype": "path",  # the page has no fonts to load
}


@dataclass(frozen=True)
class Point:
    """The main figure at one value of x: its mean over `n` seeds and their standard deviation (None for one seed)."""

    x: Any
    mean: float
    sd: float | None
    n: int


def pairs(swept: Sequence[str]) -> list[tuple[str, str | None]]:
    """The plots to make, as (knob along x, knob of the lines): every pair, or a single swept knob alone."""
    return list(combinations(swept, 2)) or [(knob, None) for knob in swept]


def lines_of(findings: Findings, along: str, by: str | None) -> dict[Any, list[Point]]:
    """The points of each line, by the value of `by`, in the order of the grid.

    A seed counts at a point where it finished with every value of the knobs that are in neither place.
    """
    found: dict[Any, list[Point]] = {}
    for value in findings.swept[by] if by else [None]:
        points = []
        for x in findings.swept[along]:
            settings = [s for s in findings.settings if s[along] == x and (by is None or s[by] == value)]
            seeds = list(averaged([findings.by_seed(each, findings.main) for each in settings]).values())
            mean, sd = mean_sd(seeds)
            if mean is not None:
                points.append(Point(x, mean, sd, len(seeds)))
        found[str(value)] = points
    return found


def scale_of(values: Sequence[Any]) -> str:
    """How values lie along x: "linear", "log", or "category" where one of them is no number."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "category"
    return "log" if min(values) > 0 and max(values) >= LOG_FROM * min(values) else "linear"


def caption(findings: Findings, along: str, by: str | None, lines: dict[Any, list[Point]]) -> str:
    """What a plot shows, and over how many seeds."""
    counts = sorted({point.n for points in lines.values() for point in points})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    text = f"Mean over seeds ({n}); "
    text += "error bars: standard deviation over seeds." if counts[-1] > 1 else "one seed, so no error bars."
    text += averaged_over(findings, along, by)
    missing = sum(len(findings.swept[along]) - len(points) for points in lines.values())
    has = "1 point has" if missing == 1 else f"{missing} points have"
    return text + (f" {has} no such seed yet." if missing else "")


def averaged_over(findings: Findings, *shown: str | None) -> str:
    """A sentence, after a space, on the swept knobs that are not among the ones shown; nothing where there are none."""
    others = [knob for knob in findings.swept if knob not in shown]
    return f" Averaged over {', '.join(others)}, for the seeds that finished all of it." if others else ""


def write_plots(findings: Findings) -> list[Path]:
    """Write `plots/FIGURE--KNOB1--KNOB2.png` and `.svg` for every swept pair of knobs; returns the SVG files."""
    written = []
    for along, by in pairs(list(findings.swept)):
        lines = lines_of(findings, along, by)
        if not any(lines.values()):
            continue
        words = [_in_file_name(str(word)) for word in (findings.main, along, by) if word]
        path = findings.ablation.out / "plots" / f"{'--'.join(words)}.svg"
        _draw(findings, along, by, lines, path)
        written.append(path)
    return written


def _printable(text: str) -> str:
    """Text whose bytes that are no text are escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _in_file_name(word: str) -> str:
    """A word for a file's name, in ASCII and short; what is changed by that is told apart by a hash."""
    plain = re.sub(r"[^\w.+-]+", "_", word, flags=re.ASCII).replace("_.", ".")
    usual = re.sub(r"[(), =]+", "_", word).replace("_.", ".")
    if plain == usual and len(plain) <= LONGEST:
        return plain
    return f"{plain[:LONGEST]}-{hashlib.sha256(word.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _draw(findings: Findings, along: str, by: str | None, lines: dict[Any, list[Point]], path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.transforms import ScaledTranslation

    unit = findings.unit(findings.main)
    times, words = 100 if unit == "%" else 1, ", ".join(filter(None, (findings.words(findings.main), unit)))
    values = findings.swept[along]
    scale = scale_of(values)
    # Identifiers in the SVG are hashes with this salt: several plots in one page do not take each other's.
    with rc_context({**STYLE, "svg.hashsalt": path.stem}):
        figure = Figure(figsize=(6.4, 4.2))
        axes = figure.add_subplot()
        reach: list[tuple[float, float]] = []
        for number, (value, points) in enumerate(lines.items()):
            # Beside each other by three points of the page, so that error bars at the same x can be told apart.
            aside = ScaledTranslation(3 / 72 * (number - (len(lines) - 1) / 2), 0, figure.dpi_scale_trans)
            drawn = sorted(points, key=lambda point: values.index(point.x) if scale == "category" else point.x)
            x = [values.index(point.x) if scale == "category" else point.x for point in drawn]
            spread = [math.nan if point.sd is None else point.sd * times for point in drawn]
            axes.errorbar(
                x,
                [point.mean * times for point in drawn],
                yerr=None if all(map(math.isnan, spread)) else spread,
                label=_printable(value),
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                linestyle="-" if number < len(COLOURS) else "--",
                markersize=5,
                capsize=3,
                transform=axes.transData + aside,
            )
            for at, point in zip(x, drawn, strict=True):  # what is drawn aside does not stretch the axes by itself
                reach += [(at, (point.mean + sign * (point.sd or 0)) * times) for sign in (-1, 1)]
        _along(axes, values, scale)
        axes.update_datalim(reach)
        axes.autoscale_view()
        axes.set_xlabel(along)
        axes.set_ylabel("\n".join(textwrap.wrap(words, 42)))
        if by:
            axes.legend(title=by, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
        note = "\n".join(textwrap.wrap(caption(findings, along, by, lines), 84))
        below = ("axes fraction", axes.xaxis.label)  # under the label, however deep the ticks' text reaches
        axes.annotate(
            note, (0, 0), (0, -10), xycoords=below, textcoords="offset points", va="top", fontsize=9, color="#555555"
        )
        for file in (path.with_suffix(".png"), path):
            metadata = {"Date": None} if file.suffix == ".svg" else {}  # the same figures give the same file
            with replacing(file) as place:
                figure.savefig(place, dpi=150, bbox_inches="tight", metadata=metadata)


def _along(axes: Any, values: Sequence[Any], scale: str) -> None:
    """The x axis: a tick at each value of the knob where there is room."""
    if scale == "category":
        long = max(len(str(value)) for value in values) * len(values) > 50
        axes.set_xticks(range(len(values)), [_printable(str(value)) for value in values], rotation=25 if long else 0,
                        ha="right" if long else "center")  # fmt: skip
        axes.set_xlim(-0.5, len(values) - 0.5)
        return
    if scale == "log":
        axes.set_xscale("log")
    ordered = sorted(values)
    gaps = [b / a if scale == "log" else b - a for a, b in pairwise(ordered)]
    room = (ordered[-1] / ordered[0]) ** 0.07 if scale == "log" else (ordered[-1] - ordered[0]) * 0.07
    if gaps and min(gaps) >= room:
        axes.set_xticks(ordered, [f"{value:g}" for value in ordered])
        axes.minorticks_off()
