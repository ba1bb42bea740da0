"""The folder that is published of a run: what `unitkit.load` needs, what was measured, a sample grid, and the card."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from ..hub.names import Place
from ..models import ImagePaths
from ..registry import Spec, from_outside
from ..runs.checkpoint import averages, load_model, load_step
from ..runs.folder import RunFolder
from ..runs.samples import LAYOUT, layout_of
from ..runs.schema import METRICS, MODEL, STATE
from ..runs.steps import EMA, WEIGHTS_FILES, in_order, step_of
from ..runs.stored import FORMAT, digest, read_json, read_tensors, write_tensors
from ..system.environment import versions
from ..system.errors import UserError
from .card import Facts, write_card
from .scrub import Scrubber

GRID = "samples.png"
CARD = "README.md"
# What a repository may hold of an earlier push, and must not keep beside the files of this one.
OURS = (*WEIGHTS_FILES, "model.json", "state.json", "metrics.json", GRID, CARD)


@dataclass(frozen=True)
class Contents:
    """What was written, with `notes` on what a user should know before it is read by others."""

    facts: Facts
    notes: list[str]


def write_contents(
    folder: Path, run: RunFolder | None, checkpoint: Path, place: Place, weights: str, license: str | None
) -> Contents:
    """Write what is published of a checkpoint into an empty folder, and load the model from it.

    Nothing of the training's state goes along, no recipe, and no path of this machine.

    Args:
        weights: "ema", their moving average where the training kept one, or "last", those of the last step. The folder
            has the ones alone.

    Raises:
        UserError: a file of the run that is damaged, a model that does not load, or one whose description names files
            of this machine.
        OSError: a disk that refuses.
    """
    record = run.record if run else {}
    scrubber = Scrubber([run.path if run else None, checkpoint, record.get("folder"), os.getcwd()])
    weights = "ema" if weights == "ema" and averages(checkpoint) else "last"
    name = EMA if weights == "ema" else "model.safetensors"
    described = read_json(checkpoint / "model.json", MODEL)
    model, description = load_model(checkpoint, weights)
    step = load_step(checkpoint)
    write_model(folder, described, checkpoint, scrubber)
    tensors = read_tensors(checkpoint / name)  # and not the file: its head may hold anything besides
    write_tensors({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)
    files = {each: digest(folder / each) for each in (name, "model.json")}
    _write(folder / "state.json", {"format": FORMAT, "step": step, "files": files})
    read_json(folder / "state.json", STATE)
    entries = run.evaluations() if run else []
    ours = [scrubber.value(each) for each in entries if (each["step"], each["weights"]) == (step, weights)]
    if ours:
        _write(folder / "metrics.json", {"format": FORMAT, "evaluations": ours})
        read_json(folder / "metrics.json", METRICS)
    outside = _outside(description.spec)
    facts = Facts(
        place=place,
        model=load_model(folder, weights)[0],
        kind=description.spec.name,
        labels=scrubber.value(description.labels),
        values=description.values,
        size=description.size,
        step=step,
        weights=weights,
        averaged=averages(checkpoint),
        chosen=run is not None and checkpoint.parent.name == run.best.name,
        record=scrubber.value(record),
        evaluations=ours,
        grid=_write_grid(folder / GRID, run, step) if run else None,
        outside=outside,
        license=license,
    )
    write_card(folder / CARD, facts)
    return Contents(facts, _notes(facts, model, len(entries) - len(ours)))


def _notes(facts: Facts, model: ImagePaths, others: int) -> list[str]:
    notes = []
    if facts.grid is not None:
        notes.append(f"{GRID} shows held-out images of your data: publish it only where you may")
    if facts.license is None:
        notes.append("no licence is stated, so nobody else may use the model: give --license, such as apache-2.0")
    if not facts.evaluations:
        notes.append("no figures go along: `unitkit evaluate` measures this step with these weights")
    elif others:
        notes.append(f"evaluations of other steps or weights stay here: {others}")
    if facts.outside:
        notes.append(f"others need the file that registers {', '.join(facts.outside)}: no code goes along")
    return notes


def write_model(folder: Path, described: Mapping[str, Any], checkpoint: Path, scrubber: Scrubber) -> None:
    """Write `model.json` of what one says. Raises `UserError` where the model itself names a file of this machine."""
    if (scrubbed := scrubber.value(described["model"])) != described["model"]:
        where = next(_changes(described["model"], scrubbed))
        raise UserError(
            f"{checkpoint / 'model.json'} names a file of this machine, which would be published and be nowhere else: "
            f"{where}"
        )
    kept = {key: described[key] for key in MODEL.shape.__annotations__ if key in described}
    kept["labels"] = scrubber.value(kept["labels"])
    _write(folder / "model.json", {"format": FORMAT, "unitkit": versions("unitkit")["unitkit"], **kept})


def _changes(before: Any, after: Any) -> Any:
    """The texts in a value that another has otherwise."""
    if isinstance(before, Mapping):
        for (name, one), (other, two) in zip(before.items(), after.items(), strict=True):
            yield from [name] if name != other else _changes(one, two)
    elif isinstance(before, list | tuple):
        for one, two in zip(before, after, strict=True):
            yield from _changes(one, two)
    elif before != after:
        yield before


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")


def _write_grid(path: Path, run: RunFolder, step: int) -> int | None:
    """Write the newest sample grid that is not of a later step, without what else its file holds; returns its step."""
    found = [each for each in in_order(run.samples.glob("step-*.png")) if (step_of(each.stem) or 0) <= step]
    for grid in reversed(found):
        try:
            with Image.open(grid, formats=["PNG"]) as image:
                layout, pixels, said = layout_of(image), image.convert("RGB"), getattr(image, "text", {})
        except Exception:  # a decoder raises nearly anything on a damaged file
            continue
        text = PngImagePlugin.PngInfo()
        if layout is not None:
            text.add_itxt(LAYOUT, said[LAYOUT])
        pixels.info.clear()
        pixels.save(path, format="PNG", pnginfo=text)
        return step_of(grid.stem)
    return None


def _outside(spec: Spec) -> list[str]:
    """The parts of a model that unitkit has not itself, such as "encoder mine"."""
    inner = [name for value in spec.arguments.values() if isinstance(value, Spec) for name in _outside(value)]
    if from_outside(Spec(spec.kind, spec.name)):
        inner.append(f"{spec.kind} {spec.name}")
    return inner
