"""A recipe's data opened: every header read, what the values mean found out, no pixel decoded but for that."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ..annotations import AtLeast, Positive, describe, fits
from ..hub.names import PREFIX
from ..system.errors import UserError, nearest, suggested
from .bands import read_bands
from .domains import MOST, Data, datasets, make_domains, with_values
from .folders.held_out import Raw, Readers
from .folders.hub import read_hub
from .folders.index import headers
from .folders.kinds import images_of_kind, kind_of, values_for
from .folders.listing import FileSet, passed_over, total
from .folders.locations import read_location, several
from .sources import Images
from .truth import Aligned
from .values import BYTES, parse_range


@dataclass(frozen=True)
class Open:
    """Where a recipe's images come from: a value whose fields are knobs, opened by `open()`.

    Args:
        data: a data source such as portraits, a folder with a folder of images for each domain, a list (.txt), an .npz,
            one location for each domain with commas between, or hf:NAME of a dataset of the Hugging Face library.
        domains: how many there must be.
        size: side of the images that a training sees, or height and width as 48x64.
        load: side of the whole images, of which a training sees windows of `size` cut at random, and everything else
            (samples, metrics) the whole; without it `size`.
        labels: the domains in order, such as neutral,smiling; needed where the data hold more.
        channels: 1 makes all images grey, 3 all of them RGB; without it a domain of grey images has 1.
        range: the values that mean black and white to the networks: LOW,HIGH, or for each channel LOW,HIGH with ;
            between; auto takes all of 8 bits, and of other images what the training images hold.
        nan: what stands for values that are not a number, which are refused without it.
        bands: the channels that grids show, such as 4,3,2, or one in colours, such as viridis or 4:viridis; without it
            the first three.
        aligned: whether held-out images of equal names are one scene, so that translations can be compared with the
            truth; training does not use it.
    """

    data: str
    domains: Annotated[int, AtLeast(2, most=26)] = 2
    size: int | tuple[int, int] = 64
    load: int | tuple[int, int] | None = None
    labels: str | None = None
    channels: Literal[1, 3] | None = None
    range: str = "auto"
    nan: float | None = None
    bands: str | None = None
    aligned: bool = False

    def open(self, *, aligned: bool = False) -> Data:
        """`open_data` of these; `aligned` is for recipes whose data always are, whatever the knob says."""
        return open_data(
            self.data,
            size=self.size,
            load=self.load,
            domains=self.domains,
            labels=self.labels,
            channels=self.channels,
            range=self.range,
            nan=self.nan,
            bands=self.bands,
            aligned=aligned or self.aligned,
        )


def open_data(
    data: str,
    *,
    size: int | tuple[int, int],
    load: int | tuple[int, int] | None = None,
    domains: int | None = None,
    labels: str | None = None,
    channels: int | None = None,
    range: str = "auto",
    nan: float | None = None,
    bands: str | None = None,
    aligned: bool = False,
    seed: int = 0,
    least: int = 2,
) -> Data:
    """The data of that name or at that location, every header read, no pixel decoded yet.

    `data` is a registered data source ("portraits"), or a folder root/train/LABEL and root/test/LABEL or root/LABEL, a
    list of images (.txt), an .npz, or one location per domain with commas between. Images that cannot be read are kept
    in their places: a training or an evaluation decides about them. `size` is the side or (H, W) that images are
    brought to, or where `load` is given the windows of a training, and `load` that of the images; `labels`
    ("neutral,smiling") chooses domains and their order, or names the locations where they are several; `domains` is the
    number that is needed; `channels` (1 or 3) overrides what the files are; `range`, `nan` and `bands` are those of
    `Open`; `seed` is that of data made at random. With `aligned`, held-out images of equal paths below their domain's
    folder are one scene (val/satellite/x/0001.jpg, val/map/x/0001.png), for metrics that compare with the truth;
    training stays unpaired. `least` is how many domains there must be where `domains` does not say it.
    Raises `UserError` for what is missing, damaged, or does not fit.
    """
    window = _shape("size", size)
    shape = window if load is None else _shape("load", load)
    if shape[0] < window[0] or shape[1] < window[1]:
        (h, w), (height, width) = window, shape
        raise UserError(
            f"a training on windows of {h}x{w} needs images that are as large, and load={load} brings them to "
            f"{height}x{width}: give a larger load or a smaller size"
        )
    cut = None if shape == window else window
    if channels not in (None, 1, 3):
        raise UserError(f"channels={channels} is not possible: expected 1 (grey) or 3 (RGB)")
    if domains is not None and domains < 2:
        raise UserError(f"domains={domains} is not possible: translation needs two or more")
    if nan is not None and not math.isfinite(nan):
        raise UserError(f"nan={nan} is not possible: expected the number that stands for those that are none")
    stated = parse_range(range)
    if data in datasets.parts:
        if stated or nan is not None or bands:
            raise UserError(f"the data source '{data}' is of bytes: leave range, nan and bands out")
        given: dict[str, Any] = {"domains": domains, "labels": labels, "channels": channels}
        given = {key: value for key, value in given.items() if value is not None}
        opened: Data = datasets.spec(data, size=shape, seed=seed, **given).build()
        opened = replace(opened, cut=cut)
        return with_truth(opened) if aligned else opened
    from_hub = data.startswith(PREFIX) and not several(data)
    if not from_hub and not set(data) & set("/\\.,") and not Path(data).exists():
        folders = (path.name for path in Path().iterdir() if path.is_dir())
        near = suggested(data, [*datasets, *difflib.get_close_matches(data, folders, n=1)])
        near = "; put the path of your images in place of FOLDER" if data == "FOLDER" else near
        raise UserError(f"data '{data}' is no path that exists and no data source ({', '.join(datasets)}){near}")
    readers, notes = read_hub(data) if from_hub else read_location(data, least)
    found = {label: read() for label, read in _choose(readers, labels, domains, data, least).items()}
    sets = [raw for splits in found.values() for raw in splits if isinstance(raw, FileSet)]
    known = {id(each): found for each, found in zip(sets, headers(sets), strict=True)}
    kinds = {label: kind_of(raws, known, label) for label, raws in found.items()}

    def images(raw: Raw, label: str) -> Images:
        return images_of_kind(raw, known, channels or kinds[label].channels, shape)

    made = make_domains((label, images(train, label), images(test, label)) for label, (train, test) in found.items())
    meant = {}
    for letter, domain in made.items():
        values = meant[letter] = values_for(domain.train, kinds[domain.label], domain.label, stated, nan)
        if values != BYTES and not stated:
            notes.append(f"values of '{domain.label}': {values} mean -1 and 1 (give others by range=LOW,HIGH)")
    notes += [note for kind in kinds.values() for note in kind.notes]
    notes += passed_over(total(sets), data)
    most = max(domain.train.channels for domain in made.values())
    opened = Data(data, shape, made, notes=tuple(notes), bands=read_bands(bands, most), cut=cut)
    opened = with_values(opened, meant)
    return with_truth(opened) if aligned else opened


def with_truth(data: Data) -> Data:
    """Data that know the truth: their own, or else equal names are one scene.

    Raises `UserError` as `Aligned` does, and for a data source that knows none.
    """
    if data.truth is not None:
        return data
    if data.name in datasets.parts:
        raise UserError(f"the data source '{data.name}' is not aligned: it knows no ground truth")
    return replace(data, truth=Aligned(data.domains))


def _choose(readers: Readers, labels: str | None, domains: int | None, data: str, least: int) -> Readers:
    """The domains that `labels` asks for, in its order, or all of them."""
    count = domains or max(least, len(readers))
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
    if len(set(wanted)) < len(wanted) or "" in wanted or not least <= len(wanted) <= MOST:
        number = "two or more" if least == 2 else "some"
        raise UserError(f"labels='{labels}' is not possible: expected {number} different labels with commas between")
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


def _shape(knob: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a knob that may be a side."""
    shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if not all(fits(edge, Positive) for edge in shape):
        raise UserError(
            f"{knob}={size} is not possible: expected pixels, {describe(Positive)}, or a height and a width"
        )
    return shape
