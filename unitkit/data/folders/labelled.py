"""Folders of images by split and label: root/train/LABEL, root/LABEL/train, root/trainLABEL, root/LABEL."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...system.errors import UserError, refusal
from ..digits.arrays import IDX_TEST, IDX_TRAIN, idx_file, idx_splits, is_idx
from ..files.decode import SUFFIXES
from .held_out import Readers, Splits, split_arrays, split_files
from .listing import FileSet, is_run, passed_over, read_folder
from .splits import HELD_OUT, SEPARATOR, Kind, Split, counterparts, folded, split_of

Found = tuple[Readers, list[str]]


def labelled_folders(root: Path) -> Found:
    """The domains of a folder by label, and notes on what in it is not used; one domain where it holds no labels.

    Raises `UserError` for folders that look like splits and do not fit together.
    """
    if idx_file(root, IDX_TRAIN):
        return {name_of(root): partial(folder_splits, root)}, []
    folders = _folders(root)
    whole, labelled = _splits(root, folders)
    if "train" in whole:
        return _by_split(root, whole, folders)
    if sets := _by_suffix(root, labelled, folders):
        used = [name for pair in sets.values() for name in pair if name]
        readers: Readers = {
            label: partial(_train_test, root / train, root / test if test else None)
            for label, (train, test) in sets.items()
        }
        return readers, [*_unused(root, folders, used), *_loose(root)]
    _refuse_without_train(root, whole, labelled)
    if not folders:
        packed = [p.name for p in sorted(root.iterdir()) if p.suffix == ".npz" or is_idx(p)]
        if packed:
            raise UserError(f"data '{root}' has no folders of images. Did you mean '{root / packed[0]}'?")
        images_of(root)
        return {name_of(root): partial(folder_splits, root)}, []
    return {label: partial(folder_splits, root / label) for label in folders}, _loose(root)


def folder_splits(root: Path) -> Splits:
    """The splits of a folder that is one domain: the files of MNIST, train/ with test/, or images."""
    if train := idx_file(root, IDX_TRAIN):
        return split_arrays(partial(idx_splits, train, idx_file(root, IDX_TEST)))
    folders = _folders(root)
    whole, labelled = _splits(root, folders)
    if "train" in whole:
        test = _held_out_folder(whole)
        return _train_test(root / whole["train"], root / test if test else None)
    if sets := _by_suffix(root, labelled, folders):
        raise UserError(
            f"'{root}' holds the splits of {', '.join(sets)}, where one domain is expected: give it alone, data={root}"
        )
    _refuse_without_train(root, whole, labelled)
    return _train_test(root, None)


def images_of(folder: Path) -> FileSet:
    """`read_folder`. Raises `UserError` for a folder without an image, too."""
    found = read_folder(folder)
    if not found:
        others = "".join(f"; {note}" for note in passed_over(found.passed, "it"))
        raise UserError(f"the folder '{folder}' has no image in it (looked for {', '.join(SUFFIXES)}{others})")
    return found


def name_of(path: Path) -> str:
    """The label of a domain that is all of a location."""
    return path.resolve().name or str(path)


def _by_split(root: Path, whole: dict[Kind, str], folders: Sequence[str]) -> Found:
    """root/train/LABEL with root/test/LABEL; root/train without labels is one domain."""
    train, test = root / whole["train"], _held_out_folder(whole)
    labels = _folders(train)
    notes = _unused(root, folders, [train.name, *([test] if test else [])])
    if not labels:
        images_of(train)  # refuses a folder without images
        return {name_of(root): partial(folder_splits, root)}, notes
    notes += [*_loose(root), *_loose(train)]
    if test is None:
        return {label: partial(_train_test, train / label, None) for label in labels}, notes
    others = _folders(root / test)
    tests = counterparts(labels, others, train, root / test)
    notes += [*_unused(root / test, others, list(tests.values())), *_loose(root / test)]
    return {label: partial(_train_test, train / label, root / test / tests[label]) for label in labels}, notes


def _by_suffix(
    root: Path, labelled: dict[str, dict[Kind, str]], folders: Sequence[str]
) -> dict[str, tuple[str, str | None]]:
    """By label the folders of training and test, trainA with testA; empty where the names mean something else."""
    sets = {
        _label(kinds["train"]): (kinds["train"], _held_out_folder(kinds))
        for kinds in labelled.values()
        if "train" in kinds
    }
    if any(test for _, test in sets.values()):
        return sets
    tests = [name for kinds in labelled.values() if "train" not in kinds for name in kinds.values()]
    if sets and tests:
        train = next(iter(sets.values()))[0]
        raise UserError(
            f"'{root}' has the folders '{train}' and '{tests[0]}', which look like splits of different domains: "
            f"expected two of each, such as trainA, testA, trainB and testB"
        )
    # trainA and trainB; not train_station beside beach.
    return sets if 2 <= len(sets) == len(folders) else {}


def _label(folder: str) -> str:
    split = split_of(folder)
    assert split is not None
    return split.label.strip(SEPARATOR)


def _splits(root: Path, folders: Sequence[str]) -> tuple[dict[Kind, str], dict[str, dict[Kind, str]]]:
    """The folders that are splits: those of all domains by kind, and those of one by its folded label and kind.

    Raises `UserError` where two folders claim one split.
    """
    whole: dict[Kind, str] = {}
    labelled: dict[str, dict[Kind, str]] = {}
    for name in folders:
        split: Split | None = split_of(name)
        if split is None:
            continue
        group = labelled.setdefault(folded(split.label.strip(SEPARATOR)), {}) if split.label else whole
        first = group.setdefault(split.kind, name)
        if first != name and not (root / first).samefile(root / name):
            of = f" of '{split.label}'" if split.label else ""
            raise UserError(
                f"'{root}' has two folders for the {HELD_OUT.get(split.kind, 'training')} split{of}, '{first}' and "
                f"'{name}': bring them together, or move one away"
            )
    return whole, labelled


def _refuse_without_train(root: Path, whole: dict[Kind, str], labelled: dict[str, dict[Kind, str]]) -> None:
    tests = list(whole.values())
    alone = [name for kinds in labelled.values() for name in kinds.values() if "train" not in kinds]
    if tests or len(alone) >= 2:
        found = (tests or alone)[0]
        raise UserError(f"data '{root}' has a folder '{found}' and no 'train': expected '{root}/train/LABEL/...'")


def _held_out_folder(kinds: dict[Kind, str]) -> str | None:
    """The folder that is tested on: test where there is one, else val."""
    return kinds.get("test") or kinds.get("val")


def _train_test(train: Path, test: Path | None) -> Splits:
    if test is not None:
        return images_of(train), images_of(test)
    return split_files(images_of(train), train)


def _folders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            folders = sorted(
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))
            )
        return [name for name in folders if not is_run(root / name)]
    except OSError as error:
        raise refusal(f"cannot read the folder '{root}'", error) from None


def _unused(root: Path, folders: Sequence[str], used: Sequence[str]) -> list[str]:
    rest = [name for name in folders if name not in used]
    return [f"not used in {root}, beside {', '.join(used)}: {', '.join(rest)}"] if rest else []


def _loose(root: Path) -> list[str]:
    count = sum(name.lower().endswith(SUFFIXES) and not name.startswith(".") for name in os.listdir(root))
    return [f"not used in {root}: {count} images that lie in no label's folder"] if count else []
