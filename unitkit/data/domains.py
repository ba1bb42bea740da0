"""The data of a training: two or more domains, each with images to train on and images to test on."""

from __future__ import annotations

import difflib
import string
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, nearest
from ..registry import Registry
from .decode import Header, probe
from .locations import Raw, Readers, read_location, several
from .sources import ImageArray, ImageFiles, Images, digest

datasets = Registry("data")
MOST = len(string.ascii_lowercase)


@dataclass(frozen=True)
class Domain:
    """One domain: its letter in image paths, its label, and its two splits.

    `train_classes` and `test_classes`, where they are known, are the class of each image, int64 (n,). A domain whose
    classes a training must not see has no `train_classes`: what is not there cannot leak.
    """

    letter: str
    label: str
    train: Images
    test: Images
    train_classes: np.ndarray | None = None
    test_classes: np.ndarray | None = None


@dataclass(frozen=True)
class Data:
    """The domains of a training by letter, all of one size (H, W).

    `truth(path, i)`, for data that knows it, is the true translation of test image `i` of the path's first domain into
    its last, uint8 (C, H, W). `facts` is what every record of a result should say besides, such as the protocol by
    which images were chosen, ready for JSON.
    """

    name: str
    size: tuple[int, int]
    domains: dict[str, Domain]
    truth: Callable[[str, int], np.ndarray] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> dict[str, int]:
        """1 or 3 by letter."""
        return {letter: domain.train.channels for letter, domain in self.domains.items()}

    @property
    def labels(self) -> dict[str, str]:
        """The labels by letter."""
        return {letter: domain.label for letter, domain in self.domains.items()}

    def fingerprint(self) -> str:
        """A short hash that changes when a domain's label or images do."""
        parts = ((d.label, d.train.fingerprint(), d.test.fingerprint()) for d in self.domains.values())
        classes = (d.train_classes for d in self.domains.values() if d.train_classes is not None)
        return digest(self.size, *parts, *classes)


def make_domains(splits: Iterable[tuple[str, Images, Images]]) -> dict[str, Domain]:
    """Domains a, b, c, ... from (label, train, test) in their order."""
    return {
        letter: Domain(letter, label, train, test)
        for letter, (label, train, test) in zip(string.ascii_lowercase, splits, strict=False)
    }


def open_data(
    data: str,
    *,
    size: int | tuple[int, int],
    domains: int | None = None,
    labels: str | None = None,
    channels: int | None = None,
    aligned: bool = False,
    seed: int = 0,
) -> Data:
    """The data of that name or at that location, every header checked, no pixel decoded yet.

    `data` is a registered data source ("portraits"), or a folder root/train/LABEL and root/test/LABEL or root/LABEL, a
    list of images (.txt), an .npz, or one location per domain with commas between. `size` is the side or (H, W) that
    images are brought to; `labels` ("neutral,smiling") chooses domains and their order, or names the locations where
    they are several; `domains` is the number that is needed; `channels` (1 or 3) overrides what the files are; `seed`
    is that of data made at random. With `aligned`, held-out images of equal names are one scene in every domain
    (val/satellite/0001.jpg, val/map/0001.png), for metrics that compare with the truth; training stays unpaired.
    Raises `UserError` for what is missing, damaged, or does not fit.
    """
    shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if min(shape) < 1:
        raise UserError(f"size={size} is not possible: expected a number of pixels from 1 up, or a height and a width")
    if channels not in (None, 1, 3):
        raise UserError(f"channels={channels} is not possible: expected 1 (grey) or 3 (RGB)")
    if domains is not None and domains < 2:
        raise UserError(f"domains={domains} is not possible: translation needs two or more")
    if data in datasets.parts:
        given: dict[str, Any] = {"domains": domains, "labels": labels, "channels": channels}
        given = {key: value for key, value in given.items() if value is not None}
        opened: Data = datasets.spec(data, size=shape, seed=seed, **given).build()
        if aligned and opened.truth is None:
            raise UserError(f"the data source '{data}' is not aligned: it knows no true counterparts")
        return opened
    if not set(data) & set("/\\.,") and not Path(data).exists():
        folders = (path.name for path in Path().iterdir() if path.is_dir())
        near = nearest(data, [*datasets, *difflib.get_close_matches(data, folders, n=1)])
        raise UserError(f"data '{data}' is no path that exists and no data source ({', '.join(datasets)}). {near}")
    readers = _choose(read_location(data), labels, domains, data)
    found = {label: read() for label, read in readers.items()}
    headers = _headers([path for splits in found.values() for raw in splits if isinstance(raw, list) for path in raw])

    def images(raw: Raw, label: str) -> Images:
        own = (s.channels if isinstance(s, ImageArray) else max(headers[p].channels for p in s) for s in found[label])
        depth = channels or max(own)
        return raw.at(shape, depth) if isinstance(raw, ImageArray) else ImageFiles(raw, depth, shape)

    splits = ((label, images(train, label), images(test, label)) for label, (train, test) in found.items())
    made = make_domains(splits)
    return Data(data, shape, made, _truth(made) if aligned else None)


