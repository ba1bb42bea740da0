"""The data of a training: two or more domains, each with images to train on and images to test on."""

from __future__ import annotations

import difflib
import string
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from ..annotations import AtLeast, Positive, describe, fits
from ..registry import Registry
from ..system.errors import UserError, nearest
from .domain import Domain
from .files.decode import Header, probe
from .folders.held_out import Raw, Readers
from .folders.listing import FileSet, passed_over, total
from .folders.locations import read_location, several
from .sources import ImageArray, ImageFiles, Images, digest
from .truth import Aligned

datasets = Registry("data")
MOST = len(string.ascii_lowercase)


@dataclass(frozen=True)
class Data:
    """The domains of a training by letter, all of one size (H, W).

    `truth(path, i)`, for data that knows it, is the true translation of test image `i` of the path's first domain into
    its last, uint8 (C, H, W). `facts` is what every record of a result should say besides, such as the protocol by
    which images were chosen, ready for JSON. `notes` are lines for the user on what was found and is not used. Of data
    without their bad images, `whole` are the data as they were opened.
    """

    name: str
    size: tuple[int, int]
    domains: dict[str, Domain]
    truth: Callable[[str, int], np.ndarray] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    whole: Data | None = None

    @property
    def channels(self) -> dict[str, int]:
        """1 or 3 by letter."""
        return {letter: domain.train.channels for letter, domain in self.domains.items()}

    @property
    def labels(self) -> dict[str, str]:
        """The labels by letter."""
        return {letter: domain.label for letter, domain in self.domains.items()}

    @property
    def left_out(self) -> dict[str, int]:
        """By letter the held-out images that are left out as bad; empty where none is."""
        if self.whole is None:
            return {}
        counts = {k: len(self.whole.domains[k].test) - len(domain.test) for k, domain in self.domains.items()}
        return counts if any(counts.values()) else {}

    def held_out(self, max_images: int = 0) -> dict[str, int]:
        """How many held-out images an evaluation takes, by the letter that a path begins with; `max_images` at most
        where it is not 0. Paths from noise, `z`, take as many as the largest domain."""
        counts = {letter: len(domain.test) for letter, domain in self.domains.items()}
        counts["z"] = max(counts.values())
        return {letter: min(n, max_images or n) for letter, n in counts.items()}

    def fingerprint(self) -> str:
        """A short hash that changes when a domain's label or images do, whether some are left out as bad or not."""
        if self.whole is not None:
            return self.whole.fingerprint()
        parts = ((d.label, d.train.fingerprint(), d.test.fingerprint()) for d in self.domains.values())
        classes = (d.train_classes for d in self.domains.values() if d.train_classes is not None)
        return digest(self.size, *parts, *classes)


def in_channels(data: Data, channels: Mapping[str, int]) -> Data:
    """The data with images in grey (1) or RGB (3) as `channels` says by letter; other kinds of images stay."""

    def converted(images: Images, depth: int) -> Images:
        if isinstance(images, ImageFiles):
            return replace(images, channels=depth)
        return images.at(images.size, depth) if isinstance(images, ImageArray) else images

    made = {
        letter: replace(
            domain, train=converted(domain.train, channels[letter]), test=converted(domain.test, channels[letter])
        )
        if letter in channels
        else domain
        for letter, domain in data.domains.items()
    }
    return replace(data, domains=made, truth=Aligned(made) if isinstance(data.truth, Aligned) else data.truth)


def make_domains(splits: Iterable[tuple[str, Images, Images]]) -> dict[str, Domain]:
    """Domains a, b, c, ... from (label, train, test) in their order."""
    return {
        letter: Domain(letter, label, train, test)
        for letter, (label, train, test) in zip(string.ascii_lowercase, splits, strict=False)
    }


