"""The command line: `unitkit train`, `translate`, `evaluate`, `ablate`, `show`, `list`, `weights` and `doctor`.

torch and rich are imported where they are used, so that `--help` and `list` answer at once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .system import threads
from .system.errors import TrainingError, UserError
from .system.output import steady_output

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
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
Weights = Annotated[
    str, typer.Option(metavar="ema|last", help="The moving average, where there is one, or the last step's weights.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


def main() -> NoReturn:
    """Run the command line. A user's mistake prints one line and exits with 2; a training that failed, with 1.

    Where nobody reads what is printed, or a log has no room for it, the work goes on, and its status is its own.
    """
    with steady_output():
        try:
            _show_knobs(sys.argv[1:])
            app()
        except UserError as error:
            _complain("error:", error)
            sys.exit(2)
        except TrainingError as error:
            _complain("training stopped:", error)
            sys.exit(1)
        sys.exit(0)


def _show_knobs(words: list[str]) -> None:
    """`unitkit train RECIPE -h` shows the recipe's knobs before the options."""
    commands = ("train", "ablate", "show")
    if len(words) > 2 and words[0] in commands and {"-h", "--help"} & set(words) and not words[1].startswith("-"):
        from .commands.show import show_knobs

        show_knobs(words[1], [word for word in words[2:] if not word.startswith("-")])


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"unitkit {version('unitkit')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is, and leave.")
    ] = False,
) -> None:
    """Unsupervised image-to-image translation: train UNIT from recipes, and use what was trained."""


def _complain(what: str, error: Exception) -> None:
    from rich.console import Console
    from rich.markup import escape

    errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    message = " ".join(line.strip() for line in str(error).splitlines())  # a file's name may hold a line break
    errors.print(f"[red]{what}[/red] {escape(message)}")


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe: unit_faces, or a file; not needed with --resume.")
    ] = None,
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
    sample_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between sample grids.  [default: the recipe's]", show_default=False)
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=2, help="Checkpoints that stay.  [default: 2]", show_default=False)
    ] = None,
    watch: Annotated[
        str | None,
        typer.Option(metavar="METRICS", help="Evaluate these while training, 'psnr(aba, a)'.", show_default=False),
    ] = None,
    watch_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between these.  [default: 500]", show_default=False)
    ] = None,
    track: Annotated[
        str | None, typer.Option(metavar="NAMES", help="tensorboard, wandb, or both.", show_default=False)
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Begin with this run's weights, where they fit.", show_default=False),
    ] = None,
    bad_images: BadImages = None,
) -> None:
    """Train a recipe, keep its run folder, and evaluate the result."""
    threads.decide()
    from .commands.train import NO_FOLDER, train_recipe
    from .runs.options import RunOptions

    options = RunOptions(
        out or NO_FOLDER,
        seed=seed,
        device=device,
        precision=precision,
        resume=resume,
        init_from=init_from,
        checkpoint_every=checkpoint_every,
        keep=keep,
        sample_every=sample_every,
        watch=watch,
        watch_every=watch_every,
        track=tuple(filter(None, re.split(r"[,\s]+", track))) if track is not None else None,
        bad_images=bad_images,
    )
    train_recipe(recipe, knobs or [], options)


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
    style: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Of the domain where the path ends: translate to its style (MUNIT)."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Outputs of each input, NAME-1, NAME-2, ..., in styles drawn (MUNIT)."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of the first of these styles; the next have the next seeds.  [default: 0]", show_default=False
        ),
    ] = None,
    weights: Weights = "ema",
    device: Device = "auto",
) -> None:
    """Translate images of any size along a trained model's image path."""
    from itertools import cycle

    from rich.console import Console
    from rich.markup import escape

    from .commands.translate import jobs, save_image
    from .data.files.decode import probe
    from .data.files.short_jpeg import short_note
    from .recipe_file import import_parts
    from .translate import load

    if style is not None and samples is not None:
        raise UserError("--style and --samples each say what style the outputs have: give one of them")
    if seed is not None and samples is None:
        raise UserError("--seed is of styles that are drawn: give --samples N with it")
    notes: list[str] = []
    numbers = range(samples or 0)
    work = jobs(source, target, notes, [f"-{number + 1}" for number in numbers] or [""])
    if parts is not None:
        import_parts(parts)
    translator = load(run, device=device, weights=weights)
    translator.check(path)
    if style is not None or samples is not None:
        translator.check_styles()
    like = None if style is None else translator.style(style, path[-1])
    for before, _ in work:  # every header, before the first image takes its time
        probe(before)
    with _bar() as bar:
        seeds = cycle([(seed or 0) + number for number in numbers] or [None])
        tracked = bar.track(work, description=escape(f"{path}: {translator.route(path)}"))
        for (before, after), drawn in zip(tracked, seeds, strict=False):
            save_image(translator.translate(before, path, style=like, seed=drawn), after)
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
    weights: Weights = "ema",
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
        evaluate_run(run, data, metrics, device, seed, max_images, weights, save)
    else:
        evaluate_sets(images or [], metrics, size, device, save)


@app.command()
def ablate(
    recipe: Annotated[str, typer.Argument(help="A recipe: unit_faces, or a file.")],
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
    from .commands.train import NO_FOLDER
    from .runs.options import RunOptions

    options = RunOptions(
        out or NO_FOLDER, device=device, precision=precision, checkpoint_every=checkpoint_every, bad_images=bad_images
    )
    run(recipe, knobs or [], options, seeds, baseline, metric, workers, ray, yes)


@app.command()
def show(recipe: Annotated[str, typer.Argument(help="A recipe: unit_faces, or a file.")], knobs: Knobs = None) -> None:
    """Check a recipe and print its model. Shown are towers, sharing, parameters, shapes, terms and memory."""
    from .commands.show import show_recipe

    show_recipe(recipe, knobs or [])


@app.command("list")
def list_parts(
    kind: Annotated[str | None, typer.Argument(help="recipe, encoder, ..., or nothing for all.")] = None,
    name: Annotated[str | None, typer.Argument(help="One of them.", show_default=False)] = None,
) -> None:
    """The recipes, and what a recipe can name: parts, their arguments and defaults."""
    from .commands.listing import KINDS, listed

    for line in listed(kind, name):
        typer.secho(line, bold=line in KINDS)


@app.command()
def new(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The recipe to write, NAME.py.")],
    origin: Annotated[str, typer.Option("--from", metavar="RECIPE", help="The recipe to copy.")] = "unit_faces",
) -> None:
    """Begin a recipe of your own with a copy of another."""
    from .commands.new import new_recipe

    written = new_recipe(path, origin)
    typer.echo(f"{', '.join(map(str, written))} written; train with: unitkit train {path}")


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
