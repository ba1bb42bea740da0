"""`unitkit export`: an image path as one file, and how near it is to the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..arguments import SEEDS, Parts, Style, Weights, whole

if TYPE_CHECKING:
    from ..exporting.check import Difference


def export(
    run: Annotated[Path, typer.Argument(help="A run folder, a checkpoint in it, or hf:OWNER/NAME.")],
    output: Annotated[
        Path, typer.Argument(help="The file; its suffix says the format: .pt2, .onnx, .pt, .safetensors.")
    ],
    path: Annotated[str, typer.Option(help="An image path that begins with a real image.")] = "ab",
    format: Annotated[
        str | None, typer.Option(metavar="pt2|onnx|torchscript|safetensors", help="Where the suffix does not say it.")
    ] = None,
    parts: Parts = None,
    style: Style = None,
    seed: Annotated[
        int | None, whole(0, SEEDS, help="Of a style that is drawn, in place of the prior's mean (MUNIT).")
    ] = None,
    weights: Weights = "ema",
    precision: Annotated[
        str, typer.Option(metavar="fp32|fp16|bf16", help="Of weights and computation; onnx has no bf16.")
    ] = "fp32",
) -> None:
    """Write an image path to one file that runs without unitkit, and compare it with the model."""
    from ..exporting.export import export as exported
    from ..recipe_file import import_parts
    from ..runs.report import print_table
    from ..system.output import print_notes, say, screen

    if parts is not None:
        import_parts(parts)
    console = screen()
    with console.status(f"exporting {path}"):
        done = exported(run, output, path, format=format, weights=weights, precision=precision, style=style, seed=seed)
    print_notes(console, done.notes)
    say(console, _in_words(done.difference))
    if done.figures:
        head = ["held-out images", "unit", "model", "file"]
        rows = [[each.name, each.unit, f"{each.model:.4f}", f"{each.file:.4f}"] for each in done.figures]
        print_table(console, f"{path}, before and after", head, rows)
    kept = "moving average of the weights" if done.about["weights"] == "ema" else "last weights"
    size = done.file.stat().st_size / 2**20
    say(console, f"{path} of step {done.about['step']}, {kept}, {precision}: {done.file}, {size:.1f} MiB")


def _in_words(found: Difference) -> str:
    images = "held-out images" if found.held_out else "noise"
    sizes = " and ".join(f"{n} of {height}x{width}" for n, _, height, width in found.batches)
    far = f"largest difference from the model {found.largest:.2g} of 255, on average {found.mean:.2g}"
    return f"{far}, on {images}: {sizes}"
