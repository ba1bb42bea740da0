"""`unitkit translate`: images and folders of them, along an image path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import compress, cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..data.files.decode import SUFFIXES, is_transparent, probe
from ..data.files.encode import refuse_unwritable_format, write_image
from ..data.files.pipeline import ahead, workers
from ..data.files.short_jpeg import short_note
from ..data.folders.listing import passed_over, read_folder
from ..data.formats.header import Header, suffix_of
from ..data.formats.windows import has_windows, refuse_too_large, refuse_unwritable_windows, windows_of
from ..data.values import Values
from ..kernels.placement import choose_device
from ..recipe_file import import_parts
from ..runs.stored import digest
from ..system.devices import enough_memory
from ..system.errors import MachineError, UserError, nearest, suggested
from ..system.files import refuse_unwritable
from ..system.output import print_notes, say, screen
from ..translate import Translator, load
from ..video.clip import is_animation
from .manifest import Manifest, Origin, settings_of
from .progress import counting, looking

ALPHAS = ("keep", "white")
LARGE = 2**26  # pixels of an image that is translated window by window


class Output(NamedTuple):
    """A file to be made: of which image, in which style, and how `Manifest` tells that."""

    source: Path
    target: Path
    style: Tensor | None
    origin: Origin


class Task(NamedTuple):
    """An output that is not there yet: the header of its source, and what its values are."""

    output: Output
    header: Header
    values: Values

    @property
    def pixels(self) -> int:
        """Of an image."""
        return self.header.width * self.header.height


def translate_images(
    run: Path,
    path: str,
    source: Path,
    target: Path,
    *,
    parts: Path | None = None,
    style: Path | None = None,
    samples: int | None = None,
    seed: int | None = None,
    weights: str = "ema",
    device: str = "auto",
    precision: str = "fp32",
    alpha: str = "white",
    format: str | None = None,
    threads: int | None = None,
    again: bool = False,
) -> None:
    """Translate an image, or a folder of them, and say what was done; the arguments are the command's own.

    Of a folder, what an earlier call has done of it is passed over unless it is to be done `again`.
    """
    if style is not None and samples is not None:
        raise UserError("--style and --samples each say what style the outputs have: give one of them")
    if seed is not None and samples is None:
        raise UserError("--seed is of styles that are drawn: give --samples N with it")
    if alpha not in ALPHAS:
        raise UserError(f"--alpha is keep or white, not '{alpha}'{suggested(alpha, ALPHAS)}")
    notes: list[str] = []
    console, transparent = screen(), alpha == "keep"
    work = jobs(source, target, notes, [f"-{number + 1}" for number in range(samples or 0)] or [""], format)
    if parts is not None:
        import_parts(parts)
    way_out = "choose another --device, or images of fewer pixels"
    with enough_memory(choose_device(device), "translating", way_out, MachineError):
        translator = load(run, device=device, weights=weights, precision=precision)
        translator.check(path)
        styles = _styles(translator, path[-1], style, samples, seed or 0)
        pairs = zip(work, cycle(styles))
        left = [Output(before, after, given, Origin.of(before, name)) for (before, after), (name, given) in pairs]
        manifest = Manifest(target, *settings_of(translator, path, alpha, weights, parts)) if source.is_dir() else None
        if manifest is not None:
            left = [each for each in left if again or not manifest.has(each.target, each.origin)]
            if known := len(work) - len(left):
                say(console, f"{known} of {len(work)} were done before; --again does them anew")
            if left:
                refuse_unwritable(manifest.path)
                print_notes(console, manifest.replaced(each.target for each in left))
        tasks = _tasks(translator, left, path, notes, transparent=transparent)
        windowed = [_by_windows(translator, task, path) for task in tasks]
        add = manifest.add if manifest is not None else lambda *_: None
        with counting(f"{path}: {translator.route(path)}", len(tasks)) as done:
            for (before, after, given, origin), *_ in compress(tasks, windowed):
                add(after, origin, translator.translate_file(before, after, path, given))
                if transparent and is_transparent(before):
                    notes.append(f"{before} is larger than 64 megapixels, and is written without its transparency")
                done()
            small = [task for task, by_windows in zip(tasks, windowed, strict=True) if not by_windows]
            for _ in _translated(translator, small, path, add, threads, transparent=transparent):
                done()
    if translator.short:
        notes.append(short_note(translator.short))
    notes += translator.inference.notes
    print_notes(console, notes)
    place = target if source.is_dir() or len(work) == 1 else work[0][1].parent
    count = sum(task.header.frames for task in tasks)
    if tasks:
        say(console, f"{count} {'image' if count == 1 else 'images'} in {place}")


def _styles(
    translator: Translator, letter: str, image: Path | None, samples: int | None, seed: int
) -> list[tuple[int | str | None, Tensor | None]]:
    """The styles of a source's outputs, each behind what `Origin` calls it."""
    if image is None and samples is None:
        return [(None, None)]
    translator.check_styles()
    if image is not None:
        style = translator.style(image, letter)
        return [(digest(image), style)]
    return [(each, translator.drawn_style(letter, each)) for each in range(seed, seed + (samples or 0))]


def _tasks(
    translator: Translator, outputs: Sequence[Output], path: str, notes: list[str], *, transparent: bool
) -> list[Task]:
    """What there is to do, every header read, before the first image takes its time. Those of equal size, which go
    through the network together, are neighbours."""
    channels = [translator.model.channels[letter] for letter in (path[0], path[-1])]
    headers: dict[Path, Header] = {}
    tasks = []
    with looking(screen(stderr=True)) as looked:
        for number, output in enumerate(outputs):
            if output.source not in headers:
                headers[output.source] = probe(output.source, channels[0])
                looked(number, len(outputs))
            header = headers[output.source]
            values = translator.meanings(path, header.dtype)[1]
            notes += refuse_unwritable_format(output.target, header.frames, channels[1], values, transparent)
            tasks.append(Task(output, header, values))
    if moving := [source for source in headers if is_animation(source)]:
        notes.append(
            f"animations of which the first image alone is translated: {len(moving)}, such as {moving[0]}; give one by "
            f"itself to translate it as a video"
        )
    return sorted(tasks, key=lambda task: (task.header.height, task.header.width, task.header.dtype))


