"""`unitkit data`: what there is to do with data before a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Look at data before a training.")


@app.callback()
def data() -> None:
    """Look at data before a training."""


@app.command()
def check(
    source: Annotated[str, typer.Argument(help="What data= takes: a folder, PLACE,PLACE, an .npz, a list, hf:NAME.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The report, one page.  [default: data-check-SOURCE.html]", show_default=False
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same for programs.", show_default=False)
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Only these domains, neutral,smiling.", show_default=False)] = None,
    near: Annotated[
        float, typer.Option(min=0, max=0.5, help="How far apart near duplicates may be; 0 looks for none.")
    ] = 0.15,
    nan: Annotated[
        float | None, typer.Option(metavar="VALUE", help="What stands for NaN and infinite values.", show_default=False)
    ] = None,
) -> None:
    """Decode every image, and say what is wrong: unreadable, in both splits, twice there, misshapen, unpaired.

    Ends with 2 where the data have errors, such as an image that is in both splits, and with 0 where they have none.
    """
    from .check import check_data

    if not check_data(source, out, json, labels, near, nan):
        raise typer.Exit(2)
