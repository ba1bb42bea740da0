"""An ablation's folder: its grid, its cells, how far each has come, and the lock that keeps a second ablation out."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..hooks import ends
from ..recipe_file import RecipeFile
from ..runs.checkpoint import load_step
from ..runs.folder import RunFolder
from ..runs.kept import kept_recipe
from ..runs.options import RunOptions
from ..runs.schema import ABLATION
from ..runs.steps import latest, step_of
from ..runs.stored import damaged, read_json
from ..system.errors import UserError, nearest
from ..system.files import replacing
from .grid import Cell, Grid, label


class Figure(NamedTuple):
    """A figure of a metric: ("ground_truth(ab)", "changing.translation.psnr"). Both are names, which may hold anything.

    `name` is "" for the metric's first figure, as long as no cell has told what it is called.
    """

    metric: str
    name: str

    def __str__(self) -> str:
        return f"{self.metric}.{self.name}" if self.name else self.metric


@dataclass(frozen=True)
class Ablation:
    """What `ablation.json` holds: recipe, fixed and swept knobs, seeds, baseline, metric, and the cells."""

    out: Path
    record: dict[str, Any]

    @property
    def cells(self) -> list[Cell]:
        """In the order in which they run: all settings of the first seed, then of the next."""
        return [Cell(each["setting"], each["seed"], each["folder"]) for each in self.record["cells"]]

    @property
    def main(self) -> Figure:
        """What plots and comparisons show."""
        return Figure(*self.record["metric"])

    def name_main(self, name: str) -> None:
        """Complete the main figure by its name, or take another one of its metric."""
        self.record["metric"] = [self.main.metric, name]
        self.write()

    def run(self, cell: Cell) -> RunFolder:
        """The cell's run folder."""
        return RunFolder(self.out / cell.folder)

    def done(self, cell: Cell) -> bool:
        """Whether a cell is trained and measured to its end: its last checkpoint has an evaluation.

        Raises `UserError` for a run of other knobs, or of another seed, than the cell's.
        """
        self._refuse_other(cell)
        run = self.run(cell)
        try:
            last, newest = last_evaluation(run), latest(run.checkpoints)
            if last is None or newest is None or last["checkpoint"] != newest.name:
                return False
            return _finished(run, load_step(newest))
        except UserError:  # a damaged file: not done, and training again tells why
            return False

    def figure(self, cell: Cell) -> float | None:
        """The main metric's figure of a cell that is done. Raises `UserError` as `done`."""
        self._refuse_other(cell)
        entry = last_evaluation(self.run(cell))
        return None if entry is None else figures_of(entry).get(self.main)

    def _refuse_other(self, cell: Cell) -> None:
        run, known = self.run(cell), self.record.get("knobs")
        try:
            record = run.record
        except UserError:  # not begun, or damaged: training it tells why
            return
        # An ablation from before all knobs were kept knows those that it was given.
        knobs = {**record.get("knobs", {}), **self.record["fixed"]} if known is None else known
        refuse_other_cell(run, record, {**knobs, **cell.setting}, cell.seed)

    def mark(self, cell: Cell, failed: str | None) -> None:
        """Keep why a cell failed, or that it did not."""
        for each in self.record["cells"]:
            if each["folder"] == cell.folder:
                each["failed"] = failed
        self.write()

    def write(self) -> None:
        """Write `ablation.json`, whole or not at all."""
        with replacing(self.out / "ablation.json") as file:
            file.write_text(json.dumps(self.record, indent=1), "utf-8")


