"""What there is to say of a run in a line: recipe, what was changed, how far it is, its main figure, its time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...ablation.folder import last_evaluation
from ...annotations import spelt
from ...runs.folder import RunFolder
from ...runs.page.facts import knobs_of, of_preset, seconds_of
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
        preset: the name of the one that the run was begun with, "" of none.
        beyond: of `changed`, those that are not as the preset has them, and those that the preset had otherwise.
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
    preset: str
    beyond: dict[str, Any]
    step: int
    steps: int
    state: str
    metric: str
    value: float | None
    text: str
    seconds: float
    started: str

    @property
    def knobs(self) -> str:
        """What was changed, as it is said on the command line."""
        words = [f"{name}={spelt(value)}" for name, value in self.beyond.items() if name != "steps"]
        return " ".join([f"@{self.preset}"] * bool(self.preset) + words)

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "path": str(self.path)}


def summary(path: Path) -> Summary:
    """What a run folder says of itself. Raises `UserError` where it is none, or damaged."""
    run = RunFolder(path)
    record = run.record
    newest = latest(run.checkpoints)
    step, steps = (step_of(newest.name) or 0) if newest else 0, record.get("steps", 0)
    entry = last_evaluation(run)
    metric, value, text = main_figure(entry)
    measured = entry is not None and entry["step"] == step  # one that its watch ended early has fewer steps
    changed = {knob.name: knob.value for knob in knobs_of(record) if knob.changed}
    preset, same = record.get("preset", {}), of_preset(record)
    otherwise = {name: record["knobs"][name] for name in preset.get("knobs", {}) if name in record.get("knobs", {})}
    return Summary(
        path=path,
        recipe=record.get("recipe", ""),
        changed=changed,
        preset=preset.get("name", ""),
        beyond={name: value for name, value in {**changed, **otherwise}.items() if name not in same},
        step=step,
        steps=steps,
        state="training" if _held(run) else "done" if measured or step >= steps else "stopped",
        metric=metric,
        value=value,
        text=text,
        seconds=seconds_of(run.stats()),
        started=record.get("started", ""),
    )


def main_figure(entry: Mapping[str, Any] | None) -> tuple[str, float | None, str]:
    """The first figure of an evaluation: name, value, text; "", None and "" where there is none."""
    for name, result in (entry["metrics"] if entry else {}).items():
        for figure, value in result["figures"].items():
            return f"{name}.{figure}", value, shown(value, result["units"].get(figure, ""))
    return "", None, ""


def run_folders(folder: Path, cells: bool) -> Iterator[Path]:
    """The run folders below a folder, by name; those of ablations where it is one itself or `cells` says so.

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
        elif ("ablation.json" in files and here != folder and not cells) or len(here.parts) - start >= DEEPEST:
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
