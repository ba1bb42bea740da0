"""Arguments and options that several commands have, as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Knobs = Annotated[list[str] | None, typer.Argument(metavar="[@preset] [knob=value ...]")]
Out = Annotated[Path | None, typer.Option(help="The run folder.  [default: runs/RECIPE/TIME]")]
BadImages = Annotated[
    str | None,
    typer.Option(
        metavar="stop|skip",
        help="At images that cannot be decoded.  [default: stop before training, skip later]",
        show_default=False,
    ),
]
CheckpointEvery = Annotated[
    int | None, typer.Option(min=1, help="Steps between checkpoints.  [default: the run's, or 500]")
]
Weights = Annotated[
    str, typer.Option(metavar="ema|last", help="The moving average, where there is one, or the last step's weights.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="auto|fp32|tf32|bf16",
        help="Of the networks; auto is bf16 where the device has instructions for it.  [default: fp32]",
        show_default=False,
    ),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="The step through torch.compile: a minute before it starts, and then faster.",
        show_default=False,
    ),
]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="Fit into so much, 8G, where need be more slowly.")]
Alpha = Annotated[
    str, typer.Option(metavar="keep|white", help="Transparency: kept in the outputs, or white, as networks see it.")
]
Format = Annotated[
    str | None, typer.Option(metavar="png|tif|...", help="Of the outputs of a folder.  [default: that of each input]")
]
