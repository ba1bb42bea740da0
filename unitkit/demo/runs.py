"""The trained models that the page offers: their image paths, checkpoints and examples, and those in memory."""

from __future__ import annotations

import io
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.values import BYTES
from ..kernels.placement import choose_device
from ..models import ImagePaths
from ..networks.tower import Tower
from ..runs.folder import RunFolder
from ..runs.kept import find_run
from ..runs.samples import layout_of, name_of
from ..runs.steps import all_steps, in_order, step_of
from ..system.devices import enough_memory
from ..system.errors import MachineError, UserError
from ..system.output import printable
from ..translate import Translator, load

LONGEST = 512  # pixels a side at most of what is translated: one pass through the network
PATHS = (2, 3)  # domains of the image paths that are offered
HELD = 3  # models in memory at once
EXAMPLES = 6  # held-out images of each domain
WAY_OUT = "choose another --device, or give --held 1"


class Gone(UserError):
    """A checkpoint that was there when the page was made."""


class Models:
    """Models in memory, those last used.

    Args:
        device: as `unitkit.load` takes it, and so `weights`.
        held: how many there are at most.
    """

    def __init__(self, device: str, weights: str, held: int = HELD) -> None:
        self.device, self.weights, self.held = device, weights, held
        self._found: OrderedDict[tuple[Path, int, int], Translator] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, place: Path) -> Translator:
        """The model of a checkpoint, or of an exported file. Raises `UserError`, as `load` does."""
        about = (place if place.is_file() else place / "model.json").stat()
        key = (place, about.st_mtime_ns, about.st_ino)  # a step may be trained anew
        with self._lock, enough_memory(choose_device(self.device), "loading a model", WAY_OUT, MachineError):
            if key not in self._found:
                while len(self._found) >= self.held:
                    self._found.popitem(last=False)
                self._found[key] = load(place, device=self.device, weights=self.weights)
            self._found.move_to_end(key)
            return self._found[key]


@dataclass(frozen=True)
class Size:
    """A size at which a picture is translated: cut to (height, width), or whole and no larger than `LONGEST`."""

    cut: tuple[int, int] | None
    words: str


@dataclass(frozen=True)
class Shown:
    """A run, a checkpoint or an exported file, as the page shows it.

    Attributes:
        name: what the user called it.
        place: the checkpoint that is shown first, or the file.
        run: whose other checkpoints can be stepped through; None where there are none.
        labels: of the domains, by letter.
        channels: likewise.
        paths: the image paths.
        sizes: by what a request says.
        walk: "codes" of models with one latent space for all domains, "styles", or "" of others.
        notes: sentences on what is shown.
    """

    name: str
    place: Path
    run: RunFolder | None
    labels: dict[str, str]
    channels: dict[str, int]
    paths: tuple[str, ...]
    sizes: dict[str, Size]
    walk: str
    notes: tuple[str, ...]

    def checkpoints(self) -> dict[int, Path]:
        """By step, oldest first, as they are now; none where only one model is shown."""
        return _checkpoints(self.run) if self.run else {}

    def checkpoint(self, step: int | None) -> Path:
        """The place of the model of a step; None is for the one where there is no other.

        Raises:
            Gone: it is no longer there.
        """
        found = self.checkpoints()
        place = self.place if not self.run else found.get(-1 if step is None else step)
        if place is None or not (place.is_file() or (place / "model.json").is_file()):
            there = f"those of steps {', '.join(map(str, found))} are" if found else "and no other is"
            which = f"the checkpoint of step {step}" if self.run else "the model"
            raise Gone(f"{which} of {self.name} is no longer there; {there}")
        return place

    @cached_property
    def examples(self) -> dict[str, list[bytes]]:
        """Held-out images of the domains where a path begins, PNG, out of the run's newest sample grid: so neither the
        data nor the recipe, which is code, is needed. None where there is no grid, or its colours are a map's."""
        if self.run is None:
            return {}
        letters = sorted({path[0] for path in self.paths})
        for grid in reversed(in_order(self.run.samples.glob("step-*.png"))):
            if (found := _cells(grid, letters)) is not None:
                with suppress(UserError):
                    knobs = self.run.record.get("knobs", {})
                    if any(name.rpartition(".")[2] == "bands" and value for name, value in knobs.items()):
                        return {}
                grey = {each for each in letters if self.channels[each] == 1}
                return {
                    k: [_png(each) for each in cells] for k, cells in found.items() if k not in grey or _grey(cells)
                }
        return {}

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        steps = list(self.checkpoints())
        return {
            "name": printable(self.name),
            "labels": {letter: printable(label) for letter, label in self.labels.items()},
            "steps": steps,
            "step": step_of(self.place.name) if self.run else None,
            "paths": [{"path": path, "name": printable(name_of(path, self.labels))} for path in self.paths],
            "sizes": [{"size": name, "words": size.words} for name, size in self.sizes.items()],
            "examples": {letter: len(found) for letter, found in self.examples.items()},
            "walk": self.walk,
            "notes": [printable(note) for note in self.notes],
        }


