"""What `run.json` says of a training, when it begins and when it is resumed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..data.domains import with_values
from ..data.values import BYTES, Values
from ..recipe import Recipe
from ..system import dist
from ..system.environment import environment
from ..system.errors import UserError
from .checkpoint import check_checkpoint
from .folder import RunFolder
from .options import Options
from .steps import latest

SAME = ("seed", "precision", "ema")  # which a run keeps for life, as it does its model
# What a resumed training says anew.
ANEW = (
    *("data", "labels", "steps", "batch", "accumulate", "recompute", "memory", "compile", "world"),
    *("bad_images", "checkpoint_every", "sample_every", "keep"),
)
WATCHED = ("watch", "watch_metrics", "watch_every", "track")


def new_record(recipe: Recipe, options: Options, device: torch.device, more: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a training that begins here. `more` is the caller's."""
    watched = recipe.watch.metrics if recipe.watch else ()
    return {
        "id": secrets.token_hex(8),
        "model": recipe.model.to_json(),
        **options.record(),
        "device": str(device),
        "world": dist.world(),
        "batch": recipe.batch * recipe.accumulate,
        "accumulate": recipe.accumulate,
        "recompute": list(recipe.recompute),
        "steps": recipe.steps,
        "ema": recipe.ema,
        **({"init_from": str(options.init_from)} if options.init_from is not None else {}),
        "labels": recipe.data.labels,
        **({"window": list(recipe.data.window)} if recipe.data.cut else {}),
        "watch": {
            metric.name: {"title": metric.title or metric.name, "higher": metric.higher, "units": {**metric.units}}
            for metric in watched
        },
        **_values(recipe),
        "data": {"name": recipe.data.name, "fingerprint": recipe.data.fingerprint(), **recipe.data.facts},
        **more,
        **environment(),
    }


def description(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint's `model.json` says: what a model needs to be used."""
    return {
        "model": recipe.model.to_json(),
        "size": list(recipe.data.size),
        "labels": recipe.data.labels,
        **_values(recipe),
    }


def with_kept_values(recipe: Recipe, record: Mapping[str, Any]) -> Recipe:
    """The recipe, whose images' values mean what they did when the run began: images may have come since."""
    kept = {letter: Values.from_json(each) for letter, each in record.get("values", {}).items()}
    return replace(recipe, data=with_values(recipe.data, kept)) if kept else recipe


def _values(recipe: Recipe) -> dict[str, Any]:
    """What the values of the images are, by letter, where some are no plain bytes."""
    values = recipe.data.values
    plain = all(each == BYTES for each in values.values())
    return {} if plain else {"values": {letter: each.to_json() for letter, each in values.items()}}


def check_same_recipe(run: RunFolder, recipe: Recipe) -> dict[str, Any]:
    """The record of a run to resume. Raises `UserError` where it is of another model than the recipe's, or batch."""
    before = run.record
    _refuse_other(run, "model", before["model"], recipe.model.to_json())
    run.refuse_batch(recipe.batch * recipe.accumulate, dist.world())
    return before


def check_resumed(run: RunFolder, record: Mapping[str, Any], model: nn.Module, size: tuple[int, int]) -> None:
    """Raise `UserError` where the run is one of another recipe than `record`, has lost what it began with, or has a
    checkpoint that is not of `model`, which may be on the meta device, or not of images of this size."""
    before, found = run.record, latest(run.checkpoints)
    for key in SAME:
        _refuse_other(run, key, before.get(key, record[key]), record[key])
    _refuse_other(run, "window", before.get("window", record.get("window")), record.get("window"))
    if found is not None:
        check_checkpoint(found, model, size)
    elif "init_from" in before:
        raise UserError(
            f"{run.path} ended before it kept the weights of {before['init_from']}, which it was to begin with: delete "
            "it, and train with --init-from again"
        )


def _refuse_other(run: RunFolder, key: str, was: Any, now: Any) -> None:
    # As JSON, which has no tuples: a part may have been given some.
    if json.dumps(was, sort_keys=True) != json.dumps(now, sort_keys=True):
        raise UserError(f"{run.path} is a run of another recipe: its {key} differs, so it cannot go on")


def resumed_record(before: Mapping[str, Any], record: Mapping[str, Any], step: int) -> dict[str, Any]:
    """A run's record, with what is as `record` has it from step `step` on."""
    since = {"step": step, **{key: record[key] for key in ("started", "device", "batch", "world", "steps")}}
    kept = {key: record[key] for key in ("recipe", "recipe_file", "knobs", "defaults") if key in record}
    history = [*before.get("history", []), since]
    return {**before, **kept, **{key: record[key] for key in (*ANEW, *WATCHED)}, "history": history}
