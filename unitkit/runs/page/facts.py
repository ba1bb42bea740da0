"""What a run's record and its log say of it: how far it is, on what, how fast, and with which knobs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .curves import steps_per_second

# Of `run.json`, what the page says elsewhere.
ELSEWHERE = ("format", "model", "knobs", "defaults", "preset", "watch", "peak_memory")


@dataclass(frozen=True)
class Progress:
    """How far a training is: `training` while it goes on, `left` the seconds that its steps may still take."""

    done: int
    steps: int
    training: bool
    left: float | None
    written: str

    @property
    def line(self) -> str:
        """It in a line."""
        if self.done >= self.steps:
            return f"All {self.steps:,} steps are done{', and are being measured' if self.training else ''}."
        share = f"step {self.done:,} of {self.steps:,} ({100 * self.done / self.steps:.0f} %)"
        if not self.training:
            return f"It ended, or was stopped, at {share}."
        left = f", about {duration(self.left)} of steps left" if self.left is not None else ""
        return f"Training: {share}{left}."


def progress_of(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], training: bool) -> Progress:
    """How far a run is, by its record and its log."""
    done = int(rows[-1]["step"]) if rows else 0
    steps, pace = record.get("steps", done), steps_per_second(rows)
    left = max(steps - done, 0) / pace if pace else None
    return Progress(done, steps, training, left, time.strftime("%Y-%m-%d %H:%M:%S"))


def facts_of(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What people ask of a training first, as (what, value)."""
    found: list[tuple[str, str]] = []
    data = record.get("data", {})
    if data:
        found.append(("data", str(data["name"])))
    if pace := steps_per_second(rows):
        images = pace * record["batch"] * record["world"] * max(len(record.get("labels", {})), 1)
        found += [("time in steps", duration(seconds_of(rows))), ("images a second", f"{images:,.3g}")]
    if peak := record.get("peak_memory"):
        found.append(("memory at most", f"{peak / 2**30:.2f} GiB"))
    for name in ("device", "machine", "precision", "seed", "batch", "world"):
        if name in record and (name, record[name]) != ("world", 1):
            found.append(({"world": "processes"}.get(name, name), str(record[name])))
    return found


class Knob(NamedTuple):
    """A knob of a run; `default` is None where it is not known, or the recipe's own field."""

    name: str
    value: Any
    changed: bool
    default: Any


def knobs_of(record: Mapping[str, Any]) -> list[Knob]:
    """Every knob of a run, and whether it is another than the recipe's default."""
    knobs: Mapping[str, Any] = record.get("knobs", {})
    defaults = record.get("defaults")
    if defaults is None:  # a run of an earlier version
        return [Knob(name, value, False, None) for name, value in knobs.items()]
    return [
        Knob(name, value, name not in defaults or defaults[name] != value, defaults.get(name))
        for name, value in knobs.items()
    ]


def of_preset(record: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that are as the preset has them that the run was begun with; none of a run that names none."""
    knobs = record.get("knobs", {})
    preset = record.get("preset", {}).get("knobs", {})
    return {name: value for name, value in preset.items() if name in knobs and knobs[name] == value}


def rest_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What else the record says."""
    return {name: value for name, value in record.items() if name not in ELSEWHERE}


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def seconds_of(rows: Sequence[Mapping[str, Any]]) -> float:
    """What all steps took, if those between two that were logged were as fast as the second."""
    before = [0, *(row["step"] for row in rows)]
    return float(sum((row["step"] - last) * row.get("seconds", 0.0) for last, row in zip(before, rows, strict=False)))
