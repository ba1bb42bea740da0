"""Arguments and options that several commands have, as typer reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from .annotations import number
from .system.errors import UserError, suggested

USAGE_ERROR: type[typer.BadParameter] = typer.BadParameter.__mro__[1]  # once of click, now of a module of typer's
NEAR_OPTION = 0.85  # as `suggested` has it
SEEDS = 2**63 - 1  # the largest seed that torch takes of either sign


def whole(least: int, most: int = 10**9, **words: Any) -> Any:
    """An option that is a whole number within bounds, written as a knob's is."""

    def parse(text: str) -> int:
        with suppress(ValueError, OverflowError):
            if least <= (found := number(text, int, most)) <= most:
                return found
        raise typer.BadParameter(f"{text!r:.60} is no whole number from {least} to {most}.")

    return typer.Option(parser=parse, metavar="INTEGER", **words)


def share(**words: Any) -> Any:
    """An option that is a number from 0 to 1, written as a knob's is."""

    def parse(text: str | float) -> float:
        with suppress(ValueError, OverflowError):
            if 0 <= (found := number(str(text), float)) <= 1:
                return found
        raise typer.BadParameter(f"{text!r:.60} is no number from 0 to 1.")

    return typer.Option(parser=parse, metavar="0..1", **words)


def folder(help: str) -> Any:
    """An option that names a folder, which an empty word does not."""

    def parse(text: str) -> Path:
        if not text:
            raise UserError("--out is empty: name a folder, such as --out runs/mine, or . for this one")
        return Path(text)

    return typer.Option(parser=parse, metavar="PATH", help=help)


def in_a_line(error: Any, words: Sequence[str]) -> UserError:
    """What typer has to say of a command line, as other mistakes are told.

    Args:
        error: its `UsageError`.
        words: of the command line, behind the program's name.
    """
    context = error.ctx
    command, place = "", context
    while place and place.parent:
        command, place = f" {place.info_name}{command}", place.parent
    command = f"unitkit{command}"  # however it was begun
    parameters = context.command.params if context else []
    if hasattr(error, "possibilities"):
        option = error.option_name
        options = [each for parameter in parameters for each in parameter.opts if each.startswith("--")]
        takes_knobs = any(parameter.name == "knobs" for parameter in parameters)
        hint = f"; a knob is given as {_as_knob(option, words)}" if takes_knobs and option[:2] == "--" else ""
        near = suggested(option.lstrip("-"), [each.lstrip("-") for each in options], NEAR_OPTION)
        near = near.replace("'", "'--", 1)
        return UserError(f"{command} has no option {option}{hint}{near}")
    text = error.format_message()
    arguments = [each for each in parameters if each.param_type_name == "argument"]
    if type(error).__name__ == "MissingParameter" and error.param in arguments:
        usage = " ".join(_shown(each) for each in arguments)
        return UserError(f"{_shown(error.param)} is missing: {command} {usage}")
    return UserError(text[:1].lower() + text[1:].removesuffix("."))


def _shown(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper())
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _as_knob(option: str, words: Sequence[str]) -> str:
    """The knob that a word `--steps 60`, or `--steps=60`, stands for."""
    place = next(number for number, word in enumerate(words) if word.partition("=")[0] == option)
    _, equals, value = words[place].partition("=")
    after = words[place + 1 : place + 2]
    value = value if equals else after[0] if after and not after[0].startswith("-") else "VALUE"
    return f"{option[2:].replace('-', '_')}={value}"


def _names(text: str) -> tuple[str, ...]:
    """What a text names, with commas or spaces between."""
    return tuple(filter(None, re.split(r"[,\s]+", text)))


Knobs = Annotated[list[str] | None, typer.Argument(metavar="[@preset] [knob=value ...]")]
Out = Annotated[Path | None, folder("The run folder.  [default: runs/RECIPE/TIME]")]
BadImages = Annotated[
    str | None,
    typer.Option(
        metavar="stop|skip",
        help="At images that cannot be decoded.  [default: stop before training, skip later]",
        show_default=False,
    ),
]
CheckpointEvery = Annotated[int | None, whole(1, help="Steps between checkpoints.  [default: the run's, or 500]")]
Weights = Annotated[
    str, typer.Option(metavar="ema|last", help="The moving average, where there is one, or the last step's weights.")
]
Parts = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A Python file to run first: it registers parts of the model.")
]
Track = Annotated[Any, typer.Option(parser=_names, metavar="NAMES", help="tensorboard, wandb, or both.")]
InitFrom = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Begin with this run's weights, or those of hf:OWNER/NAME, where they fit."),
]
Profile = Annotated[bool, typer.Option("--profile", help="Show where the time of a step goes, and trace it.")]
ImageSets = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH=FOLDER", help="In place of a run: a set of images, for each path that is read."),
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
Workers = Annotated[
    int | None,
    whole(0, 1024, help="Threads that decode and encode; 0: none of their own.  [default: by cores]"),
]
Again = Annotated[bool, typer.Option("--again", help="Of a folder, also what is there from an earlier call.")]
Style = Annotated[
    Path | None,
    typer.Option(metavar="IMAGE", help="Of the domain where the path ends: translate to its style (MUNIT)."),
]
Samples = Annotated[
    int | None, whole(1, 1000, help="Outputs of each input, NAME-1, NAME-2, ..., in styles drawn (MUNIT).")
]
StyleSeed = Annotated[
    int | None, whole(0, SEEDS, help="Of the first of these styles; the next have the next seeds.  [default: 0]")
]
Steady = Annotated[float, share(help="Of a video: how much of a frame stays where the input does not change.")]
Lossless = Annotated[
    bool, typer.Option("--lossless", help="Of a video: every pixel kept, in a .mkv, .mov, .apng or .webp.")
]
