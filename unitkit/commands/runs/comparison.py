"""Several runs, or checkpoints of them, beside each other: what differs between them, and the figures they share."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...runs.checkpoint import averages
from ...runs.folder import RunFolder
from ...runs.kept import find_run
from ...runs.page.curves import Curves, loss_curves, watched_curves
from ...runs.page.facts import duration
from ...runs.report import figure_title, shown, warnings
from ...runs.schema import MODEL
from ...runs.steps import step_of
from ...runs.stored import read_json
from ...system.errors import UserError
from .summary import Summary, summary

# Of an evaluation, what its figures hang on besides the model: those of others are no better and no worse.
PROTOCOL = ("split", "images", "seed", "left_out", "resampling", "rounding", "latent")
FINGERPRINT = "fingerprint"
SETTINGS = ("seed", "precision")  # what else of a run people set as they do its knobs


@dataclass(frozen=True)
class Compared:
    """A run with one of its checkpoints, None before the first, and what it is called beside the others.

    Attributes:
        data: of which data it is, as text by name.
        measured: the evaluations of this checkpoint, with the weights that it is used with.
        losses: its curves.
        watched: those of its metrics while it trained.
    """

    name: str
    folder: RunFolder
    checkpoint: Path | None
    summary: Summary
    record: dict[str, Any]
    data: dict[str, str]
    measured: list[dict[str, Any]]
    losses: list[Curves]
    watched: list[Curves]

    @property
    def settings(self) -> dict[str, Any]:
        """Its knobs, and what is set as they are."""
        return {**{name: self.record[name] for name in SETTINGS if name in self.record}, **self.record.get("knobs", {})}

    @property
    def steps(self) -> str:
        """The step of its checkpoint, of how many, and whether that is the best."""
        step = (step_of(self.checkpoint.name) or 0) if self.checkpoint else 0
        of = "" if step == self.summary.steps else f" of {self.summary.steps}"
        return f"{step}{of}{', best' if self._best else ''}"

    @property
    def _best(self) -> bool:
        return self.checkpoint is not None and self.checkpoint.parent.name == self.folder.best.name


class Row(NamedTuple):
    """A figure: what it is called, "higher" or "lower" is better, under what it was measured where that differs between
    the runs, whether it is its metric's first, and its text for every run, "" where it has none."""

    figure: str
    better: str
    protocol: str
    first: bool
    texts: list[str]


