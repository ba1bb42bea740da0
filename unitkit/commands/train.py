"""`unitkit train` from its words to the closing lines: load, check, train, evaluate, report."""

from __future__ import annotations

import itertools
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .. import trackers
from ..metrics import parse_metrics
from ..recipe import Recipe, Watch
from ..recipe_file import RecipeFile, parse_knobs, read_recipe_file
from ..registry import from_outside
from ..runs.options import RunOptions
from ..runs.page import write_report
from ..runs.page.extremes import save_best_and_worst
from ..runs.report import picks, print_metrics, print_table
from ..runs.samples import BEST_AND_WORST
from ..runs.steps import latest
from ..system import dist
from ..system.devices import emulates_bf16, enough_memory
from ..system.errors import UserError
from ..system.output import argument, literal, print_notes, printable, room, screen, typed
from ..trainer import Trainer
from ..training.profile import Profile
from .progress import Progress, looking
from .resume import changes, resumed, to_resume
from .runs.places import NO_FOLDER, RUNS, fresh_folder, point_at


def train_recipe(
    recipe: str | None,
    words: Sequence[str],
    options: RunOptions,
    *,
    name: str | None = None,
    profile: bool = False,
) -> None:
    """Train as the command line says: a recipe and its knobs, or neither to resume. Exits with 128 + n on signal n.

    `name` stands for the run folder runs/RECIPE/NAME.
    """
    if recipe is not None and re.match(r"@|\w+=", recipe) and not Path(recipe).is_file():
        words, recipe = (recipe, *words), None  # the recipe is left out: `--resume --out DIR steps=2000`
    record: dict[str, Any] = {}
    if name is not None:
        options = replace(options, out=_named(recipe, name, options))
    dist.start()
    options = replace(options, resume=to_resume(recipe, options))
    if options.resume:
        file, values, record = resumed(recipe, words, Path(options.out))
    elif recipe is None:
        raise UserError("name a recipe file, such as recipes/unit_faces.py, or continue a run with --resume --out DIR")
    else:
        file = read_recipe_file(recipe)
        values = file.values(*parse_knobs(words))
    run_training(file, values, options, record, profile=profile)


def run_training(
    file: RecipeFile,
    values: Mapping[str, Any],
    options: RunOptions,
    record: Mapping[str, Any],
    *,
    profile: bool = False,
) -> None:
    """Train a recipe with these knobs, evaluate, and report. `record` is that of the run to continue, else empty."""
    dist.start()
    started = time.perf_counter()
    console = screen(quiet=dist.rank() > 0)
    notes = {"recipe": file.name, "recipe_file": str(file.origin), "knobs": file.kept(values)}
    notes["defaults"] = file.kept(file.values())
    tracked = trackers.make(record.get("track", ()) if options.track is None else options.track)
    recipe = watching(file.build(values), options, record)
    print_notes(console, recipe.data.notes)
    with _made(options, file.name) as options, looking(console) as looked, closing(Progress(console)) as progress:
        trainer = Trainer(
            recipe,
            options,
            notes=notes,
            files=file.files,
            hooks=[progress, *tracked, *([Profile(partial(_print_profile, console))] if profile else [])],
            warn=lambda line: print_notes(console, [line]),
            looked=looked,
        )
    _introduce(console, file, trainer, record)
    if dist.rank() == 0:
        point_at(trainer.run.path)
    with ExitStack() as tracking:
        for tracker in tracked:
            tracking.enter_context(tracker)
        found = _fit_and_evaluate(console, trainer, progress)
    if dist.rank() == 0:
        try:
            trainer.run.add_evaluation(found)
        finally:  # shown in any case, and kept whatever showing it does
            print_metrics(console, found)
        _keep_best_and_worst(trainer, found)
        write_report(trainer.run)
        if seen := picks(trainer.run):
            print_table(console, *seen)
        _close(console, trainer, trainer.run.path, time.perf_counter() - started)
    dist.stop()


def _named(recipe: str | None, name: str, options: RunOptions) -> Path:
    """The run folder that a name stands for."""
    if options.out != NO_FOLDER:
        raise UserError(f"--name {name} and --out {options.out} both say where the run lies: give one of them")
    if recipe is None:
        raise UserError("--name lies in the folder of a recipe: name the recipe too, or the whole folder with --out")
    if not name or Path(name).name != name or name.startswith("."):
        raise UserError(f"--name '{name}' is no name of a folder in runs/{Path(recipe).stem}: give --out for a path")
    return RUNS / Path(recipe).stem / name


def _fit_and_evaluate(console: Console, trainer: Trainer, progress: Progress) -> dict[str, Any]:
    """The evaluation of the trained model; where a signal stops it, says how to go on and exits with 128 + n."""
    again = typed("unitkit", "train", "--resume", "--out", argument(trainer.run.path), width=room(console))
    with closing(progress):
        whole = trainer.fit()
    if not whole:
        console.print(f"stopped at step {trainer.done} with a checkpoint; continue with\n{again}", markup=False)
        dist.stop()
        sys.exit(128 + (trainer.stopping or signal.SIGTERM))  # on the rank that was not told: as its fellows
    with suppress(UserError):  # it is written again, and then must be
        if dist.rank() == 0:
            write_report(trainer.run, training=True)  # which people look at, until it has its metrics
    try:
        with console.status("evaluating on the held-out split"):
            return trainer.evaluate(keep=False)
    except KeyboardInterrupt:
        line = "stopped while evaluating: the training is whole and kept. Evaluate it with"
        console.print(f"{line}\n{again}", markup=False)
        sys.exit(128 + signal.SIGINT)


