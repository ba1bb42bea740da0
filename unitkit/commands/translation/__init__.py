"""`unitkit translate`: its words, and which of images and videos they are about."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ...arguments import (
    Again,
    Alpha,
    Device,
    Format,
    Lossless,
    Parts,
    Samples,
    Steady,
    Style,
    StyleSeed,
    Weights,
    Workers,
)
from ...system.errors import UserError


def translate(
    run: Annotated[
        Path, typer.Argument(help="A run folder, a checkpoint in it, an exported .safetensors file, or hf:OWNER/NAME.")
    ],
    path: Annotated[str, typer.Argument(help="An image path, such as ab.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image, a folder or a video.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="An image, a folder or a video; names in a folder are kept.")
    ],
    parts: Parts = None,
    style: Style = None,
    samples: Samples = None,
    seed: StyleSeed = None,
    weights: Weights = "ema",
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 where the device has it.")] = "fp32",
    alpha: Alpha = "white",
    format: Format = None,
    workers: Workers = None,
    again: Again = False,
    steady: Steady = 0.0,
    lossless: Lossless = False,
) -> None:
    """Translate images of any size, or a video, along a trained model's image path."""
    from ..translate import translate_images
    from .video import is_of_video, translate_videos

    _refuse_no_run(run, path)
    translated = partial(translate_images, run, path, source, target, parts=parts, weights=weights)
    if is_of_video(source, target, steady, lossless):
        video = partial(translate_videos, steady=steady, lossless=lossless)
        translated = partial(video, run, path, source, target, parts=parts, weights=weights)
    translated = partial(translated, device=device, precision=precision, threads=workers, again=again)
    translated(style=style, samples=samples, seed=seed, alpha=alpha, format=format)


def _refuse_no_run(run: Path, path: str) -> None:
    """Raise `UserError` for a run that is not there, before the input is looked at; one of the hub may be."""
    from ...hub.names import is_on_hub
    from ...runs.kept import find_run

    if is_on_hub(run) or run.exists():
        return
    if Path(path).exists():
        raise UserError(f"'{path}' is no image path: the run comes first: translate {path} {run}")
    find_run(run)
