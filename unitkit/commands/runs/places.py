"""Where runs lie whose folder nobody names, and which is the latest of them."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path

from ...system.errors import refusal
from ...system.files import temporary

RUNS = Path("runs")
LATEST = "latest"
NO_FOLDER = Path("\0")  # the user names none, one is made of the recipe's name and the time; nobody can type it


def fresh_folder(path: Path) -> Path:
    """Make a new folder: `path`, or path-2, ... where that is taken. Raises `UserError` where the disk refuses."""
    for number in itertools.count(1):
        place = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            place.mkdir(parents=True)
            return place
        except FileExistsError:
            continue
        except OSError as error:
            raise refusal(f"cannot make the folder {place}", error) from error
    raise AssertionError("there is always another number")


def point_at(path: Path) -> None:
    """Let runs/latest lead to this folder, if it lies in runs; where the disk has no links, nothing does. A cell is its
    ablation's, and changes nothing."""
    if any((folder / "ablation.json").exists() for folder in path.parents):
        return
    if RUNS in path.parents and not (os.path.lexists(RUNS / LATEST) and not (RUNS / LATEST).is_symlink()):
        with suppress(OSError), temporary(RUNS) as place:
            place.unlink()
            place.symlink_to(path.relative_to(RUNS))
            place.replace(RUNS / LATEST)
