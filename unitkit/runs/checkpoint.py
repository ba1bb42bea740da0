"""Checkpoints: a folder of safetensors and JSON, written whole or not at all. No pickle anywhere.

checkpoints/step-00001000/   model.safetensors   weights and buffers, a tied tensor once
                             model.json          the model's spec, image size and domain labels
                             ema.safetensors     their moving average, where the recipe keeps one
                             training.safetensors   "player/parameter/exp_avg" and the like, "player/group 0/step" of
                                                 optimizers that count for all, and "buffers/NAME" for those buffers
                                                 that are no weights, such as an image pool
                             state.json          the steps done, the run, and what the other files are by their SHA-256
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import discriminators, encoders, generators, models, sharing  # noqa: F401 (model.json names their parts)
from ..data.values import Values
from ..hub.names import is_on_hub
from ..models import ImagePaths
from ..networks.bounded import rehearsed
from ..networks.state import fill, passing_buffers, unique_state, weights_of
from ..registry import Spec, Unregistered
from ..system.errors import TrainingError, UserError, refusal, suggested
from ..system.files import flush, temporary
from .kept import find_run
from .moments import fill_moments, moments_of, refuse_other_moments
from .schema import MODEL, STATE
from .steps import EMA, all_steps, discard, latest, make_way, step_name, step_of
from .stored import (
    FORMAT,
    damaged,
    differs,
    digest,
    fill_from,
    not_finite,
    read_described,
    read_json,
    read_tensors,
    refuse_not_finite,
    refuse_other_file,
    refuse_others,
    write_tensors,
)

WEIGHTS = ("ema", "last")
PASSING = "buffers/"


def save(
    folder: Path,
    step: int,
    *,
    model: nn.Module,
    description: Mapping[str, Any],
    optimizers: Mapping[str, torch.optim.Optimizer],
    average: Mapping[str, Tensor] | None = None,
    keep: int,
    run: str = "",
) -> Path:
    """Write `folder/step-...`, then delete all others but the `keep` - 1 newest.

    The files go to a temporary folder, are flushed to the disk, and the folder is renamed: a kill at any moment
    leaves either the whole checkpoint or none, and never touches that of an earlier step. One of this step, of another
    history say, is replaced. Only what `save` writes is ever deleted: what else lies there stays.

    Args:
        run: the run's `id`, by which `refuse_changed` knows a checkpoint of it.

    Raises:
        UserError: the disk is full or refuses; what was there before stays.
        TrainingError: a weight or a moment that is not finite; nothing is written, and what was there before stays.
    """
    final = folder / step_name(step)
    last = next((each for each in reversed(all_steps(folder)) if each != final), None)
    stays = f"the last good one, {last.name}, stays" if last else "there is no earlier one"
    tensors = {
        "model.safetensors": weights_of(model),
        "training.safetensors": {**_buffers(model), **moments_of(model, optimizers)},
        **({EMA: {name: tensor.contiguous() for name, tensor in average.items()}} if average is not None else {}),
    }
    for each in tensors.values():
        if (bad := not_finite(each)) is not None:
            raise TrainingError(f"step {step}: '{bad}' is not finite, so no checkpoint is written; {stays}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary(folder, folder=True) as place:
            for name, each in tensors.items():
                write_tensors(each, place / name)
            (place / "model.json").write_text(json.dumps({"format": FORMAT, **description}, indent=1))
            files = {path.name: digest(path) for path in sorted(place.iterdir())}
            (place / "state.json").write_text(json.dumps({"format": FORMAT, "step": step, "run": run, "files": files}))
            for path in [*place.iterdir(), place]:
                flush(path)
            make_way(final)
            place.rename(final)
        flush(folder)
    except OSError as error:
        raise refusal(f"could not write the checkpoint of step {step} to {folder}", error, f"; {stays}") from error
    ours = [each for each in all_steps(folder) if each.name == step_name(step_of(each.name) or 0)]
    others = [each for each in ours if each != final and not each.is_symlink()]
    for old in others[: max(0, len(others) - keep + 1)]:
        discard(old)
    return final


class Description(NamedTuple):
    """What `model.json` says."""

    spec: Spec
    size: tuple[int, int]
    labels: dict[str, str]
    values: dict[str, Values]


def load_model(checkpoint: Path, weights: str = "ema") -> tuple[ImagePaths, Description]:
    """The model of a checkpoint, on the CPU in evaluation mode, and its description.

    It is built without memory first, and compared with the weights beside it.

    Args:
        checkpoint: its folder, or a file of one image path with its description, as `export` makes it.
        weights: "ema", the moving average where the training kept one, or "last", those of the last step; a file has
            those that it was made of.
    """
    only: str | None = None
    if checkpoint.is_file():
        path = place = checkpoint
        description, about = read_described(path)
        only = about["path"]
        if _known(weights) == "last" != about["weights"]:
            raise UserError(f"{path} holds the moving average of the weights alone, not those of the last step")
    else:
        path, place = checkpoint / "model.json", _weights(checkpoint, weights)
        description = read_json(path, MODEL)
    stored = read_tensors(place)

    def built(build: Callable[[], ImagePaths]) -> ImagePaths:
        model = build()
        if only is not None:
            model.keep_only(only)
        return model

    try:
        spec = Spec.from_json(description["model"]).rebuilding()
        if spec.kind != "model":
            raise UserError(f"it describes no model, but the {spec.kind} '{spec.name}'")
        with torch.random.fork_rng(devices=[]):  # the first weights drawn here are overwritten
            rehearsal = rehearsed(partial(built, spec.build), stored, _size(checkpoint / "training.safetensors"))
            refuse_others(place, stored, unique_state(rehearsal))
            model = built(spec.build)
    except Unregistered as error:
        recipe = checkpoint.parent.parent / "recipe.py"
        known = f"it was registered by the recipe: import that file first, or give --parts {recipe}"
        other = "if it is of your own, import the file that registers it first, or give --parts FILE"
        raise UserError(f"{path}: {error} {known if recipe.is_file() else other}") from error
    except UserError as error:
        raise UserError(f"{path} does not build: {error}") from error
    except Exception as error:  # a part is anyone's code, and may meet arguments that no recipe would give it
        raise UserError(f"{path} does not build: {type(error).__name__}: {error}".partition("\n")[0]) from error
    if lacking := model.channels.keys() - description["labels"].keys():
        raise damaged(path, f"labels: there is none of domain '{min(lacking)}'", MODEL.way_out)
    values = {}
    for letter, each in description.get("values", {}).items():
        try:
            values[letter] = Values.from_json(each)
        except UserError as error:
            raise damaged(path, f"values.{letter}: {error}", MODEL.way_out) from None
        if letter not in model.channels or len(values[letter].low) not in (1, model.channels[letter]):
            raise damaged(path, f"values.{letter}: they are of no domain, or of other channels", MODEL.way_out)
    fill(unique_state(model), stored)
    height, width = description["size"]
    return model.eval(), Description(spec, (height, width), description["labels"], values)


def load_weights(model: nn.Module, checkpoint: Path, weights: str = "last") -> None:
    """Fill a model with a checkpoint's weights. Raises `UserError` where names, shapes or types differ."""
    fill_from(_weights(checkpoint, weights), unique_state(model))


