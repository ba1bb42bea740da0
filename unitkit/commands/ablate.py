"""`unitkit ablate` from its words to the report: the grid, the cells in workers, a live table, what to do next."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from .. import trackers
from ..ablation.folder import (
    Ablation,
    begin,
    choose_metric,
    kept_copy,
    last_evaluation,
    read_ablation,
    refuse_other_cell,
    setting_label,
)
from ..ablation.grid import Cell, Grid, label, one_setting, read_grid
from ..ablation.report import write_ablation_report
from ..ablation.workers import Ended, Job, default_workers, run_here, run_on_ray
from ..check import check
from ..data.files.bad import WAY_OUT, refuse_unreadable
from ..kernels.placement import best_precision, choose_device
from ..recipe import Recipe
from ..recipe_file import RecipeFile, find_recipe, read_recipe_file
from ..runs.folder import RunFolder
from ..runs.kept import begun_in
from ..runs.options import DEFAULTS, RunOptions
from ..runs.schema import ABLATION
from ..runs.stored import read_json
from ..system.errors import UserError, nearest
from ..system.output import literal, print_notes, room, say, screen, typed
from ..system.signals import asking
from .runs.places import NO_FOLDER, RUNS, fresh_folder, point_at
from .train import run_training, train_recipe

ASK_FROM = 200  # cells
CHECKED = 50  # settings that are checked before anything runs; of more, the first and the last
REPORT_EVERY = 30.0  # seconds


def ablate(
    recipe: str,
    words: Sequence[str],
    options: RunOptions,
    seeds: int,
    baseline: str | None,
    metric: str | None,
    workers: int | None,
    ray: str | None,
    yes: bool,
) -> None:
    """Run an ablation as the command line says. Exits with 1 where a cell failed, with 128 + n on signal n.

    Args:
        options: of every cell, but for the folder, which is the ablation's, and the seed.
    """
    out = Path(options.out)
    if os.path.lexists(out / "ablation.json") and (home := begun_in(read_ablation(out))):
        recipe, options = str(find_recipe(recipe).absolute()), replace(options, out=out.absolute())
        with chdir(home):  # relative paths among the knobs lead to the same data again
            ablate(recipe, words, options, seeds, baseline, metric, workers, ray, yes)
        return
    if ray is None:  # the nodes of a Ray cluster may have what this machine has not
        choose_device(options.device)
    trackers.make(options.track or ())
    file = read_recipe_file(recipe)
    grid = read_grid(file, words)
    count = grid.count(seeds)
    reference = one_setting(file, grid, baseline or "")
    settings = grid.settings
    if count > ASK_FROM and not yes:
        question = f"{len(settings)} settings with {seeds} seeds are {count} trainings"
        if not sys.stdin.isatty():
            raise UserError(f"{question}: give --yes if that is meant")
        typer.confirm(f"{question}. Begin?", abort=True)
    main = choose_metric(metric, [each.name for each in _check(file, grid, settings[0], options.bad_images).evaluate])
    for setting in settings[1:] if len(settings) <= CHECKED else settings[-1:]:
        _check(file, grid, setting, options.bad_images)
    console = screen()
    if count == 1:
        print_notes(
            console, ["nothing is varied, so this is one training: a grid is such as shared=0,1,2 or --seeds 3"]
        )
    if out == NO_FOLDER:
        out = fresh_folder(RUNS / file.name / f"ablation-{time.strftime('%Y%m%d-%H%M%S')}")
    lock = RunFolder(out).lock()
    try:
        options = _resolved(options, out, ray)
        command = ["unitkit", "ablate", *map(shlex.quote, sys.argv[2:])]
        ablation = begin(out, file, grid, seeds, reference, main, options, command)

        def job(cell: Cell) -> Job:
            here = replace(options, out=out / cell.folder, seed=cell.seed)
            return Job(str(file.path.absolute()), kept_copy(out, file.name), {**grid.fixed, **cell.setting}, here)

        point_at(out)
        jobs = {cell.folder: job(cell) for cell in ablation.cells}
        stopped = _run(ablation, jobs, workers, ray, console)
        write_ablation_report(out)
    finally:
        os.close(lock)
    _close(console, ablation, out, stopped)


def _resolved(options: RunOptions, out: Path, ray: str | None) -> RunOptions:
    """With one precision for all cells, wherever they are trained: "auto" is that of the ablation that is there, else
    what is best here; and with the trackers of the ablation that is there, where none are named.

    Raises `UserError` where "auto" says nothing of a cluster's machines.
    """
    precision = options.precision or DEFAULTS["precision"]
    before = read_json(out / "ablation.json", ABLATION) if (out / "ablation.json").is_file() else {}
    track = before.get("track") if options.track is None else options.track
    if precision == "auto":
        precision = before.get("precision", precision)
    if precision == "auto" and ray is not None:
        raise UserError("the machines of a Ray cluster may differ: say which precision, fp32 or bf16, not auto")
    if precision == "auto":
        precision = best_precision(choose_device(options.device))
    return replace(options, precision=precision, compile=bool(options.compile), track=track and tuple(track))


def train_cell(job: Job) -> None:
    """Train and evaluate a cell, or go on with it. Raises `UserError` where its folder holds another run."""
    file, run = read_recipe_file(job.file, job.recipe), RunFolder(job.out)
    values = file.values(None, job.knobs)
    if (run.path / "run.json").is_file():
        refuse_other_cell(run, run.record, file.kept(values), job.options.seed or 0)
        train_recipe(None, (), replace(job.options, resume=True, seed=None, precision=None))
        return
    run_training(file, values, job.options, {})


def _check(file: RecipeFile, grid: Grid, setting: dict[str, object], bad_images: str | None) -> Recipe:
    """The checked recipe of a setting, with its data in memory: keep one at a time."""
    try:
        recipe = file.build({**file.values(), **grid.fixed, **setting})
        check(recipe)
        if bad_images != "skip":
            refuse_unreadable(recipe.data, WAY_OUT)
    except UserError as error:
        listed = [name for name, value in setting.items() if isinstance(value, str)]
        hint = f" (a value that holds a comma itself ends with a semicolon: '{listed[0]}=x,y;')" if listed else ""
        raise type(error)(f"with {label(setting)}: {error}{hint}" if setting else str(error)) from None
    return recipe


def _run(
    ablation: Ablation, jobs: dict[str, Job], workers: int | None, ray: str | None, console: Console
) -> int | None:
    """Run what is not done yet; the number of the signal that stopped it, if one did."""
    cells = {str(jobs[cell.folder].out): cell for cell in ablation.cells}
    open_cells = [cell for cell in ablation.cells if not ablation.done(cell)]
    already = len(cells) - len(open_cells)
    if already:
        console.print(f"{already} of {len(cells)} cells are done already")
    signals: list[int] = []
    todo = [jobs[cell.folder] for cell in open_cells]

    def stopping() -> bool:
        return bool(signals)

    if not todo:
        _name_metric(ablation, console)
        return None
    ended: Iterator[Ended | None] = (
        run_on_ray(todo, train_cell, ray, stopping, workers or 0)
        if ray
        else run_here(todo, train_cell, workers or default_workers(), stopping)
    )
    board = _Board(ablation, len(todo))
    reported = time.monotonic()
    with asking(signals.append), Live(console=console, auto_refresh=False, transient=False) as live:
        if not console.is_terminal:
            live.stop()
        for each in ended:
            if each:
                cell = cells[str(each.job.out)]
                ablation.mark(cell, each.failed)
                _name_metric(ablation, console)
                board.ended += not each.stopped
                if not console.is_terminal:
                    say(console, board.line(cell, each))
                if time.monotonic() - reported > REPORT_EVERY:
                    write_ablation_report(ablation.out)
                    reported = time.monotonic()
            if console.is_terminal:
                live.update(board.table(), refresh=True)
    return signals[0] if signals else None


def _name_metric(ablation: Ablation, console: Console) -> None:
    """Complete the main metric by its first figure; which it has is known once a cell has been measured."""
    metric, name = ablation.main
    for cell in ablation.cells:
        entry = last_evaluation(ablation.run(cell))
        has = list(entry["metrics"].get(metric, {}).get("figures", ())) if entry else []
        if has:
            # As it was typed, where spaces do not count.
            same = [each for each in has if each.replace(" ", "") == name.replace(" ", "")]
            if name and not same:
                say(console, f"{metric} has no figure '{name}'. {nearest(name, has)} Shown is {has[0]}.")
            if name != (same or has)[0]:
                ablation.name_main((same or has)[0])
            return


class _Board:
    """The live table: a row a setting, with cells done, running and failed, and the mean of the main metric."""

    def __init__(self, ablation: Ablation, todo: int) -> None:
        self.ablation, self.todo, self.ended, self.started = ablation, todo, 0, time.monotonic()
        self.figures: dict[str, float] = {}

    def line(self, cell: Cell, ended: Ended) -> str:
        """A line of a log file for a cell that has ended."""
        if ended.stopped:
            return f"stopped, with a checkpoint: {setting_label(cell)}"
        if ended.failed:
            return f"failed: {setting_label(cell)}: {ended.failed}"
        figure = self.ablation.figure(cell)
        value = "" if figure is None else f"  {self.ablation.main} {figure:.4g}"
        return f"done {self.ended} of {self.todo}: {setting_label(cell)}{value}"

    def table(self) -> Table:
        """The state of every setting now."""
        record, main = self.ablation.record, self.ablation.main
        table = Table(title=self._progress(), title_justify="left")
        for column in ("setting", "done", "failed", f"mean {main}"):
            table.add_column(literal(column), justify="left" if column == "setting" else "right")
        states = {each["folder"]: each["failed"] for each in record["cells"]}
        for setting in _in_order(self.ablation.cells):
            cells = [cell for cell in self.ablation.cells if cell.setting == setting]
            values = [value for cell in cells if (value := self._figure(cell)) is not None]
            failed = sum(states[cell.folder] is not None for cell in cells)
            mean = f"{sum(values) / len(values):.4g}" if values else ""
            table.add_row(literal(label(setting)), f"{len(values)}/{len(cells)}", str(failed or ""), mean)
        return table

    def _figure(self, cell: Cell) -> float | None:
        if cell.folder not in self.figures and self.ablation.done(cell):
            value = self.ablation.figure(cell)
            if value is not None:
                self.figures[cell.folder] = value
        return self.figures.get(cell.folder)

    def _progress(self) -> str:
        spent = time.monotonic() - self.started
        left = f", about {spent / self.ended * (self.todo - self.ended) / 60:.0f} min left" if self.ended else ""
        return f"{self.ended} of {self.todo} cells, {spent / 60:.1f} min{left}"


def _in_order(cells: Sequence[Cell]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for cell in cells:
        if cell.setting not in found:
            found.append(cell.setting)
    return found


def _close(console: Console, ablation: Ablation, out: Path, stopped: int | None) -> None:
    done = sum(map(ablation.done, ablation.cells))
    failed = [each for each in ablation.record["cells"] if each["failed"]]
    named = any(word.partition("=")[0] == "--out" for word in sys.argv)
    words = [*sys.argv[2:], *([] if named else ["--out", str(out)])]
    again = typed("unitkit", "ablate", *words, width=room(console))
    console.print()
    say(
        console,
        f"{done} of {len(ablation.cells)} cells done. Report: {out / 'ablation.html'}, ablation.md, ablation.csv",
    )
    for each in failed:
        say(console, f"failed: {each['folder']}: {each['failed']} (its log: {out / each['folder'] / 'log.txt'})")
    if stopped or failed:
        console.print(f"{'stopped; go on' if stopped else 'try these again'} with\n{again}", markup=False)
    if stopped:
        sys.exit(128 + stopped)
    if failed:
        sys.exit(1)