def _keep_best_and_worst(trainer: Trainer, found: Mapping[str, Any]) -> None:
    """The images of the report that metrics find best and worst."""
    save = partial(
        save_best_and_worst,
        metrics=trainer.recipe.evaluate,
        path=trainer.run.samples / BEST_AND_WORST,
        entry=found,
        device=trainer.device,
    )
    with enough_memory(trainer.device, "measuring"):
        trainer.on_held_out(save)


def _print_profile(console: Console, profile: Profile) -> None:
    title = f"where the time of a step goes, without --compile ({profile.path} is the trace)"
    table = Table(title=title, title_justify="left")
    for column in ("tower or term", "forward, ms", "backward, ms", "share"):
        table.add_column(column, justify="left" if column.startswith("tower") else "right")
    for line in profile.lines():
        table.add_row(*map(literal, line))
    console.print(table)


def watching(recipe: Recipe, options: RunOptions, record: Mapping[str, Any]) -> Recipe:
    """The recipe, with the metrics during training that options ask for, or the run that is resumed was asked for."""
    metrics = options.watch or record.get("watch_metrics")
    every = options.watch_every or record.get("watch_every")
    if metrics is not None:
        chosen = parse_metrics(metrics, recipe.data.domains)
        return replace(recipe, watch=Watch(chosen, every=every or Watch.every))
    if every is not None and recipe.watch is not None:
        return replace(recipe, watch=replace(recipe.watch, every=every))
    if options.watch_every is not None:
        raise UserError("the recipe watches no metric: give some, such as --watch 'psnr(aba, a)'")
    return recipe


def _introduce(console: Console, file: RecipeFile, trainer: Trainer, record: Mapping[str, Any]) -> None:
    """What is about to be trained, and what the user should know of it."""
    steps, place = trainer.recipe.steps, literal(str(trainer.run.path))
    name = f"[bold]{literal(file.name)}[/bold]"
    console.print(f"{name} on {trainer.device}: steps {trainer.done} to {steps}, run folder {place}")
    data = trainer.recipe.data
    domains = ", ".join(f"{letter} {label}" for letter, label in data.labels.items())
    console.print(f"data {literal(data.name)}: {literal(domains)}")
    notes = [*(changes(record, trainer) if record else ()), *trainer.placement.notes]
    if trainer.unmatched:
        shown = ", ".join(trainer.unmatched[:5]) + (", ..." if len(trainer.unmatched) > 5 else "")
        notes.append(f"{len(trainer.unmatched)} weights do not match those of {trainer.options.init_from}: {shown}")
    if trainer.options.precision == "bf16" and emulates_bf16(trainer.device):
        notes.append("this CPU has no bf16 instructions and emulates them; fp32 would be several times faster")
    if record and trainer.done >= steps:
        console.print(f"this run is complete; give steps=N with N above {trainer.done} to go on")
    print_notes(console, notes)


@contextmanager
def _made(options: RunOptions, recipe: str) -> Iterator[RunOptions]:
    """The options with a run folder: one that is not named is made, the same on every rank, and goes if the training
    cannot begin."""
    if options.out != NO_FOLDER:
        yield options
        return
    place = RUNS / recipe / time.strftime("%Y%m%d-%H%M%S")
    made = Path(dist.of_first(str(fresh_folder(place)) if dist.rank() == 0 else ""))
    try:
        yield replace(options, out=made)
    except BaseException:
        with suppress(OSError):
            (made / ".lock").unlink(missing_ok=True)
            for folder in (made, *place.parents[:2]):  # runs/RECIPE/TIME, as far as nothing else is in it
                folder.rmdir()
        raise


def _close(console: Console, trainer: Trainer, out: Path, seconds: float) -> None:
    run = argument(out)
    pairs = ["".join(pair) for pair in itertools.permutations(trainer.recipe.data.domains, 2)]
    path = next((pair for pair in pairs if trainer.model.has(pair)), None)
    grid = trainer.run.sample(trainer.done)
    early = f" at step {trainer.done}, ended early by its watch" if trainer.done < trainer.recipe.steps else ""
    console.print(f"\ndone in {seconds / 60:.1f} min{early}. Run folder: [bold]{literal(str(out))}[/bold]")
    own = from_outside(trainer.recipe.model)  # parts that translating does not know by itself
    parts = ["--parts", argument(out / "recipe.py")] if own else []
    commands = []
    if path:
        commands.append(("an image, or a folder of them", "translate", run, path, "INPUT", "OUTPUT", *parts))
    if all(map(trainer.model.has, pairs)):
        measure = "attribute_success, diversity"
        commands.append(("other metrics: see unitkit list metric", "evaluate", run, "--metrics", measure))
    if all(player.until == 1 for player in trainer.recipe.players):
        commands.append(("train on", "train", "--resume", "--out", run, f"steps={2 * trainer.done}"))
    best, watch = latest(trainer.run.best), trainer.recipe.watch
    lines = [
        *([f"  best       {printable(str(best))} (by {watch.metrics[0].name})"] if watch and best else []),
        f"  images     {printable(str(grid))}",
        f"  report     {printable(str(out / 'report.html'))}",
        *(["next:"] if commands else []),
    ]
    for why, *words in commands:
        lines += [f"  # {why}", typed("unitkit", *map(str, words), width=room(console))]
    console.print("\n".join(lines), markup=False)
