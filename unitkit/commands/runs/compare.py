"""`unitkit compare`: runs beside each other, as tables on the terminal and as one page."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ...hub.names import is_on_hub
from ...runs.folder import refuse_own
from ...runs.kept import find_run
from ...runs.page.curves import Curves, compared_charts
from ...runs.page.facts import duration, of_preset
from ...runs.page.side_by_side import Strip, drawn, side_by_side
from ...system.errors import UserError, nearest
from ...system.files import refuse_unwritable
from ...system.output import literal, print_notes, say, screen
from ...templates import write_page
from .comparison import (
    Compared,
    Row,
    facts,
    figures,
    names_of,
    notes_of,
    read_compared,
    settings_that_differ,
    telling,
)
from .places import RUNS

MOST = 12  # runs: of so many a page's lines can still be told apart
LEFT, COLUMN = 34, 10  # columns of a terminal that the head of a table takes, and a run


def compare_runs(runs: Sequence[Path], out: Path | None, paths: str, max_images: int) -> None:
    """Print what differs between runs and what was measured of them, and write a page with their images and curves.

    Raises `UserError` for fewer than two runs, more than `MOST`, one that is none, image paths that no run has, and a
    page that cannot be written, before anything is translated.
    """
    wanted = _wanted(paths)
    out = _page(out)
    chosen, notes = _chosen(runs)
    found: list[Compared] = []
    for path, name in zip(chosen, names_of(chosen), strict=True):
        try:
            found.append(read_compared(path, name))
        except UserError as error:
            notes.append(f"{name} is left out: {error}")
    if not found:
        raise UserError(f"there is no run to compare: {'; '.join(notes)}")
    _refuse_unknown(wanted, found)
    rows = figures(found)
    notes += notes_of(found, rows)
    console = screen()
    _print(console, found, rows)
    print_notes(console, notes)
    with console.status("translating held-out images"):
        columns = [(run.name, run.checkpoint) for run in found if run.checkpoint]
        strips, left_out = side_by_side(columns, wanted, max_images)
    print_notes(console, left_out)
    _write(out, found, rows, notes, strips, left_out)
    say(console, f"page: {out}")


def _write(
    out: Path,
    runs: Sequence[Compared],
    rows: Sequence[Row],
    notes: Sequence[str],
    strips: Sequence[Strip],
    left_out: Sequence[str],
) -> None:
    """Write the page."""
    names = [run.name for run in runs]
    folders = [run.folder.path.resolve() for run in runs]
    new = [folder not in folders[:place] for place, folder in enumerate(folders)]
    curved = list(zip(runs, telling([run.data for run in runs]), new, strict=True))
    write_page(
        out,
        "compare.html.jinja",
        title=f"{len(runs)} runs compared",
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
        facts=("Runs", ["", *names], [[what, *texts] for what, texts in facts(runs)]),
        figures=_figures("Figures", names, [row for row in rows if row.first]),
        more=_figures("Every figure", names, [row for row in rows if not row.first]),
        notes=notes,
        strips=drawn(strips),
        left_out=left_out,
        watched=compared_charts([_of(run.watched, said, first) for run, said, first in curved], names),
        losses=compared_charts([_of(run.losses, said, first) for run, said, first in curved], names),
    )


def _figures(title: str, names: Sequence[str], rows: Sequence[Row]) -> tuple[str, list[str], list[list[str]]]:
    """The table of a page; a column tells of protocols where these differ."""
    protocols = any(row.protocol for row in rows)
    order = list(dict.fromkeys(row.protocol for row in rows))
    lines = [
        [
            row.figure,
            row.better or "-",
            *([row.protocol or "the same"] if protocols else []),
            *(t or "-" for t in row.texts),
        ]
        for row in sorted(rows, key=lambda row: order.index(row.protocol))
    ]
    return title, ["figure", "better", *(["protocol"] if protocols else []), *names], lines


def _wanted(paths: str) -> list[str]:
    """The image paths that a text names. Raises `UserError` where it names none, or what is none."""
    found = list(dict.fromkeys(filter(None, re.split(r"[,\s]+", paths))))
    for path in found:
        if not re.fullmatch(r"[a-y]{2,}", path):
            raise UserError(f"'{path}' is no image path that begins with an image: give such as ab, ba or aba")
    if not found:
        raise UserError("--paths names no image path: give such as ab,ba")
    return found


def _page(out: Path | None) -> Path:
    """Where the page goes: a name that is free, where none is given. Raises `UserError` where it cannot be written."""
    if out is None:
        stem = f"compare-{time.strftime('%Y%m%d-%H%M%S')}"
        names = (f"{stem}{'' if number == 1 else f'-{number}'}.html" for number in itertools.count(1))
        out = next(RUNS / name for name in names if not (RUNS / name).exists())
    elif out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out} is no page: give a file such as compare.html")
    refuse_own(out)
    refuse_unwritable(out)
    return out


def _chosen(runs: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The runs, each once, and a note on each that was named twice. Raises `UserError` for one that is no run."""
    found: dict[Path, Path] = {}
    notes = []
    for path in runs:
        place = path.resolve()
        if not (path / "run.json").is_file():
            folder, checkpoint = (None, path) if is_on_hub(path) else find_run(path)
            if folder is None:
                raise UserError(f"{path} is a model without its run, which says nothing of knobs and data: give a run")
            place = checkpoint.resolve()
        if place in found:
            notes.append(f"{path} is left out: it is {found[place]}")
        found.setdefault(place, path)
    if not 2 <= len(found) <= MOST:
        raise UserError(f"{len(found)} different run{'s' * (len(found) != 1)} to compare: expected 2 to {MOST}")
    return list(found.values()), notes


