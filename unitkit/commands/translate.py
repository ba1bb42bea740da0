"""`unitkit translate`: images and folders of them, along an image path."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import compress, cycle, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor

from ..data.files.decode import SUFFIXES, is_transparent, probe
from ..data.files.encode import refuse_unwritable_format, write_image
from ..data.files.short_jpeg import short_note
from ..data.folders.listing import passed_over, read_folder
from ..data.formats.header import Header, suffix_of
from ..data.formats.windows import has_windows, refuse_too_large, refuse_unwritable_windows, windows_of
from ..data.values import Values
from ..recipe_file import import_parts
from ..system.devices import choose_device, enough_memory
from ..system.errors import MachineError, UserError, nearest
from ..system.output import print_notes, say, screen
from ..translate import Translator, load
from .progress import counting

T = TypeVar("T")
ALPHAS = ("keep", "white")
LARGE = 2**26  # pixels of an image that is translated window by window
AHEAD = 2**22  # pixels that are decoded before, or encoded behind, those that the network has


class Task(NamedTuple):
    """A file to translate: its header, what the values of its translation are, and the style that is given."""

    source: Path
    target: Path
    header: Header
    values: Values
    style: Tensor | None

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
) -> None:
    """Translate an image, or a folder of them, and say what was done; the arguments are the command's own."""
    if style is not None and samples is not None:
        raise UserError("--style and --samples each say what style the outputs have: give one of them")
    if seed is not None and samples is None:
        raise UserError("--seed is of styles that are drawn: give --samples N with it")
    if alpha not in ALPHAS:
        raise UserError(f"--alpha is keep or white, not '{alpha}'. {nearest(alpha, ALPHAS)}")
    notes: list[str] = []
    numbers = range(samples or 0)
    work = jobs(source, target, notes, [f"-{number + 1}" for number in numbers] or [""], format)
    if parts is not None:
        import_parts(parts)
    way_out = "choose another --device, or images of fewer pixels"
    with enough_memory(choose_device(device), "translating", way_out, MachineError):
        translator = load(run, device=device, weights=weights, precision=precision)
        translator.check(path)
        if style is not None or samples is not None:
            translator.check_styles()
        like = None if style is None else translator.style(style, path[-1])
        drawn = [translator.drawn_style(path[-1], (seed or 0) + number) for number in numbers]
        # Every one, before the first image takes its time.
        headers = [probe(before, translator.model.channels[path[0]]) for before, _ in work]
        channels = translator.model.channels[path[-1]]
        tasks = []
        for (before, after), header, style_of in zip(work, headers, cycle(drawn or [like])):
            values = translator.meanings(path, header.dtype)[1]
            notes += refuse_unwritable_format(after, header.frames, channels, values, alpha == "keep")
            tasks.append(Task(before, after, header, values, style_of))
        windowed = [_by_windows(translator, task, path) for task in tasks]
        with counting(f"{path}: {translator.route(path)}", len(work)) as done:
            for task in compress(tasks, windowed):
                translator.translate_file(task.source, task.target, path, task.style)
                if alpha == "keep" and is_transparent(task.source):
                    notes.append(f"{task.source} is larger than 64 megapixels, and is written without its transparency")
                done()
            small = [task for task, large in zip(tasks, windowed, strict=True) if not large]
            for _ in _translated(translator, small, path, transparent=alpha == "keep"):
                done()
    if translator.short:
        notes.append(short_note(translator.short))
    notes += translator.inference.notes
    console = screen()
    print_notes(console, notes)
    place = target if source.is_dir() or len(work) == 1 else work[0][1].parent
    count = sum(header.frames for header in headers)
    say(console, f"{count} {'image' if count == 1 else 'images'} in {place}")


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


def _by_windows(translator: Translator, task: Task, path: str) -> bool:
    """Whether a task's image is read and written window by window. Raises `UserError` for one that is too large for
    anything else, and cannot be."""
    header = task.header
    refuse_too_large(task.source, header)
    if header.large:
        refuse_unwritable_windows(task.target, header.height, header.width)
        translator.inference.refuse_windows(path)
        return True
    if task.pixels <= LARGE or header.frames > 1 or not has_windows(task.target):
        return False
    try:
        windows_of(task.source)
    except UserError:
        return False
    return translator.inference.takes_windows(path)


def _translated(translator: Translator, tasks: Sequence[Task], path: str, *, transparent: bool) -> Iterator[None]:
    """Do tasks whose images are read whole, decoded ahead and written behind; yields when one is done."""
    with workers() as pool:
        frames = [(each, frame) for each in tasks for frame in range(each.header.frames)]
        decode = [partial(translator.pixels, each.source, path[0], frame) for each, frame in frames]
        found = translator.stream(
            ahead(pool, decode, [each.pixels for each, _ in frames]), path, (each.style for each, _ in frames)
        )
        save = (
            partial(
                write_image,
                list(islice(found, each.header.frames)),
                each.target,
                each.source,
                each.values,
                transparent=transparent,
            )
            for each in tasks
        )
        yield from ahead(pool, save, [each.pixels * each.header.frames for each in tasks])


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """Threads for files. At the end of the block what has begun is finished, and nothing else begins."""
    pool = ThreadPoolExecutor(min(4, (os.cpu_count() or 1) + 1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: Executor, tasks: Iterable[Callable[[], T]], pixels: Iterable[int]) -> Iterator[T]:
    """The results of tasks in their order, which work in the background before they are asked for.

    Where one fails, or the next cannot be had, the results of those before it come first.

    Args:
        pixels: of each: those of the tasks under way are at most `AHEAD`, or those of two.
    """
    waiting: deque[tuple[Future[T], int]] = deque()
    failure: Exception | None = None
    pairs = zip(tasks, pixels, strict=False)
    while True:
        try:
            task, size = next(pairs)
        except StopIteration:
            break
        except Exception as error:
            failure = error
            break
        waiting.append((pool.submit(task), size))
        while len(waiting) > 1 and sum(each for _, each in waiting) > AHEAD:
            yield waiting.popleft()[0].result()
    for future, _ in waiting:
        yield future.result()
    if failure is not None:
        raise failure


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
        if target.exists() and not target.is_dir():
            raise UserError(f"the input is a folder, so the output must be one: {target} is a file")
        found = [(p, _in_format(target / p.relative_to(source), format)) for p in files.paths]
    else:
        siblings = [p.name for p in source.parent.iterdir()] if source.parent.is_dir() else []
        raise UserError(f"there is no file or folder {source}. {nearest(source.name, siblings)}")
    found = [(before, numbered(after, suffix)) for before, after in found for suffix in suffixes]
    inputs = {before.resolve(): before for before, _ in found}
    outputs: dict[Path, Path] = {}
    for before, after in found:
        place = after.resolve()
        if place in inputs:
            of = "the input" if inputs[place] == before else f"the input {inputs[place]}"
            raise UserError(f"the output {after} is {of}; choose another place for it")
        if place in outputs:
            raise UserError(f"{outputs[place]} and {before} would both become {after}; choose another place for them")
        outputs[place] = before
    return found
