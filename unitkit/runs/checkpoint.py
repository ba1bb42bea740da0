"""Checkpoints: a folder of safetensors and JSON, written whole or not at all. No pickle anywhere.

checkpoints/step-00001000/   model.safetensors   weights and buffers, a tied tensor once
                             model.json          the model's spec, image size and domain labels
                             ema.safetensors     their moving average, where the recipe keeps one
                             training.safetensors   "player/parameter/exp_avg" and the like, "player/group 0/step" of
                                                 optimizers that count for all, and "buffers/NAME" for those buffers
                                                 that are no weights, such as an image pool
                             state.json          the steps done
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import discriminators, encoders, generators, models, sharing  # noqa: F401 (model.json names their parts)
from ..models import ImagePaths
from ..networks.state import fill, passing_buffers, unique_state, weights_of
from ..registry import Spec, unregistered
from ..system.errors import TrainingError, UserError, nearest, refusal
from ..system.files import temporary, temporary_name
from .steps import FILES, all_steps, latest, step_name, step_of, whole
from .stored import FORMAT, damaged, not_finite, read_json, read_tensors, write_tensors

WEIGHTS = ("ema", "last")
EMA = "ema.safetensors"


def save(
    folder: Path,
    step: int,
    *,
    model: nn.Module,
    description: Mapping[str, Any],
    optimizers: Mapping[str, torch.optim.Optimizer],
    average: Mapping[str, Tensor] | None = None,
    keep: int,
) -> Path:
    """Write `folder/step-...`, then delete all others but the `keep` - 1 newest.

    The files go to a temporary folder, are flushed to the disk, and the folder is renamed: a kill at any moment
    leaves either the whole checkpoint or none, and never touches that of an earlier step. One of this step, of another
    history say, is replaced. Only what `save` writes is ever deleted: what else lies there stays.

    Raises:
        UserError: the disk is full or refuses; what was there before stays.
        TrainingError: a weight or a moment that is not finite; nothing is written, and what was there before stays.
    """
    final = folder / step_name(step)
    last = next((each for each in reversed(all_steps(folder)) if each != final), None)
    stays = f"the last good one, {last.name}, stays" if last else "there is no earlier one"
    tensors = {
        "model.safetensors": weights_of(model),
        "training.safetensors": _training_tensors(model, optimizers),
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
            (place / "state.json").write_text(json.dumps({"format": FORMAT, "step": step}))
            for path in [*place.iterdir(), place]:
                _flush(path)
            _make_way(final)
            place.rename(final)
        _flush(folder)
    except OSError as error:
        raise refusal(f"could not write the checkpoint of step {step} to {folder}", error, f"; {stays}") from error
    ours = [each for each in all_steps(folder) if each.name == step_name(step_of(each.name) or 0)]
    others = [each for each in ours if each != final and not each.is_symlink()]
    for old in others[: max(0, len(others) - keep + 1)]:
        _discard(old)
    return final


def _make_way(final: Path) -> None:
    """Free the name of a checkpoint from one of the same step, or one that is damaged; anything else is set aside."""
    if final.is_dir() and not final.is_symlink():
        _discard(final)
    if os.path.lexists(final):
        number = next(n for n in itertools.count(1) if not os.path.lexists(f"{final}.aside-{n}"))
        final.rename(f"{final}.aside-{number}")


def _discard(checkpoint: Path) -> None:
    """Delete a checkpoint: under another name first, so that a kill leaves no half of it, and its own files alone."""
    with suppress(OSError):
        if {path.name for path in checkpoint.iterdir()} <= {*FILES, EMA}:
            shutil.rmtree(checkpoint.rename(checkpoint.with_name(temporary_name())))
        else:  # with something of the user's own
            for name in (*FILES, EMA):
                (checkpoint / name).unlink(missing_ok=True)


def load_model(checkpoint: Path, weights: str = "ema") -> tuple[ImagePaths, dict[str, Any]]:
    """The model of a checkpoint, on the CPU in evaluation mode, and its description (`size`, `labels`).

    Args:
        weights: "ema", the moving average where the training kept one, or "last", those of the last step.
    """
    description = read_json(checkpoint / "model.json")
    if missing := {"model", "size", "labels"} - description.keys():
        raise damaged(checkpoint / "model.json", f"it says nothing of {', '.join(sorted(missing))}")
    if unknown := unregistered(description["model"]):
        recipe = checkpoint.parent.parent / "recipe.py"
        known = f"it was registered by the recipe: import that file first, or give --parts {recipe}"
        other = "if it is of your own, import the file that registers it first, or give --parts FILE"
        raise UserError(f"{checkpoint / 'model.json'}: unknown {unknown} {known if recipe.is_file() else other}")
    try:
        spec = Spec.from_json(description["model"])
    except UserError as error:
        raise UserError(f"{checkpoint / 'model.json'} does not build: {error}") from error
    if spec.kind != "model":
        raise UserError(f"{checkpoint / 'model.json'} describes no model, but the {spec.kind} '{spec.name}'")
    try:
        with torch.random.fork_rng(devices=[]):  # the first weights drawn here are overwritten
            model: ImagePaths = spec.build()
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:  # arguments that no recipe would write
        raise UserError(f"{checkpoint / 'model.json'} does not build: {error}") from error
    load_weights(model, checkpoint, weights)
    return model.eval(), description


def load_weights(model: nn.Module, checkpoint: Path, weights: str = "last") -> None:
    """Fill a model with a checkpoint's weights. Raises `UserError` where names or shapes differ."""
    if weights not in WEIGHTS:
        raise UserError(f"weights are ema or last, not '{weights}'. {nearest(weights, WEIGHTS)}")
    path = checkpoint / ("model.safetensors" if weights == "last" or not averages(checkpoint) else EMA)
    stored, own = read_tensors(path), unique_state(model)
    if stored.keys() != own.keys():
        name = min(stored.keys() ^ own.keys())
        raise UserError(f"{path} is not of this model: '{name}' is in only one of them")
    for name, tensor in own.items():
        if stored[name].shape != tensor.shape:
            raise UserError(f"{path} is not of this model: '{name}' has shape {list(stored[name].shape)}")
    fill(own, stored)


