"""A run's files read and written: JSON of our format and finite tensors, or one line that says what is wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from safetensors.torch import save as save_bytes
from torch import Tensor

from ..system.errors import UserError
from .steps import all_steps, step_of

FORMAT = 1


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `UserError` for one that is missing, damaged or of a later format."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    if not isinstance(value, dict) or value.get("format", FORMAT) != FORMAT:
        raise damaged(path, f"it is not of format {FORMAT}, which this version of unitkit reads")
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises `UserError` for one that is missing or damaged, or holds what is not finite."""
    try:
        stored = load_file(path) if _is_text(path) else load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise damaged(path, error) from error
    if (bad := not_finite(stored)) is not None:
        raise damaged(path, f"'{bad}' is not finite")
    return stored


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a file of tensors, all of them contiguous, by name. Raises `OSError` where the disk refuses."""
    if not _is_text(path):
        path.write_bytes(save_bytes(tensors))
        return
    path.touch()
    rights = path.stat().st_mode & 0o777  # of any new file: safetensors lets the owner alone read its own
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise OSError(None, str(error)) from error
    path.chmod(rights)


def _is_text(path: Path) -> bool:
    """Whether safetensors, which wants UTF-8, can open a path; any bytes but 0 and / can be in one."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor that holds a NaN or an infinity."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def damaged(path: Path, reason: object) -> UserError:
    """The error for a file that cannot be used, with the checkpoint to turn to if the file is of another one."""
    here = path.parent
    others = [step for step in all_steps(here.parent) if step != here] if step_of(here.name) is not None else []
    if not others:
        return UserError(f"cannot use {path}: {reason}")
    return UserError(
        f"cannot use {path}: {reason}; there is also {others[-1].name}: use it by "
        f"`unitkit translate {shlex.quote(str(others[-1]))} ...`, or delete {here} to resume from it"
    )
