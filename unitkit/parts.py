"""Parts from outside the package: running the file that registers them, and finding them in a model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from .errors import UserError, nearest
from .registry import REGISTRIES, Spec


def import_parts(path: Path) -> None:
    """Run a Python file, so that the parts that it registers can be named. It may be a recipe file.

    Raises:
        UserError: a file that is missing, is no Python file, or does not run.
    """
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UserError(f"there is no file {path} with parts. {nearest(path.name, siblings)}")
    spec = importlib.util.spec_from_file_location(f"unitkit_parts_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"parts are registered by a Python file, NAME.py, and {path} is not one")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where annotations of its parts are looked up
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"the file {path} does not run: {type(error).__name__}: {error}") from error


def from_outside(spec: Spec) -> bool:
    """Whether a part, or a part among its arguments, was registered by another package or by a recipe file."""
    module = REGISTRIES[spec.kind][spec.name].__module__
    inside = module.startswith(f"{__package__}.")
    return not inside or any(from_outside(value) for value in spec.arguments.values() if isinstance(value, Spec))


def unregistered(value: Any) -> str | None:
    """The first part that a spec in JSON names and nothing registers here, with the nearest name; None without one."""
    if not isinstance(value, dict) or not isinstance(value.get("arguments"), dict):
        return None
    kind, name = value.get("kind"), value.get("name")
    if kind in REGISTRIES and name not in REGISTRIES[kind].parts:
        return f"{kind} '{name}' ({nearest(str(name), REGISTRIES[kind])});"
    return next(filter(None, map(unregistered, value["arguments"].values())), None)
