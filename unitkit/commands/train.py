"""`unitkit train` from its words to the closing table: load, check, train with a progress bar, measure, report."""

from __future__ import annotations

import itertools
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from ..data.files.check import Progress
from ..recipe_file import RecipeFile, parse_knobs, read_recipe_file
from ..registry import from_outside
from ..runs import checkpoint
from ..runs.folder import fresh_folder
from ..runs.image_check import check_policy
from ..runs.report import picks, print_metrics, print_table, write_report
from ..system import dist
from ..system.devices import emulates_bf16
from ..system.errors import UserError
from ..system.output import argument, print_notes, room, typed
from ..trainer import Trainer
from .resume import changes, resumed


def train_recipe(
    recipe: str | None,
    words: Sequence[str],
    out: Path | None,
    resume: bool,
    device: str,
    precision: str | None,
    seed: int | None,
    checkpoint_every: int | None,
    bad_images: str | None = None,
) -> None:
    """Train as the command line says; its arguments are those of `unitkit train`. Exits with 128 + n on signal n."""
    if recipe is not None and re.match(r"@|\w+=", recipe) and not Path(recipe).is_file():
        words, recipe = (recipe, *words), None  # the recipe is left out: `--resume --out DIR steps=2000`
    check_policy(bad_images)
    record: dict[str, Any] = {}
    if resume:
        file, values, record, out = resumed(recipe, words, out)
        for name, said in ("seed", seed), ("precision", precision):
            if said not in (None, record[name]):
                raise UserError(f"{out} is a run with {name} {record[name]}, not {said}: to resume, leave --{name} out")
        seed, precision = record["seed"], record["precision"]
    else:
        if recipe is None:
            raise UserError(
                "name a recipe file, such as recipes/unit_faces.py, or continue a run with --resume --out DIR"
            )
        file = read_recipe_file(recipe)
        preset, given = parse_knobs(words)
        values = file.values(preset, given)
    run_training(file, values, out, record, device, precision or "fp32", seed or 0, checkpoint_every, bad_images)


def run_training(
    file: RecipeFile,
    values: Mapping[str, Any],
    out: Path | None,
    record: Mapping[str, Any],
    device: str,
    precision: str,
    seed: int,
    checkpoint_every: int | None,
    bad_images: str | None = None,
) -> None:
    """Train a recipe with these knobs, measure, and report.

    Args:
        out: the run folder; None makes one of the recipe's name and the time.
        record: that of the run to continue, else empty.
        checkpoint_every: None for that of the run, or 500.
    """
    dist.start()
    started, resume = time.perf_counter(), bool(record)
    console = Console(quiet=dist.rank() > 0, highlight=False, emoji=False, soft_wrap=True)
    notes = {"recipe": file.name, "recipe_file": str(file.origin), "knobs": file.kept(values)}
    recipe = file.build(values)
    print_notes(console, recipe.data.notes)
    with _made(out, file.name) as out, _looking(console) as looked:
        trainer = Trainer(
            recipe,
            out,
            seed=seed,
            device=device,
            precision=precision,
            checkpoint_every=checkpoint_every,
            resume=resume,
            notes=notes,
            source=file.source,
            bad_images=bad_images,
            warn=lambda line: print_notes(console, [line]),
            looked=looked,
        )
    steps = trainer.recipe.steps
    name, place = escape(file.name), escape(str(out))
    console.print(f"[bold]{name}[/bold] on {trainer.device}: steps {trainer.done} to {steps}, run folder {place}")
    for note in changes(record, trainer) if resume else ():
        console.print(f"note: {note}", markup=False)
    if resume and trainer.done >= steps:
        console.print(f"this run is complete; give steps=N with N above {trainer.done} to go on")
    for note in trainer.plan.notes:
        console.print(f"note: {note}", markup=False)
    if trainer.precision == "bf16" and emulates_bf16(trainer.device):
        console.print("note: this CPU has no bf16 instructions and emulates them; fp32 would be several times faster")
    again = typed("unitkit", "train", "--resume", "--out", argument(out), width=room(console))
    if not _fit(trainer, console):
        console.print(f"stopped at step {trainer.done} with a checkpoint; continue with\n{again}", markup=False)
        dist.stop()
        sys.exit(128 + (trainer.stopping or signal.SIGTERM))  # on the rank that was not told: as its fellows
    try:
        with console.status("measuring on the held-out split"):
            found = trainer.measure()
    except KeyboardInterrupt:
        line = "stopped while measuring: the training is whole and kept. Measure it with"
        console.print(f"{line}\n{again}", markup=False)
        sys.exit(128 + signal.SIGINT)
    if dist.rank() == 0:
        print_metrics(console, found)
        trainer.run.add_evaluation(found)
        write_report(trainer.run)
        if seen := picks(trainer.run):
            print_table(console, *seen)
        _close(console, trainer, out, time.perf_counter() - started)
    dist.stop()


