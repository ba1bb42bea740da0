"""Datasets of the Hugging Face library as data: `hf:NAME`, `hf:NAME:CONFIG`, or `hf:FOLDER` of one that lies here.

No code of a dataset runs: since its version 4 the library reads data alone.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...hub.access import explained, quiet
from ...hub.names import PREFIX
from ...system.errors import MachineError, UserError
from ...system.files import expanded
from ..files.decode import Encoded, decode, probe
from ..files.scale import fit_array
from ..sources import digest
from ..values import Values, common_type
from .held_out import Readers, Splits, hold_out
from .splits import SEPARATOR, split_of

SAMPLE = 64  # images whose headers, or bytes, stand for all
PREFERRED = ("label", "labels")  # which of several columns of classes is meant

Tables = tuple[Any, Any]  # a `datasets.Dataset` to train on, and one to test on or None


class HubImages:
    """One column of images, in some rows of a `datasets.Dataset`.

    The rows' bytes lie in a mapped file until they are read, and the package's own decoder decodes them, within its
    bounds. `label` names the images in messages. `channels`, where it is not given, is that of the sample of images
    whose headers are read, and `size` (H, W) that of the first. Raises `UserError` where no image of the sample can be
    read.
    """

    def __init__(self, table: Any, column: str, rows: np.ndarray, label: str) -> None:
        from datasets import Image

        self.table = table.select_columns([column]).cast_column(column, Image(decode=False))
        self.column, self.rows, self.label = column, rows, label
        headers, errors = [], []
        for i in self._sample():
            try:
                headers.append(probe(self.source(i)))
            except MachineError:
                raise
            except UserError as error:
                errors.append(error)
        if not headers:
            raise UserError(f"none of the images of '{label}' that were looked at can be read: {errors[0]}")
        self.size = (headers[0].height, headers[0].width)
        self.channels = max(header.channels for header in headers)
        self.values = Values(common_type({header.dtype: label for header in headers}))

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        return f"{self.label}[{self.rows[i]}]"

    def source(self, i: int) -> Encoded | Path:
        """The file of image `i`, or its bytes. Raises `UserError` for a row without an image."""
        cell = self.table[int(self.rows[i])][self.column] or {}
        if cell.get("bytes") is not None:
            return Encoded(self.name(i), cell["bytes"])
        if cell.get("path"):
            return Path(cell["path"])
        raise UserError(f"'{self.name(i)}' has no image in column '{self.column}': remove the row")

    def load(self, i: int) -> np.ndarray:
        if not self.values.whole:  # as of `ImageFiles`
            return fit_array(self.unscaled(i), self.size)
        return self.values.stored(decode(self.source(i), self.channels, self.size), self.name(i))

    def unscaled(self, i: int) -> np.ndarray:
        """Image `i` of its own size."""
        return self.values.stored(decode(self.source(i), self.channels), self.name(i))

    def fingerprint(self) -> str:
        """Over the rows and the bytes of some images: a copy that was fetched anew is the same."""
        sources = (self.source(i) for i in self._sample())
        return digest(self.column, self.rows, *(each.data if isinstance(each, Encoded) else each for each in sources))

    def at(self, size: tuple[int, int], channels: int | None = None, values: Values | None = None) -> HubImages:
        """The same images at another size (H, W), in grey (1) or RGB (3) where `channels` says so, or as `values`."""
        other = copy.copy(self)
        other.size, other.channels, other.values = size, channels or self.channels, values or self.values
        return other

    def pick(self, rows: np.ndarray) -> HubImages:
        """Only these of its images."""
        other = copy.copy(self)
        other.rows = self.rows[rows]
        return other

    def _sample(self) -> list[int]:
        n = len(self.rows)
        return sorted({k * n // SAMPLE for k in range(SAMPLE)})


def read_hub(location: str) -> tuple[Readers, list[str]]:
    """The domains of a dataset, by label, and notes on what of it is not used.

    Domains are the classes of a column of class labels, `label` if there are several; without one, the columns of
    images where they are several; else the splits that are not named train, test or validation, which are those of
    every domain. Where there are test and validation, test is held out; where neither is, one image in ten.
    Raises `UserError` for what is not there, cannot be fetched, or holds no images.
    """
    place = location.removeprefix(PREFIX)
    sets, notes = _splits(_tables(place), place)
    features = next(iter(sets.values()))[0].features
    images = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    labels = [name for name, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    if not images:
        columns = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
        raise UserError(f"the dataset '{place}' has no column of images; it has {columns}")
    if len(images) == 1 and not labels:
        return {name or place: partial(_read, place, name, tables, images[0]) for name, tables in sets.items()}, notes
    if len(sets) > 1:
        raise UserError(f"the dataset '{place}' has the splits {', '.join(sets)}: expected train, and test or none")
    tables = next(iter(sets.values()))
    if not labels:
        return {column: partial(_read, place, column, tables, column) for column in images}, notes
    column = next((name for name in PREFERRED if name in labels), labels[0])
    if unused := [name for name in (*images[1:], *labels) if name != column]:
        notes.append(f"not used of {place}: the columns {', '.join(unused)}")
    classes = [np.asarray(table[column][:]) if table else np.empty(0) for table in tables]
    names = features[column].names
    there = [i for i in range(len(names)) if (classes[0] == i).any()]
    rows = {i: [np.flatnonzero(each == i) for each in classes] for i in there}
    return {names[i]: partial(_read, place, names[i], tables, images[0], rows[i]) for i in there}, notes


def _read(place: str, label: str, tables: Tables, column: str, rows: list[np.ndarray] | None = None) -> Splits:
    """The splits of a domain: these rows of the tables, or all of them."""
    train, test = rows or [np.arange(len(table or ())) for table in tables]
    name = f"{place}:{label}" if label else place
    if len(train) < (1 if len(test) else 2):
        raise UserError(f"'{name}' has {len(train)} training images: it takes 2, or 1 where others are for testing")
    found = HubImages(tables[0], column, train, name)
    if len(test):
        return found, HubImages(tables[1], column, test, f"{name} (test)")
    held = hold_out([str(row) for row in train])
    return found.pick(~held), found.pick(held)


def _splits(tables: Mapping[str, Any], place: str) -> tuple[dict[str, Tables], list[str]]:
    """What to train and to test on, by the label that names of splits hold, "" for none; and what is not used.

    Raises `UserError` for splits that are for testing alone, as folders are refused.
    """
    sets: dict[str, dict[str, str]] = {}
    for name in tables:
        split = split_of(name)
        label, kind = (split.label.strip(SEPARATOR), split.kind) if split else (name, "train")
        sets.setdefault(label, {})[kind] = name
    if "" in sets:
        sets = {"": sets[""]}
    for kinds in sets.values():
        if "train" not in kinds:
            names = ", ".join(kinds.values())
            raise UserError(
                f"the dataset '{place}' has the splits {names} and none to train on: expected train, and test or none"
            )
    used = {
        label: [kinds[kind] for kind in ("train", "test", "val") if kind in kinds][:2] for label, kinds in sets.items()
    }
    rest = [name for name in tables if not any(name in names for names in used.values())]
    notes = [f"not used: the splits {', '.join(rest)}"] if rest else []
    found = {label: (tables[names[0]], tables[names[1]] if names[1:] else None) for label, names in used.items()}
    return found, notes


def _tables(place: str) -> dict[str, Any]:
    """The dataset's tables by split."""
    try:
        import datasets
    except ImportError:
        raise UserError(f"data={PREFIX}{place} needs the package datasets: pip install 'unitkit[hf]'") from None
    here = expanded(place)
    name, _, config = place.partition(":")
    try:
        if os.path.exists(here) and not here.is_dir():
            raise UserError(f"'{place}' is no folder of a dataset: expected what save_to_disk wrote, or parquet files")
        if any((here / file).is_file() for file in ("state.json", "dataset_dict.json")):
            found = datasets.load_from_disk(str(here))
        elif here.is_dir():
            found = datasets.load_dataset(str(here))
        else:
            quiet()
            found = datasets.load_dataset(name, config or None)
    except UserError:
        raise
    except Exception as error:  # of the network, the hub, the disk and the files' readers, each its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        known = explained(error, "it") or UserError(reason)
        raise type(known)(
            f"the dataset '{place}' cannot be had ({known}): expected a folder that lies here, NAME of a dataset on "
            f"the Hugging Face Hub, or NAME:CONFIG; without a network, one that was fetched before"
        ) from None
    return dict(found) if isinstance(found, dict) else {"train": found}