def load_average(tensors: Mapping[str, Tensor], checkpoint: Path) -> None:
    """Fill a moving average with that of a checkpoint. Raises `UserError` as `load_weights` does."""
    fill_from(checkpoint / EMA, tensors)


def check_checkpoint(checkpoint: Path, model: nn.Module, size: tuple[int, int]) -> None:
    """Raise `UserError` for a checkpoint of other images than those of `size`, or of another model than this, which may
    be on the meta device."""
    path = _weights(checkpoint, "last")
    check_size(checkpoint, size)
    refuse_others(path, read_tensors(path), unique_state(model))


def check_size(checkpoint: Path, size: tuple[int, int]) -> None:
    """Raise `UserError` for a checkpoint of images of another (height, width)."""
    was = read_json(checkpoint / "model.json", MODEL)["size"]
    if was != list(size):
        (h, w), (height, width) = was, size
        raise UserError(
            f"{checkpoint} is of images of {h}x{w}, and the run's recipe now gives some of {height}x{width}"
        )


def _known(weights: str) -> str:
    if weights not in WEIGHTS:
        raise UserError(f"weights are ema or last, not '{weights}'{suggested(weights, WEIGHTS)}")
    return weights


def _weights(checkpoint: Path, weights: str) -> Path:
    if _known(weights) == "last" or not averages(checkpoint):
        return checkpoint / "model.safetensors"
    if not (checkpoint / EMA).exists():
        raise damaged(checkpoint / EMA, "the moving average is gone; --weights last takes the weights of the last step")
    return checkpoint / EMA