def _by_windows(translator: Translator, task: Task, path: str) -> bool:
    """Whether a task's image is read and written window by window. Raises `UserError` for one that is too large for
    anything else, and cannot be."""
    header = task.header
    refuse_too_large(task.output.source, header)
    if header.large:
        refuse_unwritable_windows(task.output.target, header.height, header.width)
        translator.inference.refuse_windows(path)
        return True
    if task.pixels <= LARGE or header.frames > 1 or not has_windows(task.output.target):
        return False
    try:
        windows_of(task.output.source)
    except UserError:
        return False
    return translator.inference.takes_windows(path)


def _translated(
    translator: Translator,
    tasks: Sequence[Task],
    path: str,
    add: Callable[[Path, Origin, os.stat_result], None],
    threads: int | None,
    *,
    transparent: bool,
) -> Iterator[None]:
    """Do tasks whose images are read whole, decoded ahead and written behind; yields when one is done."""

    def save(task: Task, images: list[np.ndarray]) -> None:
        source, target, _, origin = task.output
        add(target, origin, write_image(images, target, source, task.values, transparent=transparent))

    with workers(threads) as pool:
        frames = [(each, frame) for each in tasks for frame in range(each.header.frames)]
        decode = (partial(translator.pixels, each.output.source, path[0], frame) for each, frame in frames)
        read = ahead(pool, decode, (each.pixels for each, _ in frames))
        found = translator.stream(read, path, (each.output.style for each, _ in frames))
        written = (partial(save, each, list(islice(found, each.header.frames))) for each in tasks)
        yield from ahead(pool, written, (each.pixels * each.header.frames for each in tasks))


def jobs(
    source: str | Path,
    target: str | Path,
    notes: list[str] | None = None,
    suffixes: Sequence[str] = ("",),
    format: str | None = None,
) -> list[tuple[Path, Path]]:
    """What `unitkit translate` has to do: (input file, output file), names kept for a folder.

    Links in a folder are followed.

    Args:
        notes: gets a line on what was passed over, if anything was.
        suffixes: of the names of the outputs that each input has, in their order: `-1` for `x-1.png`.
        format: of the outputs where the input is a folder, such as png; that of each input without it.

    Raises:
        UserError: an input that is not there, a folder without images, an output that is an input or another's output.
    """
    source, target = Path(source), Path(target)
    if format is not None and source.is_file():
        raise UserError("--format is of a folder's outputs; of one image the name says it")
    if source.is_file():
        into = target / source.name if target.is_dir() else target
        if suffix_of(into) not in SUFFIXES:
            raise UserError(f"the output {into} has no image suffix; choose one of {', '.join(sorted(SUFFIXES))}")
        found = [(source, into)]
    elif source.is_dir():
        # An output folder inside the input folder holds what an earlier call made: no input.
        skip = target.resolve() if target.resolve() != source.resolve() else None
        files = read_folder(source, skip)
        if notes is not None:
            notes += passed_over(files.passed, source)
        if not files:
            others = "".join(f"; {note}" for note in passed_over(files.passed, "it"))
            raise UserError(f"the folder {source} holds no image ({', '.join(sorted(SUFFIXES))}{others})")
        if not target.is_dir() and (target.exists() or suffix_of(target) in SUFFIXES):
            kind = "is a file" if target.exists() else "has the name of one"
            raise UserError(f"the input is a folder, so the output must be one: {target} {kind}")
        found = [(p, _in_format(target / p.relative_to(source), format)) for p in files.paths]
    else:
        siblings = [p.name for p in source.parent.iterdir()] if source.parent.is_dir() else []
        raise UserError(f"there is no file or folder {source}. {nearest(source.name, siblings)}")
    if any(suffixes):
        found = [(before, numbered(after, suffix)) for before, after in found for suffix in suffixes]
    real = _resolved()
    inputs = {real(before): before for before, _ in found}
    outputs: dict[str, Path] = {}
    for before, after in found:
        place = real(after)
        if place in inputs:
            of = "the input" if inputs[place] == before else f"the input {inputs[place]}"
            raise UserError(f"the output {after} is {of}; choose another place for it")
        if place in outputs:
            raise UserError(f"{outputs[place]} and {before} would both become {after}; choose another place for them")
        outputs[place] = before
    return found


def _resolved() -> Callable[[Path], str]:
    """What finds where files really are: for each folder once, as there may be very many."""
    folder = cache(os.path.realpath)

    def real(path: Path) -> str:
        place = os.path.join(folder(path.parent), path.name)
        return os.path.realpath(place) if os.path.islink(place) else place

    return real


def _in_format(path: Path, format: str | None) -> Path:
    """A path with the suffix of a format. Raises `UserError` for one that is not known."""
    if format is None:
        return path
    suffix = f".{format.removeprefix('.').lower()}"
    if suffix not in SUFFIXES:
        known = sorted(each.removeprefix(".") for each in SUFFIXES)
        raise UserError(f"--format '{format}' is not known. {nearest(format, known)}")
    return path.with_name(path.name[: -len(suffix_of(path))] + suffix)


def numbered(path: Path, number: str) -> Path:
    """A path whose name, before its suffix, ends with a number."""
    place = len(path.name) - len(suffix_of(path))
    return path.with_name(path.name[:place] + number + path.name[place:])