@contextmanager
def _looking(console: Console) -> Iterator[Progress]:
    """A bar for the look at all images before training, which goes away when it is through."""
    columns = (TextColumn("looking at every image"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def looked(done: int, total: int) -> None:
            task = bar.task_ids[0] if bar.task_ids else bar.add_task("", total=total)
            bar.update(task, completed=done)

        yield looked


@contextmanager
def _made(out: Path | None, recipe: str) -> Iterator[Path]:
    """The run folder; one that is not named is made, the same on every rank, and goes if the training cannot begin."""
    if out is not None:
        yield out
        return
    place = Path("runs") / recipe / time.strftime("%Y%m%d-%H%M%S")
    made = Path(dist.of_first(str(fresh_folder(place)) if dist.rank() == 0 else ""))
    try:
        yield made
    except BaseException:
        with suppress(OSError):
            (made / ".lock").unlink(missing_ok=True)
            for folder in (made, *place.parents[:2]):  # runs/RECIPE/TIME, as far as nothing else is in it
                folder.rmdir()
        raise


class _Bar(Bar):
    """A bar as wide as the terminal leaves room for, and the losses in a row below, so that no time is cut."""

    losses = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.losses)


def _fit(trainer: Trainer, console: Console) -> bool:
    columns = (
        BarColumn(None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]} images/s"),
    )
    per_step = trainer.recipe.batch * dist.world() * len(trainer.recipe.data.domains)
    # The time left comes from the last 1000 steps within the period: slow steps need a long one.
    with _Bar(*columns, console=console, disable=console.quiet, speed_estimate_period=900, expand=True) as progress:
        task = progress.add_task("", total=trainer.recipe.steps, completed=trainer.done, rate="-")
        recent = deque([(time.perf_counter(), trainer.done)], maxlen=50)
        milestone = 10 * trainer.done // trainer.recipe.steps

        def report(step: int, losses: Mapping[str, float]) -> None:
            nonlocal milestone
            recent.append((time.perf_counter(), step))
            (began, first), (now, _) = recent[0], recent[-1]
            rate = (step - first) * per_step / (now - began)
            progress.update(task, completed=step, rate=f"{rate:.3g}" if rate < 10 else f"{rate:.0f}")
            if not losses:  # a line shows the losses of the step that it names
                return
            shown = summary(losses)
            progress.losses = f"{shown}  (step {step})"
            tenth = 10 * step // trainer.recipe.steps
            if not console.is_terminal and tenth > milestone:  # a log file gets ten lines, no bar
                milestone = tenth
                console.print(f"step {step} of {trainer.recipe.steps}, {rate:.0f} images/s  {shown}")

        return trainer.fit(report)


def summary(losses: Mapping[str, float]) -> str:
    """The terms of a step in short: the mean of each kind of loss, `gan_d 0.48  kl 1.2  l1 0.09`."""
    kinds: dict[str, list[float]] = {}
    for name, value in losses.items():
        kinds.setdefault(re.sub(r"^.*/|\(.*$", "", name), []).append(value)
    return "  ".join(f"{kind} {sum(values) / len(values):.3g}" for kind, values in kinds.items())


def _close(console: Console, trainer: Trainer, out: Path, seconds: float) -> None:
    run = argument(out)
    pairs = ["".join(pair) for pair in itertools.permutations(trainer.recipe.data.domains, 2)]
    path = next((pair for pair in pairs if trainer.model.has(pair)), None)
    grid = trainer.run.samples / f"step-{trainer.done:08d}.png"
    early = f" at step {trainer.done}, ended early by its watch" if trainer.done < trainer.recipe.steps else ""
    console.print(f"\ndone in {seconds / 60:.1f} min{early}. Run folder: [bold]{escape(str(out))}[/bold]")
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
    best, watch = checkpoint.latest(trainer.run.best), trainer.recipe.watch
    lines = [
        *([f"  best       {best} (by {watch.metrics[0].name})"] if watch and best else []),
        f"  images   {grid}",
        f"  report     {out / 'report.html'}",
        *(["next:"] if commands else []),
    ]
    for why, *words in commands:
        lines += [f"  # {why}", typed("unitkit", *map(str, words), width=room(console))]
    console.print("\n".join(lines), markup=False)
