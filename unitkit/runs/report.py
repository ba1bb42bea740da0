"""What a run found, for people: tables of metrics, for the terminal and for pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ..system.output import literal, say
from .folder import MEASURED, RunFolder, best_row

EXACT = 100.0  # decibels, above which images are equal

Results = Mapping[str, Mapping[str, Any]]


def print_metrics(console: Console, entry: Mapping[str, Any], *, kept: bool = True) -> None:
    """An evaluation on the terminal: its tables, then the protocol in a line and every warning. `kept` is whether a run
    has it."""
    for title, head, rows in tables(entry["metrics"]):
        print_table(console, title, head, rows)
    say(console, protocol_line(entry, kept=kept))
    for warning in warnings(entry):
        say(console, f"warning: {warning}")


def print_table(console: Console, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on the terminal, its first column and the one called "image" to the left."""
    table = Table(title=literal(title), title_justify="left")
    for number, column in enumerate(head):
        table.add_column(literal(column), justify="left" if number < 1 or column == "image" else "right")
    for row in rows:
        table.add_row(*map(literal, row))
    console.print(table)


def protocol_line(entry: Mapping[str, Any], *, kept: bool = True) -> str:
    """Under what an evaluation was made, in a sentence."""
    what = f"{entry['data']['name']}, split {entry['split']}" if "data" in entry else "sets of images"
    height, width = entry["size"] if entry.get("size") else ("own", "own")
    at = f"step {entry['step']}, " if "step" in entry else ""
    at += "moving average of the weights, " if entry.get("weights") == "ema" else ""
    torch = entry.get("versions", {}).get("torch", "?")
    rest = "; all of it in metrics.json" if kept and "data" in entry else ""
    return f"protocol: {at}{what}, {height}x{width}, seed {entry['seed']}, torch {torch}{rest}"


def figures_key(entry: Mapping[str, Any], metric: str) -> str:
    """What an evaluation's figures of a metric are known by, whenever they were measured: the same for all that the run
    keeps as one."""
    said = json.dumps([*(entry[key] for key in MEASURED), metric], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


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


def figure_title(title: str, figure: str, *, first: bool) -> str:
    """A figure in the field's words: "pixel_accuracy(ab, b), largest channel".

    A metric's first figure needs no second word where the metric's own title says it.
    """
    return title if first and figure in title else f"{title}, {figure.replace('_', ' ')}"


def shown(value: float, unit: str = "") -> str:
    """A figure as people read it: shares as percentages, decibels and differences with their unit."""
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "dB" and value > EXACT:
        return "exact"
    return f"{value:.2f} {unit}" if unit else f"{value:.4g}"
