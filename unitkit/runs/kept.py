"""A run taken up again: its recipe as it was kept, what may be given anew, and what is not as it was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.domains import Data, datasets
from ..data.files.bad import BadImages
from ..data.folders.locations import from_here
from ..hub.fetch import fetch
from ..hub.names import is_on_hub, parse_place
from ..recipe import Recipe
from ..recipe_file import RecipeFile, read_recipe_file
from ..system.errors import UserError
from .folder import RunFolder
from .steps import WEIGHTS_FILES, all_steps


def find_run(run: Path) -> tuple[RunFolder | None, Path]:
    """The run folder and the checkpoint that a path means: a run, a checkpoint in it, or its folder `best`.

    A model without its run has None for it: one that is fetched from the hub, `hf:OWNER/NAME`, and a copy. So no
    recipe that lies beside such a model is ever run. Raises `UserError` where there is none.
    """
    if is_on_hub(run):
        return None, fetch(parse_place(run), "model.json", (*WEIGHTS_FILES, "state.json"))
    place = Path(os.path.abspath(run))  # a link among its folders is kept: checkpoints/ may lie on another disk
    if (run / "model.json").is_file():
        folder = RunFolder(place.parent.parent)
        return folder if os.path.lexists(folder.path / "run.json") else None, place
    if place == RunFolder(place.parent).best and (steps := all_steps(place)):
        return RunFolder(place.parent), steps[-1]
    folder = RunFolder(run)
    return folder, folder.latest()


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
    if missing := {"recipe", "knobs"} - record.keys():  # of a run from Python
        raise UserError(f"{folder.path / 'run.json'} says nothing of {', '.join(sorted(missing))}: use it from Python")
    kept = read_recipe_file(folder.path / "recipe.py", record.get("recipe_file"))
    return replace(kept, name=record["recipe"], home=begun_in(record))


def kept_run(folder: RunFolder, data: str | None = None) -> tuple[RecipeFile, Recipe]:
    """The recipe file that a run keeps, and what its knobs make of it: with the run's data, but for the images that its
    training has left out, or with others. Raises `UserError` as `kept_recipe` does, and for data that cannot be."""
    file = kept_recipe(folder)
    given = {**folder.record["knobs"], **(moved({"data": data}) if data else {})}
    recipe = file.build(file.values(None, given))
    if data is None:
        recipe = replace(recipe, data=BadImages(recipe.data, folder.bad_images()).without())
    return file, recipe


def begun_in(record: Mapping[str, Any]) -> Path | None:
    """The folder in which a run was begun, where it is still there and not the present one; else None."""
    home = record.get("folder")
    with suppress(OSError):
        if home is not None and os.path.isdir(home) and not os.path.samefile(home, os.getcwd()):
            return Path(home)
    return None


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
    return f"the domains differ from those of the training: they were {was}, and are {now}"
