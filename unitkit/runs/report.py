"""What a run found, for people: tables of metrics on the terminal, and `report.html`."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..system.files import replacing
from .folder import RunFolder, best_row
from .steps import in_order

Results = Mapping[str, Mapping[str, Any]]


def print_metrics(console: Console, entry: Mapping[str, Any]) -> None:
    """An evaluation on the terminal: its tables, then the protocol in a line and every warning."""
    for title, head, rows in tables(entry["metrics"]):
        print_table(console, title, head, rows)
    console.print(protocol_line(entry), markup=False)
    for warning in warnings(entry):
        console.print(f"warning: {warning}", markup=False)


def print_table(console: Console, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on the terminal, its first column and the one called "image" to the left."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(head):
        table.add_column(column, justify="left" if number < 1 or column == "image" else "right")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def protocol_line(entry: Mapping[str, Any]) -> str:
    """Under what an evaluation was made, in a sentence."""
    what = f"{entry['data']['name']}, split {entry['split']}" if "data" in entry else "sets of images"
    height, width = entry["size"] if entry.get("size") else ("own", "own")
    at = f"step {entry['step']}, " if "step" in entry else ""
    at += "moving average of the weights, " if entry.get("weights") == "ema" else ""
    torch = entry.get("versions", {}).get("torch", "?")
    kept = "; all of it in metrics.json" if "data" in entry else ""
    return f"protocol: {at}{what}, {height}x{width}, seed {entry['seed']}, torch {torch}{kept}"


def warnings(entry: Mapping[str, Any]) -> list[str]:
    """Every warning of an evaluation, each with its metric."""
    return [f"{name}: {text}" for name, result in entry["metrics"].items() for text in result["warnings"]]


def tables(results: Results) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """The metrics as (title, column heads, rows of text): first those that bring a table of their own."""
    own: dict[tuple[str, ...], list[list[str]]] = {}
    for result in results.values():
        if table := result.get("table"):
            columns = list(dict.fromkeys(column for row in table["rows"] for column in row["figures"]))
            for row in table["rows"]:
                figures = (row["figures"].get(column, "") for column in columns)
                cells = [*row["cells"], *(_shown(result, name) for name in figures)]
                own.setdefault((table["title"], *table["heads"], *columns), []).append(cells)
    for (title, *head), rows in own.items():
        yield title, head, rows
    rest = [result for result in results.values() if not result.get("table")]
    if rest:
        yield "metrics", ["metric", "figures", "better", "n", "features"], [_row(result) for result in rest]


def picks(run: RunFolder) -> tuple[str, list[str], list[list[str]]] | None:
    """What a run's watch saw, as (title, column heads, rows): at its last step, at the step that its first metric
    chooses, and at the step that each metric would choose for itself. None where nothing was watched."""
    rows, watched = run.watched(), run.record.get("watch", {})
    if not rows or not watched:
        return None
    first = next(iter(watched))

    def best(name: str) -> Mapping[str, Any]:
        row: Mapping[str, Any] = rows[best_row(rows, name, watched[name]["higher"])]
        return row

    def cell(row: Mapping[str, Any], name: str) -> str:
        figure, value = next(iter(row.get(name, {}).items()), ("", None))
        return f"{'-' if value is None else shown(value, _unit(watched[name], figure))} (step {row['step']})"

    head = ["metric", "last step", f"step chosen by {watched[first]['title']}", "step chosen by itself: leaks the test"]
    return (
        "watched on held-out images",
        head,
        [
            [watched[name]["title"], cell(rows[-1], name), cell(best(first), name), cell(best(name), name)]
            for name in watched
        ],
    )


def _row(result: Mapping[str, Any]) -> list[str]:
    figures = ", ".join(f"{name} {shown(value, _unit(result, name))}" for name, value in result["figures"].items())
    better = ", ".join(dict.fromkeys("higher" if higher else "lower" for higher in result["higher"].values()))
    counts = list(result["n"].values())
    protocol = result["protocol"]
    features = protocol.get("features", protocol.get("classifier", protocol.get("tolerance", "")))
    if "sha256" in protocol:
        features = f"{features} ({protocol['sha256']})"
    n = str(counts[0]) if len(set(counts)) == 1 else " / ".join(map(str, counts))
    return [result["title"], figures or "not measured", better or "-", n or "-", str(features)]


def _shown(result: Mapping[str, Any], figure: str) -> str:
    """A figure that a metric's table names."""
    value = result["figures"].get(figure)
    return "-" if value is None else shown(value, _unit(result, figure))


