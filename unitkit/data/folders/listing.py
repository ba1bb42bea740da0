"""The image files of a folder and of the folders within: links followed, and what is passed over counted."""

from __future__ import annotations

import os
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import overload

import numpy as np

from ...system.errors import refusal
from ..files.decode import SUFFIXES
from ..formats.header import suffix_of

Frame = int | tuple[int, int]  # the number of an image in its file, or the corner (top, left) of a window in it
SHOWN = 8  # kinds of files in a note


@dataclass(frozen=True)
class Paths(Sequence[Path]):
    """The paths of many files, kept as text: each becomes a `Path` when it is asked for."""

    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Path: ...

    @overload
    def __getitem__(self, place: slice) -> Paths: ...

    def __getitem__(self, place: int | slice) -> Path | Paths:
        return Paths(self.names[place]) if isinstance(place, slice) else Path(self.names[place])


@dataclass(frozen=True)
class FileSet:
    """Image files, each with its key, by which the images of one scene are told in several domains or sets.

    `marks` are each file's size in bytes and the times in nanoseconds of its last writing and change, int64 (n, 3).
    `root` is the folder or the list that they were found in, and `passed` counts what was passed over on the way, by
    suffix or by what it is. `frames` says which image of its file each is, where a file holds several. Of a single
    picture that is too large to be read whole, `part` says which of its windows are meant, "train" or "test".
    """

    paths: Paths
    keys: Sequence[str]
    marks: np.ndarray = field(compare=False)
    root: str
    passed: Counter[str] = field(default_factory=Counter)
    frames: Sequence[Frame] = ()
    part: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def pick(self, rows: Sequence[int]) -> FileSet:
        """Only these of its images, without what was passed over."""
        frames = [self.frames[i] for i in rows] if self.frames else ()
        paths = Paths([self.paths.names[i] for i in rows])
        return FileSet(paths, [self.keys[i] for i in rows], self.marks[rows], self.root, frames=frames)


def mark(status: os.stat_result) -> tuple[int, int, int]:
    """What `FileSet` keeps of a file's status."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def key_of(place: PurePath) -> str:
    """The key of an image at this place below its domain's folder: the path without the suffix of an image.

    File systems differ in how they spell an accented letter, so the key is in Unicode's composed form.
    """
    suffix, name = suffix_of(place), place.as_posix()
    return _composed(name.removesuffix(name[-len(suffix) :]) if suffix in SUFFIXES else name)


def frame_key(frame: Frame) -> str:
    """What the key of one of a file's images ends with, behind the file's own."""
    return "{:06},{:06}".format(*frame) if isinstance(frame, tuple) else f"{frame:06}"


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def read_folder(folder: Path, leave_out: Path | None = None) -> FileSet:
    """Every image in a folder and the folders within, in the order of their keys.

    Links to folders are followed, each real folder once, where it lies rather than through a link; one to a folder that
    it lies in is passed over. `leave_out` is a folder within that is not read. Raises `UserError`
    for a folder that cannot be read.
    """
    passed: Counter[str] = Counter()
    # Text and numbers alone, without an object for each of what may be a million files.
    keys, names, marks = list[str](), list[str](), array("q")
    here, output = folder.resolve(), leave_out.resolve() if leave_out else None
    seen = {here}
    places, links = [folder], list[Path]()
    while places or links:
        # First every folder that lies here, then what only links lead to.
        place = places.pop(0) if places else links.pop(0)
        if place != folder:
            if (real := place.resolve()) == output:
                continue
            around = place.parent.resolve()
            if real in seen or real in (around, *around.parents):
                passed["linked folder that is read elsewhere"] += 1
                continue
            seen.add(real)
        start = "" if place == Path() else os.path.join(place, "")
        below = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        for entry in _entries(place):
            suffix = suffix_of(entry.name)
            if kind := _passed_over(entry, suffix):
                passed[kind] += 1
            elif entry.is_dir():
                (links if entry.is_symlink() else places).append(Path(entry.path))
            else:
                try:
                    status = entry.stat()
                except OSError:  # gone just now
                    passed["broken link"] += 1
                    continue
                keys.append(_composed(below + entry.name[: -len(suffix)]))
                names.append(start + entry.name)
                marks.extend(mark(status))
    # A separator is less than any letter, so that folders sort as wholes.
    sorting = [f"{key}//{name}".replace("/", "\0") for key, name in zip(keys, names, strict=True)]
    order = sorted(range(len(keys)), key=sorting.__getitem__)
    table = np.array(marks, np.int64).reshape(-1, 3)[order]
    return FileSet(Paths([names[i] for i in order]), [keys[i] for i in order], table, str(folder), passed)


def is_run(folder: Path) -> bool:
    """Whether a folder is of a training or an ablation, or holds nothing but such: its grids are no data."""
    if any(os.path.isfile(folder / name) for name in ("run.json", "ablation.json")):
        return True
    within, others = list[str](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == "latest" and entry.is_symlink():  # runs/latest
                    continue
                (within if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
                if len(others) > 1 or (within and others):  # a folder of a million images is told by the first two
                    return False
    except OSError as error:
        raise refusal(f"cannot read the folder '{folder}'", error) from None
    if not within:  # a training that was refused at its start leaves its lock at most, and runs/ may be empty
        return others == [".lock"] or (not others and folder.name == "runs")
    return all(is_run(folder / name) for name in within)


def passed_over(passed: Counter[str], place: object) -> list[str]:
    """What was passed over at a place, in one line, or nothing: "passed over in photos: 12 .heic, 3 .txt"."""
    if not passed.total():
        return []
    kinds = [f"{count} {kind}" for kind, count in sorted(passed.items(), key=lambda each: (-each[1], each[0])) if count]
    more = f", and {len(kinds) - SHOWN} other kinds" if len(kinds) > SHOWN else ""
    return [f"passed over in {place}: {', '.join(kinds[:SHOWN])}{more}"]


def total(sets: Iterable[FileSet]) -> Counter[str]:
    """What several sets have passed over together."""
    return sum((each.passed for each in sets), Counter[str]())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise refusal(f"cannot read the folder '{folder}'", error) from None


def _passed_over(entry: os.DirEntry[str], suffix: str) -> str | None:
    """Why an entry of a folder is neither read as an image nor searched for images, or None."""
    if entry.name.startswith("."):
        return "hidden"
    try:
        if entry.is_dir():
            return "folder of a run" if is_run(Path(entry.path)) else None
        if not entry.is_file():
            return "no ordinary file" if os.path.exists(entry.path) else "broken link"
    except OSError:  # a link that leads to itself
        return "broken link"
    return None if suffix in SUFFIXES else suffix or "without suffix"