def read_ablation(out: Path) -> dict[str, Any]:
    """What a folder's `ablation.json` holds. Raises `UserError` for one that is missing or damaged."""
    path = out / "ablation.json"
    record = read_json(path, ABLATION)
    for setting in (record["baseline"], *(cell["setting"] for cell in record["cells"])):
        if setting.keys() != record["swept"].keys():
            wanted, given = (", ".join(each) or "no knob" for each in (record["swept"], setting))
            raise damaged(
                path, f"a setting is of {given:.200}, and the knobs swept are {wanted:.200}", ABLATION.way_out
            )
    twice = Counter(PurePosixPath(cell["folder"]) for cell in record["cells"]).most_common(1)
    if twice and twice[0][1] > 1:
        raise damaged(path, f"two cells lie in one folder, {twice[0][0]!s:.200}", ABLATION.way_out)
    return record


def refuse_other_cell(run: RunFolder, record: Mapping[str, Any], knobs: Mapping[str, Any], seed: int) -> None:
    """Raise `UserError` where a cell's folder holds a run, with this record, of other knobs or of another seed.

    Its figures would be taken for those of the cell's setting.
    """
    found = record.get("knobs", {})
    names = sorted(found.keys() | knobs.keys(), key=lambda name: name not in knobs)
    pairs = [(f"the knob {name}", found.get(name), knobs.get(name)) for name in names]
    for what, is_now, should in (*pairs, ("the seed", record["seed"], seed)):
        if json.dumps(is_now, sort_keys=True) != json.dumps(should, sort_keys=True):  # 1 is not 1.0, a NaN is a NaN
            raise UserError(
                f"{run.path} is not the run of its cell: {what} is {is_now!s:.80}, and should be {should!s:.80}; put "
                "the cell's own run back, or move this one away, and the ablation trains the cell anew"
            )


def begin(
    out: Path,
    file: RecipeFile,
    grid: Grid,
    seeds: int,
    baseline: Mapping[str, Any],
    metric: Figure,
    options: RunOptions,
    command: Sequence[str],
) -> Ablation:
    """The ablation of a folder, new, taken up again, or extended by values and seeds.

    Args:
        options: of every cell, of which the precision, `compile` and the trackers are kept.

    Raises:
        UserError: a folder that holds an ablation of another recipe, precision, of other fixed or other swept knobs, or
            of which one is compiled and the other is not.
    """
    record: dict[str, Any] = {
        "format": 1,
        "recipe": file.name,
        "path": str(file.path),
        "folder": str(Path.cwd()),
        "sha256": hashlib.sha256("".join(file.files.values()).encode()).hexdigest(),
        "knobs": file.kept(file.values(None, grid.fixed)),
        "fixed": plain(grid.fixed),
        "swept": plain(grid.swept),
        "seeds": seeds,
        "baseline": plain(baseline),
        "metric": list(metric),
        "precision": options.precision,
        "compile": options.compile,
        "track": list(options.track or ()),
        "command": " ".join(command),
        "cells": [plain(cell.to_json()) for cell in grid.cells(seeds)],
    }
    path = out / "ablation.json"
    if os.path.lexists(path):
        before = read_ablation(out)
        for key, what in (
            ("recipe", "the recipe"),
            ("sha256", "the recipe's text"),
            ("precision", "the precision"),
            ("compile", "--compile"),
            ("fixed", "the fixed knobs"),
        ):
            if before.get(key, record[key]) != record[key]:
                was = f": {before.get(key)}, now {record[key]}" if key != "sha256" else ""
                raise UserError(
                    f"{out} holds another ablation, {what} differ{'s' if key != 'fixed' else ''}{was}; "
                    "choose another --out"
                )
        if list(before["swept"]) != list(record["swept"]):
            raise UserError(
                f"{out} holds an ablation over {', '.join(before['swept']) or 'no knob'}, not over "
                f"{', '.join(record['swept']) or 'no knob'}; choose another --out"
            )
        _keep_earlier(before, record)
    elif out.is_dir() and any(not p.name.startswith(".") for p in out.iterdir()):
        raise UserError(f"{out} is a folder with other things in it, and no ablation: choose another --out")
    kept = kept_copy(out, file.name)
    for name, text in file.files.items():
        with replacing(kept if name == "recipe.py" else out / name) as copy:
            copy.write_text(text, "utf-8")
    ablation = Ablation(out, record)
    ablation.write()
    return ablation


