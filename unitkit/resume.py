"""A run taken up again: its recipe as it was kept, what may be given anew, and what is not as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from . import checkpoint, dist
from .data.domains import Data, datasets
from .data.locations import from_here
from .errors import UserError
from .knobs import RecipeFile, parse_knobs, read_recipe_file
from .run import RunFolder, begun_in
from .trainer import Trainer


def resumed(
    recipe: str | None, words: Sequence[str], out: Path | None
) -> tuple[RecipeFile, dict[str, Any], dict[str, Any], Path]:
    """The recipe file, knobs and record of the run to continue; `steps`, `batch` and `data` may be given anew."""
    if out is None:
        raise UserError("--resume needs the run folder: --out DIR")
    folder = RunFolder(out)
    record = folder.record
    preset, given = parse_knobs(words)
    if preset or set(given) - {"steps", "data", "batch"}:
        raise UserError(
            "--resume takes the run's own knobs; only steps= and data= (a folder that moved) may be given, and batch= "
            "for another number of processes"
        )
    file = kept_recipe(folder)
    if recipe is not None and (Path(recipe).stem, _text(recipe)) != (record["recipe"], file.source):
        raise UserError(
            f"{out} is a run of another recipe, '{record['recipe']}' as kept in it, not of {recipe} as it is now: "
            "leave the recipe out to resume, or choose another --out for a new run"
        )
    return file, file.values(None, {**record["knobs"], **moved(given)}), record, out


def moved(given: Mapping[str, str]) -> dict[str, str]:
    """Knobs that are given to a run that is there already, whose `data` are called as from anywhere."""
    return {
        name: from_here(value) if name == "data" and value not in datasets else value for name, value in given.items()
    }


def kept_recipe(folder: RunFolder) -> RecipeFile:
    """The recipe file that a run keeps, under its first name. Raises `UserError` for a run made from Python.

    It is built in the folder where the run began, if that is still there: there its relative paths lead to its data.
    """
    record = folder.record
    if not (folder.path / "recipe.py").is_file():
        raise UserError(f"{folder.path} holds no recipe.py: it was trained from Python, so continue it there")
    if missing := {"recipe", "knobs"} - record.keys():
        raise UserError(f"{folder.path / 'run.json'} says nothing of {', '.join(sorted(missing))}: use it from Python")
    kept = read_recipe_file(folder.path / "recipe.py", record.get("recipe_file"))
    return replace(kept, name=record["recipe"], home=begun_in(record))


def changes(record: Mapping[str, Any], trainer: Trainer) -> Iterator[str]:
    """What is not as it was when the run began, or was last resumed."""
    passed = [path.name for path in checkpoint.broken(trainer.run.checkpoints)]
    if passed:
        yield f"{', '.join(passed)} lack files and are passed over"
    if note := other_data(record, trainer.recipe.data):
        yield note
    now, then = (trainer.recipe.batch, dist.world()), (record["batch"], record["world"])
    if now != then:
        yield (
            f"batch {now[0]} for each of {now[1]}, where it was {then[0]} for each of {then[1]} processes: a step sees "
            "the same images, but noise and augmentation differ, so the result is not the same bit for bit"
        )
    if trainer.device.type != torch.device(record.get("device", trainer.device)).type:
        yield f"on {trainer.device}, where the run began on {record['device']}; --device chooses"


def other_data(record: Mapping[str, Any], data: Data) -> str:
    """A note where data are not those of a run's record; else nothing."""
    if note := other_labels(record.get("labels", data.labels), data):
        return note
    if record.get("data", {}).get("fingerprint") != data.fingerprint():
        return "the images differ from those that this run began with (in name, size or time of change)"
    return ""


def other_labels(labels: Mapping[str, str], data: Data) -> str:
    """A note where data's domains are not called as they were; else nothing."""
    if labels == data.labels:
        return ""
    was, now = (", ".join(f"{k} {v}" for k, v in each.items()) for each in (labels, data.labels))
    return f"the domains differ from those that this run began with: they were {was}, and are {now}"


def _text(recipe: str) -> str | None:
    try:
        return Path(recipe).read_text("utf-8")
    except (OSError, ValueError):
        return None
