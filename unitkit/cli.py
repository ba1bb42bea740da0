"""The command line: `unitkit train`, `translate`, `export`, `evaluate`, `ablate`, `show`, `list`, `data` and the rest.

torch and rich are imported where they are used, so that `--help` and `list` answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from .arguments import (
    SEEDS,
    USAGE_ERROR,
    BadImages,
    CheckpointEvery,
    Compile,
    Device,
    ImageSets,
    InitFrom,
    Knobs,
    Memory,
    Out,
    Precision,
    Profile,
    Track,
    Weights,
    folder,
    in_a_line,
    whole,
)
from .commands.data import app as data_app
from .commands.demo import demo
from .commands.export import export
from .commands.machine import app as machine_app
from .commands.push import push
from .commands.recipes import app as recipes_app
from .commands.runs import app as runs_app
from .commands.translation import translate
from .system import threads
from .system.errors import TrainingError, UserError
from .system.output import complain, steady_output

UNMATCHED = (
    "torchvision is of another build than torch, and cannot be imported: install both from one place "
    "(docs/install.md), as with pip install --force-reinstall torch torchvision"
)


class Commands(TyperGroup):
    """The commands; Ctrl-C in one that does not know better ends it with a line, and the status that shells expect."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            sys.exit(128 + signal.SIGINT)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(recipes_app)
app.add_typer(runs_app)
app.add_typer(data_app, name="data")
app.add_typer(machine_app)


def main() -> NoReturn:
    """Run the command line. A user's mistake prints one line and exits with 2; a training that failed, with 1.

    Where nobody reads what is printed, or a log has no room for it, the work goes on, and its status is its own.
    """
    with steady_output():
        try:
            os.getcwd()  # libraries end the process where it is gone
            _show_knobs(sys.argv[1:])
            status = app(standalone_mode=False)
        except USAGE_ERROR as error:
            if type(error).__name__ != "NoArgsIsHelpError":
                sys.exit(complain(in_a_line(error, sys.argv[1:])))
            error.show()
            sys.exit(2)
        except typer.Abort:
            sys.exit(complain(TrainingError("not begun")))
        except (UserError, TrainingError, OSError, MemoryError) as error:
            sys.exit(complain(error))
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            sys.exit(complain(UserError(UNMATCHED)))
        sys.exit(status or 0)


def _show_knobs(words: list[str]) -> None:
    """`unitkit train RECIPE -h` shows the recipe's knobs before the options."""
    commands = ("train", "ablate", "show")
    if len(words) > 2 and words[0] in commands and {"-h", "--help"} & set(words) and not words[1].startswith("-"):
        from .commands.recipes.show import show_knobs

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


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe: unit_faces, or a file; not needed with --resume.")
    ] = None,
    knobs: Knobs = None,
    out: Out = None,
    name: Annotated[str | None, typer.Option(help="The run folder is runs/RECIPE/NAME.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out; with a recipe, begin it if there is none.")
    ] = False,
    device: Device = "auto",
    precision: Precision = None,
    compile: Compile = None,
    memory: Memory = None,
    seed: Annotated[int | None, whole(0, SEEDS, help="Of start weights, sample order and noise.  [default: 0]")] = None,
    checkpoint_every: CheckpointEvery = None,
    sample_every: Annotated[int | None, whole(1, help="Steps between sample grids.  [default: the recipe's]")] = None,
    keep: Annotated[int | None, whole(2, help="Checkpoints that stay.  [default: 2]")] = None,
    watch: Annotated[
        str | None, typer.Option(metavar="METRICS", help="Evaluate these while training, 'psnr(aba, a)'.")
    ] = None,
    watch_every: Annotated[int | None, whole(1, help="Steps between these.  [default: 500]")] = None,
    track: Track = None,
    init_from: InitFrom = None,
    bad_images: BadImages = None,
    profile: Profile = False,
) -> None:
    """Train a recipe, keep its run folder, and evaluate the result."""
    threads.decide()
    if profile:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # what torch's profiler says besides is for its authors
    from .commands.runs.places import NO_FOLDER
    from .commands.train import train_recipe
    from .runs.options import RunOptions

    options = RunOptions(
        out or NO_FOLDER,
        seed=seed,
        device=device,
        precision=precision,
        compile=compile,
        memory=memory,
        resume=resume,
        init_from=init_from,
        checkpoint_every=checkpoint_every,
        keep=keep,
        sample_every=sample_every,
        watch=watch,
        watch_every=watch_every,
        track=track,
        bad_images=bad_images,
    )
    train_recipe(recipe, knobs or [], options, name=name, profile=profile)


app.command()(translate)
app.command()(export)
app.command()(push)
app.command()(demo)


@app.command()
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="A run folder, a checkpoint in it, or hf:OWNER/NAME.")] = None,
    data: Annotated[str | None, typer.Option(help="Other data than the run's own; its test split.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Such as 'fid(ab, b), lpips(aba, a)'.  [default: the recipe's]")
    ] = None,
    images: ImageSets = None,
    size: Annotated[int | None, whole(1, 65536, help="Side to bring --images to.")] = None,
    max_images: Annotated[
        int, whole(0, help="Held-out images of each domain at most; 0: all. A metric's own classifier learns as ever.")
    ] = 0,
    seed: Annotated[int, whole(0, SEEDS, help="Of latent samples and classifiers.")] = 0,
    weights: Weights = "ema",
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="A JSON file for the figures as well.")] = None,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="Held-out images of equal names are one scene, each the other's truth.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Measure a finished run, or sets of images, with the protocol beside every figure."""
    threads.decide()
    from .commands.evaluate import Asked, evaluate_run, evaluate_sets

    if (run is None) == (images is None):
        raise UserError("name what to measure: a run folder, or --images PATH=FOLDER for each set")
    if run is not None:
        evaluate_run(Asked(run, data, metrics, device, seed, max_images, weights, save, aligned))
    else:
        evaluate_sets(images or [], metrics, size, device, save)


@app.command()
def ablate(
    recipe: Annotated[str, typer.Argument(help="A recipe: unit_faces, or a file.")],
    knobs: Annotated[list[str] | None, typer.Argument(metavar="[@preset] [knob=v1,v2] [knob=0..4] ...")] = None,
    seeds: Annotated[int, whole(1, 10_000, help="Trainings of each setting, with seeds 0, 1, ...")] = 1,
    out: Annotated[Path | None, folder("The ablation's folder.  [default: runs/RECIPE/ablation-TIME]")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The setting to compare with, 'shared=0'.  [default: the first]")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What plots and comparisons show; the tables keep every metric of the recipe.  [default: its first]"
        ),
    ] = None,
    workers: Annotated[int | None, whole(1, 1024, help="Cells at once.  [default: one per GPU]")] = None,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Run on Ray: local, auto, HOST:PORT.")] = None,
    device: Device = "auto",
    precision: Precision = None,
    compile: Compile = None,
    checkpoint_every: CheckpointEvery = None,
    track: Track = None,
    bad_images: BadImages = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a large grid.")] = False,
) -> None:
    """Train a recipe over a grid of knobs and seeds, and report. Run it again to go on: what is done stays done."""
    threads.decide(shared=True)
    from .commands.ablate import ablate as run
    from .commands.runs.places import NO_FOLDER
    from .runs.options import RunOptions

    options = RunOptions(
        out or NO_FOLDER,
        device=device,
        precision=precision,
        compile=compile,
        checkpoint_every=checkpoint_every,
        track=track,
        bad_images=bad_images,
    )
    run(recipe, knobs or [], options, seeds, baseline, metric, workers, ray, yes)
