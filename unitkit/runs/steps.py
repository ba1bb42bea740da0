"""The checkpoints of a folder: which there are, by their names, and whether they are whole."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..system.files import temporary_name

STEP = re.compile(r"step-([0-9]+)")
EMA = "ema.safetensors"  # where the training keeps a moving average
WEIGHTS_FILES = (EMA, "model.safetensors")
FILES = ("model.safetensors", "model.json", "training.safetensors", "state.json")


def step_name(step: int) -> str:
    """What the checkpoint of a step is called: step-00000012."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The step in a checkpoint's name, step-00000012, or a sample grid's without its suffix; None for other names."""
    found = STEP.fullmatch(name)
    return int(found[1]) if found else None


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that are named after a step, step-00000012 or step-00000012.png, by number, oldest first."""
    steps = ((step_of(path.name.removesuffix(".png")), path) for path in paths)
    return [path for _, path in sorted((step, path) for step, path in steps if step is not None)]


def all_steps(folder: Path) -> list[Path]:
    """The whole checkpoints of a folder, oldest first: folders step-NUMBER, or links to such, that have every file."""
    return [path for path in in_order(folder.glob("step-*")) if whole(path)]


def whole(checkpoint: Path) -> bool:
    """Whether a folder has every file of a checkpoint."""
    return all((checkpoint / name).is_file() for name in FILES)


def broken(folder: Path) -> list[Path]:
    """Folders of later steps than the newest whole checkpoint, which lack some of its files."""
    found = [path for path in in_order(folder.glob("step-*")) if path.is_dir()]
    newest = max((place for place, path in enumerate(found) if whole(path)), default=-1)
    return found[newest + 1 :]


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    return next(iter(all_steps(folder)[::-1]), None)


def make_way(final: Path) -> None:
    """Free the name of a checkpoint from one of the same step, or one that is damaged; anything else is set aside."""
    if final.is_dir() and not final.is_symlink():
        discard(final)
    if os.path.lexists(final):
        number = next(n for n in itertools.count(1) if not os.path.lexists(f"{final}.aside-{n}"))
        final.rename(f"{final}.aside-{number}")


def discard(checkpoint: Path) -> None:
    """Delete a checkpoint: under another name first, so that a kill leaves no half of it, and its own files alone."""
    with suppress(OSError):
        if {path.name for path in checkpoint.iterdir()} <= {*FILES, EMA}:
            shutil.rmtree(checkpoint.rename(checkpoint.with_name(temporary_name())))
        else:  # with something of the user's own
            for name in (*FILES, EMA):
                (checkpoint / name).unlink(missing_ok=True)
