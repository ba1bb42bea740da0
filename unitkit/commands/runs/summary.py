"""What there is to say of a run in a line: recipe, what was changed, how far it is, its main figure, its time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...ablation.folder import last_evaluation
from ...runs.folder import RunFolder
from ...runs.report import shown
from ...runs.steps import latest, step_of
from ...system.errors import UserError, nearest

DEEPEST = 6  # folders below the one that is looked through


@dataclass(frozen=True)
class Summary:
    """A run.

    Attributes:
        path: the run folder.
        recipe: its name, "" of a run from Python.
        changed: the knobs that are not as the recipe has them.
        step: the last one with a checkpoint.
        steps: how many there are to be.
        state: "training", "done", or "stopped".
        metric: what the main figure is called; "" where nothing was measured.
        value: the main figure.
        text: the same as people read it.
        seconds: that its steps took.
        started: in UTC, as ISO 8601 has it.
    """

    path: Path
    recipe: str
    changed: dict[str, Any]
    step: int
    steps: int
    state: str
    metric: str
    value: float | None
    text: str
    seconds: float
    started: str

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "path": str(self.path)}


def summary(path: Path) -> Summary:
    """What a run folder says of itself. Raises `UserError` where it is none, or damaged."""
    run = RunFolder(path)
    record = run.record
    newest = latest(run.checkpoints)
    step, steps = (step_of(newest.name) or 0) if newest else 0, record.get("steps", 0)
    metric, value, text = main_figure(run)
    knobs, defaults = record.get("knobs", {}), record.get("defaults", {})
    return Summary(
        path=path,
        recipe=record.get("recipe", ""),
        changed={name: value for name, value in knobs.items() if name in defaults and value != defaults[name]},
        step=step,
        steps=steps,
        state="training" if _held(run) else "done" if value is not None or step >= steps else "stopped",
        metric=metric,
        value=value,
        text=text,
        seconds=_seconds(run),
        started=record.get("started", ""),
    )


def main_figure(run: RunFolder) -> tuple[str, float | None, str]:
    """The first figure of the run's first metric that was measured: name, value, text."""
    entry = last_evaluation(run)
    for name, result in (entry["metrics"] if entry else {}).items():
        for figure, value in result["figures"].items():
            return f"{name}.{figure}", value, shown(value, result["units"].get(figure, ""))
    return "", None, ""


def run_folders(folder: Path, cells: bool) -> Iterator[Path]:
    """The run folders below a folder, by name; those of ablations where `cells` says so.

    Raises `UserError` where there is no such folder.
    """
    if not folder.is_dir():
        near = sorted(each.name for each in folder.parent.iterdir() if each.is_dir()) if folder.parent.is_dir() else []
        raise UserError(f"there is no folder {folder}. {nearest(folder.name, near) if near else ''}".rstrip())
    start = len(folder.parts)
    for place, inner, files in os.walk(folder):
        here = Path(place)
        if "run.json" in files:
            inner.clear()
            yield here
        elif ("ablation.json" in files and not cells) or len(here.parts) - start >= DEEPEST:
            inner.clear()
        inner[:] = sorted(name for name in inner if not name.startswith("."))


def _held(run: RunFolder) -> bool:
    """Whether a process trains in the folder now."""
    try:
        handle = os.open(run.path / ".lock", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def _seconds(run: RunFolder) -> float:
    """What the steps took, by the rows that were logged."""
    before, total = 0, 0.0
    for row in run.stats():
        total += row.get("seconds", 0.0) * (row["step"] - before)
        before = row["step"]
    return total