def kept_copy(out: Path, recipe: str) -> Path:
    """Where an ablation keeps its recipe's text, from which cells train once the recipe file is edited.

    What the recipe imports lies beside it in `recipes`, as in a run.
    """
    return out / f"{recipe}.py"


def _keep_earlier(before: Mapping[str, Any], record: dict[str, Any]) -> None:
    """Values, seeds and cells of an earlier call stay, so that a smaller grid later takes nothing away."""
    for name, values in before["swept"].items():
        record["swept"][name] = values + [value for value in record["swept"][name] if value not in values]
    record["seeds"] = max(before.get("seeds", 1), record["seeds"])
    known = {cell["folder"] for cell in before["cells"]}
    record["cells"] = before["cells"] + [cell for cell in record["cells"] if cell["folder"] not in known]


def _finished(run: RunFolder, step: int) -> bool:
    """Whether a training ends at `step`: a run that was stopped may have been measured by `unitkit evaluate`."""
    knobs = run.record.get("knobs", {})
    if isinstance(steps := knobs.get("steps"), int) and step >= steps:
        return True
    file = kept_recipe(run)
    recipe = file.build(file.values(None, knobs))
    return ends(run, recipe, step)


def last_evaluation(run: RunFolder) -> dict[str, Any] | None:
    """The evaluation of a run's last step, on all held-out images of the data it was trained for, or None."""
    if not (run.path / "run.json").is_file():
        return None
    record = run.record
    wanted = {"data": record.get("data"), "images": "all", "weights": "ema" if record.get("ema") else "last"}
    whole = [each for each in run.evaluations() if all(each.get(key) == value for key, value in wanted.items())]
    own = [each for each in whole if step_of(each["checkpoint"]) is not None]
    return max(own, key=lambda entry: entry["step"], default=None)


def figures_of(entry: Mapping[str, Any]) -> dict[Figure, float]:
    """Every figure of an evaluation."""
    return {
        Figure(name, figure): value
        for name, result in entry["metrics"].items()
        for figure, value in result["figures"].items()
    }


def choose_metric(wanted: str | None, names: Sequence[str]) -> Figure:
    """The figure that `wanted` means: a metric of the recipe, or its word alone, and behind a dot one of its figures.

    Such as "psnr(aa, a)", "psnr", "ground_truth(ab).changing.translation.psnr". Which figures a metric has is known
    once it has measured.

    Raises:
        UserError: a metric that the recipe does not have, or a word that means several.
    """
    if not names:
        raise UserError("the recipe names no metrics, so there is nothing to compare: give it some in evaluate=[...]")
    if wanted is None:
        return Figure(names[0], "")

    def means(said: str) -> list[Figure]:
        """What begins as `said` does: matched with the names there are, for a name may hold dots and brackets."""
        found = [(name, spelt) for name in names for spelt in (name, name.partition("(")[0])]
        text = said.replace(" ", "")
        hits = [(name, short) for name, spelt in found if text.startswith(short := spelt.replace(" ", ""))]
        hits = [(name, short) for name, short in hits if text[len(short) :][:1] in ("", ".")]
        longest = max((len(short) for _, short in hits), default=0)
        return [Figure(name, text[longest + 1 :]) for name, short in hits if len(short) == longest]

    hits = list(dict.fromkeys(means(wanted)))
    if len(hits) != 1:
        many = f"it means {', '.join(hit.metric for hit in hits)}" if hits else f"{nearest(wanted, names)}"
        raise UserError(f"--metric '{wanted}' is not one metric of the recipe: {many}")
    return hits[0]


def plain(value: Any) -> Any:
    """A value as JSON gives it back, so that a record and what was read of it compare as equal."""
    return json.loads(json.dumps(value, default=str))


def setting_label(cell: Cell) -> str:
    """The setting and the seed in words."""
    return f"{label(cell.setting)}, seed {cell.seed}"
