"""What the images of a domain have in common, found from their headers: channels, type, and what their values mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np

from ...system.errors import UserError
from ..files.colour import deep_profile
from ..formats.header import DICOM, suffix_of
from ..sources import ImageFiles, Images, Rows, as_values
from ..values import BYTES, Values, common_type, robust_values
from .frames import all_frames
from .held_out import Raw
from .index import Headers
from .listing import FileSet

SAMPLED, PIXELS = 64, 4096  # images, and pixels of each, by which a range is chosen
Range = tuple[tuple[float, ...], tuple[float, ...]]  # the low and high values, of all channels or of each


class Kind(NamedTuple):
    """Channels, the type that holds all values, the range that all files state if it is one, and what a user should
    know."""

    channels: int
    dtype: str
    window: tuple[float, float] | None
    notes: tuple[str, ...] = ()


def kind_of(raws: Iterable[Raw], known: Mapping[int, Headers], label: str) -> Kind:
    """That of the sets of a domain.

    Args:
        known: the headers of sets of files, by `id`.

    Raises:
        UserError: no image can be read, or they have nothing in common.
    """
    counts: dict[int, str] = {}
    types: dict[str, str] = {}
    medical: dict[str, str] = {}  # of DICOM alone
    profiled: list[str] = []
    windows: set[tuple[float, float] | None] = set()
    for raw in raws:
        if not isinstance(raw, FileSet):
            counts.setdefault(raw.channels, raw.label)
            types.setdefault(raw.values.dtype, raw.label)
            windows.add(None)
            continue
        headers = known[id(raw)]
        if len(headers.broken) == len(raw):
            raise UserError(f"none of the {len(raw)} images of '{label}' can be read: {headers.broken[0]}")
        for header, first in headers.kinds().items():
            name = raw.paths.names[first]
            counts.setdefault(header.channels, name)
            (medical if suffix_of(name) in DICOM else types).setdefault(header.dtype, name)
            windows.add(header.window)
            if header.dtype == "uint16" and header.channels == 3 and not profiled and deep_profile(name):
                profiled.append(name)
    if len(counts) > 1 and not counts.keys() <= {1, 3}:
        (one, first_name), (two, second), *_ = counts.items()
        raise UserError(
            f"the images of '{label}' differ in their channels: '{first_name}' has {one} and '{second}' {two}; give a "
            f"domain images of one kind"
        )
    # Of a series whose slopes differ some may be 1, which alone would be whole numbers.
    types = {"float32": medical["float32"]} | types if "float32" in medical else medical | types
    window = windows.pop() if len(windows) == 1 else None
    notes = [
        f"the colour profile of '{name}' is not applied to its 16 bits: if it is not sRGB, convert the images of "
        f"'{label}' first"
        for name in profiled
    ]
    return Kind(max(counts), common_type(types), window, tuple(notes))


def images_of_kind(raw: Raw, known: Mapping[int, Headers], channels: int, size: tuple[int, int]) -> Images:
    """The images of a set with so many channels and of a size (H, W), those of files with several each by itself."""
    if not isinstance(raw, FileSet):
        return raw.at(size, channels)
    headers = known[id(raw)]
    files, rows = all_frames(raw, headers, size)
    broken = headers.broken
    if broken and rows is not None:
        broken = {new: headers.broken[old] for new, old in enumerate(rows) if old in headers.broken}
    return ImageFiles(files.paths, channels, size, files.keys, frames=files.frames, broken=broken, marks=files.marks)


def values_for(train: Images, kind: Kind, label: str, stated: Range | None, nan: float | None) -> Values:
    """What the values of a domain mean: what is stated, or else what its training images hold.

    Raises `UserError` for a range of other channels than the images have.
    """
    if stated is not None:
        if len(stated[0]) not in (1, train.channels):
            raise UserError(
                f"range= has {len(stated[0])} pairs, and the images of '{label}' {train.channels} channels: give one "
                f"for all, or one for each"
            )
        return Values(kind.dtype, *stated, nan)
    if kind.dtype == "uint8":
        return BYTES
    samples = _samples(train, kind.dtype)
    return replace(robust_values(kind.dtype, samples, each=train.channels not in (1, 3), window=kind.window), nan=nan)


def _samples(images: Images, dtype: str) -> Iterable[np.ndarray]:
    """Values (C, n) of some training images, evenly spread; what is not a number stays so."""
    raw = Values(dtype, nan=math.nan)
    plain = cast(ImageFiles | Rows, as_values(images, raw))
    count = min(SAMPLED, len(plain))
    for i in (place * len(plain) // count for place in range(count)):
        with suppress(UserError):  # of a damaged file, which is told of later
            # Floats as they lie in the file: scaled, what is no number would take its neighbours along.
            image = plain.load(i) if raw.whole else plain.unscaled(i)
            step = max(1, math.isqrt(image[0].size // PIXELS))
            yield image[:, ::step, ::step].reshape(plain.channels, -1)