def shown(word: Path, models: Models) -> Shown:
    """What a user named, its first model loaded.

    Raises:
        UserError: no model, or none that translates pictures.
    """
    name = str(word)
    run: RunFolder | None = None
    if word.suffix == ".safetensors" and word.is_file():
        place = word
    else:
        # runs/latest may lead to another run by and by; links within a run are kept.
        run, place = find_run(word.resolve() if word.is_symlink() else word)
        run = run if run and place in _places(run) else None
    translator = models.get(place)
    model = translator.model
    begins = [letter for letter, count in model.channels.items() if count in (1, 3)]
    words = ("".join(each) for length in PATHS for each in itertools.product(model.channels, repeat=length))
    paths = tuple(path for path in words if path[0] in begins and model.has(path))
    if not paths:
        others = sorted({count for count in model.channels.values() if count not in (1, 3)})
        why = (
            f"its images have {' and '.join(map(str, others))} channels" if others else "no image path begins with one"
        )
        raise UserError(f"{name} translates no picture in grey or colour: {why}; use `unitkit translate`")
    paths = tuple(sorted(paths, key=lambda path: (len(path), any(map(eq, path, path[1:])))))
    return Shown(
        name,
        place,
        run,
        translator.labels,
        dict(model.channels),
        paths,
        _sizes(translator),
        "styles" if translator.styles else "codes" if one_latent_space(model) else "",
        tuple(_notes(translator, paths)),
    )


def all_shown(words: Iterable[Path], models: Models) -> tuple[list[Shown], list[UserError]]:
    """What a user named, and what is wrong with the rest."""
    found, wrong = [], []
    for word in words:
        try:
            found.append(shown(word, models))
        except UserError as error:
            wrong.append(error)
    return found, wrong


def one_latent_space(model: ImagePaths) -> bool:
    """Whether the encoders' last layers, or the generators' first, are shared by the domains, as those of UNIT are."""
    for part, towers, place in ("encoders", model.encoders, -1), ("generators", model.generators, 0):
        stages = [tower.stages[place] for tower in towers.values() if isinstance(tower, Tower)]
        if part in model.soft_pairs or (len(stages) > 1 and len(set(stages)) == 1):
            return True
    return False


def _checkpoints(run: RunFolder) -> dict[int, Path]:
    found = {step_of(path.name) or 0: path for folder in (run.best, run.checkpoints) for path in all_steps(folder)}
    return dict(sorted(found.items()))


def _places(run: RunFolder) -> set[Path]:
    return {*all_steps(run.best), *all_steps(run.checkpoints)}


def _sizes(translator: Translator) -> dict[str, Size]:
    found: dict[str, Size] = {}
    if size := translator.model.size or translator.size:
        shrink = min(1.0, LONGEST / max(size))
        height, width = (max(1, round(side * shrink)) for side in size)
        as_trained = "as in training" if shrink == 1 else "in the proportions of the training"
        found["trained"] = Size((height, width), f"{as_trained}, {width}x{height}, cut to the centre")
    if not translator.model.size:
        found["whole"] = Size(None, f"whole, at most {LONGEST} pixels a side")
    return found


def _notes(translator: Translator, paths: Iterable[str]) -> Iterable[str]:
    for letter in sorted({letter for path in paths for letter in path}):
        values, channels = translator.values[letter], translator.model.channels[letter]
        if values != BYTES:
            yield (
                f"Images of {translator.labels[letter]} hold {values}. Shown are 8 bits of these, black the lowest and "
                f"white the highest, and a picture of 8 bits is read likewise; one of 16 bits has the values that it "
                f"holds. `unitkit translate` keeps all."
            )
        if channels not in (1, 3):
            seen = "the first three" if channels > 3 else "both, as red and cyan,"
            yield f"Images of {translator.labels[letter]} have {channels} channels: {seen} are shown."


def _cells(path: Path, letters: Iterable[str]) -> dict[str, list[Image.Image]] | None:
    """The real images of a sample grid, by domain; None for another file."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if (layout := layout_of(image)) is None:
                return None
            sheet = layout.cells(image)
    except Exception:  # a decoder raises nearly anything on a damaged file
        return None
    height, width = layout.size
    return {
        name: [sheet.crop((x * width, y * height, (x + 1) * width, (y + 1) * height)) for x in range(min(n, EXAMPLES))]
        for y, (name, n) in enumerate(layout.rows)
        if name in letters
    }


def _grey(images: Iterable[Image.Image]) -> bool:
    return all(np.ptp(np.asarray(image), axis=2).max() == 0 for image in images)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