def load_matching(model: nn.Module, run: str | Path) -> list[str]:
    """Fill a model with a run's weights as far as names and shapes agree; returns the names of those that do not.

    Args:
        run: a run folder, whose last checkpoint is taken, or a checkpoint. Of its weights the moving average, if any.

    Raises:
        UserError: no run, or none of whose weights fit.
    """
    folder = Path(run)
    found = folder if whole(folder) else latest(folder / "checkpoints")
    if found is None:
        raise UserError(f"{run} holds no checkpoint to begin with: expected a run folder, or a checkpoint in one")
    stored, own = read_tensors(found / (EMA if averages(found) else "model.safetensors")), unique_state(model)
    fitting = {name for name in stored.keys() & own.keys() if stored[name].shape == own[name].shape}
    if not fitting:
        raise UserError(f"no weight of {found} fits this model: they are of other networks")
    fill({name: own[name] for name in fitting}, stored)
    return sorted((stored.keys() | own.keys()) - fitting)


def averages(checkpoint: Path) -> bool:
    """Whether a checkpoint holds a moving average of the weights."""
    return (checkpoint / EMA).is_file()


def read_average(checkpoint: Path) -> dict[str, Tensor]:
    """The moving average of the weights. Raises `UserError` where there is none."""
    return read_tensors(checkpoint / EMA)


def load_step(checkpoint: Path) -> int:
    """The steps done at a checkpoint. Raises `UserError` for a `state.json` that is damaged or denies the name."""
    step = read_json(checkpoint / "state.json").get("step")
    if not isinstance(step, int) or step_of(checkpoint.name) not in (None, step):
        raise damaged(checkpoint / "state.json", f"its step is {step!r}")
    return step


def load_training(model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], checkpoint: Path) -> None:
    """Fill the optimizers' state, and the buffers that are no weights, from a checkpoint."""
    path = checkpoint / "training.safetensors"
    stored = read_tensors(path)
    buffers = {f"buffers/{name}": buffer for name, buffer in passing_buffers(model).items()}
    names = {p: name for name, p in model.named_parameters()}
    players = {f"{player}/{names[p]}" for player, o in optimizers.items() for p in _parameters(o)}
    players |= {f"{player}/group {n}" for player, o in optimizers.items() for n in range(len(o.param_groups))}
    if strange := {name.rpartition("/")[0] for name in stored.keys() - buffers.keys()} - players:
        raise UserError(f"{path} is not of these players: none of them trains '{min(strange)}'")
    if lacking := buffers.keys() - stored.keys():
        raise UserError(f"{path} is not of this model: it holds no '{min(lacking)}'")
    fill(buffers, stored)
    for player, optimizer in optimizers.items():
        for parameter in _parameters(optimizer):
            prefix = f"{player}/{names[parameter]}/"
            state = {name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)}
            optimizer.state[parameter] = dict(_placed(key, t, parameter) for key, t in state.items())
        for number, group in enumerate(optimizer.param_groups):
            prefix = f"{player}/group {number}/"
            group |= dict(_placed(n.removeprefix(prefix), t) for n, t in stored.items() if n.startswith(prefix))


def _placed(key: str, stored: Tensor, parameter: nn.Parameter | None = None) -> tuple[str, Any]:
    """An entry of an optimizer's state: a tensor beside its parameter, if it has one, or the number that it was."""
    name, _, kind = key.partition(":")
    if kind:
        return name, {"int": int, "float": float, "bool": bool}[kind](stored.item())
    # Moments lie in memory as their parameter does (channels last), so that the fused step stays exact.
    if parameter is None:
        return name, stored
    if stored.shape == parameter.shape:
        return name, torch.empty_like(parameter, dtype=stored.dtype).copy_(stored)
    return name, stored.to(parameter.device)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _training_tensors(model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    found = {f"buffers/{name}": buffer.contiguous() for name, buffer in passing_buffers(model).items()}
    for player, optimizer in optimizers.items():
        kept = {names[parameter]: state for parameter, state in optimizer.state.items()}
        for number, group in enumerate(optimizer.param_groups):  # where adan and lamb, say, count their steps
            kept[f"group {number}"] = {key: value for key, value in group.items() if key.endswith("step")}
        for name, entries in kept.items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    found[f"{player}/{name}/{key}"] = value.detach().contiguous()
                elif isinstance(value, bool | int | float):  # some optimizers count in plain numbers
                    exact = torch.float64 if isinstance(value, float) else None
                    found[f"{player}/{name}/{key}:{type(value).__name__}"] = torch.tensor(value, dtype=exact)
                else:
                    kind = type(value).__name__
                    raise UserError(
                        f"the optimizer of player '{player}' keeps '{key}', a {kind}, which no checkpoint holds"
                    )
    return found


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