def _refuse_unknown(paths: Sequence[str], runs: Sequence[Compared]) -> None:
    """Raise `UserError` for an image path over domains that no run has."""
    known = [set(run.record["labels"]) for run in runs if "labels" in run.record]
    for path in paths:
        if len(known) == len(runs) and not any(set(path) <= letters for letters in known):
            near = nearest(path, {a + b for letters in known for a, b in itertools.permutations(letters, 2)})
            raise UserError(f"no run has the domains of the image path '{path}'. {near}")


def _of(curves: Sequence[Curves], data: str, new: bool) -> list[Curves]:
    """Curves that say of which data they are, where runs are of several: these then stand in charts of their own.

    None of a run that has been drawn, of another checkpoint.
    """
    return [each._replace(unit=f"{each.unit} ({data})") if data else each for each in curves if new]


def _print(console: Console, runs: Sequence[Compared], rows: Sequence[Row]) -> None:
    differs = {name: texts for name, texts in settings_that_differ(runs).items() if name != "steps"}
    table = Table(title="runs", title_justify="left")
    for name in ("run", "recipe", "what differs", "steps", "state", "time"):
        table.add_column(name, justify="right" if name in ("steps", "time") else "left", overflow="fold")
    for number, run in enumerate(runs):
        same = of_preset(run.record)
        words = [
            f"{name}={texts[number]}" for name, texts in differs.items() if texts[number] != "-" and name not in same
        ]
        words = [f"@{run.summary.preset}"] * bool(same.keys() & differs.keys()) + words
        cells = (
            run.name,
            run.summary.recipe,
            " ".join(words),
            run.steps,
            run.summary.state,
            duration(run.summary.seconds),
        )
        table.add_row(*map(literal, cells))
    console.print(table)
    shown = [row for row in rows if row.first]
    at_once = max(1, (console.width - LEFT) // COLUMN)
    for protocol in dict.fromkeys(row.protocol for row in shown):
        rows = [row for row in shown if row.protocol == protocol]
        measured = [number for number in range(len(runs)) if not protocol or any(row.texts[number] for row in rows)]
        for start in range(0, len(measured), at_once):
            title = f"figures, {protocol}" if protocol else "figures"
            table = Table(title=literal(title), title_justify="left")
            table.add_column("figure", overflow="fold")
            columns = measured[start : start + at_once]
            for number in columns:
                table.add_column(literal(runs[number].name), justify="right", overflow="fold")
            for row in rows:
                table.add_row(literal(_said(row)), *(literal(row.texts[number] or "-") for number in columns))
            console.print(table)


def _said(row: Row) -> str:
    return f"{row.figure}, {row.better} is better" if row.better else row.figure