def _unit(result: Mapping[str, Any], figure: str) -> str:
    unit: str = result["units"].get(figure, "")
    return unit


def shown(value: float, unit: str = "") -> str:
    """A figure as people read it: shares as percentages, decibels and differences with their unit."""
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "dB" and value > 100:
        return "exact"
    return f"{value:.2f} {unit}" if unit else f"{value:.4g}"


def write_report(run: RunFolder) -> None:
    """Write `report.html`: knobs, metrics, loss curves and the last sample grid, in one file without scripts."""
    record = run.record
    parts = [f"<h1>{html.escape(str(record.get('recipe', run.path.name)))}</h1>"]
    for entry in reversed(run.evaluations()):
        parts.append(f"<h2>{html.escape(entry['checkpoint'])} on {html.escape(entry['data']['name'])}</h2>")
        parts += [table(title, head, rows) for title, head, rows in tables(entry["metrics"])]
        parts += [_confusion(name, result) for name, result in entry["metrics"].items() if "details" in result]
        parts.append(f"<p>{html.escape(protocol_line(entry))}</p>")
        parts += [f"<p><b>Warning.</b> {html.escape(text)}</p>" for text in warnings(entry)]
    if found := picks(run):
        parts.append(table(*found))
    grids = [path for path in in_order(run.samples.glob("step-*.png")) if path.is_file()]
    if grids:
        data = base64.b64encode(grids[-1].read_bytes()).decode()
        parts.append(f"<h2>held-out images, {grids[-1].stem}</h2><img src='data:image/png;base64,{data}'>")
    parts.append("<h2>terms, unweighted</h2>" + _curves(run.stats()))
    parts.append(table("knobs", ["knob", "value"], [[k, str(v)] for k, v in record.get("knobs", {}).items()]))
    facts = {k: v for k, v in record.items() if k not in ("knobs", "model")}
    parts.append(table("run", ["what", "value"], [[k, str(v)] for k, v in facts.items()]))
    page = document("unitkit run", parts)
    with replacing(run.path / "report.html") as file:
        file.write_text(page, "utf-8", "backslashreplace")  # a path may hold bytes that are no text


def document(title: str, parts: Sequence[str]) -> str:
    """A whole HTML page, without scripts or anything to load."""
    style = (
        "body{font:15px system-ui;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
        "table{border-collapse:collapse}"
        "td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child"
        "{text-align:left}img{max-width:100%}figure{display:inline-block;margin:.5em}figcaption{font-size:12px}"
    )
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{style}</style>"
    return head + "\n".join(parts)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table under a heading; every cell is escaped."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    return f"<h2>{html.escape(title)}</h2><table>{line(head, 'th')}{''.join(line(r, 'td') for r in rows)}</table>"


def _confusion(name: str, result: Mapping[str, Any]) -> str:
    """A metric's confusion matrix, where it has one."""
    counts = result["details"].get("confusion")
    if not isinstance(counts, list) or not all(isinstance(row, list) for row in counts):  # another metric's own
        return ""
    head = ["true class", *(f"told {told}" for told in range(len(counts)))]
    rows = [[str(true), *map(str, row)] for true, row in enumerate(counts)]
    return table(f"{name}: images by true class and class told", head, rows) if counts else ""


def _curves(rows: Sequence[Mapping[str, float]], width: int = 260, height: int = 110) -> str:
    """A small line chart for each term, as SVG; at most 200 points of it."""
    # Over all rows: a player may rest in the last ones, or in the first.
    names = dict.fromkeys(name for row in rows for name in row if name not in ("step", "seconds"))
    charts = []
    for name in names:
        points = [(row["step"], row[name]) for row in rows if name in row]
        points = points[:: max(1, len(points) // 200)]
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
