"""`unitkit runs`: what there is to do with runs beside training and using one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...arguments import whole

app = typer.Typer()


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to look.")] = Path("runs"),
    cells: Annotated[bool, typer.Option("--cells", help="Those of ablations in it as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known of each, for programs.")] = False,
) -> None:
    """List the runs below a folder. Shown are recipe, changed knobs, steps, main figure and time, oldest first."""
    from .table import show_runs

    show_runs(folder, cells=cells, as_json=as_json)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="2 to 12 run folders, or RUN/best.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page.  [default: runs/compare-TIME.html]")
    ] = None,
    paths: Annotated[str, typer.Option(metavar="PATHS", help="Image paths whose translations it shows.")] = "ab,ba",
    max_images: Annotated[int, whole(1, 32, help="Held-out images of each path at most.")] = 4,
) -> None:
    """Compare runs: what differs, figures, and a page with the same images and all curves side by side."""
    from .compare import compare_runs

    compare_runs(runs, out, paths, max_images)
