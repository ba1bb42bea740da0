"""What a run found, for people: tables of metrics on the terminal, and `report.html`."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from .checkpoint import read_json
from .files import replacing
from .run import RunFolder

Figures = Mapping[str, Mapping[str, float]]

MEASURES = {"psnr": "PSNR, dB", "l1": "L1, of 255", "accuracy": "pixel accuracy, %"}


def metric_tables(figures: Figures) -> Iterator[Table]:
    """The metrics as tables: translations against their true counterparts by region, then everything else."""
    for title, head, rows in tables(figures):
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(head):
            table.add_column(column, justify="left" if number < 1 or column == "image" else "right")
        for row in rows:
            table.add_row(*row)
        yield table


def tables(figures: Figures) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """The metrics as (title, column heads, rows of text)."""
    for name, found in figures.items():
        if not name.startswith("counterpart("):
            continue
        path = name.removeprefix("counterpart(").removesuffix(")")
        rows = []
        for region, label in (
            ("changing", f"must change ({found['changing.share']:.1%} of pixels)"),
            ("rest", "the rest"),
            ("all", "all"),
        ):
            for who, first in ("translation", label), ("input", ""):
                values = (_number(measure, found[f"{region}.{who}.{measure}"]) for measure in MEASURES)
                rows.append([first, path if who == "translation" else f"{path[0]}, untranslated", *values])
        head = ["pixels", "image", *MEASURES.values()]
        yield f"{path} against the true counterpart, n = {found['n']:g} held-out images", head, rows
    rest = {name: found for name, found in figures.items() if not name.startswith("counterpart(")}
    if rest:
        keys = list(dict.fromkeys(key for found in rest.values() for key in found if key != "n"))
        rows = [
            [_called(name), f"{f['n']:g}", *(_number(k, f[k]) if k in f else "" for k in keys)]
            for name, f in rest.items()
        ]
        yield "held-out images", ["metric", "n", *(MEASURES.get(key, key) for key in keys)], rows


def write_report(run: RunFolder) -> None:
    """Write `report.html`: knobs, metrics, loss curves and the last sample grid, in one file without scripts."""
    record, metrics = run.record, _metrics(run)
    parts = [f"<h1>{html.escape(str(record.get('recipe', run.path.name)))}</h1>"]
    parts += [_table(title, head, rows) for title, head, rows in tables(metrics.get("figures", {}))]
    grids = sorted(run.samples.glob("step-*.png"))
    if grids:
        data = base64.b64encode(grids[-1].read_bytes()).decode()
        parts.append(f"<h2>held-out images, {grids[-1].stem}</h2><img src='data:image/png;base64,{data}'>")
    parts.append("<h2>terms, unweighted</h2>" + _curves(run.stats()))
    parts.append(_table("knobs", ["knob", "value"], [[k, str(v)] for k, v in record.get("knobs", {}).items()]))
    facts = {k: v for k, v in record.items() if k not in ("knobs", "model")}
    parts.append(_table("run", ["what", "value"], [[k, str(v)] for k, v in facts.items()]))
    style = (
        "body{font:15px system-ui;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
        "table{border-collapse:collapse}"
        "td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child"
        "{text-align:left}img{max-width:100%}figure{display:inline-block;margin:.5em}figcaption{font-size:12px}"
    )
    page = f"<!doctype html><meta charset=utf-8><title>unitkit run</title><style>{style}</style>" + "\n".join(parts)
    with replacing(run.path / "report.html") as file:
        file.write_text(page, "utf-8")


def _metrics(run: RunFolder) -> dict[str, Any]:
    path = run.path / "metrics.json"
    return read_json(path) if path.exists() else {}


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    return f"<h2>{html.escape(title)}</h2><table>{line(head, 'th')}{''.join(line(r, 'td') for r in rows)}</table>"


def _curves(rows: Sequence[Mapping[str, float]], width: int = 260, height: int = 110) -> str:
    """A small line chart for each term, as SVG; at most 200 points of it."""
    names = [name for name in (rows[-1] if rows else {}) if name not in ("step", "seconds")]
    thin = rows[:: max(1, len(rows) // 200)]
    charts = []
    for name in names:
        points = [(row["step"], row[name]) for row in thin if name in row]
        top = max(abs(y) for _, y in points) or 1.0
        low = min(0.0, *(y for _, y in points)) if len(points) > 1 else 0.0
        last = points[-1][0] or 1
        line = " ".join(f"{x / last * width:.1f},{height - (y - low) / (top - low) * height:.1f}" for x, y in points)
        charts.append(
            f"<figure><svg width={width} height={height} style='background:#f6f6f6'><polyline points='{line}' "
            f"fill=none stroke='#2457a6' stroke-width=1.2 /></svg><figcaption>{html.escape(name)}: "
            f"{points[-1][1]:.4g} at step {last:g}, scale {low:.3g} to {top:.3g}</figcaption></figure>"
        )
    return "".join(charts)


def _called(metric: str) -> str:
    """A metric in the field's words where it has some: `closeness(aa, a)` is a reconstruction, `(aba, a)` a cycle."""
    path, _, reference = metric.removeprefix("closeness(").removesuffix(")").partition(", ")
    if metric.startswith("closeness(") and path[0] == path[-1] == reference:
        return f"reconstruction {path}" if len(path) == 2 else f"cycle {path}"
    return metric


def _number(measure: str, value: float) -> str:
    if measure == "accuracy":
        return f"{100 * value:.1f}"
    if measure == "psnr" and value > 100:
        return "exact"
    return f"{value:.2f}"
