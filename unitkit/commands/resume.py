"""`unitkit train --resume`: what may be given anew, and what is not as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..recipe_file import RecipeFile, parse_knobs
from ..runs.folder import RunFolder
from ..runs.kept import kept_recipe, moved, other_data
from ..runs.steps import broken
from ..system import dist
from ..system.errors import UserError
from ..trainer import Trainer


def resumed(recipe: str | None, words: Sequence[str], out: Path) -> tuple[RecipeFile, dict[str, Any], dict[str, Any]]:
    """The recipe file, knobs and record of the run to continue; `steps`, `batch` and `data` may be given anew."""
    if out == Path():
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
    return file, file.values(None, {**record["knobs"], **moved(given)}), record


def changes(record: Mapping[str, Any], trainer: Trainer) -> Iterator[str]:
    """What is not as it was when the run began, or was last resumed."""
    passed = [path.name for path in broken(trainer.run.checkpoints)]
    if passed:
        yield f"{', '.join(passed)} lack files and are passed over"
    if note := other_data(record, trainer.recipe.data):
        yield note
    now, then = (trainer.batches.batch_size, dist.world()), (record["batch"], record["world"])
    if now != then:
        yield (
            f"batch {now[0]} for each of {now[1]}, where it was {then[0]} for each of {then[1]} processes: a step sees "
            "the same images, but noise and augmentation differ, so the result is not the same bit for bit"
        )
    if trainer.device.type != torch.device(record.get("device", trainer.device)).type:
        yield f"on {trainer.device}, where the run began on {record['device']}; --device chooses"


def _text(recipe: str) -> str | None:
    try:
        return Path(recipe).read_text("utf-8")
    except (OSError, ValueError):
        return None
