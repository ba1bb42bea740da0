"""`unitkit train --resume`: what may be given anew, and what is not as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..ablation.folder import last_evaluation
from ..hooks import ends
from ..knobs import find
from ..recipe import Recipe
from ..recipe_file import IMPORTED, RecipeFile, parse_knobs, shipped
from ..runs.folder import RunFolder
from ..runs.kept import kept_recipe, moved, other_data
from ..runs.options import RunOptions
from ..runs.record import check_same_recipe
from ..runs.steps import broken, latest
from ..system import dist
from ..system.errors import UserError
from ..trainer import Trainer
from .runs.places import NO_FOLDER

ANEW = ("steps", "data", "batch")  # knobs that a run that is resumed may have otherwise


def to_resume(recipe: str | None, options: RunOptions) -> bool:
    """Whether there is a run to resume, alike on every rank: with a recipe, `--resume` begins one where there is none.

    So one command, given again, is all that torchrun, Slurm or Kubernetes need to restart a training. Raises
    `UserError` for a command that torchrun is to restart, but that would not go on.
    """
    if options.resume and options.out == NO_FOLDER:
        raise UserError("--resume needs the run folder: --out DIR")
    if not options.resume and dist.variable("TORCHELASTIC_MAX_RESTARTS", 0) > 0:
        raise UserError(
            "torchrun --max-restarts gives this command again when a process dies: add --resume --out DIR, with which "
            "it begins the run, or goes on with it"
        )
    there = os.path.lexists(Path(options.out) / "run.json")
    return options.resume and (recipe is None or dist.of_first("resume" if there else "begin") == "resume")


def resumed(recipe: str | None, words: Sequence[str], out: Path) -> tuple[RecipeFile, dict[str, Any], dict[str, Any]]:
    """The recipe file, knobs and record of the run to continue; `steps`, `batch` and `data` may be given anew.

    With the recipe, other knobs may be given too, as the command has them that began the run.
    """
    folder = RunFolder(out)
    record = folder.record
    preset, given = parse_knobs(words)
    anew = {name: value for name, value in given.items() if name in ANEW}
    if recipe is None and (preset or given.keys() - ANEW):
        raise UserError(
            "--resume takes the run's own knobs; only steps= and data= (a folder that moved) may be given, and batch= "
            "for another number of processes"
        )
    file = kept_recipe(folder)
    if recipe is not None:
        path = Path(recipe) if os.path.isfile(recipe) else shipped().get(recipe, Path(recipe))
        if path.stem != record["recipe"] or _now(path, file) != file.files:
            raise UserError(
                f"{out} is a run of another recipe, '{record['recipe']}' as kept in it, not of {recipe} as it is now: "
                "leave the recipe out to resume, or choose another --out for a new run"
            )
        _refuse_others(file, preset, given, record, out)
    return file, file.values(None, {**record["knobs"], **moved(anew)}), record


def whole(run: RunFolder, recipe: Recipe, options: RunOptions) -> bool:
    """Whether nothing is left to do of a run: it is trained to its end, and measured then on these data.

    Raises `UserError` for a recipe, and options, with which it could not go on.
    """
    options.resolved(check_same_recipe(run, recipe), best="fp32")
    newest, last = latest(run.checkpoints), last_evaluation(run)
    if newest is None or last is None or last["checkpoint"] != newest.name:
        return False
    open_ones = [each for each in recipe.evaluate if "failed" in last["metrics"].get(each.name, {"failed": "never"})]
    same = last["data"]["fingerprint"] == recipe.data.fingerprint()
    return same and not open_ones and ends(run, recipe, last["step"])


def _refuse_others(
    file: RecipeFile, preset: str | None, given: Mapping[str, str], record: Mapping[str, Any], out: Path
) -> None:
    """Raise `UserError` where a knob that is said is not the run's."""
    said = file.kept(file.values(preset, given))
    names = {find(file.knobs, name, file.name).name for name in (*(file.presets[preset] if preset else ()), *given)}
    for name in sorted(names.difference(ANEW)):
        if said.get(name) != (own := record["knobs"].get(name)):
            raise UserError(
                f"{out} is a run with {name}={own}, not {said.get(name)}: leave {name} out to resume, or choose "
                "another --out for a new run"
            )


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
    if trainer.device.type != record.get("device", trainer.device.type).partition(":")[0]:
        yield f"on {trainer.device}, where the run began on {record['device']}; --device chooses"


def _now(path: Path, kept: RecipeFile) -> dict[str, str | None]:
    """The files that a run keeps, as they are now, beside the recipe or where a run has them."""
    beside = {name: _text(path.with_name(name)) or _text(path.parent / IMPORTED / name) for name in kept.imported}
    return {"recipe.py": _text(path), **{f"{IMPORTED}/{name}": text for name, text in beside.items()}}


def _text(recipe: Path) -> str | None:
    try:
        return recipe.read_text("utf-8")
    except (OSError, ValueError):
        return None