def _truth(domains: Mapping[str, Domain]) -> Callable[[str, int], np.ndarray]:
    """The true counterparts by name (of arrays: by place). Raises `UserError` for an image that has none."""
    places = {letter: _places(domain.test) for letter, domain in domains.items()}
    first, *others = domains.values()
    for other in others:
        for one, two in (first, other), (other, first):
            missing = places[one.letter].keys() - places[two.letter].keys()
            if missing:
                name = one.test.name(places[one.letter][min(missing)])
                raise UserError(
                    f"the data are not aligned: '{name}' of {one.label} has no counterpart of that name in {two.label} "
                    f"({len(missing)} of {len(one.test)} held-out images have none)"
                )

    def truth(path: str, i: int) -> np.ndarray:
        name = _key(domains[path[0]].test, i)
        return domains[path[-1]].test.load(places[path[-1]][name])

    return truth


def _places(images: Images) -> dict[str, int]:
    return {_key(images, i): i for i in range(len(images))}


def _key(images: Images, i: int) -> str:
    """What the images of one scene have in common: a file's name without its suffix, or a row's number."""
    return images.paths[i].stem if isinstance(images, ImageFiles) else str(i)


def _choose(readers: Readers, labels: str | None, domains: int | None, data: str) -> Readers:
    """The domains that `labels` asks for, in its order, or all of them."""
    count = domains or len(readers)
    if labels is None:
        if len(readers) < count:
            raise UserError(
                f"data '{data}' holds {len(readers)} domains ({', '.join(readers)}), and {count} are needed"
            )
        if len(readers) > min(count, MOST):
            some = ",".join(list(readers)[: min(count, MOST)])
            need = f"{count} are needed" if domains else f"{MOST} are the most"
            raise UserError(f"data '{data}' holds {len(readers)} domains, and {need}: choose, such as labels={some}")
        return readers
    wanted = [label.strip() for label in labels.split(",")]
    if len(set(wanted)) < len(wanted) or "" in wanted or not 2 <= len(wanted) <= MOST:
        raise UserError(f"labels='{labels}' is not possible: expected two or more different labels with commas between")
    if domains is not None and len(wanted) != domains:
        raise UserError(f"labels='{labels}' chooses {len(wanted)} domains, and {domains} are needed")
    unknown = [label for label in wanted if label not in readers]
    # Several locations come in the user's own order, so new labels name them, place by place.
    in_place = all(new == old or new not in readers for new, old in zip(wanted, readers, strict=False))
    if unknown and several(data) and in_place and len(wanted) == len(readers):
        return dict(zip(wanted, readers.values(), strict=True))
    if unknown:
        raise UserError(f"data '{data}' has no domain '{unknown[0]}'. {nearest(unknown[0], readers)}")
    return {label: readers[label] for label in wanted}


def _headers(paths: list[Path]) -> dict[Path, Header]:
    """The headers of all files. Raises `UserError` that names the first broken one and counts the others."""

    def look(path: Path) -> Header | UserError:
        try:
            return probe(path)
        except UserError as error:
            return error

    headers, broken = {}, []
    with ThreadPoolExecutor(8) as pool:
        for path, found in zip(paths, pool.map(look, paths), strict=True):
            if isinstance(found, UserError):
                broken.append(found)
            else:
                headers[path] = found
    if broken:
        others = f"; and {len(broken) - 1} more images cannot be read" if len(broken) > 1 else ""
        raise UserError(f"{broken[0]}{others}")
    return headers