def read_compared(path: Path, name: str) -> Compared:
    """What there is of a run. Raises `UserError` for one that is damaged."""
    try:
        found, checkpoint = find_run(path)
        folder = found or RunFolder(path)
    except UserError:
        if not (path / "run.json").is_file():
            raise
        folder, checkpoint = RunFolder(path), None  # not got that far yet
    record = folder.record
    size, weights, label = None, "last", ""
    if checkpoint is not None:
        size = read_json(checkpoint / "model.json", MODEL)["size"]
        weights = "ema" if averages(checkpoint) else "last"
        label = checkpoint.name if checkpoint.parent.name != folder.best.name else f"best/{checkpoint.name}"
    return Compared(
        name,
        folder,
        checkpoint,
        summary(folder.path),
        record,
        data_facts(record.get("data", {}), size),
        [each for each in folder.evaluations() if (each["checkpoint"], each["weights"]) == (label, weights)],
        loss_curves(folder.stats()),
        watched_curves(folder.watched(), record.get("watch", {})),
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """What runs are called beside each other: their paths, without the folders that all of them lie in."""
    whole = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath(whole)
    start = os.path.dirname(common) if common in whole else common
    return [os.path.relpath(path, start) for path in whole]


def settings_that_differ(runs: Sequence[Compared]) -> dict[str, list[str]]:
    """By knob its text for every run, of those that differ; of one that not all recipes have, where it was changed."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return {
        name: [_text(run.settings[name]) if name in run.settings else "-" for run in runs]
        for name in names
        if _differs(name, runs)
    }


def _differs(name: str, runs: Sequence[Compared]) -> bool:
    have = [run for run in runs if name in run.settings]
    values = {json.dumps(run.settings[name], sort_keys=True) for run in have}
    return len(values) > 1 or (len(have) < len(runs) and any(name in run.summary.changed for run in have))


def facts(runs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """What each run is, as (what, its text for every run): recipe, knobs that differ, data, how far it is, time."""
    data = [run.data for run in runs]
    versions = [run.record.get("versions", {}) for run in runs]
    knobs = {name: texts for name, texts in settings_that_differ(runs).items() if name != "steps"}
    return [
        ("recipe", [run.summary.recipe or "-" for run in runs]),
        *knobs.items(),
        *((name, [each.get(name, "-") for each in data]) for name in differing(data) if name not in knobs),
        *((f"version of {name}", [each.get(name, "-") for each in versions]) for name in differing(versions)),
        ("steps", [run.steps for run in runs]),
        ("state", [run.summary.state for run in runs]),
        ("time in steps", [duration(run.summary.seconds) for run in runs]),
        ("started, UTC", [run.summary.started[:16].replace("T", " ") or "-" for run in runs]),
    ]


def figures(runs: Sequence[Compared]) -> list[Row]:
    """Every figure of every metric, a row for each protocol that it was measured under."""
    metrics = dict.fromkeys(name for run in runs for entry in run.measured for name in entry["metrics"])
    return [row for name in metrics for row in _rows(name, runs)]


def _rows(metric: str, runs: Sequence[Compared]) -> list[Row]:
    """Those of one metric."""
    protocols: list[dict[str, str]] = []
    found: list[dict[int, Mapping[str, Any]]] = []  # by protocol, the result of each run
    for number, run in enumerate(runs):
        for entry in run.measured:
            if not (result := entry["metrics"].get(metric, {})).get("figures"):
                continue
            protocol = protocol_of(entry, result)
            if protocol not in protocols:
                protocols.append(protocol)
                found.append({})
            found[protocols.index(protocol)][number] = result
    rows = []
    for said, results in zip(telling(protocols), found, strict=True):
        figures = {name: result for result in results.values() for name in result["figures"]}
        for place, (figure, result) in enumerate(figures.items()):
            unit = result["units"].get(figure, "")
            texts = [
                shown(results[n]["figures"][figure], unit) if figure in results.get(n, {}).get("figures", {}) else ""
                for n in range(len(runs))
            ]
            title = figure_title(result["title"], figure, first=not place)
            better = {True: "higher", False: "lower"}.get(result["higher"].get(figure), "")
            rows.append(Row(title, better, said, not place, texts))
    return rows


def protocol_of(entry: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, str]:
    """All that a figure hangs on besides the model, as text by name."""
    said = {name: entry[name] for name in PROTOCOL if name in entry}
    n = {f"n of {reading}": count for reading, count in result["n"].items()}
    rest = {name: _text(value) for name, value in {**said, **n, **result["protocol"]}.items()}
    return {**data_facts(entry["data"], entry["size"]), **rest}


def data_facts(data: Mapping[str, Any], size: Sequence[int] | None) -> dict[str, str]:
    """Which data these are, as text by name."""
    found = {"data": data.get("name"), "size": size and _text(size), FINGERPRINT: data.get(FINGERPRINT)}
    return {name: str(value) for name, value in found.items() if value}


def differing(facts: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of what differs between several; a fingerprint only where nothing else tells them apart."""

    def apart(names: Sequence[str]) -> int:
        return len({tuple(each.get(name) for name in names) for each in facts})

    names = [name for name in dict.fromkeys(name for each in facts for name in each) if apart([name]) > 1]
    rest = [name for name in names if name != FINGERPRINT]
    return rest if apart(rest) == apart(names) else names


def telling(facts: Sequence[Mapping[str, str]]) -> list[str]:
    """For each of several what it is, of that in which they differ."""
    names = differing(facts)
    return [", ".join(f"{name} {each[name]}" for name in names if name in each) for each in facts]


def notes_of(runs: Sequence[Compared], rows: Sequence[Row]) -> list[str]:
    """What is to be known of the figures: where there are none, where they cannot be compared, and their warnings."""
    unmeasured = [
        f"{run.name} has no figures at this step: unitkit evaluate measures it"
        if run.checkpoint
        else f"{run.name} has no checkpoint yet, and so neither figures nor images"
        for run in runs
        if not run.measured
    ]
    apart = [row.figure for row in rows if row.first and row.protocol]
    lines = [f"{', '.join(dict.fromkeys(apart))}: under different protocols, not to be compared from row to row"]
    said: dict[str, list[str]] = {}
    for run in runs:
        for text in dict.fromkeys(text for entry in run.measured for text in warnings(entry)):
            said.setdefault(text, []).append(run.name)
    return [*unmeasured, *(lines if apart else []), *(f"{', '.join(names)}: {text}" for text, names in said.items())]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
