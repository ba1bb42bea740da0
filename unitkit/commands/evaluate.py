"""`unitkit evaluate`: metrics of a finished run, or of sets of images that someone made otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from ..check import check
from ..data import Data
from ..data.domains import in_channels, with_values
from ..data.files.bad import refuse_unreadable
from ..data.folders.plain import plain_images
from ..data.opening import open_data
from ..data.sources import Images
from ..kernels.placement import choose_device
from ..metrics import Metric, evaluate_images, evaluate_with_protocol, parse_metrics
from ..metrics.metric import check_metrics
from ..metrics.protocol import PACKAGES
from ..models import ImagePaths
from ..runs.checkpoint import averages, check_size, load_model, load_step
from ..runs.folder import refuse_own, storable
from ..runs.kept import find_run, kept_run, other_data, other_labels
from ..runs.page import write_report
from ..runs.report import print_metrics
from ..system.devices import enough_memory
from ..system.environment import versions
from ..system.errors import MachineError, UserError
from ..system.files import refuse_unwritable, replacing
from ..system.output import print_notes, say, screen
from .progress import measuring

WAY_OUT = "choose another --device, or fewer metrics at once"


def evaluate_run(
    run: Path,
    data: str | None,
    metrics: str | None,
    device: str,
    seed: int,
    max_images: int,
    weights: str,
    save: Path | None,
) -> None:
    """Measure a run (its last step), one of its checkpoints or a model without its run, print the tables, and keep the
    figures.

    The figures go to the run's `metrics.json` and report, and to `save` as well where it is given. Raises `UserError`
    for a run, data, metric or path that cannot be, before anything is computed; and at the end, the figures printed,
    where they cannot be kept.
    """
    folder, checkpoint = find_run(run)
    if save is not None:
        refuse_own(save)
        refuse_unwritable(save)
    console = screen()
    if folder is None:
        _evaluate_model(console, run, checkpoint, data, metrics, device, seed, max_images, weights, save)
        return
    folder.evaluations()  # it can be read, and so be added to
    file, recipe = kept_run(folder, data)
    record = folder.record
    refuse_unreadable(recipe.data, "Mend or remove them", ("test",))
    print_notes(console, recipe.data.notes)
    if left_out := recipe.data.left_out:
        count = " and ".join(f"{n} of '{recipe.data.labels[letter]}'" for letter, n in left_out.items() if n)
        print_notes(console, [f"held-out images that the training could not decode are left out: {count}"])
    if data is None:
        check_size(checkpoint, recipe.data.size)
    model, description = load_model(checkpoint, weights)
    chosen: Sequence[Metric] = parse_metrics(metrics, recipe.data.domains) if metrics else recipe.evaluate
    if not chosen:
        raise UserError(f"the recipe {file.name} names no metrics: give some, such as --metrics 'psnr(aba, a)'")
    for metric in chosen:
        metric.check_held_out(recipe.data.held_out(max_images))
    seen = with_values(in_channels(recipe.data, model.channels), description.values)
    recipe = replace(recipe, model=description.spec, data=seen)
    check(replace(recipe, evaluate=chosen, watch=None))  # paths, alignment and weights, before any work
    name = f"best/{checkpoint.name}" if checkpoint.parent.name == folder.best.name else checkpoint.name
    found = _measured(console, model, recipe.data, chosen, checkpoint, name, weights, device, seed, max_images)
    unsaved = _failing(partial(_save, found, save))
    unkept = _failing(partial(folder.add_evaluation, found), partial(write_report, folder))
    print_metrics(console, found)
    labels = description.labels
    note = other_labels(labels, recipe.data) if data else other_data({**record, "labels": labels}, recipe.data)
    if note:
        say(console, f"warning: {note}")
    if unsaved or (unkept and save is None):
        lost = [*unsaved, *unkept]
        way_out = "the figures are printed above, and --save FILE keeps them elsewhere"
        kind = MachineError if any(isinstance(each, MachineError) for each in lost) else UserError
        raise kind(f"{'; '.join(map(str, lost))}; {way_out}")
    if unkept:
        print_notes(console, [f"{'; '.join(map(str, unkept))}; the figures are in {save}"])
    _refuse_failed(found)


def _evaluate_model(
    console: Console,
    run: Path,
    checkpoint: Path,
    data: str | None,
    metrics: str | None,
    device: str,
    seed: int,
    max_images: int,
    weights: str,
    save: Path | None,
) -> None:
    """Measure a model without its run: nothing of a recipe is known, and none is run."""
    if data is None or metrics is None:
        raise UserError(
            f"{run} is a model without its run, so say on which images and what to measure: --data FOLDER --metrics "
            f"'psnr(aba, a)'"
        )
    model, said = load_model(checkpoint, weights)
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
        metric.check_held_out(found.held_out(max_images))
    seen = with_values(in_channels(found, model.channels), said.values)
    check_metrics(chosen, model, seen)
    entry = _measured(console, model, seen, chosen, checkpoint, str(run), weights, device, seed, max_images)
    unsaved = _failing(partial(_save, entry, save))
    print_metrics(console, entry, kept=False)
    if note := other_labels(said.labels, seen):
        say(console, f"warning: {note}")
    if save is None:
        print_notes(console, ["a model without its run keeps no figures: --save FILE does"])
    if unsaved:
        raise unsaved[0]
    _refuse_failed(entry)


def _measured(
    console: Console,
    model: ImagePaths,
    data: Data,
    metrics: Sequence[Metric],
    checkpoint: Path,
    name: str,
    weights: str,
    device: str,
    seed: int,
    max_images: int,
) -> dict[str, Any]:
    """An evaluation of a checkpoint, which its protocol calls `name`, as `metrics.json` can hold it."""
    place = choose_device(device)
    with measuring(f"measuring {name}") as counted, enough_memory(place, "measuring", WAY_OUT, MachineError):
        found = evaluate_with_protocol(
            model.to(place),
            data,
            metrics,
            checkpoint=name,
            step=load_step(checkpoint),
            weights=weights if averages(checkpoint) else "last",
            device=place,
            seed=seed,
            max_images=max_images,
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
    with console.status("measuring"), enough_memory(place, "measuring", WAY_OUT, MachineError):
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
