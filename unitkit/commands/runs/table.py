"""`unitkit runs`: the runs below a folder, a line each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ...runs.page.facts import duration
from ...system.errors import UserError
from ...system.output import literal, print_notes, screen
from .summary import Summary, run_folders, summary


def show_runs(folder: Path, *, cells: bool, as_json: bool) -> None:
    """Print the runs below a folder, oldest first, as a table or as JSON. Raises `UserError` for no folder, and one
    without runs."""
    found: list[Summary] = []
    broken: list[str] = []
    for path in run_folders(folder, cells):
        try:
            found.append(summary(path))
        except UserError as error:
            broken.append(str(error))
    found.sort(key=lambda run: run.started)
    if as_json:
        json.dump([run.to_json() for run in found], sys.stdout, indent=1)
        print()
    elif found:
        _print(screen(), folder, found)
    elif not broken:
        raise UserError(
            f"no runs in {folder}: expected a folder in which unitkit train has made some{_hint(folder, cells)}"
        )
    print_notes(screen(stderr=True), broken)


def _hint(folder: Path, cells: bool) -> str:
    """What there is instead."""
    there = not cells and next(run_folders(folder, cells=True), None)
    return "; --cells lists those of ablations" if there else ""


def _print(console: Console, folder: Path, found: list[Summary]) -> None:
    metrics = {run.metric.partition(".")[0] for run in found} - {""}
    figures = metrics.pop() if len(metrics) == 1 else ""  # which all have, and the head of the column can say
    table = Table(title=f"runs in {literal(str(folder))}", title_justify="left")
    for name in ("run", "recipe", "changed", "steps", "state", figures or "figure", "time"):
        left = name in ("run", "recipe", "changed", "state")
        table.add_column(literal(name), justify="left" if left else "right", overflow="fold")
    for run in found:
        steps = str(run.step) if run.step == run.steps else f"{run.step}/{run.steps}"
        figure = run.text if figures else f"{run.metric.partition('.')[0]} {run.text}".strip()
        cells = (
            str(run.path.relative_to(folder)),
            run.recipe,
            run.knobs,
            steps,
            run.state,
            figure,
            duration(run.seconds),
        )
        table.add_row(*map(literal, cells))
    console.print(table)
