"""What optimizers remember, moments and counts, as tensors by name, and back."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..system.errors import UserError
from .stored import damaged, differs


def moments_of(model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """All of it: "player/parameter/exp_avg" and the like, "player/group 0/step" of optimizers that count for all.

    Raises `UserError` for what is neither a tensor nor a number.
    """
    found: dict[str, Tensor] = {}
    for player, optimizer in optimizers.items():
        for name, entries in _remembered(model, player, optimizer, optimizer):
            found |= _as_tensors(name, entries)
    return found


def refuse_other_moments(
    path: Path, stored: Mapping[str, Tensor], model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> None:
    """Raise `UserError` for moments that these optimizers could not have left: what they leave is seen from a step of
    copies of them. Of a parameter that has not moved yet nothing is stored, and what comes later is not known."""
    known: dict[str, dict[str, Tensor]] = {}
    groups = {f"{player}/group {n}" for player, each in optimizers.items() for n in range(len(each.param_groups))}
    for player, optimizer in optimizers.items():
        twin = copy.deepcopy(optimizer)
        twin.state.clear()
        for parameter in parameters_of(twin):
            parameter.grad = torch.zeros_like(parameter)
        twin.step()
        known |= {name: _as_tensors(name, entries) for name, entries in _remembered(model, player, optimizer, twin)}
    found: dict[str, set[str]] = {name: set() for name in known}
    for name in stored:
        owner = name.rpartition("/")[0]
        if owner not in known:
            raise UserError(f"{path} is not of these players: none of them trains '{owner:.200}'")
        found[owner].add(name)
    for owner, names in found.items():
        if names and (lacking := known[owner].keys() - names):
            raise damaged(path, f"it holds no '{min(lacking)}'")
        for name in names:
            value, like = stored[name], known[owner].get(name)
            if like is not None and (difference := differs(value, like)) is not None:
                raise damaged(path, f"'{name}' has {difference}")
            whole = name.rpartition("/")[2].startswith("step") and value.numel() == 1
            if (whole or not value.is_floating_point()) and bool((value < 0).any()):
                raise damaged(path, f"'{name}' counts below 0")
            if like is None and (":" in name.rpartition("/")[2] or owner in groups):
                raise damaged(path, f"'{name}' is nothing that its optimizer keeps")


def fill_moments(
    stored: Mapping[str, Tensor], model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> None:
    """Give optimizers what `moments_of` took."""
    names = {p: name for name, p in model.named_parameters()}
    for player, optimizer in optimizers.items():
        for parameter in parameters_of(optimizer):
            prefix = f"{player}/{names[parameter]}/"
            state = {name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)}
            optimizer.state[parameter] = dict(_placed(key, t, parameter) for key, t in state.items())
        for number, group in enumerate(optimizer.param_groups):
            prefix = f"{player}/group {number}/"
            group |= dict(_placed(n.removeprefix(prefix), t) for n, t in stored.items() if n.startswith(prefix))


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Its parameters, in their order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _remembered(
    model: nn.Module, player: str, optimizer: torch.optim.Optimizer, of: torch.optim.Optimizer
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What `of`, the optimizer or a copy, remembers of each parameter and group, by its name in the file."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    for parameter, own in zip(parameters_of(optimizer), parameters_of(of), strict=True):
        yield f"{player}/{names[parameter]}", of.state.get(own, {})
    for number, group in enumerate(of.param_groups):  # where adan and lamb, say, count their steps
        yield f"{player}/group {number}", {key: value for key, value in group.items() if key.endswith("step")}


def _as_tensors(name: str, entries: Mapping[str, Any]) -> dict[str, Tensor]:
    found = {}
    for key, value in entries.items():
        if isinstance(value, Tensor):
            found[f"{name}/{key}"] = value.detach().contiguous()
        elif isinstance(value, bool | int | float):  # some optimizers count in plain numbers
            exact = torch.float64 if isinstance(value, float) else None
            found[f"{name}/{key}:{type(value).__name__}"] = torch.tensor(value, dtype=exact)
        else:
            player, kind = name.partition("/")[0], type(value).__name__
            raise UserError(f"the optimizer of player '{player}' keeps '{key}', a {kind}, which no checkpoint holds")
    return found


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
