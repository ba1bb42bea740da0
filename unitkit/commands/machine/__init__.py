"""`unitkit weights` and `unitkit doctor`: what this machine has, and whether it computes rightly."""

from __future__ import annotations

from typing import Annotated

import typer

from ...arguments import Device
from ...system import threads

app = typer.Typer()


@app.command("weights")
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME ...]", help="Of weights, metrics (fid) or timm models.")
    ] = None,
) -> None:
    """What weights metrics need, and where they are; with names: fetch these, checked by their hash."""
    from .weights import fetch_weights, show_weights

    if names:
        fetch_weights(names)
    else:
        show_weights()


@app.command("doctor")
def check(device: Device = "auto") -> None:
    """Check that this machine computes rightly. Shown are versions, device, threads, what is wrong and what to do."""
    threads.decide()
    from .doctor import doctor

    if not doctor(device):
        raise typer.Exit(1)
