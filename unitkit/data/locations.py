"""What a data location holds: folders of images, list files, `.npz` and idx files, alone or one per domain.

Every reader answers with the domains by label, each a function that yields its splits, so that only the domains which
are chosen get read. A reader that finds a single domain answers with that one.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError
from .arrays import IDX_TEST, IDX_TRAIN, idx_file, idx_splits, is_idx, npz_domains
from .decode import SUFFIXES
from .sources import ImageArray

Raw = list[Path] | ImageArray
Splits = tuple[Raw, Raw]
Readers = dict[str, Callable[[], Splits]]

TEST_NAMES = ("test", "val", "valid", "validation")
HELD_OUT = 0.1


def read_location(location: str) -> Readers:
    """The domains of a location, or of several with commas between, by label.

    Raises `UserError` for a path that does not exist, for a single domain, and for content that is no images.
    """
    if not several(location):
        return _several_domains(_existing(location))
    parts = [part.strip() for part in location.split(",")]
    if "" in parts:
        raise UserError(f"data '{location}' has an empty place between commas: name one location per domain")
    domains = [(part, *_one_domain(_existing(part))) for part in parts]
    labels = [label for _, label, _ in domains]
    found: Readers = {}
    for part, label, reader in domains:
        # Two locations of one name, x/day and y/day, are told apart by the whole path.
        label = label if labels.count(label) == 1 else part
        if label in found:
            raise UserError(f"data '{location}' names '{part}' twice: each domain needs a location of its own")
        found[label] = reader
    return found


def several(location: str) -> bool:
    """Whether this is several locations, one per domain; a path that exists is one, commas in its name or not."""
    return "," in location and not os.path.exists(os.path.expanduser(location))


def from_here(location: str) -> str:
    """The location as it is called in any other working folder; a place that does not exist here stays as it is."""
    places = [location] if not several(location) else [part.strip() for part in location.split(",")]
    here = (Path(place).expanduser().absolute() for place in places)
    return ",".join(str(path) if os.path.exists(path) else place for place, path in zip(places, here, strict=True))


def hold_out(names: Sequence[str]) -> np.ndarray:
    """Which of the images go to the test split: 1 in 10 by a hash of the name, a boolean per name.

    A name's side does not depend on the other names, so images that are added later move none across; only where one
    of the two sides would be empty does the name nearest to it go there.
    """
    places = np.array([int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6]) / 2**48 for name in names])
    different = np.unique(places)
    held: np.ndarray = places <= min(max(HELD_OUT, different[0]), different[-2])
    return held


def flat(location: str) -> Raw:
    """All images of a location that is one heap: a folder with those within, or an .npz of one array.

    Raises `UserError` for a location that does not exist, is of another kind, or holds no image.
    """
    path = _existing(location)
    if path.is_dir():
        return _images(path)
    if path.suffix == ".npz" and len(domains := npz_domains(path)) == 1:
        return next(iter(domains.values()))()[0]
    raise UserError(f"'{path}' is no folder of images and no .npz with one array")


def _existing(location: str) -> Path:
    path = Path(location).expanduser()
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


def _several_domains(path: Path) -> Readers:
    readers = _labelled_folders(path) if path.is_dir() else _file_domains(path)
    if len(readers) < 2:
        raise UserError(
            f"data '{path}' holds a single domain, '{next(iter(readers))}', and translation needs two: "
            f"give one location per domain with commas between, such as data={path},OTHER"
        )
    return readers


def _one_domain(path: Path) -> tuple[str, Callable[[], Splits]]:
    """The label and the reader of a location that stands for one domain among others."""
    if path.is_dir():
        return _name(path), partial(_folder, path)
    readers = _file_domains(path)
    if len(readers) > 1:
        raise UserError(
            f"'{path}' holds several domains, {_listed(readers)}, where one of several locations must hold one: "
            f"give it alone, or each domain in a file of its own"
        )
    return next(iter(readers.items()))


def _file_domains(path: Path) -> Readers:
    if path.suffix == ".npz":
        return {label: partial(_apart, read) for label, read in npz_domains(path).items()}
    if path.suffix == ".txt":
        return _list_file(path)
    if is_idx(path):
        return {path.name.split(".")[0]: partial(_apart, partial(idx_splits, path, None))}
    one = " (it is one image; give the folder of images)" if path.suffix.lower() in SUFFIXES else ""
    raise UserError(f"data '{path}' is no folder and no .npz, .txt (list of images) or idx file{one}")


def _labelled_folders(root: Path) -> Readers:
    """root/train/<label> with root/test/<label>; root/train<label> with root/test<label>; or root/<label>."""
    if idx_file(root, IDX_TRAIN):
        return {_name(root): partial(_folder, root)}
    folders = _folders(root)
    suffixed = [name.removeprefix("train") for name in folders if re.match(r"train[A-Z0-9_-]", name)]
    if "train" in folders:
        train = _folders(root / "train")
        if not train:
            _images(root / "train")  # refuses a folder without images
            return {_name(root): partial(_folder, root)}
        test = next((root / name for name in TEST_NAMES if name in folders), None)
        return {label: partial(_train_test, root / "train" / label, test / label if test else None) for label in train}
    if len(suffixed) >= 2:
        tests = {label: next((n + label for n in TEST_NAMES if n + label in folders), None) for label in suffixed}
        return {
            label.strip("_-"): partial(_train_test, root / f"train{label}", root / test if test else None)
            for label, test in tests.items()
        }
    if lone := [name for name in TEST_NAMES if name in folders]:
        raise UserError(f"data '{root}' has a folder '{lone[0]}' and no 'train': expected '{root}/train/LABEL/...'")
    if not folders:
        packed = [p.name for p in sorted(root.iterdir()) if p.suffix == ".npz" or is_idx(p)]
        if packed:
            raise UserError(f"data '{root}' has no folders of images. Did you mean '{root / packed[0]}'?")
        _images(root)
        return {_name(root): partial(_folder, root)}
    return {label: partial(_train_test, root / label, None) for label in folders}


def _folder(root: Path) -> Splits:
    """The splits of a folder that is one domain: the files of MNIST, train/ with test/, or images."""
    if train := idx_file(root, IDX_TRAIN):
        return _apart(partial(idx_splits, train, idx_file(root, IDX_TEST)))
    folders = _folders(root)
    if "train" not in folders:
        return _train_test(root, None)
    return _train_test(root / "train", next((root / name for name in TEST_NAMES if name in folders), None))


def _train_test(train: Path, test: Path | None) -> Splits:
    if test is not None:
        if not test.is_dir():
            near = ", ".join(_folders(test.parent)) or "nothing"
            raise UserError(f"'{train}' has no counterpart '{test}' for testing; '{test.parent}' holds: {near}")
        return _images(train), _images(test)
    images = _images(train)
    # Names without the label and the suffix: the two of a pair, satellite/0001.jpg and map/0001.png, stay on one side.
    return _split(images, [path.relative_to(train).with_suffix("").as_posix() for path in images], train)


def _apart(read: Callable[[], tuple[ImageArray, ImageArray | None]]) -> Splits:
    train, test = read()
    if test is not None:
        return train, test
    held = _held_out([str(i) for i in range(len(train))], train.label)
    return train.pick(~held), train.pick(held)


def _split(images: list[Path], names: Sequence[str], source: Path) -> Splits:
    held = _held_out(names, str(source))
    train = [path for path, test in zip(images, held, strict=True) if not test]
    return train, [path for path, test in zip(images, held, strict=True) if test]


def _held_out(names: Sequence[str], source: str) -> np.ndarray:
    if len(set(names)) < 2:
        raise UserError(f"'{source}' has {len(set(names))} image: it takes at least 2, one to train on and one to test")
    return hold_out(names)


def _list_file(path: Path) -> Readers:
    """A list of images, one path a line relative to the list, with or without a tab and a label; # for comments."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list '{path}' as text in UTF-8: {error}") from None
    images: dict[str, dict[str, Path]] = {}
    for number, line in enumerate(lines, start=1):
        name, _, label = (part.strip() for part in line.partition("\t"))
        if not name or name.startswith("#"):
            continue
        if not (image := path.parent / Path(name).expanduser()).is_file():
            raise UserError(f"'{path}' line {number}: there is no file '{image}' (paths are relative to the list)")
        images.setdefault(label, {})[name] = image
    if not images:
        raise UserError(f"the list '{path}' names no image: expected a path a line, with a tab and a label after it")
    if "" in images and len(images) > 1:
        bare = next(iter(images[""]))
        raise UserError(f"'{path}' gives '{bare}' no label and others one: expected PATH, a tab and LABEL on each line")
    return {
        label or path.stem: partial(_split, list(files.values()), list(files), path) for label, files in images.items()
    }


def _folders(root: Path) -> list[str]:
    try:
        return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
    except OSError as error:
        raise UserError(f"cannot read the folder '{root}': {error.strerror}") from None


def _images(folder: Path) -> list[Path]:
    """The images in a folder and the folders within, sorted by path; hidden ones and other files are passed over."""

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read the folder '{error.filename}': {error.strerror}")

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, f) for f in files if f.lower().endswith(SUFFIXES) and not f.startswith(".")]
    if not found:
        raise UserError(f"the folder '{folder}' has no image in it (looked for {', '.join(SUFFIXES)})")
    return sorted(found)


def _name(path: Path) -> str:
    return path.resolve().name or str(path)


def _listed(names: Sequence[str] | Readers) -> str:
    return ", ".join(f"'{name}'" for name in names)
