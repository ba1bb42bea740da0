"""`unitkit show`, `list` and `new`: what there is to train with, before a training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ...arguments import Knobs
from ...system.output import argument, raw, say, screen, typed

app = typer.Typer()


@app.command()
def show(
    recipe: Annotated[str, typer.Argument(help="A recipe: unit_faces, or a file.")],
    knobs: Knobs = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Name the largest batch that fits, 8G.")] = None,
) -> None:
    """Check a recipe and print its model. Shown are towers, sharing, parameters, shapes, terms and memory."""
    from .show import show_recipe

    show_recipe(recipe, knobs or [], memory)


@app.command("list")
def list_parts(
    kind: Annotated[str | None, typer.Argument(help="recipe, encoder, ..., or nothing for all.")] = None,
    name: Annotated[str | None, typer.Argument(help="One of them.")] = None,
) -> None:
    """The recipes, and what a recipe can name: parts, their arguments and defaults."""
    from .listing import KINDS, listed

    for line in listed(kind, name):
        typer.secho(line, raw(sys.stdout), bold=line in KINDS)


@app.command()
def new(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The recipe to write, NAME.py.")],
    origin: Annotated[str, typer.Option("--from", metavar="RECIPE", help="The recipe to copy.")] = "unit_faces",
) -> None:
    """Begin a recipe of your own with a copy of another."""
    from .new import new_recipe

    written = new_recipe(path, origin)
    train = typed("unitkit", "train", argument(path)).strip()
    say(screen(), f"{', '.join(map(str, written))} written; train with: {train}")