def load_matching(model: nn.Module, run: str | Path) -> list[str]:
    """Fill a model with a run's weights as far as names, shapes and types agree; returns the names of the others.

    Args:
        run: a run folder, whose last checkpoint is taken, a checkpoint, or `hf:OWNER/NAME`. Of its weights the moving
            average, if any.

    Raises:
        UserError: no run, or none of whose weights fit.
    """
    folder = find_run(Path(run))[1] if is_on_hub(run) else Path(run)
    found = folder if (folder / "model.json").is_file() else latest(folder / "checkpoints")
    if found is None:
        raise UserError(f"{run} holds no checkpoint to begin with: expected a run folder, or a checkpoint in one")
    path = _weights(found, "ema")
    stored, own = read_tensors(path), unique_state(model)
    fitting = {name: own[name] for name in stored.keys() & own.keys() if not differs(stored[name], own[name])}
    if not fitting:
        raise UserError(f"no weight of {found} fits this model: they are of other networks")
    refuse_not_finite(path, {name: stored[name] for name in fitting})
    fill(fitting, stored)
    return sorted((stored.keys() | own.keys()) - fitting.keys())


def refuse_changed(checkpoint: Path, run: str) -> None:
    """Raise `UserError` for a checkpoint of another run than that with this `id`, or with a file that `save` has not
    written. One that says nothing of either passes."""
    state = read_json(checkpoint / "state.json", STATE)
    if run and state.get("run", run) != run:
        raise damaged(checkpoint / "state.json", "this checkpoint is of another run")
    for name, known in state.get("files", {}).items():
        refuse_other_file(checkpoint / name, known)


def averages(checkpoint: Path) -> bool:
    """Whether a checkpoint holds a moving average of the weights."""
    return (checkpoint / EMA).is_file() or EMA in _files(checkpoint)


def _files(checkpoint: Path) -> dict[str, str]:
    """The SHA-256 of a checkpoint's files by name, where it says any."""
    path = checkpoint / "state.json"
    found: dict[str, str] = read_json(path, STATE).get("files", {}) if path.is_file() else {}
    return found


def load_step(checkpoint: Path) -> int:
    """The steps done at a checkpoint. Raises `UserError` for a `state.json` that is damaged or denies the name."""
    path = checkpoint / "state.json"
    step: int = read_json(path, STATE)["step"]
    if step_of(checkpoint.name) not in (None, step):
        raise damaged(path, f"its step is {step}", STATE.way_out)
    return step


def load_training(model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], checkpoint: Path) -> None:
    """Fill the optimizers' state, and the buffers that are no weights, from a checkpoint. Raises `UserError` for what
    is not of these, or not finite; nothing is changed then."""
    path = checkpoint / "training.safetensors"
    stored, buffers = read_tensors(path), _buffers(model)
    moments = {name: tensor for name, tensor in stored.items() if name not in buffers}
    refuse_other_moments(path, moments, model, optimizers)
    refuse_others(path, {name: stored[name] for name in stored.keys() - moments.keys()}, buffers)
    refuse_not_finite(path, moments)
    fill({f"{PASSING}{name}": buffer for name, buffer in passing_buffers(model).items()}, stored)
    fill_moments(moments, model, optimizers)


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    return {f"{PASSING}{name}": buffer.contiguous() for name, buffer in passing_buffers(model).items()}


def _size(path: Path) -> int:
    """Of a file in bytes; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0
