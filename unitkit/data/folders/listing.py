"""The image files of a folder and of the folders within: links followed, and what is passed over counted."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from ...system.errors import refusal
from ..files.decode import SUFFIXES

SHOWN = 8  # kinds of files in a note


@dataclass(frozen=True)
class FileSet:
    """Image files, each with its key, by which the images of one scene are told in several domains or sets.

    `passed` counts what was passed over on the way, by suffix or by what it is.
    """

    paths: Sequence[Path]
    keys: Sequence[str]
    passed: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.paths)


def key_of(place: PurePath) -> str:
    """The key of an image at this place below its domain's folder: the path without the suffix of an image.

    File systems differ in how they spell an accented letter, so the key is in Unicode's composed form.
    """
    bare = place.with_suffix("") if place.suffix.lower() in SUFFIXES else place
    return unicodedata.normalize("NFC", bare.as_posix())


def read_folder(folder: Path, leave_out: Path | None = None) -> FileSet:
    """Every image in a folder and the folders within, in the order of their keys.

    Links to folders are followed, each real folder once, where it lies rather than through a link; one to a folder that
    it lies in is passed over. `leave_out` is a folder within that is not read. Raises `UserError`
    for a folder that cannot be read.
    """
    passed: Counter[str] = Counter()
    found: list[tuple[str, Path]] = []
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
        for entry in _entries(place):
            path = Path(entry.path)
            if kind := _passed_over(entry):
                passed[kind] += 1
            elif not entry.is_dir():
                found.append((key_of(path.relative_to(folder)), path))
            else:
                (links if entry.is_symlink() else places).append(path)
    found.sort(key=lambda each: (each[0].split("/"), each[1]))
    return FileSet([path for _, path in found], [key for key, _ in found], passed)


def is_run(folder: Path) -> bool:
    """Whether a folder is of a training or an ablation, or holds nothing but such: its grids are no data."""
    if any(os.path.isfile(folder / name) for name in ("run.json", "ablation.json")):
        return True
    names = [entry.name for entry in _entries(folder)]
    within = [name for name in names if os.path.isdir(folder / name) and not os.path.islink(folder / name)]
    if not within:  # a training that was refused at its start leaves its lock at most, and runs/ may be empty
        return names == [".lock"] or (not names and folder.name == "runs")
    return len(within) == len(names) and all(is_run(folder / name) for name in within)


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


def _passed_over(entry: os.DirEntry[str]) -> str | None:
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
    suffix = os.path.splitext(entry.name)[1].lower()
    return None if suffix in SUFFIXES else suffix or "without suffix"
