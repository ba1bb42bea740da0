"""The command line: `unitkit train`, `translate`, `evaluate`, `ablate`, `show`, `list`, `weights` and `doctor`.

torch and rich are imported where they are used, so that `--help` and `list` answer at once.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .system import threads
from .system.errors import TrainingError, UserError, nearest
from .system.output import steady_output

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Unsupervised image-to-image translation: train UNIT from recipes, and use what was trained.",
)
Knobs = Annotated[list[str] | None, typer.Argument(metavar="[@preset] [knob=value ...]", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="The run folder.  [default: runs/RECIPE/TIME]", show_default=False)]
BadImages = Annotated[
    str | None,
    typer.Option(
        metavar="stop|skip",
        help="At images that cannot be decoded.  [default: stop before training, skip later]",
        show_default=False,
    ),
]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(min=1, help="Steps between checkpoints.  [default: the run's, or 500]", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


def main() -> NoReturn:
    """Run the command line. A user's mistake prints one line and exits with 2; a training that failed, with 1.

    Where nobody reads what is printed, or a log has no room for it, the work goes on, and its status is its own.
    """
    with steady_output():
        try:
            app()
        except UserError as error:
            _complain("error:", error)
            sys.exit(2)
        except TrainingError as error:
            _complain("training stopped:", error)
            sys.exit(1)
        sys.exit(0)


def _complain(what: str, error: Exception) -> None:
    from rich.console import Console
    from rich.markup import escape

    errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    message = " ".join(line.strip() for line in str(error).splitlines())  # a file's name may hold a line break
    errors.print(f"[red]{what}[/red] {escape(message)}")


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe file; not needed with --resume.")] = None,
    knobs: Knobs = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    device: Device = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.  [default: fp32]", show_default=False)] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of start weights, sample order and noise.  [default: 0]", show_default=False),
    ] = None,
    checkpoint_every: CheckpointEvery = None,
    bad_images: BadImages = None,
) -> None:
    """Train a recipe, keep its run folder, and measure the result."""
    threads.decide()
    from .commands.train import train_recipe

    train_recipe(recipe, knobs or [], out, resume, device, precision, seed, checkpoint_every, bad_images)


@app.command()
def translate(
    run: Annotated[Path, typer.Argument(help="A run folder, or a checkpoint in it.")],
    path: Annotated[str, typer.Argument(help="An image path, such as ab.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image or a folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="An image or a folder; names are kept.")],
    parts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A Python file to run first: it registers parts of the model."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Translate images of any size along a trained model's image path."""
    from rich.console import Console
    from rich.markup import escape

    from .commands.translate import jobs, save_image
    from .data.files.decode import probe
    from .data.files.short_jpeg import short_note
    from .recipe_file import import_parts
    from .translate import load

    notes: list[str] = []
    work = jobs(source, target, notes)
    if parts is not None:
        import_parts(parts)
    translator = load(run, device=device)
    translator.check(path)
    for before, _ in work:  # every header, before the first image takes its time
        probe(before)
    with _bar() as bar:
        for before, after in bar.track(work, description=escape(f"{path}: {translator.route(path)}")):
            save_image(translator.translate(before, path), after)
    if translator.short:
        notes.append(short_note(translator.short))
    done = f"{len(work)} {'image' if len(work) == 1 else 'images'} in {target}"
    console = Console(soft_wrap=True, emoji=False)
    for line in [*(f"note: {note}" for note in notes), done]:
        console.print(line, markup=False, highlight=False)


@app.command()
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="A run folder, or a checkpoint in it.", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option(help="Other data than the run's own; its test split.", show_default=False)
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Such as 'fid(ab, b), lpips(aba, a)'.  [default: the recipe's]", show_default=False),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH=FOLDER", help="In place of a run: a set of images, for each path that is read."),
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side to bring --images to.", show_default=False)] = None,
    max_images: Annotated[int, typer.Option(min=0, help="Held-out images of each domain at most; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of latent samples and classifiers.")] = 0,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON file for the figures as well.", show_default=False)
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure a finished run, or sets of images, with the protocol beside every figure."""
    threads.decide()
    from .commands.evaluate import evaluate_run, evaluate_sets

    if (run is None) == (images is None):
        raise UserError("name what to measure: a run folder, or --images PATH=FOLDER for each set")
    if run is not None:
        evaluate_run(run, data, metrics, device, seed, max_images, save)
    else:
        evaluate_sets(images or [], metrics, size, device, save)


@app.command()
def ablate(
    recipe: Annotated[str, typer.Argument(help="A recipe file.")],
    knobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[@preset] [knob=v1,v2] [knob=0..4] ...", show_default=False),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each setting, with seeds 0, 1, ...")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="The ablation's folder.  [default: runs/RECIPE/ablation-TIME]", show_default=False),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="The setting to compare with, 'shared=0'.  [default: the first]", show_default=False),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What plots and comparisons show.  [default: the recipe's first]", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cells at once.  [default: one per GPU]", show_default=False)
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on Ray: local, auto, HOST:PORT.", show_default=False)
    ] = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    checkpoint_every: CheckpointEvery = None,
    bad_images: BadImages = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a large grid.")] = False,
) -> None:
    """Train a recipe over a grid of knobs and seeds, and report. Run it again to go on: what is done stays done."""
    threads.decide(shared=True)
    from .commands.ablate import ablate as run

    run(
        recipe,
        knobs or [],
        seeds,
        out,
        baseline,
        metric,
        workers,
        ray,
        device,
        precision,
        checkpoint_every,
        yes,
        bad_images,
    )


@app.command()
def show(recipe: Annotated[str, typer.Argument(help="A recipe file.")], knobs: Knobs = None) -> None:
    """Check a recipe and print its model. Shown are towers, sharing, parameters, shapes, terms and memory."""
    from rich.console import Console

    from .check import check as check_recipe
    from .commands.show import describe, knob_table
    from .recipe_file import parse_knobs, read_recipe_file

    file = read_recipe_file(recipe)
    preset, given = parse_knobs(knobs or [])
    values = file.values(preset, given)
    checked = check_recipe(file.build(values))
    console = Console()
    console.print(file.doc, markup=False, highlight=False)
    console.print(knob_table(file, values))
    console.print(describe(checked))


@app.command("list")
def list_parts(
    kind: Annotated[str | None, typer.Argument(help="encoder, generator, ..., or nothing for all.")] = None,
) -> None:
    """What a recipe can name: parts, their arguments and defaults."""
    from .commands.catalog import HOMES, entries

    if kind is not None and kind not in HOMES:
        raise UserError(f"unknown kind of part '{kind}'. {nearest(kind, HOMES)}")
    width = shutil.get_terminal_size().columns
    for each in [kind] if kind else HOMES:
        typer.secho(each, bold=True)
        for entry in entries(each):
            typer.echo(f"  {entry.call}")
            for text in (entry.summary, *entry.arguments):
                typer.echo(textwrap.fill(str(text), width, initial_indent="    ", subsequent_indent="        "))


@app.command()
def weights(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME ...]", help="Of weights, metrics (fid) or timm models.", show_default=False),
    ] = None,
) -> None:
    """What weights metrics need, and where they are; with names: fetch these, checked by their hash."""
    from .commands.weights import fetch_weights, show_weights

    if names:
        fetch_weights(names)
    else:
        show_weights()


@app.command()
def doctor(device: Device = "auto") -> None:
    """Check that this machine computes rightly. Shown are versions, device, threads, what is wrong and what to do."""
    threads.decide()
    from .commands.doctor import doctor as check

    if not check(device):
        raise typer.Exit(1)


@contextmanager
def _bar() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress
