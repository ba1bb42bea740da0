"""What a data location holds: folders of images, list files, `.npz` and idx files, alone or one per domain.

Every reader answers with the domains by label, each a function that yields its splits, so that only the domains which
are chosen get read. A reader that finds a single domain answers with that one.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath

import numpy as np

from ...hub.names import PREFIX
from ...system.errors import UserError
from ...system.files import expanded
from ..digits.arrays import idx_splits, is_idx, npz_domains
from ..files.bounds import open_ordinary
from ..files.decode import SUFFIXES, probe
from ..formats.header import suffix_of
from ..formats.npy import array_of
from ..sources import ImageArray
from .held_out import Readers, Splits, split_arrays, split_files
from .hub import read_hub
from .labelled import Found, folder_splits, images_of, labelled_folders, name_of
from .listing import FileSet, Paths, frame_key, key_of, mark
from .splits import refuse_splits

LIST = 2**28  # bytes of a list, enough for some million paths
LINES = re.compile(r"\r\n|\r|\n")
QUOTES = "\"'"


def read_location(location: str, least: int = 2) -> Found:
    """The domains of a location, or of several with commas between, by label; and notes on what is not used there.

    Raises `UserError` for a path that does not exist, for fewer domains than `least`, for content that is no images,
    and for splits that would be taken for domains.
    """
    readers, notes = _read(location, least)
    refuse_splits(readers, f"data '{location}'")
    return readers, notes


def _read(location: str, least: int) -> Found:
    if not several(location):
        return _several_domains(_existing(location), least)
    parts = [part.strip() for part in location.split(",")]
    if "" in parts:
        raise UserError(f"data '{location}' has an empty place between commas: name one location per domain")
    domains = [(part, *_one_domain(part)) for part in parts]
    labels = [label for _, label, _ in domains]
    found: Readers = {}
    for part, label, reader in domains:
        # Two locations of one name, x/day and y/day, are told apart by the whole path.
        label = label if labels.count(label) == 1 else part
        if label in found:
            raise UserError(f"data '{location}' names '{part}' twice: each domain needs a location of its own")
        found[label] = reader
    return found, []


def several(location: str) -> bool:
    """Whether this is several locations, one per domain; a path that exists is one, commas in its name or not."""
    return "," in location and not os.path.exists(os.path.expanduser(location.removeprefix(PREFIX)))


def from_here(location: str) -> str:
    """The location as it is called in any other working folder; a place that does not exist here stays as it is."""
    if several(location):
        return ",".join(from_here(part.strip()) for part in location.split(","))
    if location.startswith(PREFIX):
        return PREFIX + from_here(location.removeprefix(PREFIX))
    here = expanded(location).absolute()
    return str(here) if os.path.exists(here) else location


def flat(location: str) -> FileSet | ImageArray:
    """All images of a location that is one set: a folder with those within, or an .npz of one array.

    Raises `UserError` for a location that does not exist, is of another kind, or holds no image.
    """
    path = _existing(location)
    if path.is_dir():
        return images_of(path)
    if path.suffix.lower() == ".npz" and len(domains := npz_domains(path)) == 1:
        return next(iter(domains.values()))()[0]
    raise UserError(f"'{path}' is no folder of images and no .npz with one array")


def _existing(location: str) -> Path:
    path = expanded(location)
    if location and os.path.exists(path):
        return path.absolute()  # images are read later, perhaps in another working folder
    parent = next((p for p in path.parents if p.is_dir()), Path())
    missing = path.relative_to(parent).parts[:1] if path != parent else ()
    beside = (
        sorted(p.name for p in parent.iterdir() if not p.name.startswith(".")) if os.access(parent, os.R_OK) else []
    )
    near = difflib.get_close_matches(missing[0], beside, n=1, cutoff=0.4) if missing else []
    shown = ", ".join(beside[:8]) + (", ..." if len(beside) > 8 else "")
    hint = f"Did you mean '{parent / near[0]}'?" if near else f"'{parent}' holds: {shown or 'nothing'}."
    raise UserError(f"data '{location}' does not exist. {hint}")


def _several_domains(path: Path, least: int) -> Found:
    readers, notes = labelled_folders(path) if path.is_dir() else (_file_domains(path), [])
    if len(readers) < least:
        raise UserError(
            f"data '{path}' holds a single domain, '{next(iter(readers))}', and translation needs two: "
            f"give one location per domain with commas between, such as data={path},OTHER"
        )
    return readers, notes


def _one_domain(place: str) -> tuple[str, Callable[[], Splits]]:
    """The label and the reader of a location that stands for one domain among others."""
    if place.startswith(PREFIX):
        readers, _ = read_hub(place)
    elif (path := _existing(place)).is_dir():
        return name_of(path), partial(folder_splits, path)
    else:
        readers = _file_domains(path)
    if len(readers) > 1:
        raise UserError(
            f"'{place}' holds several domains, {_listed(readers)}, where one of several locations must hold one: "
            f"give it alone, or each domain in a file of its own"
        )
    return next(iter(readers.items()))


def _file_domains(path: Path) -> Readers:
    if path.suffix.lower() == ".npz":
        return {label: partial(split_arrays, read) for label, read in npz_domains(path).items()}
    if path.suffix.lower() == ".txt":
        return _list_file(path)
    if path.suffix.lower() == ".npy":
        return {path.stem: partial(split_arrays, lambda: (ImageArray(array_of(path), str(path)), None))}
    if is_idx(path):
        return {path.name.split(".")[0]: partial(split_arrays, partial(idx_splits, path, None))}
    if suffix_of(path) in SUFFIXES and (found := _image_file(path)):
        return found
    one = " (it is one image; give the folder of images)" if suffix_of(path) in SUFFIXES else ""
    raise UserError(
        f"data '{path}' is no folder and no .npz, .npy, .txt (list of images), idx file or stack of images{one}"
    )


def _image_file(path: Path) -> Readers:
    """The images of a file that holds several, or the windows of one that is too large to be read whole."""
    header, key = probe(path), key_of(PurePath(path.name))
    count = 1 if header.large else header.frames
    marks = np.array([mark(os.stat(path))] * count, np.int64)
    if header.large:
        train, test = (FileSet(Paths([str(path)]), [key], marks, str(path), part=part) for part in ("train", "test"))
        return {key: lambda: (train, test)}
    if count == 1:
        return {}
    keys = [f"{key}/{frame_key(i)}" for i in range(count)]
    files = FileSet(Paths([str(path)] * count), keys, marks, str(path), frames=range(count))
    return {key: partial(split_files, files, path)}


def _list_file(path: Path) -> Readers:
    """A list of images, one path a line relative to the list, with or without a tab and a label; # for comments.

    Paths and labels may stand in quotes, as spreadsheets and shells write them.
    """
    try:
        with open_ordinary(path, "a list of images") as file:
            data = file.read(LIST + 1)
        if len(data) > LIST:
            raise UserError(f"the list '{path}' is larger than {LIST >> 20} MiB: give a list for each domain")
        text = data.decode("utf-8-sig")  # some editors begin with a mark of order
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list '{path}' as text in UTF-8: {error}") from None
    images: dict[str, dict[str, tuple[str, os.stat_result]]] = {}
    for number, line in enumerate(LINES.split(text), start=1):
        name, _, label = (part.strip() for part in line.partition("\t"))
        if not name or name.startswith("#"):
            continue
        found = _listed_file(path.parent, name)
        if found is None and (bare := _unquoted(name)) != name:
            name, found = bare, _listed_file(path.parent, bare)
        if found is None:
            image = " ".join(os.path.join(path.parent, os.path.expanduser(name)).split())[:300]
            raise UserError(f"'{path}' line {number}: there is no file '{image}' (paths are relative to the list)")
        images.setdefault(_unquoted(label), {})[name] = found
    if not images:
        raise UserError(f"the list '{path}' names no image: expected a path a line, with a tab and a label after it")
    if "" in images and len(images) > 1:
        bare = next(iter(images[""]))
        raise UserError(f"'{path}' gives '{bare}' no label and others one: expected PATH, a tab and LABEL on each line")
    return {
        label: partial(_listed_set, path, label, files)
        for label, files in ((label or path.stem, files) for label, files in images.items())
    }


def _listed_file(folder: Path, name: str) -> tuple[str, os.stat_result] | None:
    """The path that a list names, and the file's status; None where there is no ordinary file."""
    image = os.path.join(folder, os.path.expanduser(name))
    with suppress(OSError, ValueError):
        status = os.stat(image)
        return (image, status) if stat.S_ISREG(status.st_mode) else None
    return None


def _unquoted(text: str) -> str:
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] and text[0] in QUOTES else text


def _listed_set(source: Path, label: str, files: Mapping[str, tuple[str, os.stat_result]]) -> Splits:
    marks = np.array([mark(status) for _, status in files.values()], np.int64)
    keys = [_listed_key(name, label) for name in files]
    return split_files(FileSet(Paths([name for name, _ in files.values()]), keys, marks, str(source)), source)


def _listed_key(name: str, label: str) -> str:
    """The path in the list without the folder that is named as the label: sat/drive1/0001.png is drive1/0001 of sat."""
    parts = list(PurePath(name).parts)
    if label in parts[:-1]:
        parts.remove(label)
    return key_of(PurePath(*parts))


def _listed(names: Sequence[str] | Readers) -> str:
    return ", ".join(f"'{name}'" for name in names)
