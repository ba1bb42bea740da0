"""`unitkit runs`: what there is to do with runs beside training and using one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to look.")] = Path("runs"),
    cells: Annotated[bool, typer.Option("--cells", help="Those of ablations as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known of each, for programs.")] = False,
) -> None:
    """List the runs below a folder. Shown are recipe, changed knobs, steps, main figure and time, oldest first."""
    from .table import show_runs

    show_runs(folder, cells=cells, as_json=as_json)
