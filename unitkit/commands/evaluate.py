"""`unitkit evaluate`: metrics of a finished run, or of sets of images that someone made otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..check import check
from ..data import Data
from ..data.domains import in_channels, with_values
from ..data.files.bad import refuse_unreadable
from ..data.folders.plain import plain_images
from ..data.opening import open_data, with_truth
from ..data.sources import Images
from ..kernels.placement import choose_device
from ..metrics import Metric, evaluate_images, evaluate_with_protocol, parse_metrics
from ..metrics.metric import check_metrics
from ..metrics.protocol import PACKAGES
from ..models import ImagePaths
from ..runs.checkpoint import averages, check_size, load_model, load_step
from ..runs.folder import RunFolder, refuse_own, storable
from ..runs.kept import find_run, kept_run, other_data, other_labels
from ..runs.page import write_report
from ..runs.page.extremes import chosen as best_by
from ..runs.page.extremes import save_best_and_worst
from ..runs.report import print_metrics
from ..runs.samples import BEST_AND_WORST
from ..runs.steps import latest
from ..system.devices import enough_memory
from ..system.environment import versions
from ..system.errors import MachineError, UserError
from ..system.files import refuse_unwritable, replacing
from ..system.output import print_notes, say, screen
from .progress import measuring


@dataclass(frozen=True)
class Asked:
    """What `unitkit evaluate RUN` is asked for: as its options are, None where one is not given."""

    run: Path
    data: str | None = None
    metrics: str | None = None
    device: str = "auto"
    seed: int = 0
    max_images: int = 0
    weights: str = "ema"
    save: Path | None = None
    aligned: bool = False


def evaluate_run(asked: Asked) -> None:
    """Measure a run (its last step), one of its checkpoints or a model without its run, print the tables, and keep the
    figures.

    The figures go to the run's `metrics.json` and report, and to `save` as well where it is given. Raises `UserError`
    for a run, data, metric or path that cannot be, before anything is computed; and at the end, the figures printed,
    where they cannot be kept.
    """
    folder, checkpoint = find_run(asked.run)
    if asked.save is not None:
        refuse_own(asked.save)
        refuse_unwritable(asked.save)
    console = screen()
    if folder is None:
        _evaluate_model(console, asked, checkpoint)
        return
    folder.evaluations()  # it can be read, and so be added to
    file, recipe = kept_run(folder, asked.data)
    if asked.aligned:
        recipe = replace(recipe, data=with_truth(recipe.data))
    record = folder.record
    refuse_unreadable(recipe.data, "Mend or remove them", ("test",))
    print_notes(console, recipe.data.notes)
    if left_out := recipe.data.left_out:
        count = " and ".join(f"{n} of '{recipe.data.labels[letter]}'" for letter, n in left_out.items() if n)
        print_notes(console, [f"held-out images that the training could not decode are left out: {count}"])
    if asked.data is None:
        check_size(checkpoint, recipe.data.size)
    model, description = load_model(checkpoint, asked.weights)
    chosen: Sequence[Metric] = parse_metrics(asked.metrics, recipe.data.domains) if asked.metrics else recipe.evaluate
    if not chosen:
        raise UserError(f"the recipe {file.name} names no metrics: give some, such as --metrics 'psnr(aba, a)'")
    for metric in chosen:
        metric.check_held_out(recipe.data.held_out(asked.max_images))
    seen = with_values(in_channels(recipe.data, model.channels), description.values)
    recipe = replace(recipe, model=description.spec, data=seen)
    check(replace(recipe, evaluate=chosen, watch=None))  # paths, alignment and weights, before any work
    name = f"best/{checkpoint.name}" if checkpoint.parent.name == folder.best.name else checkpoint.name
    found = _measured(asked, model, recipe.data, chosen, checkpoint, name)
    unsaved = _failing(partial(_save, found, asked.save))
    unkept = _failing(partial(folder.add_evaluation, found))
    print_metrics(console, found)
    draw = partial(_draw, console, asked, folder, model, recipe.data, chosen, found)
    unkept += _failing(*([] if unkept else [draw]), partial(write_report, folder))
    labels = description.labels
    note = other_labels(labels, recipe.data) if asked.data else other_data({**record, "labels": labels}, recipe.data)
    if note:
        say(console, f"warning: {note}")
    if unsaved or (unkept and asked.save is None):
        lost = [*unsaved, *unkept]
        way_out = "the figures are printed above, and --save FILE keeps them elsewhere"
        kind = MachineError if any(isinstance(each, MachineError) for each in lost) else UserError
        raise kind(f"{'; '.join(map(str, lost))}; {way_out}")
    if unkept:
        print_notes(console, [f"{'; '.join(map(str, unkept))}; the figures are in {asked.save}"])
    _refuse_failed(found)


def _draw(
    console: Console,
    asked: Asked,
    folder: RunFolder,
    model: ImagePaths,
    data: Data,
    metrics: Sequence[Metric],
    found: Mapping[str, Any],
) -> None:
    """Draw the report's best and worst images anew where these figures were measured as a training's own are; where
    not, the ones that are there stay with their own figures, and a note says why."""
    last = latest(folder.checkpoints)
    others = {
        "other data": asked.data is not None,
        "another checkpoint than the last": last is None or found["checkpoint"] != last.name,
        "other weights": last is not None and found["weights"] == "last" and averages(last),
        "some of the held-out images": asked.max_images > 0,
    }
    sheet = folder.samples / BEST_AND_WORST
    if any(others.values()):
        if sheet.is_file():
            why = " and ".join(words for words, other in others.items() if other)
            print_notes(console, [f"the report's best and worst images stay as they are: these figures are of {why}"])
        return
    if best_by(metrics, found) is not None:
        with console.status("drawing the best and the worst"), _enough(choose_device(asked.device)):
            save_best_and_worst(model, data, metrics, sheet, entry=found, device=choose_device(asked.device))


def _evaluate_model(console: Console, asked: Asked, checkpoint: Path) -> None:
    """Measure a model without its run: nothing of a recipe is known, and none is run."""
    run, data, metrics = asked.run, asked.data, asked.metrics
    if data is None or metrics is None:
        raise UserError(
            f"{run} is a model without its run, so say on which images and what to measure: --data FOLDER --metrics "
            f"'psnr(aba, a)'"
        )
    model, said = load_model(checkpoint, asked.weights)
    chosen = parse_metrics(metrics, said.labels)
    aligned = any(reading.startswith("truth:") for metric in chosen for reading in metric.reads)
    opened = partial(open_data, data, size=said.size, aligned=aligned)
    try:
        found = opened(labels=",".join(said.labels.values()))
    except UserError:  # whose domains are called otherwise, which is said below
        found = opened(domains=len(said.labels))
    refuse_unreadable(found, "Mend or remove them", ("test",))
    print_notes(console, found.notes)
    for metric in chosen:
        metric.check_held_out(found.held_out(asked.max_images))
    seen = with_values(in_channels(found, model.channels), said.values)
    check_metrics(chosen, model, seen)
    entry = _measured(asked, model, seen, chosen, checkpoint, str(run))
    unsaved = _failing(partial(_save, entry, asked.save))
    print_metrics(console, entry, kept=False)
    if note := other_labels(said.labels, seen):
        say(console, f"warning: {note}")
    if asked.save is None:
        print_notes(console, ["a model without its run keeps no figures: --save FILE does"])
    if unsaved:
        raise unsaved[0]
    _refuse_failed(entry)


def _measured(
    asked: Asked,
    model: ImagePaths,
    data: Data,
    metrics: Sequence[Metric],
    checkpoint: Path,
    name: str,
) -> dict[str, Any]:
    """An evaluation of a checkpoint, which its protocol calls `name`, as `metrics.json` can hold it."""
    place = choose_device(asked.device)
    with measuring(f"measuring {name}") as counted, _enough(place):
        found = evaluate_with_protocol(
            model.to(place),
            data,
            metrics,
            checkpoint=name,
            step=load_step(checkpoint),
            weights=asked.weights if averages(checkpoint) else "last",
            device=place,
            seed=asked.seed,
            max_images=asked.max_images,
            counting=counted,
        )
    found["metrics"] = storable(found["metrics"])
    return found


def evaluate_sets(sets: Sequence[str], metrics: str | None, size: int | None, device: str, save: Path | None) -> None:
    """Measure plain sets of images, `ab=FOLDER b=FOLDER`, against each other, with no model.

    Raises:
        UserError: a set without images, a metric that reads another set, images of different sizes without `size`.
    """
    if metrics is None:
        raise UserError("say what to measure: --metrics 'fid(ab, b)'")
    images: dict[str, Images] = {}
    notes: list[str] = []
    for word in sets:
        name, equals, location = word.partition("=")
        if not (equals and name.isalpha() and name.islower()) or name in images:
            raise UserError(
                f"'{word}' is no set of images: expected PATH=FOLDER, each path once, such as ab=translated"
            )
        images[name] = plain_images(location, size, notes)
    if save is not None:
        refuse_own(save)
        refuse_unwritable(save)
    letters = sorted({letter for name in images for letter in name})
    chosen = parse_metrics(metrics, letters)
    for metric in chosen:
        metric.ready()
    place = choose_device(device)
    console = screen()
    print_notes(console, notes)
    with console.status("measuring"), _enough(place):
        results = evaluate_images(chosen, images, device=place)
    sizes = {tuple(each.size) for each in images.values()}
    found: dict[str, Any] = {
        "sets": {
            name: {"images": len(each), "size": list(each.size), "fingerprint": each.fingerprint()}
            for name, each in images.items()
        },
        "size": list(sizes.pop()) if len(sizes) == 1 else None,
        "seed": 0,
        "versions": versions(*PACKAGES),
        "metrics": storable(results),
    }
    unsaved = _failing(partial(_save, found, save))
    print_metrics(console, found)
    if unsaved:
        raise unsaved[0]
    _refuse_failed(found)


def _enough(place: torch.device) -> AbstractContextManager[None]:
    """Within the block a lack of memory becomes a `MachineError`."""
    return enough_memory(place, "measuring", "choose another --device, or fewer metrics at once", MachineError)


def _failing(*works: Callable[[], None]) -> list[UserError]:
    """Do all of it, whatever fails, and say what did."""
    failed = []
    for work in works:
        try:
            work()
        except UserError as error:
            failed.append(error)
    return failed


def _refuse_failed(found: Mapping[str, Any]) -> None:
    """Raise `UserError` for metrics that failed, once the others' figures are printed and kept; `MachineError` where it
    was the machine that failed."""
    if failed := [f"{name}: {result['failed']}" for name, result in found["metrics"].items() if "failed" in result]:
        kind = MachineError if any(result.get("machine") for result in found["metrics"].values()) else UserError
        raise kind(f"not measured: {'; '.join(failed)}")


def _save(found: dict[str, Any], save: Path | None) -> None:
    if save is not None:
        with replacing(save) as file:
            file.write_text(json.dumps(found, indent=1), "utf-8")