@dataclass(frozen=True)
class Open:
    """Where a recipe's images come from: a value whose fields are knobs, opened by `open()`.

    Args:
        data: a data source such as portraits, a folder with a folder of images for each domain, a list (.txt), an .npz,
            or one location for each domain with commas between.
        domains: how many there must be.
        size: side of the images, or height and width as 48x64.
        labels: the domains in order, such as neutral,smiling; needed where the data hold more.
        channels: 1 makes all images grey, 3 all of them RGB; without it a domain of grey images has 1.
    """

    data: str
    domains: Annotated[int, AtLeast(2, most=26)] = 2
    size: int | tuple[int, int] = 64
    labels: str | None = None
    channels: Literal[1, 3] | None = None

    def open(self, *, aligned: bool = False) -> Data:
        """`open_data` of these."""
        return open_data(
            self.data,
            size=self.size,
            domains=self.domains,
            labels=self.labels,
            channels=self.channels,
            aligned=aligned,
        )


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
    """The data of that name or at that location, every header read, no pixel decoded yet.

    `data` is a registered data source ("portraits"), or a folder root/train/LABEL and root/test/LABEL or root/LABEL, a
    list of images (.txt), an .npz, or one location per domain with commas between. Images that cannot be read are kept
    in their places: a training or an evaluation decides about them. `size` is the side or (H, W) that
    images are brought to; `labels` ("neutral,smiling") chooses domains and their order, or names the locations where
    they are several; `domains` is the number that is needed; `channels` (1 or 3) overrides what the files are; `seed`
    is that of data made at random. With `aligned`, held-out images of equal paths below their domain's folder are one
    scene (val/satellite/x/0001.jpg, val/map/x/0001.png), for metrics that compare with the truth; training stays
    unpaired.
    Raises `UserError` for what is missing, damaged, or does not fit.
    """
    shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if not all(fits(edge, Positive) for edge in shape):
        raise UserError(f"size={size} is not possible: expected pixels, {describe(Positive)}, or a height and a width")
    if channels not in (None, 1, 3):
        raise UserError(f"channels={channels} is not possible: expected 1 (grey) or 3 (RGB)")
    if domains is not None and domains < 2:
        raise UserError(f"domains={domains} is not possible: translation needs two or more")
    if data in datasets.parts:
        given: dict[str, Any] = {"domains": domains, "labels": labels, "channels": channels}
        given = {key: value for key, value in given.items() if value is not None}
        opened: Data = datasets.spec(data, size=shape, seed=seed, **given).build()
        if aligned and opened.truth is None:
            raise UserError(f"the data source '{data}' is not aligned: it knows no ground truth")
        return opened
    if not set(data) & set("/\\.,") and not Path(data).exists():
        folders = (path.name for path in Path().iterdir() if path.is_dir())
        near = nearest(data, [*datasets, *difflib.get_close_matches(data, folders, n=1)])
        raise UserError(f"data '{data}' is no path that exists and no data source ({', '.join(datasets)}). {near}")
    readers, notes = read_location(data)
    found = {label: read() for label, read in _choose(readers, labels, domains, data).items()}
    sets = [raw for splits in found.values() for raw in splits if isinstance(raw, FileSet)]
    headers = _headers([path for each in sets for path in each.paths])

    def images(raw: Raw, label: str) -> Images:
        depth = channels or max(_channels(each, headers, label) for each in found[label])
        if isinstance(raw, ImageArray):
            return raw.at(shape, depth)
        broken = {i: header for i, path in enumerate(raw.paths) if isinstance(header := headers[path], UserError)}
        return ImageFiles(raw.paths, depth, shape, raw.keys, broken)

    splits = ((label, images(train, label), images(test, label)) for label, (train, test) in found.items())
    made = make_domains(splits)
    notes += passed_over(total(sets), data)
    return Data(data, shape, made, Aligned(made) if aligned else None, notes=tuple(notes))


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


def _headers(paths: list[Path]) -> dict[Path, Header | UserError]:
    """The headers of all files, or why they cannot be read."""

    def look(path: Path) -> Header | UserError:
        try:
            return probe(path)
        except UserError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        return dict(zip(paths, pool.map(look, paths), strict=True))


def _channels(raw: Raw, headers: Mapping[Path, Header | UserError], label: str) -> int:
    if isinstance(raw, ImageArray):
        return raw.channels
    found = [headers[path] for path in raw.paths]
    known = [header.channels for header in found if isinstance(header, Header)]
    if not known:
        raise UserError(f"none of the {len(raw)} images of '{label}' can be read: {found[0]}")
    return max(known)
